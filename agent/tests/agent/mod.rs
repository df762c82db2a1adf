//! The real binary under test: its config, its threads as /proc shows them, its end.
#![allow(dead_code, reason = "not every test file uses all of it")]

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use serde_json::Value;

/// How long is waited for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running agent.
#[derive(Debug)]
pub(crate) struct Agent {
    child: Child,
    admin: SocketAddr,
    log: PathBuf,
}

/// A thread as `/proc/PID/task/TID/status` shows it.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) name: String,
    pub(crate) held: u64,
    pub(crate) permitted: u64,
    pub(crate) no_new_privs: u64,
    pub(crate) seccomp: u64,
}

impl Thread {
    pub(crate) fn read(status: &str) -> Self {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim()
        };
        let hex = |name: &str| u64::from_str_radix(field(name), 16).unwrap();
        let number = |name: &str| field(name).parse().unwrap();
        Self {
            name: field("Name:").to_owned(),
            held: hex("CapEff:"),
            permitted: hex("CapPrm:"),
            no_new_privs: number("NoNewPrivs:"),
            seccomp: number("Seccomp:"),
        }
    }
}

impl Agent {
    /// Starts it on `directory` with one Loki output at `base`; `before` are words before its own.
    pub(crate) fn start(directory: &Path, base: &str, more: &str, before: &[&str]) -> Self {
        Self::spawn(directory, base, more, before, |_| {})
    }

    /// Starts it where io_uring_setup is refused.
    pub(crate) fn start_without_ring(directory: &Path, base: &str) -> Self {
        let rules = [(libc::SYS_io_uring_setup, Vec::new())].into();
        let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).unwrap();
        let filter: BpfProgram = filter.try_into().unwrap();
        Self::spawn(directory, base, "", &[], |command| {
            let apply = move || {
                let applied = seccompiler::apply_filter(&filter);
                applied.map_err(|_| std::io::ErrorKind::PermissionDenied.into())
            };
            // SAFETY: between fork and exec two system calls are made and nothing is allocated.
            unsafe { command.pre_exec(apply) };
        })
    }

    fn spawn(
        directory: &Path,
        base: &str,
        more: &str,
        before: &[&str],
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let spare = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = spare.local_addr().unwrap();
        drop(spare);
        let at = directory.display();
        let config = directory.join("tailwake.yaml");
        let text = format!(
            "{more}\nstate: {at}/state\nadmin: {{listen: \"{admin}\"}}\ninputs: {{pods: {{pods: \
             {{root: {at}/pods}}}}}}\npipelines: {{main: {{from: [pods], stages: [{{cri: {{}}}}], \
             to: [loki]}}}}\noutputs: {{loki: {{linger: 20ms, loki: {{url: \
             \"{base}/loki/api/v1/push\"}}}}}}\n"
        );
        fs::write(&config, text).unwrap();
        let log = directory.join("agent.log");
        let words = File::create(&log).unwrap();
        let binary = env!("CARGO_BIN_EXE_tailwake");
        let mut line: Vec<&str> = before.to_vec();
        line.extend([binary, "run", "--config", config.to_str().unwrap()]);
        let mut command = Command::new(line[0]);
        command
            .args(&line[1..])
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(words);
        prepare(&mut command);
        let child = command.spawn().unwrap();
        Self { child, admin, log }
    }

    /// Waits for the end of the first listing.
    pub(crate) fn wait_ready(&mut self) {
        let begun = Instant::now();
        while harness::serve::get(self.admin, "/ready").is_err() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended with {ended:?}: {}", self.log());
            assert!(begun.elapsed() < PATIENCE, "never ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn status(&self) -> Value {
        let text = harness::serve::get(self.admin, "/status").unwrap();
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) fn metrics(&self) -> String {
        harness::serve::get(self.admin, "/metrics").unwrap()
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Its threads now.
    pub(crate) fn threads(&self) -> Vec<Thread> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        // One that has ended meanwhile has no status.
        let statuses =
            tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok());
        statuses.map(|status| Thread::read(&status)).collect()
    }

    /// SIGTERM; whether it ended by itself.
    pub(crate) fn end(&mut self, patience: Duration) -> bool {
        harness::process::end(&mut self.child, patience).unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A fresh directory with `pods` and `state`.
pub(crate) fn directory(name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("guard-{name}"));
    let _ = fs::remove_dir_all(&directory);
    for sub in ["pods", "state"] {
        fs::create_dir_all(directory.join(sub)).unwrap();
    }
    directory
}

pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(
            begun.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
