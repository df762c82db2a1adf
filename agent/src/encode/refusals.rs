//! Passes of which a detached output has refused a chunk: it gets no later chunk of them either.
//!
//! The reader takes the output out of the pass once it hears of the refusal, and begins another at the
//! watermark. Chunks that were on their way by then would overtake the refused one if the output were
//! attached in between.
//!
//! 1. A pass is over when it ends, or the output has left it; one that is merged hands it on.
//! 2. Empty in the common case, so that a chunk costs one look.

use std::collections::BTreeSet;

use crate::base::outputs::OutputId;
use crate::ticket::{Feed, LogId, PassId, Ticket};

/// The passes of one output.
#[derive(Debug, Default)]
pub(crate) struct Refusals(BTreeSet<(LogId, PassId)>);

impl Refusals {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A chunk of this ticket's pass was refused.
    pub(crate) fn add(&mut self, ticket: &Ticket) {
        self.0.extend(pass_of(ticket));
    }

    /// Whether the ticket's pass has been refused.
    pub(crate) fn has(&self, ticket: &Ticket) -> bool {
        pass_of(ticket).is_some_and(|pass| self.0.contains(&pass))
    }

    /// Takes in what a feed says of passes, before its records come.
    pub(crate) fn heed(&mut self, feed: &Feed, output: OutputId) {
        match feed {
            Feed::Chunk(_) => {}
            Feed::Left {
                log,
                pass,
                output: who,
            } => {
                if *who == output {
                    self.0.remove(&(*log, *pass));
                }
            }
            Feed::Merged { log, pass, into } => {
                if self.0.remove(&(*log, *pass)) {
                    self.0.insert((*log, *into));
                }
            }
            Feed::Abandoned { log, pass } => {
                self.0.remove(&(*log, *pass));
            }
            Feed::Ended { log } => self.0.retain(|(of, _)| of != log),
        }
    }
}

fn pass_of(ticket: &Ticket) -> Option<(LogId, PassId)> {
    ticket.span().map(|span| (span.log, span.pass))
}
