//! A real Promtail beside the agent: its config with the same work, its cost.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use harness::process::{Usage, end, usage};

use crate::testbed::Cache;

/// A running Promtail.
#[derive(Debug)]
pub(super) struct Promtail {
    child: Child,
    log: PathBuf,
}

impl Promtail {
    /// Writes its config and starts it on the pod tree.
    pub(super) fn start(
        binary: &Path,
        directory: &Path,
        pods: &Path,
        sink: SocketAddr,
        json: bool,
    ) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let config = directory.join("promtail.yaml");
        let positions = directory.join("positions.yaml");
        std::fs::write(&config, config_text(&positions, pods, sink, json))?;
        let path = directory.join("promtail.log");
        let log = std::fs::File::create(&path)?;
        let child = Command::new(binary)
            .arg(format!("-config.file={}", config.display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", binary.display()))?;
        Ok(Self { child, log: path })
    }

    pub(super) fn usage(&self) -> Result<Usage> {
        usage(self.child.id())
    }

    pub(super) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            bail!(
                "promtail ended with {status}: {}",
                log.lines().last().unwrap_or_default()
            );
        }
        Ok(())
    }

    pub(super) fn end(mut self) -> Result<()> {
        end(&mut self.child, Duration::from_secs(10)).map(drop)
    }
}

impl Drop for Promtail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The testbed's Promtail, built when it is not in the cache.
pub(super) fn obtain() -> Result<PathBuf> {
    let install = std::env::var_os("CI").is_some();
    crate::testbed::obtain(crate::testbed::Kind::Promtail, &Cache::open()?, install)
}

fn config_text(positions: &Path, pods: &Path, sink: SocketAddr, json: bool) -> String {
    let stages = if json {
        "      - json: {expressions: {level: level}}\n      - labels: {level: }\n"
    } else {
        ""
    };
    let (positions, pods) = (positions.display(), pods.display());
    format!(
        "server: {{http_listen_address: 127.0.0.1, http_listen_port: 0, grpc_listen_address: \
         127.0.0.1, grpc_listen_port: 0, log_level: error}}\npositions: {{filename: \
         \"{positions}\", sync_period: 1s}}\nclients:\n  - {{url: \
         \"http://{sink}/loki/api/v1/push\", batchwait: 100ms, batchsize: 1048576}}\n\
         scrape_configs:\n  - job_name: pods\n    pipeline_stages:\n      - cri: {{}}\n{stages}    \
         static_configs:\n      - targets: [localhost]\n        labels: {{job: bench, __path__: \
         \"{pods}/*/*/*.log\"}}\n"
    )
}
