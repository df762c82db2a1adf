//! One connection of a fault server.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{ENDLESS_BYTES, Manner, Request, State, bomb, lock};

/// More of a request than this is not kept.
const REQUEST_BYTES_MAX: usize = 64 << 20;

/// Of a request that is reset in the middle, as much is read.
const SOME_BYTES: usize = 512;

/// Between two bytes of a slow answer.
const DRIP: Duration = Duration::from_millis(20);

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Wire {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    fn certified(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.conn.peer_certificates().is_some(),
        }
    }

    /// Until the client, or who told the server to behave otherwise, closes the connection.
    fn hang(&mut self) -> io::Result<()> {
        let mut rest = [0; 4096];
        while self.read(&mut rest)? > 0 {}
        Ok(())
    }

    /// What is not read is answered with a reset.
    fn reset(self) -> io::Result<()> {
        let socket = self.socket();
        rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO))?;
        Ok(())
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// Serves requests until the connection ends.
pub(super) fn serve(
    socket: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    number: u64,
    state: &State,
) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let manner = || lock(&state.manner).clone();
    if manner() == Manner::HangAccepted {
        state.failed.fetch_add(1, Ordering::SeqCst);
        // Not even what has come is read.
        while manner() == Manner::HangAccepted && !state.stop.load(Ordering::SeqCst) {
            std::thread::park_timeout(DRIP);
        }
        return Ok(());
    }
    let mut wire = match tls {
        None => Wire::Plain(socket),
        Some(config) => {
            let connection = ServerConnection::new(config).map_err(io::Error::other)?;
            let mut stream = StreamOwned::new(connection, socket);
            if let Err(error) = stream.conn.complete_io(&mut stream.sock) {
                state.failed.fetch_add(1, Ordering::SeqCst);
                return Err(error);
            }
            Wire::Tls(Box::new(stream))
        }
    };
    let mut early = Vec::new();
    loop {
        let Some(request) = read(&mut wire, &mut early, number, manner)? else {
            state.failed.fetch_add(1, Ordering::SeqCst);
            return wire.reset();
        };
        let manner = manner();
        if !answer(&mut wire, request, &manner, state)? {
            if manner == Manner::ResetAnswer {
                return wire.reset();
            }
            return Ok(());
        }
    }
}

/// Reads a request; none where its middle is to be reset.
fn read(
    wire: &mut Wire,
    early: &mut Vec<u8>,
    connection: u64,
    manner: impl Fn() -> Manner,
) -> io::Result<Option<Request>> {
    let mut bytes = std::mem::take(early);
    let mut piece = vec![0; 64 << 10];
    let head_end = loop {
        let end = memchr::memmem::find(&bytes, b"\r\n\r\n");
        if let Some(end) = end {
            break end + 4;
        }
        let count = wire.read(&mut piece)?;
        if count == 0 || bytes.len() > REQUEST_BYTES_MAX {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&piece[..count]);
    };
    let mut request = Request {
        head: String::from_utf8_lossy(&bytes[..head_end]).into_owned(),
        body: Vec::new(),
        certified: wire.certified(),
        connection,
    };
    let length = request.header("content-length").unwrap_or("0");
    let length = length.parse::<usize>().map_err(io::Error::other)?;
    let resets = manner() == Manner::ResetRequest;
    let end = head_end
        + if resets {
            length.min(SOME_BYTES)
        } else {
            length
        };
    while bytes.len() < end {
        let count = wire.read(&mut piece)?;
        if count == 0 || bytes.len() > REQUEST_BYTES_MAX {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&piece[..count]);
    }
    if resets {
        return Ok(None);
    }
    *early = bytes.split_off(end);
    request.body = bytes.split_off(head_end);
    Ok(Some(request))
}

/// Answers; says whether the connection goes on.
fn answer(wire: &mut Wire, request: Request, manner: &Manner, state: &State) -> io::Result<bool> {
    if *manner == Manner::Good {
        return good(wire, request, state).map(|()| true);
    }
    let failed = || state.failed.fetch_add(1, Ordering::SeqCst);
    let head = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}\r\n");
    match manner {
        Manner::Good | Manner::HangAccepted | Manner::ResetRequest => {}
        Manner::HangRead => {
            failed();
            wire.hang()?;
        }
        Manner::HangHead => {
            wire.write_all(head("content-length: 10\r\n").as_bytes())?;
            failed();
            wire.hang()?;
        }
        Manner::HangBody => {
            wire.write_all(head("content-length: 10\r\n").as_bytes())?;
            wire.write_all(b"12345")?;
            failed();
            wire.hang()?;
        }
        Manner::ResetAnswer | Manner::HalfAnswer => {
            wire.write_all(head("content-length: 10\r\n").as_bytes())?;
            wire.write_all(b"12345")?;
            failed();
            if *manner == Manner::HalfAnswer {
                wire.socket().shutdown(Shutdown::Both)?;
            }
        }
        Manner::Endless => {
            failed();
            let length = format!("content-length: {ENDLESS_BYTES}\r\n");
            wire.write_all(head(&length).as_bytes())?;
            let piece = vec![b'x'; 64 << 10];
            for _ in 0..ENDLESS_BYTES / piece.len() as u64 {
                wire.write_all(&piece)?;
                let count = piece.len() as u64;
                state.written.fetch_add(count, Ordering::SeqCst);
            }
        }
        Manner::Bomb => {
            failed();
            let bomb = bomb();
            let length = format!(
                "content-encoding: gzip\r\ncontent-length: {}\r\n",
                bomb.len()
            );
            wire.write_all(head(&length).as_bytes())?;
            wire.write_all(bomb)?;
            return Ok(true);
        }
        Manner::Drip => {
            failed();
            for byte in head("content-length: 1000\r\n").bytes().chain([b'x'; 1000]) {
                wire.write_all(&[byte])?;
                std::thread::park_timeout(DRIP);
            }
        }
        Manner::Answer(status, headers, body) => {
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n");
            failed();
            wire.write_all(head.as_bytes())?;
            wire.write_all(body.as_bytes())?;
            return Ok(true);
        }
    }
    Ok(false)
}

fn good(wire: &mut Wire, request: Request, state: &State) -> io::Result<()> {
    let path = request.target().split('?').next().unwrap_or_default();
    if path.ends_with("/token") {
        let (token, secs) = lock(&state.token).clone();
        let body = serde_json::json!({
            "access_token": token, "token_type": "Bearer", "expires_in": secs
        });
        lock(&state.tokens).push(request);
        return reply(wire, "200 OK", &body.to_string());
    }
    let demanded = lock(&state.demanded).clone();
    if demanded.is_some() && request.header("authorization") != demanded.as_deref() {
        state.failed.fetch_add(1, Ordering::SeqCst);
        return reply(wire, "401 Unauthorized", "who are you?");
    }
    let is_bulk = path.ends_with("/_bulk");
    let gzip = request.header("content-encoding") == Some("gzip");
    let items = if is_bulk {
        let plain = crate::wire::inflate(gzip.then_some("gzip"), &request.body);
        memchr::memchr_iter(b'\n', &plain.unwrap_or_default()).count() / 2
    } else {
        0
    };
    lock(&state.taken).push(request);
    if is_bulk {
        let item = serde_json::json!({"create": {"status": 201}});
        let body = serde_json::json!({"errors": false, "items": vec![item; items]});
        return reply(wire, "200 OK", &body.to_string());
    }
    wire.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
}

fn reply(wire: &mut Wire, status: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    wire.write_all(head.as_bytes())?;
    wire.write_all(body.as_bytes())
}
