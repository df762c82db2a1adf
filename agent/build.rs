//! Embeds the eBPF object that `cargo xtask build` has made.
//!
//! 1. Without `TAILWAKE_EBPF_OBJ` the embedded object is empty and the agent says so at start.
//! 2. Plain `cargo build` therefore needs no BPF toolchain.

use std::env;
use std::path::PathBuf;

const VARIABLE: &str = "TAILWAKE_EBPF_OBJ";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-env-changed={VARIABLE}");
    let target =
        PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?).join("probes.o");
    let object = match env::var_os(VARIABLE) {
        Some(path) => {
            println!("cargo:rerun-if-changed={}", path.display());
            std::fs::read(&path).map_err(|e| format!("read {}: {e}", path.display()))?
        }
        None => Vec::new(),
    };
    std::fs::write(target, object)?;
    Ok(())
}
