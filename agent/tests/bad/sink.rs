//! A server of either protocol that keeps every text by pod, and can be told to misbehave.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use harness::serve::{Answer, Server, answer};
use harness::wire::loki::{Push, parse_labels};
use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::Incoming;
use prost::Message as _;
use serde_json::{Value, json};

/// How it answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As it should.
    Good,
    /// Not at all.
    Silent,
    /// 200 with this body, and nothing stored.
    Garbage(&'static str),
}

#[derive(Default)]
struct Kept {
    texts: Mutex<BTreeMap<String, Vec<String>>>,
    manner: Mutex<Option<Manner>>,
    misbehaved: AtomicU64,
}

/// A running sink.
pub(crate) struct Sink {
    server: Server,
    kept: Arc<Kept>,
}

impl Sink {
    pub(crate) fn start(manner: Manner) -> Self {
        Self::start_at(0, manner)
    }

    pub(crate) fn start_at(port: u16, manner: Manner) -> Self {
        let kept = Arc::new(Kept::default());
        *kept.manner.lock().unwrap() = Some(manner);
        let shared = Arc::clone(&kept);
        let server = Server::start(port, move |request| serve(Arc::clone(&shared), request));
        let server = server.unwrap();
        Self { server, kept }
    }

    pub(crate) fn behave(&self, manner: Manner) {
        *self.kept.manner.lock().unwrap() = Some(manner);
    }

    /// Requests that were not answered as they should be.
    pub(crate) fn misbehaved(&self) -> u64 {
        self.kept.misbehaved.load(Ordering::SeqCst)
    }

    /// The pod's texts in order of arrival.
    pub(crate) fn texts(&self, pod: &str) -> Vec<String> {
        let texts = self.kept.texts.lock().unwrap();
        texts.get(pod).cloned().unwrap_or_default()
    }

    /// The output's part of a config.
    pub(crate) fn loki(&self) -> String {
        let address = self.server.address();
        format!("loki: {{url: \"http://{address}/loki/api/v1/push\"}}")
    }

    pub(crate) fn bulk(&self) -> String {
        let address = self.server.address();
        format!("elasticsearch: {{urls: [\"http://{address}\"], index: logs}}")
    }
}

async fn serve(kept: Arc<Kept>, request: Request<Incoming>) -> Answer {
    let loki = request.uri().path().starts_with("/loki");
    let gzip = request.headers().contains_key("content-encoding");
    let body = request.into_body().collect().await?.to_bytes();
    let manner = kept.manner.lock().unwrap().unwrap_or(Manner::Good);
    match manner {
        Manner::Good => {}
        Manner::Silent => {
            kept.misbehaved.fetch_add(1, Ordering::SeqCst);
            return std::future::pending().await;
        }
        Manner::Garbage(body) => {
            kept.misbehaved.fetch_add(1, Ordering::SeqCst);
            return answer(200, body);
        }
    }
    let arrived = if loki {
        pushed(&body)
    } else {
        indexed(&harness::wire::inflate(gzip.then_some("gzip"), &body)?)
    };
    let items = arrived.len();
    let mut texts = kept.texts.lock().unwrap();
    for (pod, text) in arrived {
        texts.entry(pod).or_default().push(text);
    }
    if loki {
        return answer(204, "");
    }
    let item = json!({"index": {"status": 201}});
    answer(
        200,
        json!({"errors": false, "items": vec![item; items]}).to_string(),
    )
}

/// Pods and texts of a push's body.
pub(crate) fn pushed(body: &[u8]) -> Vec<(String, String)> {
    let plain = snap::raw::Decoder::new().decompress_vec(body).unwrap();
    let push = Push::decode(&*plain).unwrap();
    let mut arrived = Vec::new();
    for stream in push.streams {
        let labels = parse_labels(&stream.labels).unwrap();
        let pod = labels.iter().find(|(name, _)| name == "pod");
        let pod = pod.map(|(_, pod)| pod.clone()).unwrap_or_default();
        arrived.extend(
            stream
                .entries
                .into_iter()
                .map(|line| (pod.clone(), line.line)),
        );
    }
    arrived
}

/// Pods and texts of a bulk's inflated body.
pub(crate) fn indexed(body: &[u8]) -> Vec<(String, String)> {
    let text = std::str::from_utf8(body).unwrap();
    let documents = text.lines().skip(1).step_by(2);
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let one = |line| {
        let document: Value = serde_json::from_str(line).unwrap();
        let pod = word(&document["kubernetes"]["pod"]);
        (pod, word(&document["message"]))
    };
    documents.map(one).collect()
}
