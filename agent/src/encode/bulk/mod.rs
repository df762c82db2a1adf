//! Elasticsearch's `_bulk` body: an action line and a document line for each record.
//!
//! ```text
//! record -> {"create":{"_index":"x","_id":".."}} \n {"@timestamp":..,"stream":..,"kubernetes":{..},
//!           "log":{..},"labels":{..}, <members of the JSON body> | "message":"<text>"} \n   -> gzip
//! ```
//!
//! 1. A JSON body is spliced as it is, never parsed again, unless a top-level key is ours: then it
//!    is rewritten without the keys that collide, and ours win.
//! 2. A document is one line: newlines between the members of a body become spaces.
//! 3. What a source says of itself is written once for each (source, stream), what stands in the
//!    action once for each day of it, and copied after that.
//!
//! Structured metadata stands among the labels; dots in label names become `_`, or `app` and
//! `app.kubernetes.io/name` could not stand in one mapping.

mod action;
mod body;
mod head;
mod id;
mod names;

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use self::action::Actions;
use self::head::Head;
pub(super) use self::head::{ECS, OWN_MEMBERS};
pub(crate) use self::names::Names;
use super::compress::{Compressor, Error};
use super::outlet::Outlet;
use super::request::{Encoding, Item};
use super::seal::{Claim, Sealed, place};
use super::text::{TimeText, push_number};
use crate::base::count::{Counter, Registry};
use crate::base::time::{Mono, Timestamp};
use crate::plan::{Compression, ElasticsearchOutput, FieldShape, Ids, JsonBody, TimestampKind};
use crate::stage::json::{JsonScratch, classify};
use crate::stage::{Json, Record, Stream};

/// Kept sources at the most.
const SOURCES_MAX: usize = 10_000;

/// A kept body buffer larger than this is given back, in bytes.
const BODY_KEEP_BYTES: usize = 8 << 20;

/// The fastest level of zstd: `encode_bench` has what it costs.
const ZSTD_LEVEL: u8 = 1;

/// The last time that `date_nanos` takes: 2^63 - 1 nanoseconds after the epoch.
const NANOS_LAST: Timestamp = Timestamp {
    secs: 9_223_372_036,
    nanos: 854_775_807,
};

/// One output's encoder: what is kept of sources, and its open bodies by place.
#[derive(Debug)]
pub(crate) struct Bulk {
    actions: Actions,
    heads: Heads,
    bodies: Vec<Body>,
    time: TimeText,
    json: JsonScratch,
    compressor: Compressor,
    shape: Documents,
    outlet: Arc<Outlet>,
    over: Arc<Counter>,
}

/// What the documents of an output have in common.
#[derive(Debug)]
struct Documents {
    fields: FieldShape,
    json: JsonBody,
    ids: Ids,
    timestamp: TimestampKind,
    cluster: Arc<str>,
    /// The output's name: a part of each id.
    output: Box<str>,
}

#[derive(Debug, Default)]
struct Body {
    raw: Vec<u8>,
    items: Vec<Item>,
}

/// The heads of all sources, and which one was asked for last.
#[derive(Debug)]
struct Heads {
    places: HashMap<(usize, Stream), u32, RandomState>,
    all: Vec<Head>,
    last: Option<((usize, Stream), u32)>,
    forgotten: Arc<Counter>,
}

impl Bulk {
    /// An encoder of `output`, whose name is `name`.
    pub(crate) fn new(
        output: &ElasticsearchOutput,
        name: &str,
        outlet: Arc<Outlet>,
        registry: &Registry,
        forgotten: Arc<Counter>,
    ) -> Self {
        let shape = &output.shape;
        Self {
            actions: Actions::new(output),
            heads: Heads {
                places: HashMap::default(),
                all: Vec::new(),
                last: None,
                forgotten,
            },
            bodies: Vec::new(),
            time: TimeText::new(),
            json: JsonScratch::new(),
            compressor: Compressor::of(encoding(output)),
            shape: Documents {
                fields: shape.fields,
                json: shape.json.clone(),
                ids: shape.ids,
                timestamp: shape.timestamp,
                cluster: Arc::clone(&shape.cluster),
                output: name.into(),
            },
            outlet,
            over: registry.counter(
                "tailwake_index_fallback_records_total",
                "Records sent to the fallback, as their index name would have been one too many.",
                &[("output", name)],
            ),
        }
    }

    /// Adds a record to the body at `at` and gives the body's size.
    pub(crate) fn push(
        &mut self,
        at: usize,
        record: &mut Record<'_>,
        claim: Claim,
        now: Mono,
    ) -> usize {
        if self.bodies.len() <= at {
            self.bodies.resize_with(at + 1, Body::default);
        }
        if self.shape.json != JsonBody::Text {
            classify(record, &mut self.json);
        }
        let kept = self.head(record);
        let shape = &self.shape;
        let (head, body) = (&mut self.heads.all[kept as usize], &mut self.bodies[at]);
        let raw = &mut body.raw;
        let start = raw.len();
        let action = (kept, &mut head.action);
        self.actions
            .push(raw, record, action, (&self.outlet.names, now));
        if id::has_id(shape.ids, record) {
            raw.extend_from_slice(b",\"_id\":\"");
            raw.extend_from_slice(&id::id(&head.origin, record));
            raw.push(b'"');
        }
        raw.extend_from_slice(b"}}\n{\"@timestamp\":\"");
        self.time.push(raw, fitting(record.time, shape.timestamp));
        raw.extend_from_slice(&head.front);
        push_number(raw, record.offset);
        if record.cut {
            raw.extend_from_slice(match shape.fields {
                FieldShape::Flat => b",\"cut\":true",
                FieldShape::Ecs => b",\"flags\":[\"truncated\"]",
            });
        }
        raw.push(b'}');
        if shape.fields == FieldShape::Ecs && !names_its_schema(record, &shape.json) {
            raw.extend_from_slice(ECS);
        }
        if record.labels.is_empty() && record.structured.is_empty() {
            raw.extend_from_slice(&head.labels);
        } else {
            head::push_labels(raw, record);
        }
        body::push(raw, record, &shape.json, shape.fields, &mut self.json);
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
        let over = std::mem::take(&mut self.actions.over);
        if over > 0 {
            self.over.add(over);
        }
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

    /// The place of the record's head.
    fn head(&mut self, record: &Record<'_>) -> u32 {
        let key = (Arc::as_ptr(record.source) as usize, record.stream);
        // Fast path: records come in runs of one source.
        if let Some((last, place)) = self.heads.last
            && last == key
        {
            return place;
        }
        let place = match self.heads.places.get(&key) {
            Some(place) => *place,
            None => self.keep_slow(record, key),
        };
        self.heads.last = Some((key, place));
        place
    }

    #[cold]
    fn keep_slow(&mut self, record: &Record<'_>, key: (usize, Stream)) -> u32 {
        let heads = &mut self.heads;
        if heads.all.len() >= SOURCES_MAX {
            heads.places.clear();
            heads.all.clear();
            self.actions.forget();
            heads.forgotten.add(1);
        }
        let shape = &self.shape;
        let origin = id::origin(&shape.cluster, &shape.output, record);
        let at = place(heads.all.len());
        heads.all.push(Head::new(record, shape.fields, origin));
        heads.places.insert(key, at);
        at
    }
}

fn encoding(output: &ElasticsearchOutput) -> Encoding {
    match output.compression {
        Compression::Gzip if output.gzip_level > 0 => {
            Encoding::Gzip(output.gzip_level.min(9) as u8)
        }
        Compression::Gzip | Compression::None => Encoding::Plain,
        Compression::Zstd => Encoding::Zstd(ZSTD_LEVEL),
    }
}

/// The time, or the nearest that the mapping takes.
fn fitting(time: Timestamp, kind: TimestampKind) -> Timestamp {
    match kind {
        TimestampKind::Date => time,
        TimestampKind::DateNanos => time.clamp(Timestamp::default(), NANOS_LAST),
    }
}

/// Whether the members of a record's text, merged, say which schema they follow.
fn names_its_schema(record: &Record<'_>, json: &JsonBody) -> bool {
    *json == JsonBody::Merge && matches!(record.json, Json::Object { ecs: true, .. })
}

#[cfg(test)]
mod id_tests;
#[cfg(test)]
mod shape_tests;
#[cfg(test)]
mod tests;
