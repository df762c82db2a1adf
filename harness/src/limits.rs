//! A Loki with limits: what it stores of a push, and what it says.
//!
//! ```text
//! distributor: label sets, each entry's time and size -> errors, grouped; the rest goes on
//!              the tenant's rate                       -> 429, nothing is stored
//! ingester:    each stream: may it be made, its rate, how far its entries lie behind
//!              the last error of a stream is what is said, before all of the distributor's
//! ```
//!
//! 1. Words are those of Loki 3.7 (`pkg/distributor`, `pkg/ingester`, `pkg/validation`).
//! 2. A label set that does not parse refuses the push whole.
//! 3. An exact duplicate of what a stream holds is stored once.
//!
//! Unlike Loki's, its ingester does not forget an error when a later stream of the push fares well.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::text::rfc3339_nano;
use crate::wire::loki::{LabelledEntries, Line, Push, parse_labels};

/// The limits; `None` or the default is none.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Bytes of a line.
    pub line_bytes: Option<usize>,
    /// How old an entry may be, in nanoseconds.
    pub max_age_ns: Option<u64>,
    /// How far ahead it may be.
    pub grace_ns: Option<u64>,
    /// Whether structured metadata is refused.
    pub no_metadata: bool,
    /// Labels of a stream.
    pub labels: Option<usize>,
    /// A stream whose labels bear this value does not parse.
    pub unparsable: Option<String>,
    /// A line that holds this spoils its push, in words that nobody knows.
    pub unknown: Option<String>,
    /// Bytes a second of the tenant: rate and burst.
    pub rate: Option<(u64, u64)>,
    /// Bytes a second of a stream: rate and burst.
    pub stream_rate: Option<(u64, u64)>,
    /// Whether a stream is over its rate as a whole or entry by entry.
    pub whole_stream: bool,
    /// Streams.
    pub streams: Option<usize>,
    /// How far behind its stream's newest an entry may be.
    pub behind_ns: Option<u64>,
    /// The schema's first nanosecond.
    pub schema_ns: Option<u64>,
}

/// What is made of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// HTTP status.
    pub status: u16,
    /// Its words.
    pub words: String,
    /// By entry, in the order of the push: whether it is stored now (or was before).
    pub stored: Vec<bool>,
    /// By entry: whether it was refused for good.
    pub refused: Vec<bool>,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    tokens: u64,
    at_ns: u64,
    filled: bool,
}

impl Bucket {
    fn take(&mut self, now_ns: u64, (rate, burst): (u64, u64), bytes: u64) -> bool {
        let since = u128::from(now_ns.saturating_sub(self.at_ns));
        let more = u64::try_from(since * u128::from(rate) / 1_000_000_000).unwrap_or(burst);
        self.tokens = match self.filled {
            true => self.tokens.saturating_add(more).min(burst),
            false => burst,
        };
        (self.filled, self.at_ns) = (true, now_ns);
        let has = self.tokens >= bytes;
        self.tokens -= if has { bytes } else { 0 };
        has
    }
}

#[derive(Debug, Default)]
struct Held {
    entries: BTreeSet<(u64, String)>,
    newest_ns: u64,
    bucket: Bucket,
}

/// The server.
#[derive(Debug, Default)]
pub struct Loki {
    /// Its limits; they may change at any time.
    pub limits: Limits,
    bucket: Bucket,
    streams: BTreeMap<String, Held>,
}

/// One entry on its way through.
struct Passing<'a> {
    at: usize,
    time_ns: u64,
    line: &'a Line,
}

impl Loki {
    /// A server with these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// All that it holds: stream, time, line.
    pub fn entries(&self) -> impl Iterator<Item = (&str, u64, &str)> {
        self.streams.iter().flat_map(|(labels, held)| {
            let entries = held.entries.iter();
            entries.map(|(time, line)| (labels.as_str(), *time, line.as_str()))
        })
    }

    /// Takes a push at a time in nanoseconds since 1970.
    pub fn push(&mut self, now_ns: u64, push: &Push) -> Verdict {
        let count = push.streams.iter().map(|stream| stream.entries.len()).sum();
        let mut verdict = Verdict {
            status: 204,
            words: String::new(),
            stored: vec![false; count],
            refused: vec![false; count],
        };
        let is_bad = |labels: &str| {
            let marked = self.limits.unparsable.as_ref();
            marked.is_some_and(|value| labels.contains(value.as_str()))
        };
        let mut marks = Vec::new();
        let is_unknown = |line: &Line| {
            let marked = self.limits.unknown.as_ref();
            marked.is_some_and(|words| line.line.contains(words.as_str()))
        };
        let lines = push.streams.iter().flat_map(|stream| &stream.entries);
        let spoilt: Vec<bool> = lines.map(is_unknown).collect();
        if spoilt.contains(&true) {
            verdict.refused = spoilt;
            let words = "a limit of a version that is not out yet\n";
            (verdict.status, verdict.words) = (400, words.to_owned());
            return verdict;
        }
        let mut at = 0;
        for stream in &push.streams {
            let bad = is_bad(&stream.labels);
            marks.extend(std::iter::repeat_n(bad, stream.entries.len()));
        }
        if marks.contains(&true) {
            verdict.refused = marks;
            let words = "couldn't parse labels: 1:6: parse error: unexpected identifier\n";
            (verdict.status, verdict.words) = (400, words.to_owned());
            return verdict;
        }
        let (mut errors, mut passing) = (BTreeMap::<String, u32>::new(), Vec::new());
        for stream in &push.streams {
            let entries = stream.entries.iter().map(|line| {
                at += 1;
                let time_ns = time_of(line);
                Passing {
                    at: at - 1,
                    time_ns,
                    line,
                }
            });
            let entries: Vec<Passing<'_>> = entries.collect();
            let kept = self.validate(now_ns, stream, entries, &mut errors, &mut verdict);
            if !kept.is_empty() {
                passing.push((stream.labels.as_str(), kept));
            }
        }
        self.ingest(now_ns, &passing, &mut verdict);
        if verdict.status == 204 && !errors.is_empty() {
            (verdict.status, verdict.words) = (400, grouped(&errors));
        }
        verdict
    }

    fn validate<'a>(
        &self,
        now_ns: u64,
        stream: &LabelledEntries,
        entries: Vec<Passing<'a>>,
        errors: &mut BTreeMap<String, u32>,
        verdict: &mut Verdict,
    ) -> Vec<Passing<'a>> {
        let labels = &stream.labels;
        let names = parse_labels(labels).map_or(0, |labels| labels.len());
        if let Some(most) = self.limits.labels.filter(|most| names > *most) {
            let words =
                format!("entry for stream '{labels}' has {names} label names; limit {most}");
            *errors.entry(words).or_default() += 1;
            entries
                .iter()
                .for_each(|entry| verdict.refused[entry.at] = true);
            return Vec::new();
        }
        let mut kept = Vec::new();
        for entry in entries {
            match self.fault(now_ns, labels, &entry) {
                None => kept.push(entry),
                Some(words) => {
                    verdict.refused[entry.at] = true;
                    *errors.entry(words).or_default() += 1;
                }
            }
        }
        kept
    }

    fn fault(&self, now_ns: u64, labels: &str, entry: &Passing<'_>) -> Option<String> {
        let (limits, time) = (&self.limits, entry.time_ns);
        let oldest = limits.max_age_ns.map(|age| now_ns.saturating_sub(age));
        if let Some(oldest) = oldest.filter(|oldest| time < *oldest) {
            let (time, oldest) = (second(time), second(oldest));
            return Some(format!(
                "entry for stream '{labels}' has timestamp too old: {time}, oldest acceptable \
                 timestamp is: {oldest}"
            ));
        }
        if limits.grace_ns.is_some_and(|grace| time > now_ns + grace) {
            let time = second(time);
            return Some(format!(
                "entry for stream '{labels}' has timestamp too new: {time}"
            ));
        }
        let length = entry.line.line.len();
        if let Some(most) = limits.line_bytes.filter(|most| length > *most) {
            return Some(format!(
                "max entry size '{most}' bytes exceeded for stream '{labels}' while adding an entry \
                 with length '{length}' bytes"
            ));
        }
        let metadata = limits.no_metadata && !entry.line.metadata.is_empty();
        metadata.then(|| {
            format!(
                "stream '{labels}' includes structured metadata, but this feature is disallowed. \
                 Please see `limits_config.allow_structured_metadata` or contact your Loki \
                 administrator to enable it"
            )
        })
    }

    fn ingest(&mut self, now_ns: u64, passing: &[(&str, Vec<Passing<'_>>)], verdict: &mut Verdict) {
        let all = passing.iter().flat_map(|(_, entries)| entries);
        let (lines, bytes) = all.fold((0u64, 0u64), |(lines, bytes), entry| {
            (lines + 1, bytes + entry.line.line.len() as u64)
        });
        if let Some(rate) = self.limits.rate
            && !self.bucket.take(now_ns, rate, bytes)
        {
            verdict.status = 429;
            verdict.words = format!(
                "ingestion rate limit exceeded for user fake (limit: {} bytes/sec) while attempting \
                 to ingest '{lines}' lines totaling '{bytes}' bytes, reduce log volume\n",
                rate.0
            );
            return;
        }
        for (labels, entries) in passing {
            if let Err((status, words)) = self.append(now_ns, labels, entries, verdict) {
                (verdict.status, verdict.words) = (status, words);
            }
        }
    }

    /// One stream at the ingester.
    fn append(
        &mut self,
        now_ns: u64,
        labels: &str,
        entries: &[Passing<'_>],
        verdict: &mut Verdict,
    ) -> Result<(), (u16, String)> {
        let limits = self.limits.clone();
        if !self.streams.contains_key(labels) {
            if limits
                .streams
                .is_some_and(|most| self.streams.len() >= most)
            {
                let words = format!(
                    "maximum active stream limit exceeded when trying to create stream {labels}, \
                     reduce the number of active streams, user: 'fake'\n"
                );
                return Err((429, words));
            }
            let head = entries.first().map_or(0, |entry| entry.time_ns);
            if limits.schema_ns.is_some_and(|schema| head < schema) {
                let early = |entry: &&Passing<'_>| limits.schema_ns > Some(entry.time_ns);
                for entry in entries.iter().take_while(early) {
                    verdict.refused[entry.at] = true;
                }
                let seconds = (head / 1_000_000) as f64 / 1_000.0;
                let words = format!(
                    "rpc error: code = Unknown desc = failed to create stream: no schema config \
                     found for time {seconds}\n"
                );
                return Err((500, words));
            }
        }
        let held = self.streams.entry(labels.to_owned()).or_default();
        let mut failed = Vec::new();
        if let Some(rate) = limits.stream_rate
            && limits.whole_stream
        {
            let bytes = entries
                .iter()
                .map(|entry| entry.line.line.len() as u64)
                .sum();
            if !held.bucket.take(now_ns, rate, bytes) {
                failed = entries
                    .iter()
                    .map(|entry| (entry, limited(labels, rate.0, entry)))
                    .collect();
                return Err((429, ignored(labels, &failed, entries.len())));
            }
        }
        let mut status = 400;
        for entry in entries {
            let bytes = entry.line.line.len() as u64;
            let entry_rate = limits.stream_rate.filter(|_| !limits.whole_stream);
            if let Some(rate) = entry_rate
                && !held.bucket.take(now_ns, rate, bytes)
            {
                failed.push((entry, limited(labels, rate.0, entry)));
                status = 429;
                continue;
            }
            let cutoff = limits
                .behind_ns
                .map(|behind| held.newest_ns.saturating_sub(behind));
            if let Some(cutoff) = cutoff.filter(|cutoff| entry.time_ns < *cutoff) {
                verdict.refused[entry.at] = true;
                let (time, cutoff) = (second(entry.time_ns), second(cutoff));
                let why = format!(
                    "entry too far behind, entry timestamp is: {time}, oldest acceptable timestamp \
                     is: {cutoff}"
                );
                failed.push((entry, why));
                status = 400;
                continue;
            }
            held.newest_ns = held.newest_ns.max(entry.time_ns);
            held.entries
                .insert((entry.time_ns, entry.line.line.clone()));
            verdict.stored[entry.at] = true;
        }
        match failed.is_empty() {
            true => Ok(()),
            false => Err((status, ignored(labels, &failed, entries.len()))),
        }
    }
}

fn limited(labels: &str, rate: u64, entry: &Passing<'_>) -> String {
    let bytes = entry.line.line.len();
    format!(
        "Per stream rate limit exceeded (limit: {rate}B/sec) while attempting to ingest for stream \
         '{labels}' totaling {bytes}B, consider splitting a stream via additional labels or contact \
         your Loki administrator to see if the limit can be increased"
    )
}

/// What an ingester says of one stream: ten entries at the most.
fn ignored(labels: &str, failed: &[(&Passing<'_>, String)], of: usize) -> String {
    let mut words = String::new();
    for (entry, why) in failed.iter().take(10) {
        let time = rfc3339_nano(entry.time_ns)
            .replace('T', " ")
            .replace('Z', " +0000 UTC");
        let _ = writeln!(
            words,
            "entry with timestamp {time} ignored, reason: '{why}',"
        );
    }
    let count = failed.len();
    let _ = writeln!(
        words,
        "user 'fake', total ignored: {count} out of {of} for stream: {labels}"
    );
    words
}

/// `GroupedErrors` of Loki.
fn grouped(errors: &BTreeMap<String, u32>) -> String {
    let many = errors.len() > 1;
    let one = |(words, count): (&String, &u32)| match many || *count > 1 {
        true => format!("{count} errors like: {words}"),
        false => words.clone(),
    };
    let all: Vec<String> = errors.iter().map(one).collect();
    format!("{}\n", all.join("; "))
}

fn time_of(line: &Line) -> u64 {
    let time = line.timestamp.unwrap_or_default();
    time.seconds.unsigned_abs() * 1_000_000_000 + u64::from(time.nanos.unsigned_abs())
}

fn second(time_ns: u64) -> String {
    rfc3339_nano(time_ns / 1_000_000_000 * 1_000_000_000)
}

/// Reads a push of snappy and protobuf as it is, without asking whose records it holds.
///
/// # Errors
/// It is none.
pub fn read(body: &[u8]) -> anyhow::Result<Push> {
    let plain = snap::raw::Decoder::new().decompress_vec(body)?;
    Ok(<Push as prost::Message>::decode(plain.as_slice())?)
}
