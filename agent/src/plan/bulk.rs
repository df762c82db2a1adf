//! What bulk requests look like: where documents go, and their shape.
//!
//! 1. An index name is made of text, metadata, labels and dates; what is filled in is cleaned by the
//!    encoder, so that no name is refused by a server and none is chosen by a log's content alone.

use std::fmt;
use std::sync::Arc;

/// Seconds in an hour.
pub const HOUR_SECS: i64 = 3_600;
/// Seconds in a day.
pub const DAY_SECS: i64 = 86_400;

/// A text with places: `logs-{namespace}-{labels.team}-%Y.%m.%d`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern(pub Vec<PatternPart>);

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternPart {
    /// Text as it is.
    Text(Arc<str>),
    /// A metadata field, as in [`super::TemplatePart::Field`].
    Field(Arc<str>),
    /// A label of the record, else of its source.
    Label(Arc<str>),
    /// A part of the record's time, in UTC.
    Date(DatePart),
}

/// A part of a date, written with a fixed number of digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatePart {
    /// `%Y`: four digits.
    Year,
    /// `%m`: two digits.
    Month,
    /// `%d`: two digits.
    Day,
    /// `%H`: two digits.
    Hour,
    /// `%j`: three digits.
    DayOfYear,
    /// `%G`: the year that the week belongs to, four digits.
    WeekYear,
    /// `%V`: ISO week, two digits.
    Week,
}

impl DatePart {
    /// All of them, with the letter after `%` and how many digits are written.
    pub const ALL: [(char, Self, usize); 7] = [
        ('Y', Self::Year, 4),
        ('m', Self::Month, 2),
        ('d', Self::Day, 2),
        ('H', Self::Hour, 2),
        ('j', Self::DayOfYear, 3),
        ('G', Self::WeekYear, 4),
        ('V', Self::Week, 2),
    ];

    fn row(self) -> (char, usize) {
        let mut rows = Self::ALL.into_iter();
        let row = rows.find(|(_, part, _)| *part == self);
        row.map_or(('Y', 4), |(letter, _, digits)| (letter, digits))
    }
}

impl Pattern {
    /// A pattern that is text alone.
    #[must_use]
    pub fn plain(text: &str) -> Self {
        Self(vec![PatternPart::Text(text.into())])
    }

    /// The parts that are filled in from metadata or labels.
    #[must_use]
    pub fn values(&self) -> usize {
        let value =
            |part: &&PatternPart| matches!(part, PatternPart::Field(_) | PatternPart::Label(_));
        self.0.iter().filter(value).count()
    }

    /// The labels it names.
    pub fn labels(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().filter_map(|part| match part {
            PatternPart::Label(name) => Some(name),
            PatternPart::Text(_) | PatternPart::Field(_) | PatternPart::Date(_) => None,
        })
    }

    /// How many seconds of records share its dates: a day, or an hour; `None` without dates.
    #[must_use]
    pub fn period_secs(&self) -> Option<i64> {
        let dates = self.0.iter().filter_map(|part| match part {
            PatternPart::Date(DatePart::Hour) => Some(HOUR_SECS),
            PatternPart::Date(_) => Some(DAY_SECS),
            PatternPart::Text(_) | PatternPart::Field(_) | PatternPart::Label(_) => None,
        });
        dates.min()
    }

    /// Bytes of text and dates.
    #[must_use]
    pub fn fixed_bytes(&self) -> usize {
        let bytes = |part: &PatternPart| match part {
            PatternPart::Text(text) => text.len(),
            PatternPart::Date(part) => part.row().1,
            PatternPart::Field(_) | PatternPart::Label(_) => 0,
        };
        self.0.iter().map(bytes).sum()
    }

    /// The pattern of index names that matches all it makes: each run of places is one `*`, and what
    /// stands between the parts of a date belongs to it.
    #[must_use]
    pub fn wildcard(&self) -> String {
        let mut out = String::new();
        for (at, part) in self.0.iter().enumerate() {
            let between = matches!(
                self.0.get(at.wrapping_sub(1)..at + 2),
                Some([
                    PatternPart::Date(_),
                    PatternPart::Text(_),
                    PatternPart::Date(_)
                ])
            );
            match part {
                PatternPart::Text(text) if !between => out.push_str(text),
                _ if out.ends_with('*') => {}
                _ => out.push('*'),
            }
        }
        out
    }

    /// A name that the same index templates match.
    #[must_use]
    pub fn fallback(&self) -> String {
        self.wildcard().replace('*', "other")
    }
}

impl From<&str> for Pattern {
    fn from(text: &str) -> Self {
        Self::plain(text)
    }
}

impl fmt::Display for Pattern {
    /// As it is written in a config.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            match part {
                PatternPart::Text(text) => {
                    let text = text.replace('{', "{{").replace('}', "}}");
                    f.write_str(&text.replace('%', "%%"))?;
                }
                PatternPart::Field(name) => write!(f, "{{{name}}}")?,
                PatternPart::Label(name) => write!(f, "{{labels.{name}}}")?,
                PatternPart::Date(part) => write!(f, "%{}", part.row().0)?,
            }
        }
        Ok(())
    }
}

/// Which action stands before each document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpType {
    /// A document that is there already is left as it is, and answered with 409.
    #[default]
    Create,
    /// A document that is there already is written anew.
    Index,
}

/// Whether documents bear an `_id` of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ids {
    /// The server makes one: what is sent twice is there twice.
    #[default]
    Off,
    /// Those whose line bears its time: equal lines at one offset of two files of a log differ by it.
    Timed,
    /// All of them.
    On,
}

/// How `@timestamp` is mapped; its text has nine digits in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampKind {
    /// To the millisecond.
    #[default]
    Date,
    /// To the nanosecond, from 1970 to 2262; times beyond are written as the nearest of these.
    DateNanos,
}

/// The names of what a document says of its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldShape {
    /// `kubernetes.pod`, `log.file`.
    #[default]
    Flat,
    /// The Elastic Common Schema: `kubernetes.pod.name`, `log.file.path`, `ecs.version`.
    Ecs,
}

/// What becomes of a text that is a JSON object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum JsonBody {
    /// Its members stand in the document beside ours.
    #[default]
    Merge,
    /// It stands in the document under this key.
    Nest(Arc<str>),
    /// It is `message`, as any text.
    Text,
}

/// What stands in bulk requests, beside the index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The action.
    pub op_type: OpType,
    /// Where records go whose index name would be one too many.
    pub fallback: Arc<str>,
    /// Index names that records of one day may come to; four times as many in a day of running.
    pub index_names_max: usize,
    /// The ingest pipeline, if it is not the index's own.
    pub pipeline: Option<Arc<str>>,
    /// What decides the shard, if it is not `_id`.
    pub routing: Option<Pattern>,
    /// Whether the index must be an alias.
    pub require_alias: bool,
    /// Whether documents bear an `_id`.
    pub ids: Ids,
    /// The cluster's name, which ids are made of too.
    pub cluster: Arc<str>,
    /// How `@timestamp` is mapped.
    pub timestamp: TimestampKind,
    /// The names of metadata.
    pub fields: FieldShape,
    /// What becomes of JSON.
    pub json: JsonBody,
}

/// An index template that is put at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexTemplate {
    /// Its name.
    pub name: String,
    /// What is put.
    pub body: TemplateBody,
    /// Whether one that is there already is written anew.
    pub overwrite: bool,
}

/// What an index template says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateBody {
    /// The mappings of what this output writes.
    BuiltIn,
    /// What stands in a file.
    File {
        /// Its path.
        path: String,
        /// Its text, a JSON object; empty until the config's files are read.
        text: Arc<str>,
    },
}

/// How bulk bodies are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, which every server takes.
    #[default]
    Gzip,
    /// zstd, which OpenSearch 3 takes: Elasticsearch answers 400, and OpenSearch 2.19 dies of it.
    Zstd,
}
