//! The task: one request after the other, for as long as the agent runs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;

use super::trouble::{Trouble, refused};
use super::{Shared, access};
use crate::base::backoff::Backoff;
use crate::base::quiet::Quiet;
use crate::base::time::Clock as _;
use crate::plan::Kubernetes;
use crate::roster::Update;
use crate::roster::wire::{LIST_ENDS, Line, List};

/// After so long the server ends a watch, in seconds: then the next is opened where it ended, and the
/// server may be another.
const WATCH_SECS: u64 = 600;

/// A watch that the server has not ended by then, in seconds more, is dead.
const SPARE_SECS: u64 = 30;

/// How long a server may take to answer, and to go on with a list.
const PATIENCE: Duration = Duration::from_secs(30);

/// One line of a watch; a pod is some KiB, and etcd takes no more than 1.5 MiB.
const LINE_BYTES_MAX: usize = 4 << 20;

/// A list, or a refusal.
const LIST_BYTES_MAX: usize = 64 << 20;

/// Room for lines that is kept between two.
const LINE_BYTES_KEPT: usize = 16 << 10;

/// With so many updates waiting, control gets its turn first.
const UPDATES_MAX: usize = 64;

/// Waits between tries, in milliseconds.
const RETRY_MS: (u64, u64) = (250, 30_000);

/// What ended sooner was no watch.
const BRIEF_MS: u64 = 1_000;

struct Watch {
    asked: Kubernetes,
    node: String,
    shared: Arc<Shared>,
    client: Option<Client>,
    /// Where the watch goes on; none = all is asked for.
    place: Option<String>,
    /// The server is not known to lack streamed lists.
    streams: bool,
    backoff: Backoff,
    quiet: Quiet,
}

/// Watches until the runtime ends.
pub(super) async fn watch(asked: Kubernetes, node: String, shared: Arc<Shared>) {
    let seed = shared.clock.wall().unix_nanos() as u64 ^ u64::from(std::process::id());
    let mut watch = Watch {
        asked,
        node,
        shared,
        client: None,
        place: None,
        streams: true,
        backoff: Backoff::new(RETRY_MS.0, RETRY_MS.1, seed),
        quiet: Quiet::default(),
    };
    loop {
        let began = watch.shared.clock.mono();
        let ended = watch.round().await;
        watch.shared.until.store(0, Ordering::Release);
        // A server that ends each watch at once is not asked without a pause.
        let brief = watch.shared.clock.mono().ms_since(began) < BRIEF_MS;
        if !brief {
            watch.backoff.reset();
        }
        match ended {
            Ok(()) if brief => watch.pause(None).await,
            Ok(()) => {}
            Err(trouble) => watch.heed(trouble).await,
        }
    }
}

impl Watch {
    /// One request to its end; `Ok` = the server ended the watch in good order.
    async fn round(&mut self) -> Result<(), Trouble> {
        if self.client.is_none() {
            let client = access::client(&self.asked).await.map_err(Trouble::of)?;
            self.client = Some(client);
        }
        match (&self.place, self.streams) {
            (None, true) => self.follow(true).await,
            (None, false) => {
                self.list().await?;
                self.follow(false).await
            }
            (Some(_), _) => self.follow(false).await,
        }
    }

    /// Says what went wrong and waits.
    async fn heed(&mut self, trouble: Trouble) {
        if trouble.anew {
            self.place = None;
        }
        if trouble.unstreamed {
            self.streams = false;
        }
        if trouble.usual {
            return self.pause(Some(Duration::ZERO)).await;
        }
        // Whatever it was: with the files as they are now, and over a new connection.
        self.client = None;
        self.shared.errors.add(1);
        self.shared.set_trouble(Some(trouble.said.clone()));
        self.shared.tell(Update::Silent);
        if let Some(suppressed) = self.quiet.allow(self.shared.clock.mono(), &trouble.said) {
            tracing::warn!(node = %self.node, suppressed,
                "no metadata from the Kubernetes API: {}", trouble.said);
        }
        self.pause(trouble.wait).await;
    }

    async fn pause(&mut self, asked: Option<Duration>) {
        let backoff = Duration::from_millis(self.backoff.next_ms());
        let wait = asked.map_or(backoff, |asked| match self.backoff.tries() {
            // What is usual once is not when it goes on.
            0..=2 => asked,
            _ => asked.max(backoff),
        });
        tokio::time::sleep(wait).await;
    }

    async fn ask(&self, verb: &str, query: &str) -> Result<Response<Body>, Trouble> {
        let Some(client) = &self.client else {
            return Err(Trouble::of("there is no client"));
        };
        let node = &self.node;
        let uri = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}&{query}");
        let request = Request::get(uri).header("accept", "application/json");
        let request = request.body(Body::empty());
        let request =
            request.map_err(|error| Trouble::of(format!("make a request for {node}: {error}")))?;
        let answer = tokio::time::timeout(PATIENCE, client.send(request)).await;
        let answer = answer.map_err(|_| Trouble::of("the API server does not answer"))?;
        let answer = answer.map_err(|error| {
            Trouble::of(format!(
                "the API server cannot be asked: {}",
                access::all(&error)
            ))
        })?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let (status, header) = (
            answer.status().as_u16(),
            answer.headers().get("retry-after"),
        );
        let retry_after = header.and_then(|value| Some(value.to_str().ok()?.to_owned()));
        let body = whole(answer).await.unwrap_or_default();
        let streamed = query.contains("sendInitialEvents");
        Err(refused(
            verb,
            status,
            retry_after.as_deref(),
            &body,
            streamed,
        ))
    }

    async fn tell(&self, update: Update) {
        if self.shared.tell(update) >= UPDATES_MAX {
            tokio::task::yield_now().await;
        }
    }

    /// All pods of the node, from the server's cache: a node's list from etcd reads those of all nodes.
    async fn list(&mut self) -> Result<(), Trouble> {
        self.shared.lists.add(1);
        let answer = self.ask("list", "resourceVersion=0").await?;
        let body = whole(answer).await?;
        let list: List = serde_json::from_slice(&body)
            .map_err(|error| Trouble::of(format!("a list of pods cannot be read: {error}")))?;
        drop(body);
        self.tell(Update::Began).await;
        for pod in list.items {
            self.tell(Update::Pod(Box::new(pod.metadata))).await;
        }
        self.place = Some(list.metadata.resource_version);
        self.tell(Update::Whole).await;
        Ok(())
    }

    /// A watch to its end, from our place, or with a streamed list before it.
    async fn follow(&mut self, mut listing: bool) -> Result<(), Trouble> {
        let mut query = format!("watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECS}");
        if listing {
            self.shared.lists.add(1);
            query.push_str(
                "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=0",
            );
        } else if let Some(place) = &self.place {
            query.push_str("&resourceVersion=");
            query.push_str(place);
        }
        let mut body = self.ask("watch", &query).await?.into_body();
        let until = self
            .shared
            .clock
            .mono()
            .plus_ms((WATCH_SECS + SPARE_SECS) * 1_000);
        self.shared.until.store(until.0, Ordering::Release);
        // Control must learn of the new deadline.
        self.shared.control.ring();
        if listing {
            self.tell(Update::Began).await;
        } else {
            self.heard().await;
        }
        let mut held: Vec<u8> = Vec::new();
        loop {
            let shared = Arc::clone(&self.shared);
            let frame = async {
                tokio::select! {
                    frame = body.frame() => Ok(frame),
                    () = shared.cut.notified() => {
                        Err(Trouble::of("the watch was forgotten by the API server"))
                    }
                }
            };
            let frame = if listing {
                let frame = tokio::time::timeout(PATIENCE, frame).await;
                frame.map_err(|_| Trouble {
                    unstreamed: true,
                    ..Trouble::of("the API server does not go on with a list")
                })??
            } else {
                frame.await?
            };
            let Some(frame) = frame else {
                return if listing {
                    Err(Trouble::of(
                        "the API server ended a list before it was whole",
                    ))
                } else {
                    Ok(())
                };
            };
            let frame = frame.map_err(|error| {
                Trouble::of(format!("the watch was cut: {}", access::all(&error)))
            })?;
            let Ok(bytes) = frame.into_data() else {
                continue;
            };
            held.extend_from_slice(&bytes);
            let mut done = 0;
            while let Some(end) = memchr::memchr(b'\n', &held[done..]) {
                self.take(&held[done..done + end], &mut listing).await?;
                done += end + 1;
            }
            held.drain(..done);
            if held.len() > LINE_BYTES_MAX {
                return Err(Trouble::of("the API server sent a line that is too long"));
            }
            if held.is_empty() {
                held.shrink_to(LINE_BYTES_KEPT);
            }
        }
    }

    async fn heard(&mut self) {
        self.shared.set_trouble(None);
        self.tell(Update::Heard).await;
    }

    /// One line of a watch.
    async fn take(&mut self, line: &[u8], listing: &mut bool) -> Result<(), Trouble> {
        let line: Line = serde_json::from_slice(line)
            .map_err(|error| Trouble::of(format!("a line of the watch cannot be read: {error}")))?;
        let pod = line.object;
        let place = pod.metadata.resource_version.clone();
        match line.kind.as_str() {
            "ADDED" | "MODIFIED" => self.tell(Update::Pod(Box::new(pod.metadata))).await,
            "DELETED" => self.tell(Update::Gone(Box::new(pod.metadata))).await,
            "BOOKMARK" => {
                let marks = pod.metadata.annotations.iter().flatten();
                if { marks }.any(|(name, value)| name == LIST_ENDS && value == "true") && *listing {
                    *listing = false;
                    self.tell(Update::Whole).await;
                    self.heard().await;
                }
            }
            "ERROR" => {
                let (code, words) = (pod.code.unwrap_or(0), pod.message.unwrap_or_default());
                return Err(refused("watch", code, None, words.as_bytes(), false));
            }
            _ => {}
        }
        // The pods of a list are in no order: only its end is a place.
        if !*listing && !place.is_empty() {
            self.place = Some(place);
        }
        Ok(())
    }
}

/// A whole body.
async fn whole(answer: Response<Body>) -> Result<Vec<u8>, Trouble> {
    let mut body = answer.into_body();
    let mut bytes = Vec::new();
    let read = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Trouble::of(format!("an answer was cut: {}", access::all(&error)))
            })?;
            if let Ok(data) = frame.into_data() {
                bytes.extend_from_slice(&data);
            }
            if bytes.len() > LIST_BYTES_MAX {
                return Err(Trouble::of("the API server's answer is too long"));
            }
        }
        Ok(bytes)
    };
    let read = tokio::time::timeout(PATIENCE, read).await;
    read.map_err(|_| Trouble::of("the API server does not go on with an answer"))?
}
