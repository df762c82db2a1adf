//! A request in a lane: its claims, and the parts that are still to be sent.
//!
//! ```text
//! Request -> Load { parts: [all] } --413--> [half, half]   --item 429--> [those items]
//! ```
//!
//! 1. Each item is settled at most once: it stands in exactly one part until then.
//! 2. A claim is settled when all items that name it are; claims that no item names are settled
//!    when the load is at its end.
//! 3. A load that is dropped drops the claims that are not settled.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use crate::base::time::Mono;
use crate::encode::{Encoding, Item, Loan, Request};
use crate::ticket::{LineFate, Ticket};

/// What [`Recompose`] makes: a body, its items in order, its groups.
pub type Recomposed = (Bytes, Vec<Item>, Vec<Range<u32>>);

/// Makes a body of some of a body's items, those at the places in the last argument.
///
/// # Errors
/// The body cannot be read: says why.
pub type Recompose =
    fn(Encoding, &[u8], &[Item], &[Range<u32>], &[usize]) -> Result<Recomposed, String>;

/// A body with its items.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) body: Bytes,
    pub(crate) encoding: Encoding,
    pub(crate) items: Vec<Item>,
    pub(crate) groups: Vec<Range<u32>>,
    /// How often items of it were answered in a way that is retried a bounded number of times.
    pub(crate) bounded_tries: u32,
}

impl Part {
    /// A part of the items at the places `keep`.
    pub(crate) fn keep(&self, keep: &[usize], recompose: Recompose) -> Result<Self, String> {
        let (body, items, groups) =
            recompose(self.encoding, &self.body, &self.items, &self.groups, keep)?;
        if items.len() != keep.len() {
            return Err(format!("{} items came of {}", items.len(), keep.len()));
        }
        let (encoding, bounded_tries) = (self.encoding, self.bounded_tries);
        Ok(Self {
            body,
            encoding,
            items,
            groups,
            bounded_tries,
        })
    }

    pub(crate) fn lines(&self) -> u64 {
        self.items.iter().map(|item| u64::from(item.lines)).sum()
    }
}

/// A request in a lane.
#[derive(Debug)]
pub(crate) struct Load {
    tickets: Vec<Option<Ticket>>,
    /// For each ticket, how many items that name it are not settled.
    owed: Vec<u32>,
    /// For each ticket, the lines of those that are: delivered, and rejected.
    ended: Vec<[u32; 2]>,
    /// What is still to be sent, in order; the first may be on its way.
    pub(crate) parts: VecDeque<Part>,
    /// What it takes of the window until its end.
    pub(crate) window_bytes: u64,
    /// What it owes to its spool, in place of tickets.
    loan: Option<Loan>,
    pub(crate) opened: Mono,
}

impl Load {
    pub(crate) fn new(request: Request) -> Self {
        let mut owed = vec![0u32; request.tickets.len()];
        for item in &request.items {
            for place in item.tickets() {
                if let Some(owed) = owed.get_mut(place) {
                    *owed += 1;
                }
            }
        }
        // What a spool has lent takes no part of the window.
        let (window_bytes, owners) = match &request.loan {
            Some(loan) => (0, loan.origins.len()),
            None => (request.held_bytes(), request.tickets.len()),
        };
        let part = Part {
            body: request.body,
            encoding: request.encoding,
            items: request.items,
            groups: request.groups,
            bounded_tries: 0,
        };
        Self {
            ended: vec![[0; 2]; owners],
            tickets: request.tickets.into_iter().map(Some).collect(),
            owed,
            parts: VecDeque::from([part]),
            window_bytes,
            loan: request.loan,
            opened: request.opened,
        }
    }

    /// An item was delivered, or rejected and counted.
    pub(crate) fn settle(&mut self, item: &Item, fate: LineFate) {
        for place in item.tickets() {
            if let Some(ended) = self.ended.get_mut(place) {
                ended[usize::from(fate == LineFate::Rejected)] += item.lines;
            }
            let Some(owed) = self.owed.get_mut(place) else {
                continue;
            };
            *owed = owed.saturating_sub(1);
            if *owed == 0
                && let Some(ticket) = self.tickets[place].take()
            {
                let [delivered, rejected] = self.ended[place];
                ticket.note(LineFate::Delivered, ticket.outputs(), delivered);
                ticket.note(LineFate::Rejected, ticket.outputs(), rejected);
                ticket.settle();
            }
        }
    }

    /// Every part is gone: claims that no item named are met as well.
    pub(crate) fn finish(mut self) {
        for (ticket, owed) in self.tickets.iter_mut().zip(&self.owed) {
            if *owed == 0
                && let Some(ticket) = ticket.take()
            {
                ticket.settle();
            }
        }
        if let Some(loan) = self.loan {
            loan.settle(self.ended);
        }
    }

    pub(crate) fn lines(&self) -> u64 {
        self.parts.iter().map(Part::lines).sum()
    }
}
