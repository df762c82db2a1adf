//! A tiny HTTP proxy: tunnels by CONNECT, and whole URLs.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::Result;

use super::lock;

#[derive(Debug, Default)]
struct State {
    /// What `Proxy-Authorization` must say.
    demanded: Option<String>,
    heads: Mutex<Vec<String>>,
    stop: AtomicBool,
    sockets: Mutex<Vec<TcpStream>>,
}

/// A running proxy.
#[derive(Debug)]
pub struct Forward {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Forward {
    /// Starts one that demands this `Proxy-Authorization`, if any.
    pub fn start(demanded: Option<&str>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            demanded: demanded.map(str::to_owned),
            ..State::default()
        });
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || accept(&listener, &shared));
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

    /// The heads of all requests to it, refused ones too.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        lock(&self.state.heads).clone()
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    let mut threads = Vec::new();
    while let Ok((socket, _)) = listener.accept() {
        if state.stop.load(Ordering::SeqCst) {
            break;
        }
        let shared = Arc::clone(state);
        threads.push(std::thread::spawn(move || {
            // Either side may go at any time.
            let _ = pass(socket, &shared);
        }));
    }
    for socket in lock(&state.sockets).drain(..) {
        let _ = socket.shutdown(Shutdown::Both);
    }
    for thread in threads {
        let _ = thread.join();
    }
}

fn pass(mut client: TcpStream, state: &State) -> io::Result<()> {
    lock(&state.sockets).push(client.try_clone()?);
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    let end = loop {
        if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            break end + 4;
        }
        let count = client.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        bytes.extend_from_slice(&piece[..count]);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    lock(&state.heads).push(head.clone());
    let told = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("proxy-authorization")
            .then(|| value.trim().to_owned())
    });
    if state.demanded.is_some() && told != state.demanded {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\n\
                       proxy-authenticate: Basic\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        client.write_all(refusal.as_bytes())?;
        return Ok(());
    }
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next());
    let target = target.unwrap_or_default();
    if method == "CONNECT" {
        let server = TcpStream::connect(target)?;
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        return pump(client, server, state);
    }
    let rest = target.strip_prefix("http://").unwrap_or_default();
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let mut server = TcpStream::connect(host)?;
    // One request a connection: what follows a head is not looked at.
    let own = ["proxy-authorization", "connection"];
    let lines = head.trim_end().lines().skip(1).filter(|line| {
        let name = line.split(':').next().unwrap_or_default();
        !own.iter().any(|own| name.eq_ignore_ascii_case(own))
    });
    let lines: String = lines.map(|line| format!("{line}\r\n")).collect();
    write!(
        server,
        "{method} {path} HTTP/1.1\r\n{lines}connection: close\r\n\r\n"
    )?;
    server.write_all(&bytes[end..])?;
    pump(client, server, state)
}

fn pump(client: TcpStream, server: TcpStream, state: &State) -> io::Result<()> {
    lock(&state.sockets).push(server.try_clone()?);
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let up = std::thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let (mut from_server, mut to_client) = (server, client);
    let _ = io::copy(&mut from_server, &mut to_client);
    let _ = to_client.shutdown(Shutdown::Both);
    let _ = up.join();
    Ok(())
}
