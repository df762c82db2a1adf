//! Stages as data: what each is told. What each does stands in the room `stage`.

use std::sync::Arc;

use regex::bytes::Regex;

/// One stage.
#[derive(Clone, Debug)]
pub enum Stage {
    /// CRI lines: time, stream, P/F tag, text; joins parts a stream. Other lines pass as they are, counted.
    Cri,
    /// Docker's JSON lines: log, stream, time; joins parts without a newline.
    Docker,
    /// Reads fields of a JSON text into the extracted values.
    Json(JsonStage),
    /// Makes labels of extracted values.
    Labels(Vec<LabelField>),
    /// Drops records, counted.
    Drop(DropStage),
    /// Takes the record's time from an extracted value.
    Timestamp(TimestampStage),
    /// Joins lines into one record: holds and ticks.
    Multiline(MultilineStage),
}

/// `json`: which fields become which extracted values.
#[derive(Clone, Debug)]
pub struct JsonStage {
    /// What to read, in order.
    pub fields: Vec<JsonField>,
}

/// One field of a JSON text.
#[derive(Clone, Debug)]
pub struct JsonField {
    /// Name of the extracted value.
    pub name: Arc<str>,
    /// Keys from the top: `["http", "status"]` for `http.status`.
    pub path: Vec<Arc<str>>,
}

/// One label made of an extracted value.
#[derive(Clone, Debug)]
pub struct LabelField {
    /// Name of the label.
    pub label: Arc<str>,
    /// Name of the extracted value.
    pub from: Arc<str>,
}

/// `drop`: all given conditions must hold.
#[derive(Clone, Debug)]
pub struct DropStage {
    /// Tested against the extracted value instead of the text.
    pub source: Option<Arc<str>>,
    /// Must match somewhere.
    pub expression: Option<Regex>,
    /// The source must equal this.
    pub value: Option<Arc<str>>,
    /// Text longer than this many bytes.
    pub longer_than: Option<u64>,
    /// Records older than this many seconds.
    pub older_than_secs: Option<u64>,
    /// The counter's `reason` label.
    pub reason: Arc<str>,
}

/// `timestamp`: where the time is and how it is written.
#[derive(Clone, Debug)]
pub struct TimestampStage {
    /// Name of the extracted value.
    pub source: Arc<str>,
    /// How it is written.
    pub format: TimestampFormat,
}

/// How a time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampFormat {
    /// RFC 3339, any precision.
    Rfc3339,
    /// Unix seconds, with or without a fraction.
    Unix,
    /// Unix milliseconds.
    UnixMs,
    /// Unix microseconds.
    UnixUs,
    /// Unix nanoseconds.
    UnixNs,
}

/// `multiline`: a line that matches begins a record, others belong to the one before.
#[derive(Clone, Debug)]
pub struct MultilineStage {
    /// Matches the first line of a record.
    pub first_line: Regex,
    /// A record is complete this many milliseconds after its last line.
    pub wait_ms: u64,
    /// Lines of one record at the most.
    pub lines_max: usize,
}

/// Which records a `match` is for: all matchers must hold.
#[derive(Clone, Debug)]
pub struct Selector(pub Vec<Matcher>);

/// One label matcher. A label that is missing counts as empty.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// Name of the label: of the record, of its source, or a metadata field.
    pub label: Arc<str>,
    /// How it is compared.
    pub op: MatchOp,
}

/// How a label is compared.
#[derive(Clone, Debug)]
pub enum MatchOp {
    /// Equal.
    Equal(Arc<str>),
    /// Not equal.
    NotEqual(Arc<str>),
    /// The whole value matches.
    Matches(Regex),
    /// The whole value does not match.
    MatchesNot(Regex),
}
