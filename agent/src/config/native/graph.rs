//! Names that lead elsewhere: inputs, outputs and entries, who uses them, and circles of `goto`.

use crate::base::outputs::{OutputId, OutputSet};
use crate::config::diagnostics::{Report, Span};
use crate::config::suggest;
use crate::config::tree::Node;

/// The names of a config and the ways between them.
#[derive(Debug, Default)]
pub(super) struct Graph {
    /// Inputs in order.
    pub(super) inputs: Vec<String>,
    /// Entries in order.
    pub(super) entries: Vec<String>,
    /// Outputs in order.
    pub(super) outputs: Vec<String>,
    /// Inputs that a pipeline reads.
    pub(super) inputs_used: Vec<usize>,
    /// Outputs that something is sent to.
    pub(super) outputs_used: OutputSet,
    /// The entry that is being read; `None` in a pipeline.
    pub(super) here: Option<usize>,
    pub(super) gotos: Vec<Goto>,
}

#[derive(Debug)]
pub(super) struct Goto {
    from: usize,
    to: usize,
    span: Span,
}

impl Graph {
    /// An input by its name.
    pub(super) fn input(
        &mut self,
        name: &str,
        node: &Node,
        report: &mut Report<'_>,
    ) -> Option<usize> {
        let place = find("input", "inputs", &self.inputs, name, node, report)?;
        self.inputs_used.push(place);
        Some(place)
    }

    /// An output by its name.
    pub(super) fn output(
        &mut self,
        name: &str,
        node: &Node,
        report: &mut Report<'_>,
    ) -> Option<OutputId> {
        let place = find("output", "outputs", &self.outputs, name, node, report)?;
        // More than 16 outputs are an error elsewhere.
        let output = OutputId(u8::try_from(place.min(15)).unwrap_or(15));
        self.outputs_used = self.outputs_used.or(OutputSet::one(output));
        Some(output)
    }

    /// An entry by its name, as the target of a `goto`.
    pub(super) fn entry(
        &mut self,
        name: &str,
        node: &Node,
        report: &mut Report<'_>,
    ) -> Option<usize> {
        let to = find("entry", "entries", &self.entries, name, node, report)?;
        if let Some(from) = self.here {
            let span = node.span;
            self.gotos.push(Goto { from, to, span });
        }
        Some(to)
    }

    /// Reports each `goto` that closes a circle.
    pub(super) fn refuse_circles(&self, report: &mut Report<'_>) {
        let mut kept: Vec<&Goto> = Vec::new();
        for goto in &self.gotos {
            if reaches(&kept, goto.to, goto.from) {
                report.error(
                    goto.span,
                    format!(
                        "`goto` leads from `{}` in a circle back to it",
                        self.entries[goto.from]
                    ),
                    "remove one `goto` of the circle: a record must come to an end",
                );
            } else {
                kept.push(goto);
            }
        }
    }
}

fn reaches(gotos: &[&Goto], from: usize, to: usize) -> bool {
    let mut seen = vec![from];
    let mut at = 0;
    while let Some(place) = seen.get(at).copied() {
        if place == to {
            return true;
        }
        for goto in gotos.iter().filter(|goto| goto.from == place) {
            if !seen.contains(&goto.to) {
                seen.push(goto.to);
            }
        }
        at += 1;
    }
    false
}

fn find(
    what: &str,
    plural: &str,
    known: &[String],
    name: &str,
    node: &Node,
    report: &mut Report<'_>,
) -> Option<usize> {
    let place = known.iter().position(|known| known == name);
    if place.is_none() {
        report.error(
            node.span,
            format!("there is no {what} `{}`", node.shown()),
            suggest::cure(plural, name, known.iter().map(String::as_str)),
        );
    }
    place
}
