//! The embedded receiver: speaks Loki's push and Elasticsearch's bulk, and tallies what it took.
//!
//! 1. A record is tallied before its request is acknowledged, and only then.
//! 2. A fault hits the requests of one output by their number, first request 0.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use serde_json::json;

use crate::serve::{Answer, Server, answer};
use crate::tally::Tally;
use crate::wire::{Arrived, Output, bulk, inflate, loki};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request is refused with this status.
    Status(u16),
    /// It is never answered.
    Hang,
    /// The connection is closed without an answer.
    Close,
    /// The first bulk item is refused with this status, the others are taken.
    Item(u16),
    /// One record is lost on the way, and acknowledged.
    Drop,
    /// Two records of one label set change places.
    Swap,
    /// One record's text is changed.
    Alter,
}

/// A fault and the requests that it hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// On which output.
    pub output: Output,
    /// First request hit; drop, swap and alter wait for the first that bears a fit record.
    pub first: u64,
    /// How many requests are hit.
    pub count: u64,
    /// What goes wrong.
    pub fault: Fault,
}

/// A running receiver.
#[derive(Debug)]
pub struct Receiver {
    server: Server,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    tally: Arc<Tally>,
    plan: Vec<Planned>,
    /// How often each planned tampering has been done.
    done: Vec<AtomicU64>,
    requests: [AtomicU64; 2],
    refused: AtomicU64,
}

impl Receiver {
    /// Starts on a free loopback port.
    pub fn start(plan: Vec<Planned>) -> Result<Self> {
        let state = Arc::new(State {
            tally: Arc::new(Tally::default()),
            done: plan.iter().map(|_| AtomicU64::new(0)).collect(),
            plan,
            requests: [AtomicU64::new(0), AtomicU64::new(0)],
            refused: AtomicU64::new(0),
        });
        let shared = Arc::clone(&state);
        let server = Server::start(0, move |request| {
            let state = Arc::clone(&shared);
            async move { state.serve(request).await }
        })?;
        Ok(Self { server, state })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What arrived.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.state.tally
    }

    /// Requests whose body could not be read; each was answered 400.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.state.refused.load(Ordering::Relaxed)
    }

    /// Requests of an output so far.
    #[must_use]
    pub fn requests(&self, output: Output) -> u64 {
        self.state.requests[slot(output)].load(Ordering::Relaxed)
    }
}

impl State {
    async fn serve(&self, request: Request<Incoming>) -> Answer {
        let Some(call) = Call::read(request).await? else {
            return answer(200, VERSION);
        };
        let output = call.output;
        let number = self.requests[slot(output)].fetch_add(1, Ordering::Relaxed);
        let mut item_status = None;
        for planned in self
            .plan
            .iter()
            .filter(|planned| planned.hits(output, number))
        {
            match planned.fault {
                Fault::Status(status) => return answer(status, "{}"),
                Fault::Hang => std::future::pending::<()>().await,
                Fault::Close => bail!("closed on purpose"),
                Fault::Item(status) => item_status = Some(status),
                Fault::Drop | Fault::Swap | Fault::Alter => {}
            }
        }
        let mut arrived = match call.decode() {
            Ok(arrived) => arrived,
            Err(error) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return answer(400, json!({"error": format!("{error:#}")}).to_string());
            }
        };
        let items = arrived.len();
        if item_status.is_some() && !arrived.is_empty() {
            arrived.remove(0);
        }
        self.tamper(output, number, &mut arrived);
        self.tally.take(output, arrived);
        match output {
            Output::Loki => answer(204, ""),
            Output::Elasticsearch => answer(200, bulk_answer(items, item_status)),
        }
    }

    /// Does the planned drop, swap or alter, once per `count`.
    fn tamper(&self, output: Output, number: u64, arrived: &mut Vec<Arrived>) {
        for (planned, done) in self.plan.iter().zip(&self.done) {
            let due = planned.output == output && number >= planned.first;
            if due && done.load(Ordering::Relaxed) < planned.count {
                let did = spoil(planned.fault, arrived);
                done.fetch_add(u64::from(did), Ordering::Relaxed);
            }
        }
    }
}

impl Planned {
    fn hits(&self, output: Output, number: u64) -> bool {
        self.output == output && (self.first..self.first + self.count).contains(&number)
    }
}

/// One request, whole.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) output: Output,
    path: String,
    content_type: String,
    encoding: Option<String>,
    body: Rc<[u8]>,
}

impl Call {
    /// Reads a push or bulk; `None` for any other request.
    async fn read(request: Request<Incoming>) -> Result<Option<Self>> {
        let path = request.uri().path().to_owned();
        let Some(output) = output_of(&path) else {
            return Ok(None);
        };
        let header = |name: &str| {
            request
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let content_type = header("content-type").unwrap_or_default();
        let encoding = header("content-encoding");
        let body = request.into_body().collect().await?.to_bytes();
        Ok(Some(Self {
            output,
            path,
            content_type,
            encoding,
            body: Rc::from(body.as_ref()),
        }))
    }

    fn decode(&self) -> Result<Vec<Arrived>> {
        decode(
            self.output,
            &self.path,
            &self.content_type,
            self.encoding.as_deref(),
            &self.body,
        )
    }
}

/// Which protocol a path belongs to.
pub(crate) fn output_of(path: &str) -> Option<Output> {
    if path == "/loki/api/v1/push" {
        Some(Output::Loki)
    } else if path == "/_bulk" || path.ends_with("/_bulk") {
        Some(Output::Elasticsearch)
    } else {
        None
    }
}

/// Takes the records out of a body of either protocol.
pub(crate) fn decode(
    output: Output,
    path: &str,
    content_type: &str,
    encoding: Option<&str>,
    body: &[u8],
) -> Result<Vec<Arrived>> {
    let body = inflate(encoding, body)?;
    match output {
        Output::Loki => loki::decode(content_type, &body),
        Output::Elasticsearch => bulk::decode(path, &body),
    }
}

fn bulk_answer(items: usize, first: Option<u16>) -> String {
    let taken = json!({"index": {"_index": "demo", "status": 201, "result": "created"}});
    let mut list = vec![taken; items];
    if let (Some(status), Some(item)) = (first, list.first_mut()) {
        let error = json!({"type": "es_rejected_execution_exception", "reason": "on purpose"});
        *item = json!({"index": {"_index": "demo", "status": status, "error": error}});
    }
    json!({"took": 1, "errors": first.is_some(), "items": list}).to_string()
}

fn spoil(fault: Fault, arrived: &mut Vec<Arrived>) -> bool {
    let numbered = |record: &Arrived| record.sequence.is_some();
    match fault {
        Fault::Drop => {
            let Some(at) = arrived.iter().position(numbered) else {
                return false;
            };
            arrived.remove(at);
            true
        }
        Fault::Alter => {
            let fit = |record: &&mut Arrived| record.sequence.is_some();
            let Some(record) = arrived.iter_mut().find(fit) else {
                return false;
            };
            record.text.push('!');
            true
        }
        Fault::Swap => {
            let pair = (0..arrived.len()).find_map(|one| {
                let same = |other: &usize| {
                    let (a, b) = (&arrived[one], &arrived[*other]);
                    let both = numbered(a) && numbered(b);
                    both && a.container == b.container && a.stream == b.stream && a.lane == b.lane
                };
                (one + 1..arrived.len())
                    .find(same)
                    .map(|other| (one, other))
            });
            let Some((one, other)) = pair else {
                return false;
            };
            arrived.swap(one, other);
            true
        }
        Fault::Status(_) | Fault::Hang | Fault::Close | Fault::Item(_) => false,
    }
}

const fn slot(output: Output) -> usize {
    match output {
        Output::Loki => 0,
        Output::Elasticsearch => 1,
    }
}

const VERSION: &str = r#"{"name":"receiver","version":{"number":"8.19.0"},"tagline":"none"}"#;
