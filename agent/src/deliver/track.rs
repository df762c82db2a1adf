//! A queue of parts of which one is in flight, with its waits: a lane's main way, or a slow stream.

use std::collections::VecDeque;

use super::judge::Reason;
use super::load::Part;
use super::tally::Tally;
use super::transport::CallId;
use crate::base::backoff::Backoff;
use crate::base::time::Mono;

/// A server may not ask for a longer wait.
const RETRY_AFTER_MS_MAX: u64 = 300_000;

/// The part in flight.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) id: CallId,
    /// The transport should have ended the call by now.
    pub(crate) give_up: Mono,
}

/// A part of a load.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) load: u64,
    pub(crate) part: Part,
}

/// One way.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) queue: VecDeque<Piece>,
    pub(crate) flight: Option<Flight>,
    retry_at: Option<Mono>,
    backoff: Backoff,
    pub(crate) failing_since: Option<Mono>,
}

impl Track {
    pub(crate) const fn new(backoff: Backoff) -> Self {
        Self {
            queue: VecDeque::new(),
            flight: None,
            retry_at: None,
            backoff,
            failing_since: None,
        }
    }

    /// When it wants to be looked at again.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        match &self.flight {
            Some(flight) => Some(flight.give_up),
            None => self.retry_at,
        }
    }

    /// Whether its first part may be sent now.
    pub(crate) fn is_ready(&self, now: Mono) -> bool {
        self.flight.is_none() && self.retry_at.is_none_or(|at| at <= now) && !self.queue.is_empty()
    }

    /// The part in flight, which has ended.
    pub(crate) fn land(&mut self) -> Option<Piece> {
        self.flight = None;
        self.retry_at = None;
        self.queue.pop_front()
    }

    /// The server has answered, and well enough.
    pub(crate) const fn is_well(&mut self) {
        self.backoff.reset();
        self.failing_since = None;
    }

    /// The first part is sent again later.
    pub(crate) fn wait(
        &mut self,
        now: Mono,
        (reason, after_ms): (Reason, Option<u64>),
        text: &str,
        tally: &mut Tally,
    ) {
        let drawn = self.backoff.next_ms();
        // A server may ask for more, never for less: `Retry-After: 0` would be a loop.
        let wait_ms = drawn.max(after_ms.map_or(0, |after| after.min(RETRY_AFTER_MS_MAX)));
        self.retry_at = Some(now.plus_ms(wait_ms));
        self.failing_since.get_or_insert(now);
        tally.retried(now, reason, wait_ms, text);
    }

    /// Puts parts of a load in front, in order, and one behind the load's last.
    pub(crate) fn put(&mut self, load: u64, front: Vec<Part>, last: Option<Part>) {
        for part in front.into_iter().rev() {
            self.queue.push_front(Piece { load, part });
        }
        if let Some(part) = last {
            let own = self.queue.iter().take_while(|piece| piece.load == load);
            let behind = own.count();
            self.queue.insert(behind, Piece { load, part });
        }
    }
}
