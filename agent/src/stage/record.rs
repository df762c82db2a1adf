//! One record on its way through the steps: it borrows the chunk where it can.

use std::borrow::Cow;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::outputs::{OutputId, OutputSet};
use crate::base::time::Timestamp;
pub use crate::line::Stream;
use crate::ticket::{LineFate, Source, Ticket};

/// Where a record's time comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeOrigin {
    /// The line bears it.
    Line,
    /// When it was read.
    #[default]
    Read,
}

/// An extracted value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'c> {
    /// Text.
    Text(Cow<'c, [u8]>),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// Null, or an object or array that is not text.
    Null,
}

/// Labels that the record has beyond its source's, in the order in which they were made; a name
/// stands once.
pub type Labels<'c> = SmallVec<[(Arc<str>, Cow<'c, [u8]>); 4]>;

/// Extracted values; a name stands once.
pub type Extracted<'c> = SmallVec<[(Arc<str>, Value<'c>); 4]>;

/// What is known of the text as JSON; lets an output splice the body without parsing it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Json {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// The text is one valid JSON object (white space around it apart).
    Object {
        /// Some top-level key equals a key of ours or begins with one and a dot: it must be taken
        /// out before the members can stand beside ours.
        reserved: bool,
        /// A top-level key stands twice, or it nests deeper than `stage::json::DEPTH_MAX`: it is not
        /// copied as it is, wherever it stands.
        rough: bool,
        /// Some top-level key is `ecs` or begins with it and a dot: it names its own version of the
        /// Elastic Common Schema.
        ecs: bool,
    },
    /// The text is no JSON object.
    Other,
}

/// One record.
#[derive(Debug)]
pub struct Record<'c> {
    /// Where it comes from.
    pub source: &'c Arc<Source>,
    /// Which stream of the container.
    pub stream: Stream,
    /// Offset in the file of the first byte of its first line.
    pub offset: u64,
    /// Which of the records that were made of the same bytes it is: the same in each run of a plan.
    pub ordinal: u32,
    /// By which step it was given to the output, as [`Record::ordinal`]; set by that step.
    pub route: u32,
    /// Its time.
    pub time: Timestamp,
    /// Where the time comes from.
    pub time_origin: TimeOrigin,
    /// Its text: bytes, not always UTF-8, without the newline.
    pub text: Cow<'c, [u8]>,
    /// What is known of the text as JSON; a stage that changes the text sets it to `Unknown`.
    pub json: Json,
    /// Labels beyond the source's.
    pub labels: Labels<'c>,
    /// Structured metadata.
    pub structured: Labels<'c>,
    /// Extracted values.
    pub extracted: Extracted<'c>,
    /// Tenant, where a stage has set one.
    pub tenant: Option<Arc<str>>,
    /// It was cut at the record limit.
    pub cut: bool,
    /// Source lines it was made of.
    pub lines: u32,
    /// The chunk that its last line is in.
    pub ticket: &'c Ticket,
    /// Claims on earlier chunks that it has bytes of.
    pub held: SmallVec<[Ticket; 2]>,
    /// Outputs that were given it.
    pub sent: OutputSet,
}

impl Record<'_> {
    /// It goes no further: outputs that were not given it do not get its lines.
    pub(super) fn end(&self) {
        for ticket in self.held.iter().chain(std::iter::once(self.ticket)) {
            let withheld = ticket.outputs().without(self.sent);
            if !withheld.is_empty() {
                ticket.note(LineFate::Withheld, withheld, self.lines);
            }
        }
    }

    /// Whether any of its claims is for `output`. If none is, the output is not given the record:
    /// its pass is another one.
    #[must_use]
    pub fn owes(&self, output: OutputId) -> bool {
        self.ticket.outputs().has(output)
            || self.held.iter().any(|claim| claim.outputs().has(output))
    }
}

/// Where records leave the steps. Implemented by the batches of `encode`.
pub trait Sink {
    /// The output gets the record. The sink takes its own claims with `split`; it may fill in
    /// `record.json` when it has looked, and changes nothing else.
    fn emit(&mut self, output: OutputId, record: &mut Record<'_>);
}
