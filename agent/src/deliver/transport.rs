//! The seam to the network.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::outputs::OutputId;

/// A request under way; chosen by the caller, unique while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// One HTTP request.
#[derive(Clone)]
pub struct Call {
    /// Which output: decides client settings (TLS, authentication, proxy, further headers).
    pub output: OutputId,
    /// POST but for what is asked at the start.
    pub method: http::Method,
    /// Absolute URL, without user name and password.
    pub url: Arc<str>,
    /// Headers beyond those of the client.
    pub headers: Vec<(&'static str, Arc<str>)>,
    /// The body as it goes on the wire.
    pub body: Bytes,
    /// The whole exchange may take this many milliseconds.
    pub timeout_ms: u64,
}

impl fmt::Debug for Call {
    /// Headers may be secrets and bodies are long: neither is printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Call({:?} {}, {} bytes)",
            self.output,
            self.url,
            self.body.len()
        )
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After` from now on, in milliseconds, given in seconds or as a date; as large as a
    /// server likes.
    pub retry_after_ms: Option<u64>,
    /// The body, at most [`ANSWER_BYTES_MAX`] of it, inflated, without the call's own secrets. Of a
    /// redirect, which is not followed, where it leads.
    pub body: Bytes,
}

/// Why nothing came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection, or nothing that the call could have been sent with (a token, a certificate):
    /// the server has seen nothing of it.
    Connect(String),
    /// The exchange took longer than its time.
    Timeout,
    /// The connection broke, or the answer was no HTTP or too large.
    Broken(String),
}

/// More of an answer than this is not read: answers are hostile too.
pub const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Carries calls. The real one is hyper; the simulator has its own.
pub trait Transport {
    /// Starts a call; its end comes out of `poll`.
    fn send(&mut self, id: CallId, call: Call);
    /// Forgets a call; its end may still come out of `poll` and is ignored.
    fn cancel(&mut self, id: CallId);
    /// Moves the calls that have ended since the last poll into `ended`.
    fn poll(&mut self, ended: &mut Vec<(CallId, Result<Answer, Failure>)>);
}
