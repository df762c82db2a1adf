//! One running server: started on a free loopback port, stopped, killed, started again.
//!
//! ```text
//! obtain -> config into DIR -> spawn (own process group) -> wait until ready
//! ```
//!
//! 1. All data of a server lie in its folder; `start_again` finds them there.
//! 2. Starting ends in bounded time: ready, or an error with the end of the log.
//! 3. A server that is dropped is killed with its children, unless it was started detached.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use super::cache::Cache;
use super::launch;
use super::obtain::obtain;
use super::query::Http;
use super::step::tail;

/// Which real program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grafana Loki, all in one process.
    Loki,
    /// Elasticsearch, one node without security.
    Elasticsearch,
    /// OpenSearch, one node without security.
    OpenSearch,
    /// Promtail, the collector that serves as an oracle.
    Promtail,
}

impl Kind {
    /// The name in paths, tables and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loki => "loki",
            Self::Elasticsearch => "elasticsearch",
            Self::OpenSearch => "opensearch",
            Self::Promtail => "promtail",
        }
    }

    /// The path that answers 200 once the server takes requests.
    pub(super) fn ready_path(self) -> &'static str {
        match self {
            Self::Loki => "/ready",
            Self::Elasticsearch | Self::OpenSearch => {
                "/_cluster/health?wait_for_status=yellow&timeout=1s"
            }
            // `/ready` waits for a file to tail, which a test may create later.
            Self::Promtail => "/metrics",
        }
    }

    fn start_limit(self) -> Duration {
        match self {
            Self::Loki | Self::Promtail => Duration::from_secs(60),
            Self::Elasticsearch | Self::OpenSearch => Duration::from_secs(180),
        }
    }
}

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Variables of the Loki config, such as `("MAX_LINE", "256KB")`.
    pub env: Vec<(String, String)>,
    /// More arguments, such as `-Ehttp.max_content_length=100kb`, or Promtail's config file.
    pub args: Vec<String>,
    /// The Java heap in MiB; 512 when `None`.
    pub heap_mib: Option<u32>,
    /// Leave the server running when the value is dropped.
    pub detached: bool,
    /// Install a missing Go, Maven or JDK.
    pub install: bool,
}

/// A server that answered its first request.
#[derive(Debug)]
pub struct Server {
    /// What it is.
    pub kind: Kind,
    /// Its name in messages.
    pub name: String,
    /// `http://127.0.0.1:PORT`
    pub url: String,
    /// The port of its HTTP interface.
    pub port: u16,
    /// The leader of its process group.
    pub pid: i32,
    /// Config, data and log.
    pub dir: PathBuf,
    /// How long it took from spawn to ready.
    pub start_time: Duration,
    program: PathBuf,
    options: Options,
    child: Option<Child>,
    // Where the log of the present start begins.
    log_from: usize,
}

impl Server {
    /// Obtains the program, starts it on `port` (0: any free one) and waits until it answers.
    pub fn start(
        kind: Kind,
        cache: &Cache,
        dir: &Path,
        port: u16,
        options: Options,
    ) -> Result<Self> {
        let program = obtain(kind, cache, options.install)?;
        let port = if port == 0 { free_port()? } else { port };
        let mut server = Self {
            kind,
            name: kind.name().to_owned(),
            url: format!("http://127.0.0.1:{port}"),
            port,
            pid: 0,
            dir: dir.to_path_buf(),
            start_time: Duration::ZERO,
            program,
            options,
            child: None,
            log_from: 0,
        };
        server.start_again()?;
        Ok(server)
    }

    /// Starts it once more on the same port and data, after `stop` or `kill`.
    pub fn start_again(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("{} still runs with pid {}", self.name, self.pid);
        }
        let mut command = launch::command(
            self.kind,
            &self.program,
            &self.dir,
            self.port,
            &self.options,
        )?;
        let log = self.log();
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("open {}", log.display()))?;
        self.log_from = usize::try_from(out.metadata()?.len()).unwrap_or(0);
        command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .process_group(0);
        let started = Instant::now();
        let child = command
            .spawn()
            .with_context(|| format!("start {}", self.name))?;
        self.pid = i32::try_from(child.id()).context("pid out of range")?;
        self.child = Some(child);
        let outcome = self.wait_until_ready(started);
        if outcome.is_err() {
            self.end(Signal::KILL, KILL_LIMIT).ok();
        }
        outcome
    }

    /// Asks it to end (SIGTERM) and waits until the whole process group has gone.
    pub fn stop(&mut self) -> Result<()> {
        self.end(Signal::TERM, STOP_LIMIT)
    }

    /// Kills the process group (SIGKILL), as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        self.end(Signal::KILL, KILL_LIMIT)
    }

    /// Lets it outlive this value.
    pub fn detach(&mut self) {
        self.options.detached = true;
    }

    /// The file that holds everything the server printed.
    pub fn log(&self) -> PathBuf {
        self.dir.join("out.log")
    }

    /// The HTTP client of this server.
    pub fn http(&self) -> Result<Http> {
        Http::new(&self.url)
    }

    fn wait_until_ready(&mut self, started: Instant) -> Result<()> {
        let http = self.http()?;
        let limit = self.kind.start_limit();
        let mut said = Instant::now();
        loop {
            if http
                .get(self.kind.ready_path())
                .is_ok_and(|answer| answer.status == 200)
            {
                self.start_time = started.elapsed();
                return Ok(());
            }
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                bail!(
                    "{} died while starting ({status}):\n{}",
                    self.name,
                    self.log_tail()
                );
            }
            if started.elapsed() > limit {
                let seconds = limit.as_secs();
                bail!(
                    "{} not ready after {seconds} s:\n{}",
                    self.name,
                    self.log_tail()
                );
            }
            if said.elapsed() > PROGRESS_EVERY {
                said = Instant::now();
                eprintln!(
                    "testbed: starting {}: {} s",
                    self.name,
                    started.elapsed().as_secs()
                );
            }
            std::thread::sleep(POLL_EVERY);
        }
    }

    fn log_tail(&self) -> String {
        let bytes = fs::read(self.log()).unwrap_or_default();
        let fresh = bytes.get(self.log_from..).unwrap_or_default();
        tail(&String::from_utf8_lossy(fresh), 30)
    }

    fn end(&mut self, signal: Signal, limit: Duration) -> Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        let started = Instant::now();
        if signal == Signal::KILL {
            signal_group(self.pid, signal);
        } else {
            signal_leader(self.pid, signal);
        }
        while child.try_wait()?.is_none() || group_lives(self.pid) {
            if started.elapsed() > limit {
                signal_group(self.pid, Signal::KILL);
                child.wait()?;
                bail!(
                    "{} did not end within {} s and was killed",
                    self.name,
                    limit.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.options.detached {
            self.kill().ok();
        }
    }
}

/// A TCP port of loopback that nobody listens on right now.
pub fn free_port() -> Result<u16> {
    let socket = TcpListener::bind(("127.0.0.1", 0)).context("bind a free port")?;
    Ok(socket.local_addr()?.port())
}

pub(super) fn signal_leader(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        rustix::process::kill_process(pid, signal).ok();
    }
}

pub(super) fn signal_group(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        rustix::process::kill_process_group(pid, signal).ok();
    }
}

pub(super) fn group_lives(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| rustix::process::test_kill_process_group(pid).is_ok())
}

// Java servers finish their merges first; Loki flushes its chunks.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(60);
const KILL_LIMIT: Duration = Duration::from_secs(10);
const POLL_EVERY: Duration = Duration::from_millis(100);
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn free_ports_can_be_bound() {
        let port = free_port().unwrap();
        assert!(TcpListener::bind(("127.0.0.1", port)).is_ok());
    }
}
