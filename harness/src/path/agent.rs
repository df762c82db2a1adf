//! The agent under test: its config, its end, and what its `/status` says of each container.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path as FilePath, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Path;
use crate::process::end;
use crate::serve::get;

/// A running agent.
#[derive(Debug)]
pub(super) struct Agent {
    child: Child,
    admin: SocketAddr,
    log: PathBuf,
}

impl Agent {
    pub(super) fn start(
        path: &Path,
        directory: &FilePath,
        pods: &FilePath,
        receiver: SocketAddr,
    ) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let admin = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = directory.join("tailwake.yaml");
        let text = config_text(path, directory, pods, receiver, admin);
        std::fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let log = directory.join("agent.log");
        let words = File::create(&log)?;
        let child = Command::new(&path.agent)
            .args(["run", "--config"])
            .arg(&config)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(words.try_clone()?)
            .stderr(words)
            .spawn()
            .with_context(|| format!("start {}", path.agent.display()))?;
        Ok(Self { child, admin, log })
    }

    /// `GET /status`.
    pub(super) fn status(&mut self) -> Result<Value> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the agent ended with {status}");
        }
        Ok(serde_json::from_str(&get(self.admin, "/status")?)?)
    }

    /// The status once every container has an open file and all of them sleep.
    pub(super) fn settled(&mut self, containers: u32, patience: Duration) -> Result<Value> {
        let begun = Instant::now();
        loop {
            let status = self.status();
            if let Ok(status) = &status {
                let number = |key: &str| status[key].as_u64();
                if number("files_open") >= Some(u64::from(containers))
                    && number("files_open") == number("files_asleep")
                {
                    return Ok(status.clone());
                }
            }
            if begun.elapsed() > patience || self.child.try_wait()?.is_some() {
                let status = status?;
                bail!(
                    "{} of {} open files sleep after {} s",
                    status["files_asleep"],
                    status["files_open"],
                    patience.as_secs()
                );
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The end of its log.
    pub(super) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(10).collect();
        tail.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    pub(super) fn end(mut self) -> Result<()> {
        if !end(&mut self.child, Duration::from_secs(30))? {
            bail!("the agent did not end within 30 s of SIGTERM");
        }
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config_text(
    path: &Path,
    directory: &FilePath,
    pods: &FilePath,
    receiver: SocketAddr,
    admin: SocketAddr,
) -> String {
    let (state, pods) = (directory.join("state"), pods.display());
    let io = if path.io == "refused" {
        "auto"
    } else {
        &path.io
    };
    let sweep = if path.sweeps() { SWEEP } else { "0" };
    let Path { rung, readers, .. } = path;
    format!(
        "state: \"{}\"\nadmin: {{listen: \"{admin}\"}}\nlimits: {{readers: {readers}, encoders: \
         1}}\nwake: {{rung: {rung}, io: {io}, sweep: {sweep}}}\ninputs:\n  pods: {{pods: {{root: \
         \"{pods}\"}}}}\npipelines:\n  pods: {{from: [pods], stages: [{{cri: {{}}}}], to: \
         [loki]}}\noutputs:\n  loki:\n    loki:\n      url: \
         \"http://{receiver}/loki/api/v1/push\"\n      labels: {{namespace: \"{{namespace}}\", \
         pod: \"{{pod}}\", container: \"{{container}}\", stream: \"{{stream}}\"}}\n    linger: \
         5ms\n",
        state.display(),
    )
}

/// A container as `/status` shows it.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) pod: String,
    pub(super) rung: String,
    /// By rung.
    pub(super) wakes: Value,
    pub(super) whole: Value,
}

impl Watched {
    /// All of a status.
    pub(super) fn all(status: &Value) -> Vec<Self> {
        let list = status["containers"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        list.map(|one| Self {
            pod: text(&one["pod"]),
            rung: text(&one["rung"]),
            wakes: one["wakes"].clone(),
            whole: one.clone(),
        })
        .collect()
    }

    /// How often the rung roused the open file of this inode number.
    pub(super) fn roused(&self, inode: u64, rung: &str) -> Option<u64> {
        let mut files = self.whole["files"].as_array()?.iter();
        let file = files.find(|file| file["inode"].as_u64() == Some(inode))?;
        let same = file["rung"].as_str() == Some(rung);
        same.then(|| file["roused"].as_u64()).flatten()
    }
}

/// Between two sweeps where nothing else finds.
const SWEEP: &str = "100ms";

/// Between two looks at a status that is awaited.
const LOOK: Duration = Duration::from_millis(10);
