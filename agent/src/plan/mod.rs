//! The plan: what a config means, whichever dialect it was written in.
//!
//! ```text
//! inputs --(base labels, tag)--> pipelines: steps --> outputs
//! ```
//!
//! 1. Plain data, no I/O: a plan can be printed as native YAML and read back.
//! 2. Every field is valid: lowering refuses what is not (names resolve, regexes compile, ids fit).
//! 3. Nothing past this room knows which dialect was used.

pub mod bulk;
pub mod glob;
pub mod http;
pub mod input;
pub mod kubernetes;
pub mod memory;
pub mod output;
pub mod print;
mod print_bulk;
pub mod secret;
pub mod stage;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use bulk::{
    Compression, DatePart, FieldShape, Ids, IndexTemplate, JsonBody, OpType, Pattern, PatternPart,
    Shape, TemplateBody, TimestampKind,
};
pub use glob::Glob;
pub use http::{
    Auth, Authority, ClientAuth, ClientCertificate, HttpSettings, OAuth2, Proxy, SecretSource, Tls,
    TlsVersion,
};
pub use input::{Input, InputKind, StartAt};
pub use kubernetes::{Kubernetes, NameGlob, OnMissing};
pub use output::{
    AtCap, DeadLetters, DiskSpool, ElasticsearchOutput, LokiOutput, Output, OutputKind, Retry,
    SPOOL_WAY_BYTES, Spool, Template, TemplatePart,
};
pub use stage::{
    DropStage, JsonField, JsonStage, LabelField, MatchOp, Matcher, MultilineStage, Selector, Stage,
    TimestampFormat, TimestampStage,
};

use crate::base::outputs::OutputId;
use crate::base::size::ByteSize;

/// The whole of a config.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where positions live; locked by the agent that uses it.
    pub state: PathBuf,
    /// The admin listener, if any.
    pub admin: Option<SocketAddr>,
    /// Where lines come from.
    pub inputs: Vec<Input>,
    /// What is done with them.
    pub pipelines: Vec<Pipeline>,
    /// Named entry points that [`Step::Goto`] leads to, by place.
    pub entries: Vec<Entry>,
    /// Where records go; at most [`crate::base::outputs::OUTPUTS_MAX`].
    pub outputs: Vec<Output>,
    /// Numbers that bound memory and time.
    pub limits: Limits,
    /// How the agent learns of new bytes.
    pub wake: Wake,
    /// What it may still do after its start.
    pub privileges: Privileges,
}

impl Plan {
    /// Directories below which log files may lie, those that links lead to included.
    #[must_use]
    pub fn allowed_roots(&self) -> Vec<PathBuf> {
        let mut roots = Vec::new();
        for input in &self.inputs {
            roots.extend(input.kind.roots());
            roots.extend_from_slice(input.kind.link_roots());
        }
        roots.sort();
        roots.dedup();
        roots
    }

    /// What is asked of the Kubernetes API, if anything: all inputs that ask, ask the same.
    #[must_use]
    pub fn kubernetes(&self) -> Option<&Kubernetes> {
        self.inputs.iter().find_map(|input| input.kind.kubernetes())
    }

    /// Whether some stage holds multiline blocks.
    #[must_use]
    pub fn has_blocks(&self) -> bool {
        let pipelines = self.pipelines.iter().map(|pipeline| &pipeline.steps);
        let entries = self.entries.iter().map(|entry| &entry.steps);
        pipelines.chain(entries).any(|steps| holds_blocks(steps))
    }
}

fn holds_blocks(steps: &[Step]) -> bool {
    steps.iter().any(|step| match step {
        Step::Stage(stage) => matches!(stage, Stage::Multiline(_)),
        Step::Match { steps, .. } => holds_blocks(steps),
        Step::Copy(branches) => branches.iter().any(|steps| holds_blocks(steps)),
        Step::Goto(_) | Step::Output(_) | Step::Drop { .. } => false,
    })
}

/// Steps that the records of some inputs go through.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Its name.
    pub name: String,
    /// Inputs by place in [`Plan::inputs`].
    pub from: Vec<usize>,
    /// The steps in order.
    pub steps: Vec<Step>,
}

/// A named entry point (Fluentd's `@label`).
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The steps in order.
    pub steps: Vec<Step>,
}

/// One step of a pipeline. A record that reaches the end of its steps is settled.
#[derive(Clone, Debug)]
pub enum Step {
    /// A stage changes, drops, holds or multiplies records.
    Stage(Stage),
    /// The nested steps are for records that the selector matches; others pass by. A record that
    /// comes out of the nested steps goes on after the match.
    Match {
        /// Which records.
        selector: Selector,
        /// What is done with them.
        steps: Vec<Step>,
    },
    /// Each branch gets the record as it is; nothing comes out.
    Copy(Vec<Vec<Step>>),
    /// Goes on at a named entry, by place in [`Plan::entries`]; nothing comes out.
    Goto(usize),
    /// The output gets the record; it goes on unchanged.
    Output(OutputId),
    /// The record ends here, counted under `reason`.
    Drop {
        /// The counter's `reason` label.
        reason: String,
    },
}

/// Numbers that bound memory and time. Each has a default and stands in the printed formula.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The ceiling that pool, windows, joins and batches share.
    pub memory: ByteSize,
    /// A record longer than this is cut, marked and counted.
    pub record_bytes_max: ByteSize,
    /// Bytes of one read buffer; also the longest piece of a line handed on at once.
    pub buffer_bytes: ByteSize,
    /// Reader threads; `None` = clamp(cpus / 8, 1, 4).
    pub readers: Option<usize>,
    /// Encoder threads; `None` = clamp(cpus - readers, 1, 16).
    pub encoders: Option<usize>,
    /// How long a clean stop may take, in milliseconds.
    pub grace_ms: u64,
    /// At which size kubelet rotates a container's file (`containerLogMaxSize`).
    pub rotate_bytes: ByteSize,
    /// How many files of a container kubelet keeps (`containerLogMaxFiles`).
    pub rotate_files: u64,
    /// Bytes a second that the logs of one pod are read at; `None` = as fast as it goes.
    pub pod_rate: Option<ByteSize>,
    /// Bytes a second that the logs of one namespace are read at; `None` = as fast as it goes.
    pub namespace_rate: Option<ByteSize>,
    /// What is done with lines beyond a rate.
    pub over_rate: OverRate,
}

/// What is done with lines beyond a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverRate {
    /// They are read later.
    #[default]
    Defer,
    /// They are dropped, counted.
    Drop,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: ByteSize(36 << 20),
            record_bytes_max: ByteSize(1 << 20),
            buffer_bytes: ByteSize(128 << 10),
            readers: None,
            encoders: None,
            grace_ms: 20_000,
            rotate_bytes: ByteSize(10 << 20),
            rotate_files: 5,
            pod_rate: None,
            namespace_rate: None,
            over_rate: OverRate::Defer,
        }
    }
}

/// Which rung of the wake ladder is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RungChoice {
    /// The best that loads.
    #[default]
    Auto,
    /// fexit on `generic_perform_write` and its kin.
    Fexit,
    /// BTF tracepoints.
    TpBtf,
    /// Raw tracepoints.
    RawTp,
    /// One-shot inotify watches.
    Inotify,
    /// Nothing but the sweep.
    Sweep,
}

/// Which face reads: io_uring, or pread with epoll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoChoice {
    /// io_uring where the kernel allows it.
    #[default]
    Auto,
    /// io_uring, or an error at start.
    Uring,
    /// pread and epoll.
    Pread,
}

/// How the agent learns of new bytes.
#[derive(Clone, Debug)]
pub struct Wake {
    /// The wanted rung.
    pub rung: RungChoice,
    /// The wanted read face.
    pub io: IoChoice,
    /// A busy file is served no more often than this, in milliseconds.
    pub pace_ms: u64,
    /// Milliseconds between two sweeps of all sizes; 0 = no sweep (tests only).
    pub sweep_ms: u64,
}

impl Default for Wake {
    fn default() -> Self {
        Self {
            rung: RungChoice::Auto,
            io: IoChoice::Auto,
            pace_ms: 5,
            sweep_ms: 120_000,
        }
    }
}

/// What the agent may still do after its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privileges {
    /// Whether what is not used any more is given up.
    pub drop: bool,
}

impl Default for Privileges {
    fn default() -> Self {
        Self { drop: true }
    }
}
