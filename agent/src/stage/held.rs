//! A record that a step keeps past its chunk: its own text, and a claim on every chunk it is of.

use std::borrow::Cow;
use std::sync::Arc;

use super::program::At;
use super::record::{Extracted, Json, Labels, Record, Stream, TimeOrigin, Value};
use super::values::into_owned;
use crate::base::outputs::{OUTPUTS_MAX, OutputSet};
use crate::base::time::{Mono, Timestamp};
use crate::line::Claims;
use crate::line::frame::add_text;
use crate::ticket::{FileId, Source, Ticket};

/// Every output.
pub(super) const ALL: OutputSet = OutputSet::first(OUTPUTS_MAX);

/// A record that a step keeps.
#[derive(Debug)]
pub(super) struct Held {
    /// The step that keeps it.
    pub(super) op: At,
    pub(super) stream: Stream,
    /// When it leaves by itself.
    pub(super) due: Option<Mono>,
    /// The file that it begins in.
    pub(super) file: Option<FileId>,
    pub(super) offset: u64,
    pub(super) text: Vec<u8>,
    pub(super) cut: bool,
    pub(super) lines: u32,
    pub(super) claims: Claims,
    source: Arc<Source>,
    /// Outputs that were given its lines one by one before.
    sent: OutputSet,
    ordinal: u32,
    time: Timestamp,
    time_origin: TimeOrigin,
    labels: Labels<'static>,
    structured: Labels<'static>,
    extracted: Extracted<'static>,
    tenant: Option<Arc<str>>,
}

impl Held {
    /// Takes the record over: what is left of it has neither text nor claims.
    pub(super) fn take(record: &mut Record<'_>, op: At, due: Option<Mono>) -> Self {
        let mut claims = std::mem::take(&mut record.held);
        let file = claims.first().unwrap_or(record.ticket).file();
        add_claim(&mut claims, record.ticket.split(ALL));
        Self {
            op,
            stream: record.stream,
            due,
            file,
            offset: record.offset,
            text: std::mem::take(&mut record.text).into_owned(),
            cut: record.cut,
            lines: record.lines,
            claims,
            source: Arc::clone(record.source),
            sent: record.sent,
            ordinal: record.ordinal,
            time: record.time,
            time_origin: record.time_origin,
            labels: owned(std::mem::take(&mut record.labels)),
            structured: owned(std::mem::take(&mut record.structured)),
            extracted: std::mem::take(&mut record.extracted)
                .into_iter()
                .map(|(name, value)| (name, into_owned(value)))
                .collect(),
            tenant: record.tenant.take(),
        }
    }

    /// Adds a line to the text, up to `max` bytes in all, and its claims. Says how many bytes
    /// were left out.
    pub(super) fn append(&mut self, between: &[u8], record: &mut Record<'_>, max: usize) -> usize {
        for claim in std::mem::take(&mut record.held) {
            add_claim(&mut self.claims, claim);
        }
        if !self
            .claims
            .iter()
            .any(|claim| claim.same_chunk(record.ticket))
        {
            self.claims.push(record.ticket.split(ALL));
        }
        self.lines += record.lines;
        let was_cut = self.cut;
        self.cut |= record.cut;
        if was_cut {
            return record.text.len();
        }
        add_text(&mut self.text, between, max);
        let out = add_text(&mut self.text, &record.text, max);
        self.cut |= out > 0;
        out
    }

    /// Puts the held beginning before the text of the record that ends it. Says how many bytes
    /// were left out.
    pub(super) fn join_into(mut self, record: &mut Record<'_>, max: usize) -> usize {
        let out = if self.cut {
            record.text.len()
        } else {
            add_text(&mut self.text, &record.text, max)
        };
        record.cut |= self.cut || out > 0;
        record.text = Cow::Owned(self.text);
        record.json = Json::Unknown;
        record.offset = self.offset;
        record.time = self.time;
        record.time_origin = self.time_origin;
        record.lines += self.lines;
        let later = std::mem::replace(&mut record.held, self.claims);
        for claim in later {
            add_claim(&mut record.held, claim);
        }
        // The chunk's own claim stands for the bytes that lie in it.
        let mut at = 0;
        while at < record.held.len() {
            if record.held[at].same_chunk(record.ticket) {
                record.held.remove(at).settle();
            } else {
                at += 1;
            }
        }
        out
    }

    /// The record again, its youngest claim apart.
    pub(super) fn give_back(mut self, run: impl FnOnce(&mut Record<'_>)) {
        // It was made with one.
        let Some(ticket) = self.claims.pop() else {
            return;
        };
        let mut record = Record {
            source: &self.source,
            stream: self.stream,
            offset: self.offset,
            ordinal: self.ordinal,
            route: 0,
            time: self.time,
            time_origin: self.time_origin,
            text: Cow::Owned(self.text),
            json: Json::Unknown,
            labels: lent(self.labels),
            structured: lent(self.structured),
            extracted: lent_values(self.extracted),
            tenant: self.tenant,
            cut: self.cut,
            lines: self.lines,
            ticket: &ticket,
            held: self.claims,
            sent: self.sent,
        };
        run(&mut record);
        settle(&mut record.held);
        drop(record);
        ticket.settle();
    }

    /// Bytes of memory it takes.
    pub(super) fn bytes(&self) -> u64 {
        (size_of::<Self>() + self.text.capacity()) as u64
    }

    /// Whether both begin with the same byte and wait in the same step.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.op == other.op
            && self.stream == other.stream
            && self.file == other.file
            && self.offset == other.offset
    }
}

/// Adds a claim, or settles it when the chunk has one already.
pub(super) fn add_claim(claims: &mut Claims, claim: Ticket) {
    if claims.iter().any(|known| known.same_chunk(&claim)) {
        claim.settle();
    } else {
        claims.push(claim);
    }
}

/// Settles claims of a record that has come to its end.
pub(super) fn settle(claims: &mut Claims) {
    for claim in claims.drain(..) {
        claim.settle();
    }
}

/// A copy of the record with claims of its own.
pub(super) fn copy<'c>(record: &Record<'c>) -> Record<'c> {
    Record {
        source: record.source,
        stream: record.stream,
        offset: record.offset,
        ordinal: record.ordinal,
        route: record.route,
        time: record.time,
        time_origin: record.time_origin,
        text: record.text.clone(),
        json: record.json,
        labels: record.labels.clone(),
        structured: record.structured.clone(),
        extracted: record.extracted.clone(),
        tenant: record.tenant.clone(),
        cut: record.cut,
        lines: record.lines,
        ticket: record.ticket,
        held: record.held.iter().map(|claim| claim.split(ALL)).collect(),
        sent: record.sent,
    }
}

fn owned(labels: Labels<'_>) -> Labels<'static> {
    labels
        .into_iter()
        .map(|(name, value)| (name, Cow::Owned(value.into_owned())))
        .collect()
}

/// The list's type holds on to its lifetime, so that its members are moved to another list.
fn lent<'c>(labels: Labels<'static>) -> Labels<'c> {
    let lend = |(name, value)| -> (Arc<str>, Cow<'c, [u8]>) { (name, value) };
    labels.into_iter().map(lend).collect()
}

fn lent_values<'c>(values: Extracted<'static>) -> Extracted<'c> {
    let lend = |(name, value)| -> (Arc<str>, Value<'c>) { (name, value) };
    values.into_iter().map(lend).collect()
}
