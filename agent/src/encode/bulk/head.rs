//! What a source says of itself in every document: written once for each (source, stream).
//!
//! ```text
//! flat: ","stream":"stdout","kubernetes":{"namespace":..,"pod":..},"log":{"file":"..","offset":
//! ecs:  ","stream":"stdout","kubernetes":{"namespace":..,"pod":{"name":..,"uid":..},..},
//!       "log":{"file":{"path":".."},"offset":
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::text::push_json;
use super::action::Action;
use crate::plan::FieldShape;
use crate::stage::json::is_reserved;
use crate::stage::{Record, Stream};
use crate::ticket::Source;

/// The version of the Elastic Common Schema that `ecs` follows.
pub(in super::super) const ECS: &[u8] = b",\"ecs\":{\"version\":\"8.11.0\"}";

/// Members that a document of ours begins with, as far as there are any, and `ecs` with [`ECS`]; a log's
/// own never bear these names (`collides`). What follows them is the log's.
pub(in super::super) const OWN_MEMBERS: [&str; 5] =
    ["@timestamp", "stream", "kubernetes", "log", "labels"];

/// Members of our `log` and `kubernetes` objects: a body's key that is one of them, stands below one
/// or above one cannot stand beside them. `log.level` can.
const FLAT: [&str; 12] = [
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
const SCHEMA: [&str; 12] = [
    "log.file.path",
    "log.offset",
    "log.flags",
    "kubernetes.namespace",
    "kubernetes.pod.name",
    "kubernetes.pod.uid",
    "kubernetes.container.name",
    "kubernetes.node.name",
    "kubernetes.owner",
    "kubernetes.owner_kind",
    "kubernetes.labels",
    "kubernetes.annotations",
];

/// What is the same in all documents of a source's stream.
#[derive(Debug)]
pub(super) struct Head {
    /// Up to the offset, from the quote that closes the time.
    pub(super) front: Vec<u8>,
    /// `,"labels":{..}`, or nothing.
    pub(super) labels: Vec<u8>,
    /// The hash of what all its ids share.
    pub(super) origin: [u8; 16],
    /// The action of the period of the last record.
    pub(super) action: Action,
    /// Keeps the address in the key from being used again.
    _source: Arc<Source>,
}

impl Head {
    pub(super) fn new(record: &Record<'_>, shape: FieldShape, origin: [u8; 16]) -> Self {
        let source = record.source;
        let mut labels = Vec::new();
        push_label_map(&mut labels, &source_labels(source));
        Self {
            front: front(source, record.stream, shape),
            labels,
            origin,
            action: Action::default(),
            _source: Arc::clone(source),
        }
    }
}

fn front(source: &Source, stream: Stream, shape: FieldShape) -> Vec<u8> {
    let mut out = b"\"".to_vec();
    if stream != Stream::Unknown {
        out.extend_from_slice(b",\"stream\":");
        push_json(&mut out, stream.name().as_bytes());
    }
    let meta = &source.meta;
    let mut kubernetes = Vec::new();
    push_member(&mut kubernetes, "namespace", &meta.namespace);
    match shape {
        FieldShape::Flat => {
            push_member(&mut kubernetes, "pod", &meta.pod);
            push_member(&mut kubernetes, "uid", &meta.uid);
            push_member(&mut kubernetes, "container", &meta.container);
            push_member(&mut kubernetes, "node", &meta.node);
        }
        FieldShape::Ecs => {
            push_object(
                &mut kubernetes,
                "pod",
                &[("name", &meta.pod), ("uid", &meta.uid)],
            );
            push_object(&mut kubernetes, "container", &[("name", &meta.container)]);
            push_object(&mut kubernetes, "node", &[("name", &meta.node)]);
        }
    }
    for name in ["owner", "owner_kind"] {
        push_member(
            &mut kubernetes,
            name,
            meta.field(name).map_or("", |value| value),
        );
    }
    if let Some(facts) = &meta.facts {
        push_pod_map(&mut kubernetes, "labels", &facts.labels);
        push_pod_map(&mut kubernetes, "annotations", &facts.annotations);
    }
    if !kubernetes.is_empty() {
        out.extend_from_slice(b",\"kubernetes\":{");
        out.extend_from_slice(&kubernetes);
        out.push(b'}');
    }
    out.extend_from_slice(match shape {
        FieldShape::Flat => b",\"log\":{\"file\":",
        FieldShape::Ecs => b",\"log\":{\"file\":{\"path\":",
    });
    push_json(&mut out, source.filename.as_bytes());
    if shape == FieldShape::Ecs {
        out.push(b'}');
    }
    out.extend_from_slice(b",\"offset\":");
    out
}

/// A member of an object whose braces stand elsewhere; an empty value is left out.
fn push_member(out: &mut Vec<u8>, name: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    if !out.is_empty() {
        out.push(b',');
    }
    push_json(out, name.as_bytes());
    out.push(b':');
    push_json(out, value.as_bytes());
}

fn push_object(out: &mut Vec<u8>, name: &str, members: &[(&str, &str)]) {
    let mut inner = Vec::new();
    for (name, value) in members {
        push_member(&mut inner, name, value);
    }
    if inner.is_empty() {
        return;
    }
    if !out.is_empty() {
        out.push(b',');
    }
    push_json(out, name.as_bytes());
    out.extend_from_slice(b":{");
    out.extend_from_slice(&inner);
    out.push(b'}');
}

/// A pod's labels or annotations as a member of `kubernetes`, empty values too, unless it has none.
fn push_pod_map(out: &mut Vec<u8>, name: &str, list: &[(Arc<str>, Arc<str>)]) {
    let pairs = list.iter();
    let map: BTreeMap<String, &str> = pairs
        .map(|(key, value)| (label_key(key), &**value))
        .collect();
    if map.is_empty() {
        return;
    }
    if !out.is_empty() {
        out.push(b',');
    }
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
pub(super) fn push_labels(out: &mut Vec<u8>, record: &Record<'_>) {
    let mut labels = source_labels(record.source);
    for (name, value) in record.structured.iter().chain(&record.labels) {
        labels.insert(label_key(name), value);
    }
    push_label_map(out, &labels);
}

/// Whether a body's key cannot stand beside ours.
pub(super) fn collides(key: &str, shape: FieldShape) -> bool {
    if !is_reserved(key) {
        return false;
    }
    let inner = ["log.", "kubernetes."]
        .iter()
        .any(|prefix| key.starts_with(prefix));
    let ours = match shape {
        FieldShape::Flat => &FLAT,
        FieldShape::Ecs => &SCHEMA,
    };
    !inner
        || ours
            .iter()
            .any(|ours| is_below(key, ours) || is_below(ours, key))
}

/// Whether one dotted name is the other or stands below it.
fn is_below(name: &str, above: &str) -> bool {
    name.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
