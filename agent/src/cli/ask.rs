//! A running agent's `/status`, asked for by another process.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::account::{Beyond, Row};
use crate::config;

/// How long an agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the agent listens.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Where {
    /// The agent's admin listener.
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// The agent's config file, which says where it listens.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Where {
    /// The address.
    ///
    /// # Errors
    /// The config's, or that it has no listener one could find.
    pub(super) fn address(&self) -> anyhow::Result<SocketAddr> {
        if let Some(address) = self.admin {
            return Ok(address);
        }
        let path = self.config.clone().unwrap_or_default();
        let mut address = config::load(&path)?
            .admin
            .with_context(|| format!("{} has no `admin.listen`", path.display()))?;
        if address.port() == 0 {
            anyhow::bail!(
                "`admin.listen` has port 0, a free one: its log names it; say --admin ADDR"
            );
        }
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        Ok(address)
    }
}

/// What of `/status` is shown.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) beyond: Beyond,
    pub(super) containers: Vec<Row>,
}

impl Said {
    /// Asks the agent at `address`.
    ///
    /// # Errors
    /// Why it gave no answer that can be read.
    pub(super) fn of(address: SocketAddr) -> anyhow::Result<Self> {
        let body = get(address).with_context(|| format!("ask the agent at {address}"))?;
        serde_json::from_str(&body).with_context(|| format!("read the status of {address}"))
    }
}

fn get(address: SocketAddr) -> anyhow::Result<String> {
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    write!(socket, "GET /status HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut text = String::new();
    socket.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("it ended too soon")?;
    if head.split(' ').nth(1) != Some("200") {
        anyhow::bail!("it said {}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}
