//! A server that fails on purpose, in every way that a healthy one does not show, and keeps what it
//! was sent.
//!
//! ```text
//! accept -> [TLS] -> request -> by the manner of now: answer, hang, reset, half, endless ...
//! ```
//!
//! 1. Real HTTP/1.1 over loopback, a thread a connection; plain sockets, so that anything can be sent.
//! 2. What was taken properly (an answer of 2xx was sent whole) stands in `taken`, all else in
//!    `failed`: a test compares both with what the agent says.
//! 3. A server ends when its handle is dropped, with all its connections.

pub mod certificates;
mod connection;
pub mod forward;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use rustls::ServerConfig;

/// Bytes of an endless answer.
pub const ENDLESS_BYTES: u64 = 1 << 30;

/// How the server behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As it should: 204 for a push, each item created for a bulk, a token for a token request.
    Good,
    /// Accepts, and neither reads nor writes.
    HangAccepted,
    /// Reads the request and does not answer.
    HangRead,
    /// Sends the answer's head and no body.
    HangHead,
    /// Sends half of the answer's body.
    HangBody,
    /// Reads some of the request, then resets the connection.
    ResetRequest,
    /// Sends half of the answer, then resets the connection.
    ResetAnswer,
    /// Sends half of the answer, then closes.
    HalfAnswer,
    /// Sends a body of [`ENDLESS_BYTES`].
    Endless,
    /// Sends 1 MiB of gzip that inflates to 1 GiB.
    Bomb,
    /// Sends its answer a byte at a time, each some 20 ms after the other.
    Drip,
    /// Answers with this: status line's rest, whole header lines, body.
    Answer(&'static str, String, String),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Request line and headers.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the client has shown a certificate.
    pub certified: bool,
    /// Which connection it came by, from 0.
    pub connection: u64,
}

impl Request {
    /// A header's value, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1);
        lines.find_map(|line| {
            let (have, value) = line.split_once(':')?;
            have.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// What stands between method and version.
    #[must_use]
    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

#[derive(Debug)]
struct State {
    manner: Mutex<Manner>,
    /// A push without this `Authorization` is answered with 401.
    demanded: Mutex<Option<String>>,
    /// The token that a token request is given, and its seconds.
    token: Mutex<(String, u64)>,
    taken: Mutex<Vec<Request>>,
    tokens: Mutex<Vec<Request>>,
    failed: AtomicU64,
    written: AtomicU64,
    accepted: AtomicU64,
    stop: AtomicBool,
    /// By number of their connection.
    sockets: Mutex<BTreeMap<u64, TcpStream>>,
}

/// A running server.
#[derive(Debug)]
pub struct FaultServer {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl FaultServer {
    /// Starts one on a free port of loopback.
    pub fn start(manner: Manner) -> Result<Self> {
        Self::start_with(manner, None)
    }

    /// Starts one that speaks TLS.
    pub fn start_tls(manner: Manner, tls: Arc<ServerConfig>) -> Result<Self> {
        Self::start_with(manner, Some(tls))
    }

    fn start_with(manner: Manner, tls: Option<Arc<ServerConfig>>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("listen on loopback")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            manner: Mutex::new(manner),
            demanded: Mutex::default(),
            token: Mutex::new(("token".to_owned(), 3_600)),
            taken: Mutex::default(),
            tokens: Mutex::default(),
            failed: AtomicU64::new(0),
            written: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            sockets: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("fault".to_owned())
            .spawn(move || accept(&listener, &shared, tls.as_ref()))?;
        Ok(Self {
            address,
            state,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it behaves from the next request on; what hangs is cut.
    pub fn behave(&self, manner: Manner) {
        *lock(&self.state.manner) = manner;
        cut(&self.state);
    }

    /// From now on a push must bear this `Authorization`.
    pub fn demand(&self, authorization: &str) {
        *lock(&self.state.demanded) = Some(authorization.to_owned());
    }

    /// What a token request is given from now on.
    pub fn grant(&self, token: &str, secs: u64) {
        *lock(&self.state.token) = (token.to_owned(), secs);
    }

    /// Pushes and bulks that were taken, in order.
    #[must_use]
    pub fn taken(&self) -> Vec<Request> {
        lock(&self.state.taken).clone()
    }

    /// Token requests that were granted, in order.
    #[must_use]
    pub fn tokens(&self) -> Vec<Request> {
        lock(&self.state.tokens).clone()
    }

    /// How often a request, or a connection before one, was not answered as it should be.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.state.failed.load(Ordering::SeqCst)
    }

    /// Bytes of endless answers that a client has let be written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.state.written.load(Ordering::SeqCst)
    }

    /// Connections so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.state.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, state: &Arc<State>, tls: Option<&Arc<ServerConfig>>) {
    let mut threads = Vec::new();
    while let Ok((socket, _)) = listener.accept() {
        if state.stop.load(Ordering::SeqCst) {
            break;
        }
        let number = state.accepted.fetch_add(1, Ordering::SeqCst);
        let (shared, tls) = (Arc::clone(state), tls.map(Arc::clone));
        let Ok(kept) = socket.try_clone() else {
            continue;
        };
        lock(&state.sockets).insert(number, kept);
        threads.push(std::thread::spawn(move || {
            // A connection that ends in the midst of things is what this server is for.
            let _ = connection::serve(socket, tls, number, &shared);
            // The last handle: what was set to be reset is reset now.
            lock(&shared.sockets).remove(&number);
        }));
        threads.retain(|thread| !thread.is_finished());
    }
    cut(state);
    for thread in threads {
        let _ = thread.join();
    }
}

fn cut(state: &State) {
    for socket in lock(&state.sockets).values() {
        let _ = socket.shutdown(Shutdown::Both);
    }
}

/// 1 GiB of zeros as gzip, made once.
fn bomb() -> &'static [u8] {
    static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
    BOMB.get_or_init(|| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let zeros = vec![0; 1 << 20];
        for _ in 0..1 << 10 {
            let _ = gzip.write_all(&zeros);
        }
        gzip.finish().unwrap_or_default()
    })
}
