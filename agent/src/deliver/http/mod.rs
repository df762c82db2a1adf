//! The real transport: hyper over TCP and TLS.
//!
//! ```text
//! send -> client of the output: credentials, TLS and pool of now (auth, tls, files, client)
//!      -> one task a call: [token (oauth2)] -> connect (connect, proxy) -> POST -> answer (exchange)
//!      -> channel -> bell
//! poll <- channel
//! ```
//!
//! 1. HTTP/1.1 with kept connections, a pool for each output.
//! 2. Every task is owned: `cancel` and drop abort it. There are as many as lanes fly.
//! 3. Nothing here wakes up by itself: files, tokens and connections are looked at when something is
//!    to be sent.
//! 4. No secret leaves this room but on the wire: neither in a failure, nor in an answer, nor by
//!    `Debug`.

mod auth;
mod client;
mod connect;
mod exchange;
mod files;
mod oauth2;
mod proxy;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

pub use self::proxy::{further_ports, port};

use self::client::{Client, Ready};
use self::exchange::exchange;
use self::tls::Roots;
use super::transport::{Answer, Call, CallId, Failure, Transport};
use crate::base::bell::Bell;
use crate::base::time::{Clock as _, MachineClock};
use crate::plan::Output;

const AGENT: &str = concat!("tailwake/", env!("CARGO_PKG_VERSION"));

type End = (CallId, Result<Answer, Failure>);

/// Carries calls over the network.
#[derive(Debug)]
pub struct HttpTransport {
    handle: Handle,
    bell: Bell,
    /// By place of the output in the plan.
    clients: Vec<Client>,
    /// Read at the first call that needs them: that takes time and memory.
    roots: Roots,
    clock: MachineClock,
    tasks: BTreeMap<CallId, AbortHandle>,
    ends: mpsc::Receiver<End>,
    /// Given to each task; unbounded, but there is one message a call at most.
    sender: mpsc::Sender<End>,
}

impl HttpTransport {
    /// A transport for the plan's outputs, whose tasks run on `handle` (I/O and time enabled); `bell`
    /// rings at each end. No file is read yet.
    #[must_use]
    pub fn new(handle: Handle, bell: Bell, outputs: &[Output]) -> Self {
        let (sender, ends) = mpsc::channel();
        let clock = MachineClock::new();
        Self {
            handle,
            bell,
            clients: outputs
                .iter()
                .map(|output| Client::new(output, clock))
                .collect(),
            roots: None,
            clock,
            tasks: BTreeMap::new(),
            ends,
            sender,
        }
    }

    fn ready(&mut self, call: &Call) -> Result<Ready, String> {
        let client = self.clients.get_mut(call.output.index());
        let client = client.ok_or("there is no such output")?;
        client.ready(call, &mut self.roots)
    }
}

impl Transport for HttpTransport {
    fn send(&mut self, id: CallId, call: Call) {
        let (sender, bell) = (self.sender.clone(), self.bell.clone());
        let ready = self.ready(&call);
        let now = self.clock.wall();
        let task = self.handle.spawn(async move {
            let limit = Duration::from_millis(call.timeout_ms);
            let end = match ready {
                Ok(ready) => match tokio::time::timeout(limit, exchange(ready, call, now)).await {
                    Ok(end) => end,
                    Err(_) => Err(Failure::Timeout),
                },
                Err(why) => Err(Failure::Connect(why)),
            };
            // The receiver is gone only when the transport is being dropped.
            let _ = sender.send((id, end));
            bell.ring();
        });
        self.tasks.insert(id, task.abort_handle());
    }

    fn cancel(&mut self, id: CallId) {
        if let Some(task) = self.tasks.remove(&id) {
            task.abort();
        }
    }

    fn poll(&mut self, ended: &mut Vec<End>) {
        while let Ok((id, end)) = self.ends.try_recv() {
            if self.tasks.remove(&id).is_some() {
                ended.push((id, end));
            }
        }
    }
}

impl Drop for HttpTransport {
    fn drop(&mut self) {
        self.tasks.values().for_each(AbortHandle::abort);
    }
}

/// An error with its causes: the outermost alone says nothing ("client error (Connect)").
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
