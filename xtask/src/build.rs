//! `cargo xtask build`: the probes with whichever BPF toolchain there is, then the agent around them.
//!
//! ```text
//! Debian:  rustc-web + libstd-rust-web-dev-bpf -> bitcode -> llc -> target/bpf/probes.o
//! rustup:  nightly + rust-src + bpf-linker                       -> target/bpf/probes.o
//! probes.o -> TAILWAKE_EBPF_OBJ -> cargo build -p tailwake -> target/{release,debug}/tailwake
//! ```
//!
//! 1. The inner builds have their own target folder and none of the caller's flags or wrappers.
//! 2. Debian's compiler is named by its path: rustup's stands before it in PATH.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::packages::{install, output, run as run_command};

/// The arguments of `cargo xtask build`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Build {
    /// Build target/debug/tailwake instead of target/release/tailwake.
    #[arg(long)]
    pub debug: bool,
    /// Install missing Debian packages without asking (also when CI=true).
    #[arg(long)]
    pub yes: bool,
}

/// The variable by which the agent's build finds the object.
pub const OBJECT_VARIABLE: &str = "TAILWAKE_EBPF_OBJ";

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const TARGET: &str = "bpfel-unknown-none";
const PACKAGES: [&str; 3] = ["rustc-web", "libstd-rust-web-dev-bpf", "llvm-22"];
const MISSING: &str =
    "a BPF toolchain (or: rustup's nightly with rust-src, and bpf-linker in PATH)";

/// Builds the probes and the agent; returns the agent's path.
pub fn run(build: &Build) -> Result<PathBuf> {
    let object = probes(build.yes)?;
    let root = root();
    let mut cargo = Command::new(cargo());
    cargo
        .current_dir(&root)
        .args(["build", "--package", "tailwake", "--bin", "tailwake"])
        .args(["--features", "kube"]);
    if !build.debug {
        cargo.arg("--release");
    }
    run_command(cargo.env(OBJECT_VARIABLE, &object))?;
    let profile = if build.debug { "debug" } else { "release" };
    let agent = target().join(profile).join("tailwake");
    eprintln!("agent with probes: {}", agent.display());
    Ok(agent)
}

/// Builds the probes alone; returns the object's path.
pub fn probes(yes: bool) -> Result<PathBuf> {
    let chain = match Chain::find() {
        Some(chain) => chain,
        None => {
            install(&PACKAGES, MISSING, yes)?;
            Chain::find().context("the packages are installed, yet hold no BPF toolchain")?
        }
    };
    let folder = target().join("bpf");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let object = match chain {
        Chain::Debian { llc } => with_debian(&folder, &llc)?,
        Chain::Rustup => with_rustup(&folder)?,
    };
    eprintln!(
        "probes: {} ({} bytes)",
        object.display(),
        fs::metadata(&object)?.len()
    );
    Ok(object)
}

/// A toolchain that makes BPF objects.
#[derive(Debug)]
enum Chain {
    Debian { llc: PathBuf },
    Rustup,
}

impl Chain {
    fn find() -> Option<Self> {
        Self::debian().or_else(Self::rustup)
    }

    /// Debian's compiler with core for the target, and the llc of the LLVM it was built with.
    fn debian() -> Option<Self> {
        let sysroot = output(Command::new(DEBIAN_RUSTC).args(["--print", "sysroot"])).ok()?;
        let versions = output(Command::new(DEBIAN_RUSTC).arg("-vV")).ok()?;
        let llvm = versions
            .lines()
            .find_map(|line| line.strip_prefix("LLVM version: "))?;
        let major = llvm.split('.').next()?;
        let llc = PathBuf::from(format!("/usr/lib/llvm-{major}/bin/llc"));
        let core = Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET);
        (core.is_dir() && llc.is_file()).then_some(Self::Debian { llc })
    }

    fn rustup() -> Option<Self> {
        let mut rustc = Command::new("rustup");
        let sysroot = output(rustc.args(["run", "nightly", "rustc", "--print", "sysroot"])).ok()?;
        let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
        output(Command::new("bpf-linker").arg("--version")).ok()?;
        source.is_dir().then_some(Self::Rustup)
    }
}

/// rustc to one module of bitcode, then llc: no linker is needed. Version 3 of the instruction set
/// has the exchange of 32 bits.
fn with_debian(folder: &Path, llc: &Path) -> Result<PathBuf> {
    let bitcode = folder.join("probes.bc");
    let (made, object) = (folder.join("probes.new.o"), folder.join("probes.o"));
    let mut cargo = Command::new(cargo());
    common(&mut cargo, folder, &["-Cdebuginfo=0", "-Ctarget-cpu=v3"]);
    cargo
        .env("RUSTC", DEBIAN_RUSTC)
        .arg("--")
        .arg("-Clinker=/bin/true");
    cargo.arg(format!("--emit=obj={}", bitcode.display()));
    run_command(&mut cargo).context("compile the probes")?;
    let mut lower = Command::new(llc);
    lower
        .args(["-march=bpf", "-mcpu=v3", "-O2", "-filetype=obj", "-o"])
        .arg(&made)
        .arg(&bitcode);
    run_command(&mut lower).context("lower the probes to BPF")?;
    replace(&made, &object)?;
    Ok(object)
}

fn with_rustup(folder: &Path) -> Result<PathBuf> {
    let mut cargo = Command::new("rustup");
    cargo.args(["run", "nightly", "cargo"]);
    common(&mut cargo, folder, &["-Cdebuginfo=0", "-Ctarget-cpu=v3"]);
    cargo
        .args(["-Z", "build-std=core"])
        .env_remove("RUSTC")
        .env_remove("RUSTUP_TOOLCHAIN");
    run_command(&mut cargo).context("compile the probes with bpf-linker")?;
    let object = folder.join("probes.o");
    let made = folder.join(TARGET).join("bpf/agent-ebpf");
    replace(&made, &object)?;
    Ok(object)
}

/// Puts `made` in the place of `object`, unless it is the same: cargo builds the agent anew whenever
/// that was written.
fn replace(made: &Path, object: &Path) -> Result<()> {
    let bytes = fs::read(made).with_context(|| format!("read {}", made.display()))?;
    if fs::read(object).is_ok_and(|have| have == bytes) {
        return Ok(());
    }
    fs::write(object, bytes).with_context(|| format!("write {}", object.display()))
}

fn common(cargo: &mut Command, folder: &Path, flags: &[&str]) {
    let arch = format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH);
    let mut encoded = arch;
    for flag in flags {
        encoded.push('\u{1f}');
        encoded.push_str(flag);
    }
    cargo
        .current_dir(root())
        .args([
            "rustc",
            "--package",
            "agent-ebpf",
            "--bin",
            "agent-ebpf",
            "--profile",
            "bpf",
        ])
        .args(["--target", TARGET, "--target-dir"])
        .arg(folder)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", encoded)
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
}

/// The workspace.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The workspace's target folder.
#[must_use]
pub fn target() -> PathBuf {
    let set = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    root().join(set.unwrap_or_else(|| PathBuf::from("target")))
}

/// The cargo that runs this.
#[must_use]
pub fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}
