#![expect(clippy::unwrap_used, reason = "tests")]
//! Against a server on loopback that says exactly what it is told to.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use tokio::sync::Notify;

use super::*;
use crate::base::bell::Ring;
use crate::base::outputs::OutputId;
use crate::base::size::ByteSize;
use crate::deliver::transport::ANSWER_BYTES_MAX;
use crate::plan::{HttpSettings, LokiOutput, OutputKind, Retry};
use bytes::Bytes;
use tokio::runtime::Handle;

#[derive(Default)]
struct Woken(Notify);

impl Ring for Woken {
    fn ring(&self) {
        self.0.notify_one();
    }
}

/// An output that goes straight to `url`.
pub(super) fn output(url: &str) -> Output {
    Output {
        name: "out".to_owned(),
        kind: OutputKind::Loki(LokiOutput {
            url: url.to_owned(),
            tenant: None,
            labels: Vec::new(),
        }),
        batch_bytes: ByteSize(1 << 20),
        linger_ms: 100,
        window_bytes: ByteSize(1 << 20),
        dead_letters: None,
        spool: crate::plan::Spool::Off,
        retry: Retry::default(),
        timeout_ms: 10_000,
        http: HttpSettings {
            proxy: crate::plan::Proxy::None,
            ..HttpSettings::default()
        },
    }
}

fn call(url: String, timeout_ms: u64) -> Call {
    Call {
        method: http::Method::POST,
        output: OutputId(0),
        url: url.into(),
        headers: vec![("x-scope-orgid", "t1".into())],
        body: Bytes::from_static(b"the body"),
        timeout_ms,
    }
}

async fn outcome(call: Call) -> Result<Answer, Failure> {
    let output = output(&call.url);
    outcome_of(output, call).await
}

async fn outcome_of(output: Output, call: Call) -> Result<Answer, Failure> {
    let woken = Arc::new(Woken::default());
    let bell = Bell::new(Arc::clone(&woken) as Arc<dyn Ring>);
    let mut transport = HttpTransport::new(Handle::current(), bell, &[output]);
    transport.send(CallId(7), call);
    let mut ended = Vec::new();
    while ended.is_empty() {
        woken.0.notified().await;
        transport.poll(&mut ended);
    }
    assert!(transport.tasks.is_empty());
    let (id, end) = ended.pop().unwrap();
    assert_eq!(id, CallId(7));
    end
}

/// Serves one connection: reads the request, writes `reply`, closes. Gives what it read.
async fn against(reply: Vec<u8>) -> (Result<Answer, Failure>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/push", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut read = Vec::new();
        while !read.ends_with(b"the body") {
            let mut piece = [0; 4096];
            let count = stream.read(&mut piece).unwrap();
            assert!(count > 0, "the request is whole");
            read.extend_from_slice(&piece[..count]);
        }
        // The client may hang up in the midst of a large answer.
        let _ = stream.write_all(&reply);
        String::from_utf8(read).unwrap()
    });
    let end = outcome(call(url, 20_000)).await;
    (end, server.join().unwrap())
}

fn reply(head: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn an_answer_comes_back_whole() {
    let (end, request) = against(reply("429 Busy\r\nretry-after: 3", b"slow down")).await;
    let body = Bytes::from_static(b"slow down");
    assert_eq!(
        end,
        Ok(Answer {
            status: 429,
            retry_after_ms: Some(3000),
            body
        })
    );
    assert!(request.starts_with("POST /push HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("x-scope-orgid: t1\r\n"), "{request}");
    assert!(
        request.contains(&format!("user-agent: {AGENT}\r\n")),
        "{request}"
    );
}

#[tokio::test]
async fn a_gzip_answer_is_inflated_and_a_redirect_is_not_followed() {
    let head = "500 Oh\r\ncontent-encoding: gzip";
    let (end, _) = against(reply(head, &gzip(b"hello"))).await;
    assert_eq!(end.unwrap().body, "hello");
    let head = "302 Found\r\nlocation: /x\r\ncontent-encoding: gzip";
    let (end, _) = against(reply(head, &gzip(b"hello"))).await;
    let body = Bytes::from_static(b"redirects are not followed, and this one leads to /x");
    assert_eq!(
        end,
        Ok(Answer {
            status: 302,
            retry_after_ms: None,
            body
        })
    );
}

#[tokio::test]
async fn bad_answers_are_broken() {
    let huge = vec![b'x'; ANSWER_BYTES_MAX + 1];
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this".to_vec();
    for (name, reply) in [
        ("half", half),
        ("nothing", Vec::new()),
        ("garbage", b"\x16\x03\x01 this is no HTTP\r\n\r\n".to_vec()),
        ("too large", reply("200 OK", &huge)),
        (
            "bomb",
            reply("200 OK\r\ncontent-encoding: gzip", &gzip(&huge)),
        ),
        (
            "bad gzip",
            reply("200 OK\r\ncontent-encoding: gzip", b"no gzip"),
        ),
    ] {
        let (end, _) = against(reply).await;
        assert!(matches!(end, Err(Failure::Broken(_))), "{name}: {end:?}");
    }
}

#[tokio::test]
async fn a_refused_connection_is_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let end = outcome(call(url, 20_000)).await;
    assert!(matches!(end, Err(Failure::Connect(_))), "{end:?}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_a_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    assert_eq!(outcome(call(url, 30)).await, Err(Failure::Timeout));
}

#[tokio::test]
async fn tls_against_a_plain_server_is_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let end = outcome(call(url, 20_000)).await;
    assert!(matches!(end, Err(Failure::Connect(_))), "{end:?}");
    server.join().unwrap();
}

#[tokio::test]
async fn bad_urls_and_headers_are_no_connection() {
    for url in [
        "",
        "nonsense",
        "http://",
        "ftp://127.0.0.1:1/",
        "http://[::1/",
    ] {
        let end = outcome(call(url.to_owned(), 1000)).await;
        assert!(end.is_err(), "{url}: {end:?}");
    }
}

#[tokio::test]
async fn a_cancelled_call_never_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let outputs = [output(&url)];
    let mut transport = HttpTransport::new(Handle::current(), Bell::silent(), &outputs);
    transport.send(CallId(1), call(url, 20_000));
    // The end of the stream is the event: the aborted task closes its connection.
    let (accepted, seen) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (accept, see) = (Arc::clone(&accepted), Arc::clone(&seen));
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        accept.notify_one();
        let _ = stream.read_to_end(&mut Vec::new());
        see.notify_one();
    });
    accepted.notified().await;
    transport.cancel(CallId(1));
    seen.notified().await;
    server.join().unwrap();
    let mut ended = Vec::new();
    transport.poll(&mut ended);
    assert!(ended.is_empty());
}

#[tokio::test]
async fn a_refusal_of_a_body_that_is_not_read_comes_through() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut piece = [0; 4096];
        let _ = stream.read(&mut piece).unwrap();
        stream
            .write_all(&reply("413 Too Large\r\nconnection: close", b""))
            .unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream
    });
    let mut call = call(url, 20_000);
    call.body = vec![b'x'; 16 << 20].into();
    let end = outcome(call).await;
    assert_eq!(end.map(|answer| answer.status), Ok(413));
    drop(server.join().unwrap());
}
