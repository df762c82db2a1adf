//! The action line before each document: index, pipeline, routing. Written once for a source, stream
//! and day (and once for each set of labels that it names), and copied after that.
//!
//! ```text
//! pattern, source, record's period and labels -> name -> Names: one too many? -> fallback
//!   -> {"create":{"_index":"logs-default-2026.11.24"      the id and the braces are the record's
//! ```
//!
//! 1. No record is formatted: times within the period of the last one are told by two comparisons.
//! 2. What labels say is log content: it goes through the same cleaning and the same bound.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::super::text::push_json;
use super::names::{self, NAME_BYTES_MAX, Names};
use crate::base::time::{Mono, Timestamp};
use crate::plan::{DatePart, ElasticsearchOutput, OpType, Pattern, PatternPart, Shape};
use crate::stage::Record;

/// Kept actions of sources with labels.
const ACTIONS_MAX: usize = 10_000;

/// Bytes of a label or of a routing that count: more of it is left out.
const LABEL_BYTES_MAX: usize = 255;

/// An action without its id and its closing braces.
#[derive(Clone, Debug, Default)]
pub(super) struct Action {
    text: Vec<u8>,
    /// The second that its period begins with; `None` before the first.
    period: Option<i64>,
    /// It names the fallback.
    over: bool,
}

/// Makes and keeps the actions of one output.
#[derive(Debug)]
pub(super) struct Actions {
    index: Pattern,
    data_stream: bool,
    shape: Shape,
    /// Labels that index and routing name.
    labels: Vec<Arc<str>>,
    /// How long a period is, in seconds; 0 = the index has no date.
    period_secs: i64,
    /// The period of the last record: its first second, and the first after it.
    period: (i64, i64),
    /// By head, period and labels.
    labelled: HashMap<Box<[u8]>, Action, RandomState>,
    key: Vec<u8>,
    /// Bytes that each value may have of a name.
    value_bytes: usize,
    /// Records that went to the fallback, since they were last counted.
    pub(super) over: u64,
}

impl Actions {
    pub(super) fn new(output: &ElasticsearchOutput) -> Self {
        let (index, shape) = (output.index.clone(), output.shape.clone());
        let routing = shape.routing.iter().flat_map(Pattern::labels);
        let mut labels: Vec<Arc<str>> = index.labels().chain(routing).cloned().collect();
        labels.sort();
        labels.dedup();
        let room = NAME_BYTES_MAX.saturating_sub(index.fixed_bytes());
        // A routing may have dates too.
        let periods = [Some(&index), shape.routing.as_ref()];
        let periods = periods
            .into_iter()
            .flatten()
            .filter_map(Pattern::period_secs);
        Self {
            value_bytes: room / index.values().max(1),
            period_secs: periods.min().unwrap_or(0),
            period: (0, 0),
            data_stream: output.data_stream,
            labels,
            index,
            shape,
            labelled: HashMap::default(),
            key: Vec::new(),
            over: 0,
        }
    }

    /// Writes the action of a record. `head` is the place of its source and stream, `kept` what was
    /// kept there last.
    pub(super) fn push(
        &mut self,
        out: &mut Vec<u8>,
        record: &Record<'_>,
        (head, kept): (u32, &mut Action),
        (names, now): (&Names, Mono),
    ) {
        let period = self.period_of(record.time);
        if self.labels.is_empty() {
            // Fast path: another record of the same source and day.
            if kept.period != Some(period) {
                *kept = self.make_slow(record, period, names, now);
            }
            out.extend_from_slice(&kept.text);
            self.over += u64::from(kept.over);
            return;
        }
        self.key.clear();
        self.key.extend_from_slice(&head.to_le_bytes());
        self.key.extend_from_slice(&period.to_le_bytes());
        for name in &self.labels {
            let value = label(record, name);
            let value = &value[..value.len().min(LABEL_BYTES_MAX)];
            self.key.push(value.len() as u8);
            self.key.extend_from_slice(value);
        }
        if !self.labelled.contains_key(&self.key[..]) {
            if self.labelled.len() >= ACTIONS_MAX {
                self.labelled.clear();
            }
            let made = self.make_slow(record, period, names, now);
            self.labelled.insert(self.key.as_slice().into(), made);
        }
        let kept = &self.labelled[&self.key[..]];
        out.extend_from_slice(&kept.text);
        self.over += u64::from(kept.over);
    }

    /// Forgets what was kept for heads that are gone.
    pub(super) fn forget(&mut self) {
        self.labelled.clear();
    }

    /// The first second of the record's period; 0 for all where the index has no date.
    fn period_of(&mut self, time: Timestamp) -> i64 {
        let (from, until) = self.period;
        if (from <= time.secs && time.secs < until) || self.period_secs == 0 {
            return from;
        }
        let from = time.secs.div_euclid(self.period_secs) * self.period_secs;
        self.period = (from, from.saturating_add(self.period_secs));
        from
    }

    #[cold]
    fn make_slow(&self, record: &Record<'_>, period: i64, names: &Names, now: Mono) -> Action {
        let mut name = Vec::new();
        let date = civil(period);
        for part in &self.index.0 {
            match part {
                PatternPart::Text(text) => name.extend_from_slice(text.as_bytes()),
                PatternPart::Date(part) => push_date(&mut name, *part, date),
                PatternPart::Field(field) => {
                    let value = field_of(record, field);
                    names::push_value(&mut name, value, self.value_bytes, self.data_stream);
                }
                PatternPart::Label(label_name) => {
                    let value = label(record, label_name);
                    names::push_value(&mut name, value, self.value_bytes, self.data_stream);
                }
            }
        }
        // A plain name is the config's.
        let plain = matches!(self.index.0.as_slice(), [PatternPart::Text(_)]);
        let most = self.shape.index_names_max;
        let over = !plain && !names.admit(&name, period, most, now);
        let name = if over {
            self.shape.fallback.as_bytes()
        } else {
            &name
        };
        let verb: &[u8] = match self.shape.op_type {
            OpType::Create => b"create",
            OpType::Index => b"index",
        };
        let mut text = [b"{\"", verb, b"\":{\"_index\":"].concat();
        push_json(&mut text, name);
        if let Some(pipeline) = &self.shape.pipeline {
            text.extend_from_slice(b",\"pipeline\":");
            push_json(&mut text, pipeline.as_bytes());
        }
        self.push_routing(&mut text, record, date);
        if self.shape.require_alias {
            text.extend_from_slice(b",\"require_alias\":true");
        }
        Action {
            text,
            period: Some(period),
            over,
        }
    }

    fn push_routing(&self, out: &mut Vec<u8>, record: &Record<'_>, date: jiff::civil::DateTime) {
        let Some(pattern) = &self.shape.routing else {
            return;
        };
        let mut routing = Vec::new();
        for part in &pattern.0 {
            match part {
                PatternPart::Text(text) => routing.extend_from_slice(text.as_bytes()),
                PatternPart::Date(part) => push_date(&mut routing, *part, date),
                PatternPart::Field(field) => routing.extend_from_slice(field_of(record, field)),
                PatternPart::Label(name) => {
                    let value = label(record, name);
                    routing.extend_from_slice(&value[..value.len().min(LABEL_BYTES_MAX)]);
                }
            }
        }
        if !routing.is_empty() {
            out.extend_from_slice(b",\"routing\":");
            push_json(out, &routing);
        }
    }
}

/// A metadata field by its name in patterns; empty when it is not known.
fn field_of<'r>(record: &'r Record<'_>, name: &str) -> &'r [u8] {
    let source = record.source;
    match name {
        "stream" => record.stream.name().as_bytes(),
        "filename" => source.filename.as_bytes(),
        _ => source
            .meta
            .field(name)
            .map_or(&[], |value| value.as_bytes()),
    }
}

/// A label of the record, else of its source, else of its pod; empty when there is none.
fn label<'r>(record: &'r Record<'_>, name: &str) -> &'r [u8] {
    if let Some((_, value)) = record.labels.iter().find(|(label, _)| **label == *name) {
        return value;
    }
    let source = record.source;
    let facts = source.meta.facts.iter();
    let labels = source.labels.iter();
    let mut labels = labels.chain(facts.flat_map(|facts| &facts.labels));
    let found = labels.find(|(label, _)| **label == *name);
    found.map_or(&[], |(_, value)| value.as_bytes())
}

/// The civil time of a second; the epoch for what has none.
fn civil(secs: i64) -> jiff::civil::DateTime {
    let time = jiff::Timestamp::from_second(secs).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    jiff::tz::Offset::UTC.to_datetime(time)
}

fn push_date(out: &mut Vec<u8>, part: DatePart, at: jiff::civil::DateTime) {
    // Years before 0 have a sign, which no name may begin with; they are no times of logs.
    let year = |year: i16| format!("{:04}", year.max(0));
    let text = match part {
        DatePart::Year => year(at.year()),
        DatePart::Month => format!("{:02}", at.month()),
        DatePart::Day => format!("{:02}", at.day()),
        DatePart::Hour => format!("{:02}", at.hour()),
        DatePart::DayOfYear => format!("{:03}", at.day_of_year()),
        DatePart::WeekYear => year(at.date().iso_week_date().year()),
        DatePart::Week => format!("{:02}", at.date().iso_week_date().week()),
    };
    out.extend_from_slice(text.as_bytes());
}
