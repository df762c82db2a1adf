//! A request in a lane: its claims, and the parts that are still to be sent.
//!
//! ```text
//! Request -> Load + Part(all) --413--> Part, Part   --item 429--> Part(those)   --stream--> Part, slow
//! ```
//!
//! 1. Each item is settled at most once: it stands in exactly one part until then.
//! 2. A claim is settled when all items that name it are; claims that no item names are settled
//!    when the load is at its end.
//! 3. A load that is dropped drops the claims that are not settled.
//! 4. What its parts no longer hold is given back to the window before its end.

use std::ops::Range;

use bytes::Bytes;

use super::judge::Reason;
use crate::base::time::Mono;
use crate::encode::{self, Encoding, Item, Line, Loan, Looked, Recomposed, Request};
use crate::ticket::{LineFate, Ticket};

/// Makes a body of some of a body's items, those at the places in the last argument.
///
/// # Errors
/// The body cannot be read: says why.
pub type Recompose =
    fn(Encoding, &[u8], &[Item], &[Range<u32>], &[usize]) -> Result<Recomposed, String>;

/// Makes a bulk body of some items with the logs' texts unparsed, and says of which.
///
/// # Errors
/// As [`Recompose`].
pub type Plain = fn(Encoding, &[u8], &[Item], &[usize]) -> Result<(Vec<usize>, Recomposed), String>;

/// Looks at a push's entries.
///
/// # Errors
/// As [`Recompose`].
pub type Look = fn(Encoding, &[u8], &[Item], &[Range<u32>]) -> Result<Looked, String>;

/// Items as text.
///
/// # Errors
/// As [`Recompose`].
pub type Lines = fn(Encoding, &[u8], &[Item], &[Range<u32>], &[usize]) -> Result<Vec<Line>, String>;

/// What lanes do with bodies; what they hold is the encoders' business.
#[derive(Clone, Copy, Debug)]
pub struct Bodies {
    /// A part of one.
    pub recompose: Recompose,
    /// A part of one, as plain text.
    pub plain: Plain,
    /// What a server judges entries by.
    pub look: Look,
    /// What a person reads.
    pub lines: Lines,
}

impl Bodies {
    /// The encoders' own.
    pub const ENCODED: Self = Self {
        recompose: encode::recompose,
        plain: encode::plain,
        look: encode::look,
        lines: encode::lines,
    };
}

/// A body with its items.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) body: Bytes,
    pub(crate) encoding: Encoding,
    pub(crate) items: Vec<Item>,
    pub(crate) groups: Vec<Range<u32>>,
    /// How often it was answered in a way that is retried a bounded number of times.
    pub(crate) bounded_tries: u32,
    /// Why it was sent again last, and how often in a row.
    pub(crate) streak: Option<(Reason, u32)>,
    /// Its documents bear the logs' texts unparsed.
    pub(crate) plain: bool,
    /// Since when it has been over a rate, though it is one item.
    pub(crate) over_since: Option<Mono>,
    /// It was put behind the load's other parts, to be asked once more.
    pub(crate) asked: bool,
    /// It has nothing of the slow streams up to this number.
    pub(crate) free_of: u64,
}

impl Part {
    pub(crate) fn of(
        encoding: Encoding,
        (body, items, groups): (Bytes, Vec<Item>, Vec<Range<u32>>),
    ) -> Self {
        Self {
            body,
            encoding,
            items,
            groups,
            bounded_tries: 0,
            streak: None,
            plain: false,
            over_since: None,
            asked: false,
            free_of: 0,
        }
    }

    /// A part of the items at the places `keep`, in order.
    pub(crate) fn keep(&self, keep: &[usize], bodies: Bodies) -> Result<Self, String> {
        let whole = (self.encoding, &*self.body, &*self.items, &*self.groups);
        let made = (bodies.recompose)(whole.0, whole.1, whole.2, whole.3, keep)?;
        if made.1.len() != keep.len() {
            return Err(format!("{} items came of {}", made.1.len(), keep.len()));
        }
        Ok(Self {
            bounded_tries: self.bounded_tries,
            plain: self.plain,
            free_of: self.free_of,
            ..Self::of(self.encoding, made)
        })
    }

    /// It is sent again: how often for this reason in a row.
    pub(crate) fn again(&mut self, reason: Reason) -> u32 {
        let times = match self.streak {
            Some((last, times)) if last == reason => times.saturating_add(1),
            _ => 1,
        };
        self.streak = Some((reason, times));
        times
    }

    pub(crate) fn lines(&self) -> u64 {
        self.items.iter().map(|item| u64::from(item.lines)).sum()
    }

    pub(crate) fn all(&self) -> Vec<usize> {
        (0..self.items.len()).collect()
    }

    fn held_bytes(&self) -> u64 {
        let items = self.items.len() * size_of::<Item>();
        let groups = self.groups.len() * size_of::<Range<u32>>();
        (self.body.len() + items + groups) as u64
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
    /// How many parts of it are still to be settled, and what they hold.
    parts: usize,
    parts_bytes: u64,
    /// What it holds beside its parts.
    beside_bytes: u64,
    /// What it takes of the window now.
    window_bytes: u64,
    /// What it owes to its spool, in place of tickets.
    loan: Option<Loan>,
    pub(crate) opened: Mono,
    /// Requests that may still be spent on finding out what is refused.
    pub(crate) budget: u32,
    /// The budget at its start, and for how many culprits it may begin anew.
    budget_whole: u32,
    refills: u32,
    /// Lines that the output had stored when something of it was refused first.
    pub(crate) stored_then: Option<u64>,
}

impl Load {
    /// A load, and its one part.
    pub(crate) fn new(request: Request) -> (Self, Part) {
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
        let budget = budget(request.items.len());
        let made = (request.body, request.items, request.groups);
        let part = Part::of(request.encoding, made);
        let load = Self {
            ended: vec![[0; 2]; owners],
            tickets: request.tickets.into_iter().map(Some).collect(),
            owed,
            parts: 1,
            parts_bytes: part.held_bytes(),
            beside_bytes: window_bytes.saturating_sub(part.held_bytes()),
            window_bytes,
            loan: request.loan,
            opened: request.opened,
            budget,
            budget_whole: budget,
            refills: REFILLS_MAX,
            stored_then: None,
        };
        (load, part)
    }

    /// A part has left its lane, and these stand in its place.
    pub(crate) fn replace<'a>(&mut self, gone: u64, parts: impl Iterator<Item = &'a Part>) {
        self.parts -= 1;
        self.parts_bytes = self.parts_bytes.saturating_sub(gone);
        for part in parts {
            self.parts += 1;
            self.parts_bytes += part.held_bytes();
        }
    }

    /// What a part counts for in [`Load::replace`].
    pub(crate) fn weight(part: &Part) -> u64 {
        part.held_bytes()
    }

    /// How many parts are still to be settled.
    pub(crate) const fn parts(&self) -> usize {
        self.parts
    }

    /// What it no longer holds of the window; each byte is given once.
    pub(crate) fn trim(&mut self) -> u64 {
        let holds = match self.parts {
            0 => 0,
            _ => self.window_bytes.min(self.beside_bytes + self.parts_bytes),
        };
        std::mem::replace(&mut self.window_bytes, holds) - holds
    }

    /// What it still takes of the window.
    pub(crate) const fn window_bytes(&self) -> u64 {
        self.window_bytes
    }

    /// One of those that spoil it was found: the budget begins anew, some times.
    pub(crate) const fn found(&mut self) {
        if let Some(left) = self.refills.checked_sub(1) {
            (self.refills, self.budget) = (left, self.budget_whole);
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
}

/// Culprits in one request for which the budget begins anew: a few may come together, a request that is
/// bad throughout is not worth its number of requests.
const REFILLS_MAX: u32 = 4;

/// Requests beyond the first that finding what is refused among so many items may take: two for each
/// halving that leads to one of them.
fn budget(items: usize) -> u32 {
    2 * items.max(1).next_power_of_two().ilog2() + 2
}
