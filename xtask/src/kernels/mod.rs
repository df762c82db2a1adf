//! `cargo xtask kernels`: the wake rungs on a stock kernel, in QEMU without KVM.
//!
//! ```text
//! agent with probes + harness + their libraries + modules -> initramfs
//! stock kernel + initramfs + an empty ext4 disk -> QEMU -> path test, EXIT lines -> verdict
//! ```
//!
//! 1. The guest runs the binaries that this machine would run, with the probes embedded.
//! 2. A case passes only by its own exit code; a guest that ends without DONE fails.
//! 3. Nothing is installed of the kernel; disk and initramfs are made anew for each run.

mod cpio;
mod stock;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::build::{self, root, target};
use crate::packages::{install, output, run as run_command};
use crate::path::Case;
use crate::run::agent::build_release;
use cpio::Archive;
use stock::Kernel;

/// The arguments of `cargo xtask kernels`.
#[derive(Debug, Clone, clap::Args)]
pub struct Kernels {
    /// The kernel's series.
    #[arg(long, default_value = "6.12")]
    pub series: String,
    /// Bursts per case.
    #[arg(long, default_value_t = 10_000)]
    pub bursts: u64,
    /// Seconds after which the guest is ended.
    #[arg(long, default_value_t = 300)]
    pub limit: u32,
    /// Runs this agent instead of building one.
    #[arg(long)]
    pub agent: Option<PathBuf>,
    /// Install missing Debian packages without asking (also when CI=true).
    #[arg(long)]
    pub yes: bool,
}

/// File system, case, and its share of the bursts: each rung has all of them once. A rung that no
/// kernel here has loaded does not exist; tp_btf on ext4 is missing because ext4 is a module in this
/// flavour, and the build machine's own kernel runs it. `refused`: the guest forbids io_uring.
const CASES: [(&str, Case, u64); 7] = [
    ("ext4", Case::new("fexit", "uring", 1), 1),
    ("ext4", Case::new("fexit", "refused", 4), 1),
    ("tmpfs", Case::new("fexit", "uring", 4), 4),
    ("ext4", Case::new("raw_tp", "uring", 1), 1),
    ("ext4", Case::new("raw_tp", "pread", 4), 4),
    ("ext4", Case::new("inotify", "uring", 1), 4),
    ("ext4", Case::new("inotify", "pread", 1), 1),
];

const MODULES: [&str; 5] = [
    "virtio_pci",
    "virtio_blk",
    "crc32c_generic",
    "crc32c_intel",
    "ext4",
];

const BUSYBOX: &str = "/bin/busybox";

/// Programs and the packages that bring them.
const TOOLS: [(&str, &str); 5] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("mkfs.ext4", "e2fsprogs"),
    ("xz", "xz-utils"),
    ("depmod", "kmod"),
    ("strip", "binutils"),
];

/// The default kernel with the agent that was built last, as the suite runs it.
///
/// # Errors
/// A rung does not load there, or left a burst unread.
pub fn run_default() -> Result<()> {
    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        kernels: Kernels,
    }
    let agent = target().join("release").join("tailwake").into_os_string();
    let words = ["kernels".into(), "--yes".into(), "--agent".into(), agent];
    run(&<Line as clap::Parser>::try_parse_from(words)?.kernels)
}

/// Boots the kernel and judges what it says.
pub fn run(kernels: &Kernels) -> Result<()> {
    tools(kernels.yes)?;
    let agent = match &kernels.agent {
        Some(agent) => agent.clone(),
        None => build::run(&build::Build {
            debug: false,
            yes: kernels.yes,
        })?,
    };
    let harness = build_release(&["harness"])?.join("harness");
    let kernel = Kernel::obtain(&kernels.series)?;
    let folder = target().join("kernels");
    fs::create_dir_all(&folder)?;
    let initramfs = folder.join("initramfs");
    let programs = [("tailwake", &*agent), ("harness", &*harness)];
    pack(&initramfs, &kernel, &programs, kernels.bursts)?;
    let disk = folder.join("ext4.img");
    make_disk(&disk)?;
    let passed = boot(&kernel, &initramfs, &disk, kernels.limit)?;
    let failed: Vec<String> = CASES
        .iter()
        .map(|case| line(case, &kernel, kernels.bursts))
        .filter(|line| !passed.contains(line))
        .collect();
    if !failed.is_empty() {
        bail!("FAIL kernel {}: {}", kernel.release, failed.join(", "));
    }
    eprintln!("PASS kernel {}: {} cases", kernel.release, CASES.len());
    Ok(())
}

fn tools(yes: bool) -> Result<()> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&paths).collect();
    folders.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let has = |program: &str| folders.iter().any(|folder| folder.join(program).is_file());
    let mut missing: Vec<&str> = TOOLS
        .iter()
        .filter(|(program, _)| !has(program))
        .map(|(_, package)| *package)
        .collect();
    if !is_static(Path::new(BUSYBOX)) {
        missing.push("busybox-static");
    }
    if missing.is_empty() {
        Ok(())
    } else {
        install(&missing, "QEMU and its tools", yes)
    }
}

/// ldd fails on a program that needs no loader.
fn is_static(program: &Path) -> bool {
    program.is_file() && output(Command::new("ldd").arg(program)).is_err()
}

/// A case as the guest reads it, and as it says how it ended.
fn line((files, case, share): &(&str, Case, u64), kernel: &Kernel, bursts: u64) -> String {
    let mut case = *case;
    if case.io == "refused" && !kernel.can_refuse_io_uring() {
        case.io = "pread";
    }
    format!("{files} {}", case.words(bursts / share).join(" "))
}

/// The initramfs: busybox, the programs with their libraries, modules, cases.
fn pack(path: &Path, kernel: &Kernel, programs: &[(&str, &Path)], bursts: u64) -> Result<()> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    let mut archive = Archive::new(BufWriter::new(file));
    for folder in ["bin", "dev", "proc", "sys", "m", "modules", "tmp", "lib"] {
        archive.folder(folder)?;
    }
    // Loader and libraries are all put into one folder; the old names lead there.
    archive.link("lib64", "lib")?;
    archive.program("bin/busybox", &fs::read(BUSYBOX)?)?;
    let mut needed = BTreeSet::new();
    for (name, program) in programs {
        let bare = path.with_extension("program");
        run_command(Command::new("strip").arg("-o").arg(&bare).arg(program))?;
        archive.program(&format!("bin/{name}"), &fs::read(&bare)?)?;
        needed.extend(libraries(program)?);
    }
    for library in needed {
        let name = library
            .file_name()
            .and_then(|n| n.to_str())
            .context("a library's name")?;
        archive.program(&format!("lib/{name}"), &fs::read(&library)?)?;
    }
    let mut order = String::new();
    for (name, bytes) in kernel.modules(&MODULES)? {
        archive.program(&format!("modules/{name}"), &bytes)?;
        order.push_str(&name);
        order.push('\n');
    }
    archive.program("modules.order", order.as_bytes())?;
    let cases: String = CASES
        .iter()
        .map(|case| line(case, kernel, bursts) + "\n")
        .collect();
    archive.program("cases", cases.as_bytes())?;
    archive.program("init", &fs::read(root().join("tests/kernel/init"))?)?;
    archive.finish()?;
    Ok(())
}

/// What the dynamic loader would open.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let said = output(Command::new("ldd").arg(program))?;
    let paths = said.lines().filter_map(|line| {
        line.split_whitespace()
            .find(|word| word.starts_with('/'))
            .map(PathBuf::from)
    });
    Ok(paths.collect())
}

fn make_disk(path: &Path) -> Result<()> {
    let _ = fs::remove_file(path);
    File::create(path)?.set_len(64 << 20)?;
    let found = Path::new("/usr/sbin/mkfs.ext4");
    let tool = if found.is_file() {
        found
    } else {
        Path::new("mkfs.ext4")
    };
    run_command(Command::new(tool).args(["-q", "-F"]).arg(path))
}

/// Runs the guest; returns the cases that passed.
fn boot(kernel: &Kernel, initramfs: &Path, disk: &Path, limit: u32) -> Result<Vec<String>> {
    let drive = format!("file={},format=raw,if=virtio,cache=unsafe", disk.display());
    eprintln!("booting {} in QEMU (at most {limit} s)", kernel.release);
    let mut guest = Command::new("timeout")
        .arg(limit.to_string())
        .args([
            "qemu-system-x86_64",
            "-M",
            "q35",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
        ])
        .args([
            "-smp",
            "2",
            "-m",
            "1024",
            "-nographic",
            "-no-reboot",
            "-net",
            "none",
        ])
        .arg("-kernel")
        .arg(kernel.image())
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", "console=ttyS0 quiet panic=-1", "-drive", &drive])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start QEMU")?;
    let console = guest.stdout.take().context("QEMU's console")?;
    let (mut passed, mut done) = (Vec::new(), false);
    let mut log = BufWriter::new(File::create(initramfs.with_extension("log"))?);
    for line in BufReader::new(console).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).trim().to_owned();
        writeln!(log, "{line}")?;
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("EXIT", case) => passed.extend(case.strip_prefix("0 ").map(str::to_owned)),
            ("DONE", _) => done = true,
            ("BOOTED" | "PASS" | "FAIL" | "SKIP" | "NOTE" | "Error:", _) => eprintln!("  {line}"),
            _ => {}
        }
    }
    log.flush()?;
    let status = guest.wait()?;
    let log = initramfs.with_extension("log");
    ensure!(
        done,
        "the guest ended early ({status}); its console is in {}",
        log.display()
    );
    Ok(passed)
}
