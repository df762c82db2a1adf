//! Elasticsearch's `_bulk` body: an action line and a document line for each record.
//!
//! ```text
//! record -> {"index":{"_index":"x"}} \n {"@timestamp":..,"stream":..,"kubernetes":{..},"log":{..},
//!           "labels":{..}, <members of the JSON body> | "message":"<text>"} \n   -> gzip
//! ```
//!
//! 1. A JSON body is spliced as it is, never parsed again, unless a top-level key is ours: then it
//!    is rewritten without the keys that collide, and ours win.
//! 2. A document is one line: newlines between the members of a body become spaces.
//! 3. What a source says of itself is written once for each (source, stream) and copied after that.
//!
//! Structured metadata stands among the labels; dots in label names become `_`, or `app` and
//! `app.kubernetes.io/name` could not stand in one mapping.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::compress::{Compressor, Error};
use super::request::Item;
use super::seal::{Claim, Sealed, place};
use super::text::{TimeText, push_json, push_number};
use crate::base::count::Counter;
use crate::plan::ElasticsearchOutput;
use crate::stage::json::{JsonScratch, classify, is_reserved};
use crate::stage::{Json, Record, Stream};
use crate::ticket::Source;

/// Kept sources at the most.
const SOURCES_MAX: usize = 10_000;

/// A kept body buffer larger than this is given back, in bytes.
const BODY_KEEP_BYTES: usize = 8 << 20;

/// Members of our `log` and `kubernetes` objects; dotted keys of a body that name others are kept.
const OURS: [&str; 12] = [
    "log.file",
    "log.offset",
    "log.cut",
    "kubernetes.namespace",
    "kubernetes.pod",
    "kubernetes.uid",
    "kubernetes.container",
    "kubernetes.node",
    "kubernetes.owner",
    "kubernetes.owner_kind",
    "kubernetes.labels",
    "kubernetes.annotations",
];

/// Fields of metadata that are members of `kubernetes`.
const OF_META: [&str; 7] = [
    "namespace",
    "pod",
    "uid",
    "container",
    "node",
    "owner",
    "owner_kind",
];

/// One output's encoder: what is kept of sources, and its open bodies by place.
#[derive(Debug)]
pub(crate) struct Bulk {
    /// The action line with its newline.
    action: Vec<u8>,
    heads: HashMap<(usize, Stream), Head, RandomState>,
    bodies: Vec<Body>,
    time: TimeText,
    json: JsonScratch,
    compressor: Compressor,
    forgotten: Arc<Counter>,
}

#[derive(Debug, Default)]
struct Body {
    raw: Vec<u8>,
    items: Vec<Item>,
}

/// What is the same in all documents of a source's stream.
#[derive(Debug)]
struct Head {
    /// `","stream":"stdout","kubernetes":{..},"log":{"file":"..","offset":`
    front: Vec<u8>,
    /// `,"labels":{..}`, or nothing.
    labels: Vec<u8>,
    /// Keeps the address in the key from being used again.
    _source: Arc<Source>,
}

impl Bulk {
    pub(crate) fn new(output: &ElasticsearchOutput, forgotten: Arc<Counter>) -> Self {
        let verb: &[u8] = if output.data_stream {
            b"create"
        } else {
            b"index"
        };
        let mut action = [b"{\"", verb, b"\":{\"_index\":"].concat();
        push_json(&mut action, output.index.as_bytes());
        action.extend_from_slice(b"}}\n");
        Self {
            action,
            heads: HashMap::default(),
            bodies: Vec::new(),
            time: TimeText::new(),
            json: JsonScratch::new(),
            compressor: Compressor::gzip(output.gzip_level),
            forgotten,
        }
    }

    /// Adds a record to the body at `at` and gives the body's size.
    pub(crate) fn push(&mut self, at: usize, record: &mut Record<'_>, claim: Claim) -> usize {
        if self.bodies.len() <= at {
            self.bodies.resize_with(at + 1, Body::default);
        }
        classify(record, &mut self.json);
        let key = (Arc::as_ptr(record.source) as usize, record.stream);
        if !self.heads.contains_key(&key) {
            self.keep_slow(record, key);
        }
        let (head, body) = (&self.heads[&key], &mut self.bodies[at]);
        let raw = &mut body.raw;
        let start = raw.len();
        raw.extend_from_slice(&self.action);
        raw.extend_from_slice(b"{\"@timestamp\":\"");
        self.time.push(raw, record.time);
        raw.extend_from_slice(&head.front);
        push_number(raw, record.offset);
        if record.cut {
            raw.extend_from_slice(b",\"cut\":true");
        }
        raw.push(b'}');
        if record.labels.is_empty() && record.structured.is_empty() {
            raw.extend_from_slice(&head.labels);
        } else {
            push_labels(raw, record);
        }
        push_text(raw, record, &mut self.json);
        raw.extend_from_slice(b"}\n");
        body.items.push(Item {
            range: place(start)..place(raw.len()),
            group: 0,
            ticket: claim.ticket,
            held: claim.held,
            lines: record.lines,
        });
        raw.len()
    }

    /// Seals the body at `at`; it is empty afterwards.
    pub(crate) fn seal(&mut self, at: usize) -> Result<Sealed, Error> {
        let body = &mut self.bodies[at];
        // Of exactly their number: a window may hold them for long.
        let items = body.items.drain(..).collect();
        let inflated = body.raw.len() as u64;
        let packed = self.compressor.compress(&body.raw);
        body.raw.clear();
        body.raw.shrink_to(BODY_KEEP_BYTES);
        let encoding = self.compressor.encoding();
        Ok(Sealed {
            body: packed?,
            encoding,
            inflated,
            items,
            groups: Vec::new(),
        })
    }

    #[cold]
    fn keep_slow(&mut self, record: &Record<'_>, key: (usize, Stream)) {
        if self.heads.len() >= SOURCES_MAX {
            self.heads.clear();
            self.forgotten.add(1);
        }
        let source = record.source;
        let mut labels = Vec::new();
        push_label_map(&mut labels, &source_labels(source));
        let head = Head {
            front: front(source, record.stream),
            labels,
            _source: Arc::clone(source),
        };
        self.heads.insert(key, head);
    }
}

fn front(source: &Source, stream: Stream) -> Vec<u8> {
    let mut out = b"\"".to_vec();
    if stream != Stream::Unknown {
        out.extend_from_slice(b",\"stream\":");
        push_json(&mut out, stream.name().as_bytes());
    }
    let mut open = false;
    for name in OF_META {
        let Some(value) = source.meta.field(name).filter(|value| !value.is_empty()) else {
            continue;
        };
        out.extend_from_slice(if open { b"," } else { b",\"kubernetes\":{" });
        push_json(&mut out, name.as_bytes());
        out.push(b':');
        push_json(&mut out, value.as_bytes());
        open = true;
    }
    if let Some(facts) = source.meta.facts.as_deref().filter(|_| open) {
        push_pod_map(&mut out, "labels", &facts.labels);
        push_pod_map(&mut out, "annotations", &facts.annotations);
    }
    if open {
        out.push(b'}');
    }
    out.extend_from_slice(b",\"log\":{\"file\":");
    push_json(&mut out, source.filename.as_bytes());
    out.extend_from_slice(b",\"offset\":");
    out
}

/// A pod's labels or annotations as a member of `kubernetes`, unless it has none.
fn push_pod_map(out: &mut Vec<u8>, name: &str, list: &[(Arc<str>, Arc<str>)]) {
    let pairs = list.iter();
    let map: BTreeMap<String, &str> = pairs
        .map(|(key, value)| (label_key(key), &**value))
        .collect();
    if map.is_empty() {
        return;
    }
    out.push(b',');
    push_json(out, name.as_bytes());
    for (at, (key, value)) in map.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b":{" } else { b"," });
        push_json(out, key.as_bytes());
        out.push(b':');
        push_json(out, value.as_bytes());
    }
    out.push(b'}');
}

fn source_labels(source: &Source) -> BTreeMap<String, &[u8]> {
    source
        .labels
        .iter()
        .map(|(name, value)| (label_key(name), value.as_bytes()))
        .collect()
}

fn label_key(name: &str) -> String {
    name.replace('.', "_")
}

fn push_label_map(out: &mut Vec<u8>, labels: &BTreeMap<String, &[u8]>) {
    let mut open = false;
    for (name, value) in labels.iter().filter(|(_, value)| !value.is_empty()) {
        out.extend_from_slice(if open { b"," } else { b",\"labels\":{" });
        push_json(out, name.as_bytes());
        out.push(b':');
        push_json(out, value);
        open = true;
    }
    if open {
        out.push(b'}');
    }
}

/// Labels of a record that has its own: they win over the source's.
fn push_labels(out: &mut Vec<u8>, record: &Record<'_>) {
    let mut labels = source_labels(record.source);
    for (name, value) in record.structured.iter().chain(&record.labels) {
        labels.insert(label_key(name), value);
    }
    push_label_map(out, &labels);
}

/// Writes the members of a JSON body, or the text as `message`.
fn push_text(out: &mut Vec<u8>, record: &Record<'_>, scratch: &mut JsonScratch) {
    match record.json {
        Json::Object { reserved: false } => splice(out, &record.text),
        Json::Object { reserved: true } => rewrite_slow(out, record, scratch),
        Json::Unknown | Json::Other => push_message(out, &record.text),
    }
}

fn push_message(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(b",\"message\":");
    push_json(out, text);
}

/// Copies the members of an object, braces apart.
fn splice(out: &mut Vec<u8>, text: &[u8]) {
    let object = text.trim_ascii();
    let members = object
        .strip_prefix(b"{")
        .and_then(|rest| rest.strip_suffix(b"}"));
    let members = members.unwrap_or_default().trim_ascii();
    if members.is_empty() {
        return;
    }
    out.push(b',');
    let start = out.len();
    out.extend_from_slice(members);
    // Valid JSON has raw newlines between its tokens only.
    if memchr::memchr2(b'\n', b'\r', members).is_some() {
        for byte in &mut out[start..] {
            if matches!(*byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }
}

#[cold]
fn rewrite_slow(out: &mut Vec<u8>, record: &Record<'_>, scratch: &mut JsonScratch) {
    let Some(object) = scratch.object(&record.text) else {
        return push_message(out, &record.text);
    };
    let start = out.len();
    out.push(b',');
    if !object.write(out, |key| !collides(key)) {
        out.truncate(start);
    }
}

/// Whether a body's key cannot stand beside ours. `log.level` can: it is another member of `log`.
fn collides(key: &str) -> bool {
    if !is_reserved(key) {
        return false;
    }
    let inner = ["log.", "kubernetes."]
        .iter()
        .any(|prefix| key.starts_with(prefix));
    let at_or_under = |ours: &str| {
        key.strip_prefix(ours)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    !inner || OURS.iter().any(|ours| at_or_under(ours))
}

#[cfg(test)]
#[path = "bulk_tests.rs"]
mod tests;
