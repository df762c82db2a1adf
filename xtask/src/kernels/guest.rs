//! The guest: an initramfs of the programs and their cases, empty disks, and QEMU around them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::cpio::Archive;
use super::matrix::Matrix;
use super::stock::Kernel;
use crate::build::root;
use crate::node::libraries;
use crate::packages::{install, output, run as run_command};

/// The wanted ones of those that Debian does not build in; the disks' and the file systems'.
const MODULES: [&str; 8] = [
    "virtio_pci",
    "virtio_blk",
    "crc32c_generic",
    "crc32c_intel",
    "ext4",
    "xfs",
    "btrfs",
    "overlay",
];

const BUSYBOX: &str = "/bin/busybox";

/// The disks in the guest's order: who makes it, and its size: holes, but for what is
/// written there.
const DISKS: [(&str, &[&str], u64); 3] = [
    ("ext4", &["mkfs.ext4", "-q", "-F"], 1 << 30),
    ("xfs", &["mkfs.xfs", "-q", "-f"], 1 << 30),
    ("btrfs", &["mkfs.btrfs", "-q", "-f"], 1 << 30),
];

/// Programs and the packages that bring them.
const TOOLS: [(&str, &str); 7] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("xz", "xz-utils"),
    ("depmod", "kmod"),
    ("strip", "binutils"),
];

/// What the guest said.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The cases that passed.
    pub(super) passed: Vec<String>,
    /// The matrix, where it was a case.
    pub(super) matrix: Matrix,
    /// Every line.
    pub(super) lines: Vec<String>,
}

/// By what the guest's time goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// As fast as this machine is, on two CPUs.
    Free,
    /// A nanosecond and a tick of `rdtsc` for each instruction, on one CPU: exact, and without noise.
    Counted,
}

impl Pace {
    const fn words(self) -> &'static str {
        match self {
            Self::Free => "-accel tcg,thread=multi -smp 2",
            Self::Counted => "-accel tcg,thread=single -icount shift=0,sleep=off -smp 1",
        }
    }
}

/// A kernel with what it is to run.
#[derive(Debug)]
pub(super) struct Guest<'a> {
    pub(super) kernel: &'a Kernel,
    /// Where initramfs, disks and the console's log are made.
    pub(super) folder: &'a Path,
    /// Names and paths.
    pub(super) programs: &'a [(&'a str, &'a Path)],
    /// Lines of `tests/kernel/init`: where, program, words.
    pub(super) cases: &'a [String],
    /// Seconds after which it is ended.
    pub(super) limit: u64,
    pub(super) pace: Pace,
}

/// Installs what is missing.
pub(crate) fn tools(yes: bool) -> Result<()> {
    let mut missing: Vec<&str> = TOOLS
        .iter()
        .filter(|(program, _)| find(program).is_none())
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

/// The program in PATH or where the system's own lie.
fn find(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&paths).collect();
    folders.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let mut paths = folders.iter().map(|folder| folder.join(program));
    paths.find(|path| path.is_file())
}

/// ldd fails on a program that needs no loader.
fn is_static(program: &Path) -> bool {
    program.is_file() && output(Command::new("ldd").arg(program)).is_err()
}

impl Guest<'_> {
    /// Makes all that it needs anew, boots it, and listens to its end.
    pub(super) fn run(&self) -> Result<Said> {
        fs::create_dir_all(self.folder)?;
        self.pack(&self.folder.join("initramfs"))?;
        for (name, maker, bytes) in DISKS {
            make_disk(&self.disk(name), maker, bytes)?;
        }
        self.boot()
    }

    fn disk(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.img"))
    }

    /// The initramfs: busybox, the programs with their libraries, modules, cases.
    fn pack(&self, path: &Path) -> Result<()> {
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        let mut archive = Archive::new(BufWriter::new(file));
        for folder in ["bin", "dev", "proc", "sys", "m", "modules", "tmp", "lib"] {
            archive.folder(folder)?;
        }
        // Loader and libraries are all put into one folder; the old names lead there.
        archive.link("lib64", "lib")?;
        archive.program("bin/busybox", &fs::read(BUSYBOX)?)?;
        let mut needed = BTreeSet::new();
        for (name, program) in self.programs {
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
        for (name, bytes) in self.kernel.modules(&MODULES)? {
            archive.program(&format!("modules/{name}"), &bytes)?;
            order.push_str(&name);
            order.push('\n');
        }
        archive.program("modules.order", order.as_bytes())?;
        let cases = self.cases.join("\n") + "\n";
        archive.program("cases", cases.as_bytes())?;
        archive.program("init", &fs::read(root().join("tests/kernel/init"))?)?;
        archive.finish()?;
        Ok(())
    }

    fn boot(&self) -> Result<Said> {
        let Self { kernel, limit, .. } = self;
        eprintln!("booting {} in QEMU (at most {limit} s)", kernel.release);
        let mut command = Command::new("timeout");
        command.arg(limit.to_string()).arg("qemu-system-x86_64");
        command.args("-M q35 -cpu max -m 1024".split(' '));
        command.args(self.pace.words().split(' '));
        command.args("-nographic -no-reboot -net none".split(' '));
        let line = "console=ttyS0 quiet panic=-1";
        command
            .args(["-append", line, "-kernel"])
            .arg(kernel.image());
        command.arg("-initrd").arg(self.folder.join("initramfs"));
        for (name, ..) in DISKS {
            let disk = self.disk(name);
            let drive = format!("file={},format=raw,if=virtio,cache=unsafe", disk.display());
            command.args(["-drive", &drive]);
        }
        let mut guest = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start QEMU")?;
        let console = guest.stdout.take().context("QEMU's console")?;
        let log = self.folder.join("console.log");
        let begun = Instant::now();
        let (mut said, mut done) = (Said::default(), false);
        let mut out = BufWriter::new(File::create(&log)?);
        for line in BufReader::new(console).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).trim().to_owned();
            writeln!(out, "{:7.2} {line}", begun.elapsed().as_secs_f64())?;
            said.matrix.hear(&line);
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("EXIT", case) => {
                    (said.passed).extend(case.strip_prefix("0 ").map(str::to_owned));
                }
                ("DONE", _) => done = true,
                ("BOOTED" | "PASS" | "FAIL" | "SKIP" | "NOTE" | "Error:", _) => {
                    eprintln!("  {line}");
                }
                _ => {}
            }
            said.lines.push(line);
        }
        out.flush()?;
        let status = guest.wait()?;
        ensure!(
            done,
            "the guest ended early ({status}); its console is in {}",
            log.display()
        );
        Ok(said)
    }
}

fn make_disk(path: &Path, maker: &[&str], bytes: u64) -> Result<()> {
    let _ = fs::remove_file(path);
    File::create(path)?.set_len(bytes)?;
    let (program, words) = maker.split_first().context("who makes the disk")?;
    let program = find(program).unwrap_or_else(|| PathBuf::from(program));
    run_command(Command::new(program).args(words).arg(path))
}
