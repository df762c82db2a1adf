//! A pass-through proxy before a real server: counts what passes, and can cut.
//!
//! 1. Bodies pass unchanged both ways.
//! 2. `sent` counts what went to the server, `acknowledged` only what it answered with 2xx.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::receive::{decode, output_of};
use crate::serve::{Answer, Server};
use crate::tally::Tally;
use crate::twice::Sendings;
use crate::wire::{Arrived, Output};

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    server: Server,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    upstream: String,
    client: Client<HttpConnector, Full<Bytes>>,
    cut: AtomicBool,
    cut_answers: AtomicBool,
    unread: AtomicU64,
    sent: Tally,
    sendings: Sendings,
    acknowledged: Tally,
}

impl Proxy {
    /// Starts before a server, given as `http://host:port`.
    pub fn start(upstream: &str) -> Result<Self> {
        let state = Arc::new(State {
            upstream: upstream.trim_end_matches('/').to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            cut: AtomicBool::new(false),
            cut_answers: AtomicBool::new(false),
            unread: AtomicU64::new(0),
            sent: Tally::default(),
            sendings: Sendings::default(),
            acknowledged: Tally::default(),
        });
        let shared = Arc::clone(&state);
        let server = Server::start(0, move |request| {
            let state = Arc::clone(&shared);
            async move { state.pass(request).await }
        })?;
        Ok(Self { server, state })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// While on, requests are closed before they reach the server.
    pub fn cut(&self, on: bool) {
        self.state.cut.store(on, Ordering::Relaxed);
    }

    /// While on, requests reach the server and their answers are lost.
    pub fn cut_answers(&self, on: bool) {
        self.state.cut_answers.store(on, Ordering::Relaxed);
    }

    /// What went to the server.
    #[must_use]
    pub fn sent(&self) -> &Tally {
        &self.state.sent
    }

    /// What went twice, and why.
    #[must_use]
    pub fn sendings(&self) -> &Sendings {
        &self.state.sendings
    }

    /// What the server answered with 2xx.
    #[must_use]
    pub fn acknowledged(&self) -> &Tally {
        &self.state.acknowledged
    }

    /// Pushes and bulks whose body the proxy could not read.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.state.unread.load(Ordering::Relaxed)
    }
}

impl State {
    async fn pass(&self, request: Request<Incoming>) -> Answer {
        if self.cut.load(Ordering::Relaxed) {
            bail!("cut on purpose");
        }
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let mut arrived = None;
        if let Some(output) = output_of(head.uri.path()) {
            let content_type = header("content-type").unwrap_or_default();
            let encoding = header("content-encoding");
            match decode(output, head.uri.path(), content_type, encoding, &body) {
                Ok(records) => arrived = Some((output, records)),
                Err(_) => {
                    self.unread.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        if let Some((output, records)) = &arrived {
            self.sent.take(*output, records.clone());
            self.sendings.begin(records);
        }
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let uri: Uri = format!("{}{path}", self.upstream).parse()?;
        let mut onward = Request::builder().method(head.method.clone()).uri(uri);
        for (name, value) in head.headers.iter().filter(|(name, _)| *name != "host") {
            onward = onward.header(name, value);
        }
        let answer = match self.client.request(onward.body(Full::new(body))?).await {
            Err(error) if error.is_connect() => {
                // Nothing has left: it was never sent.
                if let Some((_, records)) = &arrived {
                    self.sendings.refused(records);
                }
                return Err(error.into());
            }
            other => other?,
        };
        let (mut head, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        if let Some((output, records)) = arrived {
            if head.status.is_success() {
                self.settle(output, records, &body);
            } else {
                self.sendings.refused(&records);
            }
        }
        if self.cut_answers.load(Ordering::Relaxed) {
            bail!("answer cut on purpose");
        }
        head.headers.remove("transfer-encoding");
        Ok(Response::from_parts(head, Full::new(body)))
    }

    /// Counts what was taken; a bulk's items each by its own status.
    fn settle(&self, output: Output, records: Vec<Arrived>, body: &[u8]) {
        let answer: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let taken = |index: usize| {
            let item = answer["items"][index]
                .as_object()
                .and_then(|item| item.values().next());
            let status = item.and_then(|item| item["status"].as_u64()).unwrap_or(200);
            status < 300
        };
        let (mut kept, mut refused) = (Vec::new(), Vec::new());
        for (index, record) in records.into_iter().enumerate() {
            let side = if taken(index) {
                &mut kept
            } else {
                &mut refused
            };
            side.push(record);
        }
        if !self.cut_answers.load(Ordering::Relaxed) {
            self.sendings.answered(&kept);
        }
        self.sendings.refused(&refused);
        self.acknowledged.take(output, kept);
    }
}
