//! The plan's steps, resolved: a flat list of operations, each of which knows its next.
//!
//! ```text
//! Plan::pipelines, Plan::entries --compile--> ops, and for each input the place where it begins
//! ```
//!
//! 1. An operation leads only to operations before it in the list: no walk goes on for ever, and a
//!    higher place is never downstream of a lower one.
//! 2. A goto is no operation: it is the place of the entry. One that would close a circle drops.
//! 3. A selector's patterns match whole values.

use std::sync::Arc;

use regex::bytes::Regex;

use super::complaint::Complaints;
use super::record::Record;
use crate::base::outputs::OutputId;
use crate::plan::{
    DropStage, JsonField, LabelField, MatchOp, Matcher, MultilineStage, Plan, Stage, Step,
    TimestampStage,
};

/// A place in [`Program::ops`].
pub(super) type At = u32;

/// Past the last step: the record is settled.
pub(super) const END: At = At::MAX;
/// Where no step is either: a step keeps the record, or its text stands in one that is kept.
pub(super) const KEPT: At = At::MAX - 1;

/// A plan's steps, shared by all encoders.
#[derive(Debug)]
pub struct Program {
    pub(super) ops: Vec<Op>,
    /// Where the lines of each input begin.
    pub(super) roots: Vec<At>,
    /// The `reason` of each drop counter.
    pub(super) reasons: Vec<Arc<str>>,
    /// Records are cut at this many bytes.
    pub(super) record_max: usize,
    pub(super) complaints: Complaints,
}

#[derive(Debug)]
pub(super) enum Op {
    Cri {
        next: At,
    },
    Docker {
        next: At,
    },
    Json {
        fields: Vec<JsonField>,
        next: At,
    },
    Labels {
        fields: Vec<LabelField>,
        next: At,
    },
    Drop {
        stage: DropStage,
        reason: usize,
        next: At,
    },
    Timestamp {
        stage: TimestampStage,
        next: At,
    },
    Multiline {
        stage: MultilineStage,
        next: At,
    },
    Match {
        matchers: Vec<Matcher>,
        inside: At,
        next: At,
    },
    Copy(Vec<Branch>),
    Output {
        output: OutputId,
        /// Of the pipeline's or entry's name and the step's number in it: told apart from all other
        /// outputs of the plan, and the same whatever stands in other pipelines.
        route: u32,
        next: At,
    },
    End {
        reason: usize,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Branch {
    pub(super) at: At,
    /// Of the pipeline's name, or the branch's number in its copy.
    pub(super) mark: u32,
    /// It changes or keeps the record, which is therefore copied for it.
    pub(super) changes: bool,
}

impl Program {
    /// Resolves the steps of a plan.
    #[must_use]
    pub fn compile(plan: &Plan) -> Arc<Self> {
        let mut compiler = Compiler {
            plan,
            ops: Vec::new(),
            changes: Vec::new(),
            reasons: Vec::new(),
            entries: vec![Entry::New; plan.entries.len()],
            owner: 0,
        };
        let mut from: Vec<Vec<Branch>> = vec![Vec::new(); plan.inputs.len()];
        for pipeline in &plan.pipelines {
            let mark = mark(0, pipeline.name.as_bytes());
            compiler.owner = mark;
            let at = compiler.steps(&pipeline.steps, END);
            let branch = compiler.branch(at, mark);
            for input in &pipeline.from {
                if let Some(branches) = from.get_mut(*input) {
                    branches.push(branch);
                }
            }
        }
        let mut roots = Vec::new();
        for branches in from {
            roots.push(match branches.as_slice() {
                [] => END,
                [one] => one.at,
                _ => compiler.push(Op::Copy(branches)),
            });
        }
        Arc::new(Self {
            ops: compiler.ops,
            roots,
            reasons: compiler.reasons,
            record_max: usize::try_from(plan.limits.record_bytes_max.0).unwrap_or(usize::MAX),
            complaints: Complaints::default(),
        })
    }

    /// Where the lines of an input begin.
    pub(super) fn root(&self, input: usize) -> At {
        self.roots.get(input).copied().unwrap_or(END)
    }

    /// Whether the lines of an input are first read as a runtime's, which then cuts their text.
    pub(super) fn has_head(&self, root: At) -> bool {
        matches!(
            self.ops.get(root as usize),
            Some(Op::Cri { .. } | Op::Docker { .. })
        )
    }
}

#[derive(Clone, Copy)]
enum Entry {
    New,
    /// Its steps are being compiled.
    Open,
    Done(At),
}

struct Compiler<'p> {
    plan: &'p Plan,
    ops: Vec<Op>,
    /// For each operation whether it or one after it changes records.
    changes: Vec<bool>,
    reasons: Vec<Arc<str>>,
    entries: Vec<Entry>,
    /// Of the name of the pipeline or entry that is compiled, and how many outputs it has had.
    owner: u32,
}

impl Compiler<'_> {
    /// Compiles from the last step to the first, since each must know its next.
    fn steps(&mut self, steps: &[Step], end: At) -> At {
        let mut next = end;
        for step in steps.iter().rev() {
            next = match step {
                Step::Stage(stage) => self.stage(stage, next),
                Step::Match { selector, steps } => {
                    let inside = self.steps(steps, next);
                    let matchers = selector.0.iter().map(anchored).collect();
                    self.push(Op::Match {
                        matchers,
                        inside,
                        next,
                    })
                }
                Step::Copy(branches) => {
                    let mut compiled = Vec::with_capacity(branches.len());
                    for (place, steps) in branches.iter().enumerate() {
                        let at = self.steps(steps, END);
                        compiled.push(self.branch(at, mark(0, &place.to_le_bytes())));
                    }
                    self.push(Op::Copy(compiled))
                }
                Step::Goto(entry) => self.entry(*entry),
                Step::Output(output) => {
                    self.owner = mark(self.owner, b"output");
                    self.push(Op::Output {
                        output: *output,
                        route: self.owner,
                        next,
                    })
                }
                Step::Drop { reason } => self.end(reason),
            };
        }
        next
    }

    fn stage(&mut self, stage: &Stage, next: At) -> At {
        let op = match stage {
            Stage::Cri => Op::Cri { next },
            Stage::Docker => Op::Docker { next },
            Stage::Json(stage) => Op::Json {
                fields: stage.fields.clone(),
                next,
            },
            Stage::Labels(fields) => Op::Labels {
                fields: fields.clone(),
                next,
            },
            Stage::Drop(stage) => Op::Drop {
                reason: self.reason(&stage.reason),
                stage: stage.clone(),
                next,
            },
            Stage::Timestamp(stage) => Op::Timestamp {
                stage: stage.clone(),
                next,
            },
            Stage::Multiline(stage) => Op::Multiline {
                stage: stage.clone(),
                next,
            },
        };
        self.push(op)
    }

    fn entry(&mut self, entry: usize) -> At {
        match self.entries.get(entry) {
            Some(Entry::Done(at)) => *at,
            Some(Entry::New) => {
                self.entries[entry] = Entry::Open;
                let (plan, outer) = (self.plan, self.owner);
                self.owner = mark(u32::MAX, plan.entries[entry].name.as_bytes());
                let at = self.steps(&plan.entries[entry].steps, END);
                self.owner = outer;
                self.entries[entry] = Entry::Done(at);
                at
            }
            // The entry leads back to itself, or is none: lowering refuses both.
            Some(Entry::Open) | None => self.end("goto_loop"),
        }
    }

    fn end(&mut self, reason: &str) -> At {
        let reason = self.reason(reason);
        self.push(Op::End { reason })
    }

    fn reason(&mut self, reason: &str) -> usize {
        let known = self.reasons.iter().position(|known| **known == *reason);
        known.unwrap_or_else(|| {
            self.reasons.push(Arc::from(reason));
            self.reasons.len() - 1
        })
    }

    fn branch(&self, at: At, mark: u32) -> Branch {
        Branch {
            at,
            mark,
            changes: self.changes_at(at),
        }
    }

    fn changes_at(&self, at: At) -> bool {
        self.changes.get(at as usize).copied().unwrap_or(false)
    }

    fn push(&mut self, op: Op) -> At {
        let changes = match &op {
            Op::Cri { .. }
            | Op::Docker { .. }
            | Op::Json { .. }
            | Op::Labels { .. }
            | Op::Timestamp { .. }
            | Op::Multiline { .. } => true,
            Op::Drop { next, .. } | Op::Output { next, .. } => self.changes_at(*next),
            Op::Match { inside, next, .. } => self.changes_at(*inside) || self.changes_at(*next),
            // Each branch that changes a record has a copy of its own.
            Op::Copy(_) | Op::End { .. } => false,
        };
        self.ops.push(op);
        self.changes.push(changes);
        At::try_from(self.ops.len() - 1).unwrap_or(END)
    }
}

/// A number for a way through the plan: of the way so far and what comes next.
pub(super) fn mark(way: u32, next: &[u8]) -> u32 {
    // Half of a hash that is stable over machines and versions: ids of documents are made of it.
    (xxhash_rust::xxh3::xxh3_64_with_seed(next, way.into()) >> 32) as u32
}

/// The matcher with its pattern made to match whole values.
fn anchored(matcher: &Matcher) -> Matcher {
    let whole = |regex: &Regex| {
        // The pattern compiled on its own; at the worst (a size limit) it stays as it is.
        Regex::new(&format!(r"\A(?:{})\z", regex.as_str())).unwrap_or_else(|_| regex.clone())
    };
    Matcher {
        label: Arc::clone(&matcher.label),
        op: match &matcher.op {
            MatchOp::Equal(value) => MatchOp::Equal(Arc::clone(value)),
            MatchOp::NotEqual(value) => MatchOp::NotEqual(Arc::clone(value)),
            MatchOp::Matches(regex) => MatchOp::Matches(whole(regex)),
            MatchOp::MatchesNot(regex) => MatchOp::MatchesNot(whole(regex)),
        },
    }
}

/// Whether a record meets all matchers.
pub(super) fn matches(matchers: &[Matcher], record: &Record<'_>) -> bool {
    matchers.iter().all(|matcher| {
        let value = label_value(record, &matcher.label);
        match &matcher.op {
            MatchOp::Equal(want) => value == want.as_bytes(),
            MatchOp::NotEqual(want) => value != want.as_bytes(),
            MatchOp::Matches(regex) => regex.is_match(value),
            MatchOp::MatchesNot(regex) => !regex.is_match(value),
        }
    })
}

/// A label of the record, else of its source, else a metadata field; empty when it is none.
fn label_value<'r>(record: &'r Record<'_>, name: &str) -> &'r [u8] {
    if let Some((_, value)) = record.labels.iter().find(|(label, _)| **label == *name) {
        return value;
    }
    let source = record.source;
    if let Some((_, value)) = source.labels.iter().find(|(label, _)| **label == *name) {
        return value.as_bytes();
    }
    match name {
        "stream" => record.stream.name().as_bytes(),
        "filename" => source.filename.as_bytes(),
        _ => source
            .meta
            .field(name)
            .map_or(&[], |value| value.as_bytes()),
    }
}
