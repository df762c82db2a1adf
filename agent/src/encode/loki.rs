//! Loki's push body: `PushRequest` written with wire primitives, entries grouped by stream.
//!
//! ```text
//! record -> stream (interned labels text) -> that stream's entries -> seal: streams one by one
//!   -> snappy
//! ```
//!
//! 1. A stream's entries keep their order, within a body and over bodies.
//! 2. Labels are merged once for each (source, stream, record labels): templates, then the
//!    source's, then the record's; the later win, and empty values are left out.
//! 3. The interned streams are bounded: when there are too many, all are forgotten, counted.
//!
//! Schema: `pkg/push/push.proto` of Loki. A record without any label gets `service="tailwake"`,
//! because Loki refuses an empty label set.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use prost::encoding::{encode_varint, encoded_len_varint};

use super::compress::{Compressor, Error};
use super::request::Item;
use super::seal::{Claim, Sealed, place, shifted};
use super::text::{label_name, push_quoted, utf8};
use crate::base::count::Counter;
use crate::plan::{LokiOutput, Template, TemplatePart};
use crate::stage::{Record, Stream};
use crate::ticket::Source;

/// Interned streams at the most; a node's containers rarely write a tenth of it.
const STREAMS_MAX: usize = 10_000;

/// Empty stream buffers that a batch keeps for the next body.
const GROUPS_SPARE: usize = 16;

/// A kept stream buffer larger than this is given back, unless it is the first, in bytes.
const GROUP_KEEP_BYTES: usize = 64 << 10;

/// Field 1, length-delimited: `PushRequest.streams`, `Stream.labels`, `Entry.timestamp`,
/// `LabelPair.name`.
pub(super) const FIELD_1: u8 = 0x0a;
/// Field 2, length-delimited: `Stream.entries`, `Entry.line`, `LabelPair.value`.
pub(super) const FIELD_2: u8 = 0x12;
/// Field 3, length-delimited: `Entry.structuredMetadata`.
pub(super) const FIELD_3: u8 = 0x1a;
/// Field 1, varint: `Timestamp.seconds`.
pub(super) const SECONDS: u8 = 0x08;
/// Field 2, varint: `Timestamp.nanos`.
pub(super) const NANOS: u8 = 0x10;

/// One output's encoder: what is interned, and its open bodies by place.
#[derive(Debug)]
pub(crate) struct Loki {
    streams: Streams,
    bodies: Vec<Body>,
    raw: Vec<u8>,
    meta: Vec<u8>,
    compressor: Compressor,
}

#[derive(Debug, Default)]
struct Body {
    groups: Vec<Group>,
    used: usize,
    index: HashMap<u64, usize, RandomState>,
    bytes: usize,
}

#[derive(Debug)]
struct Group {
    labels: Arc<[u8]>,
    entries: Vec<u8>,
    items: Vec<Item>,
}

impl Loki {
    pub(crate) fn new(output: &LokiOutput, forgotten: Arc<Counter>) -> Self {
        Self {
            streams: Streams::new(output.labels.clone(), forgotten),
            bodies: Vec::new(),
            raw: Vec::new(),
            meta: Vec::new(),
            compressor: Compressor::snappy(),
        }
    }

    /// Adds a record to the body at `at` and gives the body's size.
    pub(crate) fn push(&mut self, at: usize, record: &Record<'_>, claim: Claim) -> usize {
        if self.bodies.len() <= at {
            self.bodies.resize_with(at + 1, Body::default);
        }
        self.meta.clear();
        push_meta(&mut self.meta, record);
        let known = self.streams.resolve(record);
        let body = &mut self.bodies[at];
        let group = body.group(known);
        let start = group.entries.len();
        push_entry(&mut group.entries, record, &self.meta);
        let end = group.entries.len();
        group.items.push(Item {
            range: place(start)..place(end),
            group: 0,
            ticket: claim.ticket,
            held: claim.held,
            lines: record.lines,
        });
        body.bytes += end - start;
        body.bytes
    }

    /// Seals the body at `at`; it is empty afterwards.
    pub(crate) fn seal(&mut self, at: usize) -> Result<Sealed, Error> {
        let raw = &mut self.raw;
        raw.clear();
        let body = &mut self.bodies[at];
        // Of exactly their number: a window may hold them for long.
        let used = &body.groups[..body.used];
        let mut items = Vec::with_capacity(used.iter().map(|group| group.items.len()).sum());
        let mut groups = Vec::with_capacity(used.len());
        for (number, group) in body.groups[..body.used].iter().enumerate() {
            raw.push(FIELD_1);
            encode_varint((group.labels.len() + group.entries.len()) as u64, raw);
            groups.push(place(raw.len())..place(raw.len() + group.labels.len()));
            raw.extend_from_slice(&group.labels);
            let base = raw.len();
            raw.extend_from_slice(&group.entries);
            items.extend(group.items.iter().map(|item| Item {
                range: shifted(&item.range, base),
                group: place(number),
                ..item.clone()
            }));
        }
        body.clear();
        let inflated = raw.len() as u64;
        let body = self.compressor.compress(raw)?;
        let encoding = self.compressor.encoding();
        Ok(Sealed {
            body,
            encoding,
            inflated,
            items,
            groups,
        })
    }
}

impl Body {
    fn group(&mut self, known: &Known) -> &mut Group {
        if let Some(&at) = self.index.get(&known.id) {
            return &mut self.groups[at];
        }
        let at = self.used;
        self.used += 1;
        self.index.insert(known.id, at);
        // Tag and length of the stream.
        self.bytes += known.labels.len() + 6;
        let labels = Arc::clone(&known.labels);
        if let Some(spare) = self.groups.get_mut(at) {
            spare.labels = labels;
        } else {
            self.groups.push(Group {
                labels,
                entries: Vec::new(),
                items: Vec::new(),
            });
        }
        &mut self.groups[at]
    }

    fn clear(&mut self) {
        self.groups.truncate(GROUPS_SPARE);
        for (at, group) in self.groups.iter_mut().enumerate() {
            group.entries.clear();
            group.items.clear();
            if at > 0 && group.entries.capacity() > GROUP_KEEP_BYTES {
                group.entries = Vec::new();
                group.items = Vec::new();
            }
        }
        self.index.clear();
        self.used = 0;
        self.bytes = 0;
    }
}

/// A body before compression, with its tables.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) raw: Vec<u8>,
    pub(crate) items: Vec<Item>,
    pub(crate) groups: Vec<Range<u32>>,
}

/// Rewrites a body with only some items: the streams that keep any, in their order.
pub(crate) fn regroup(body: &[u8], groups: &[Range<u32>], kept: &[Item]) -> Option<Parts> {
    let (mut raw, mut items, mut places) = (Vec::with_capacity(body.len()), Vec::new(), Vec::new());
    for run in kept.chunk_by(|a, b| a.group == b.group) {
        let labels = slice(body, groups.get(run[0].group as usize)?)?;
        let mut entries = 0;
        for item in run {
            entries += slice(body, &item.range)?.len();
        }
        raw.push(FIELD_1);
        encode_varint((labels.len() + entries) as u64, &mut raw);
        let group = place(places.len());
        places.push(place(raw.len())..place(raw.len() + labels.len()));
        raw.extend_from_slice(labels);
        for item in run {
            let start = raw.len();
            raw.extend_from_slice(slice(body, &item.range)?);
            let range = place(start)..place(raw.len());
            items.push(Item {
                range,
                group,
                ..item.clone()
            });
        }
    }
    Some(Parts {
        raw,
        items,
        groups: places,
    })
}

/// The bytes of a range, none when it lies outside.
pub(crate) fn slice<'b>(body: &'b [u8], range: &Range<u32>) -> Option<&'b [u8]> {
    body.get(range.start as usize..range.end as usize)
}

/// Writes the `entries` field of one record with tag and length.
fn push_entry(out: &mut Vec<u8>, record: &Record<'_>, meta: &[u8]) {
    let line = utf8(&record.text);
    // Negative seconds are ten bytes of varint, as in every protobuf encoder.
    let (secs, nanos) = (record.time.secs as u64, u64::from(record.time.nanos));
    let secs_len = if secs == 0 {
        0
    } else {
        1 + encoded_len_varint(secs)
    };
    let nanos_len = if nanos == 0 {
        0
    } else {
        1 + encoded_len_varint(nanos)
    };
    let time_len = secs_len + nanos_len;
    let line_len = 1 + encoded_len_varint(line.len() as u64) + line.len();
    // The timestamp is at most 17 bytes: its length is one byte.
    let entry_len = 2 + time_len + line_len + meta.len();
    out.reserve(entry_len + 6);
    out.push(FIELD_2);
    encode_varint(entry_len as u64, out);
    out.push(FIELD_1);
    encode_varint(time_len as u64, out);
    if secs != 0 {
        out.push(SECONDS);
        encode_varint(secs, out);
    }
    if nanos != 0 {
        out.push(NANOS);
        encode_varint(nanos, out);
    }
    push_text(out, FIELD_2, &line);
    out.extend_from_slice(meta);
}

fn push_text(out: &mut Vec<u8>, tag: u8, text: &str) {
    out.push(tag);
    encode_varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// Writes the `structuredMetadata` fields of one record.
fn push_meta(out: &mut Vec<u8>, record: &Record<'_>) {
    for (name, value) in &record.structured {
        if !value.is_empty() {
            push_pair(out, &label_name(name), &utf8(value));
        }
    }
    if record.cut {
        push_pair(out, "cut", "true");
    }
}

fn push_pair(out: &mut Vec<u8>, name: &str, value: &str) {
    let len = |text: &str| 1 + encoded_len_varint(text.len() as u64) + text.len();
    out.push(FIELD_3);
    encode_varint((len(name) + len(value)) as u64, out);
    push_text(out, FIELD_1, name);
    push_text(out, FIELD_2, value);
}

/// Interned label sets.
#[derive(Debug)]
struct Streams {
    templates: Vec<(Arc<str>, Template)>,
    known: HashMap<Box<[u8]>, Known, RandomState>,
    /// One id for each text, so that two files of one container share a stream.
    texts: HashMap<Arc<[u8]>, u64, RandomState>,
    key: Vec<u8>,
    /// Never used again, so that an open body cannot take one stream for another.
    next: u64,
    forgotten: Arc<Counter>,
}

#[derive(Debug)]
struct Known {
    id: u64,
    /// The `labels` field with tag and length.
    labels: Arc<[u8]>,
    /// Keeps the address in the key from being used again.
    _source: Arc<Source>,
}

impl Streams {
    fn new(templates: Vec<(Arc<str>, Template)>, forgotten: Arc<Counter>) -> Self {
        Self {
            templates,
            known: HashMap::default(),
            texts: HashMap::default(),
            key: Vec::new(),
            next: 0,
            forgotten,
        }
    }

    fn resolve(&mut self, record: &Record<'_>) -> &Known {
        self.key.clear();
        let address = Arc::as_ptr(record.source) as usize;
        self.key.extend_from_slice(&address.to_le_bytes());
        self.key.push(record.stream as u8);
        for (name, value) in &record.labels {
            for part in [name.as_bytes(), value] {
                self.key.extend_from_slice(&place(part.len()).to_le_bytes());
                self.key.extend_from_slice(part);
            }
        }
        if !self.known.contains_key(self.key.as_slice()) {
            self.intern_slow(record);
        }
        // Just looked up or put there: the table has it.
        &self.known[self.key.as_slice()]
    }

    #[cold]
    fn intern_slow(&mut self, record: &Record<'_>) {
        if self.known.len() >= STREAMS_MAX {
            self.known.clear();
            self.texts.clear();
            self.forgotten.add(1);
        }
        // Made anew for each label set of the source: kept, they would take more than all the rest.
        let mut labels = base_labels(&self.templates, record.source, record.stream);
        for (name, value) in &record.labels {
            labels.insert(label_name(name).into_owned(), utf8(value).into_owned());
        }
        let field = labels_field(&labels);
        let next = &mut self.next;
        let id = *self.texts.entry(Arc::clone(&field)).or_insert_with(|| {
            *next += 1;
            *next
        });
        let known = Known {
            id,
            labels: field,
            _source: Arc::clone(record.source),
        };
        self.known.insert(self.key.as_slice().into(), known);
    }
}

/// Labels of a source's stream: templates and the source's own.
fn base_labels(
    templates: &[(Arc<str>, Template)],
    source: &Source,
    stream: Stream,
) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (name, template) in templates {
        labels.insert(
            label_name(name).into_owned(),
            fill(template, source, stream),
        );
    }
    for (name, value) in &source.labels {
        labels.insert(label_name(name).into_owned(), value.to_string());
    }
    labels
}

fn fill(template: &Template, source: &Source, stream: Stream) -> String {
    let mut text = String::new();
    for part in &template.0 {
        text.push_str(match part {
            TemplatePart::Text(part) => part,
            TemplatePart::Field(name) => match &**name {
                "filename" => &source.filename,
                "stream" => stream.name(),
                name => source.meta.field(name).map_or("", |value| value),
            },
        });
    }
    text
}

/// `{a="b", c="d"}` as the `labels` field.
fn labels_field(labels: &BTreeMap<String, String>) -> Arc<[u8]> {
    let mut text = vec![b'{'];
    for (name, value) in labels.iter().filter(|(_, value)| !value.is_empty()) {
        if text.len() > 1 {
            text.extend_from_slice(b", ");
        }
        text.extend_from_slice(name.as_bytes());
        text.push(b'=');
        push_quoted(&mut text, value);
    }
    if text.len() == 1 {
        text.extend_from_slice(br#"service="tailwake""#);
    }
    text.push(b'}');
    let mut field = vec![FIELD_1];
    encode_varint(text.len() as u64, &mut field);
    field.extend_from_slice(&text);
    field.into()
}

#[cfg(test)]
#[path = "loki_tests.rs"]
mod tests;
