//! A spool's part of the disk thread's turn: what comes down is written, what can go up is lent.
//!
//! ```text
//! turn: ended -> settle | give back      down -> group -> append (one fdatasync) -> tickets settle
//!       cap -> close the gate, or give up the oldest | the newest          lend -> up
//! ```
//!
//! 1. A ticket is settled only after the fdatasync that has its request on the disk.
//! 2. A disk that fails closes the gate: the output does without its spool until a write succeeds. What
//!    had come down is kept and tried again.
//! 3. What is given up is counted by container log.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::entry::Entry;
use super::queue::{Backlog, Spool};
use super::tally::Tally;
use crate::base::count::Registry;
use crate::base::store::Store;
use crate::base::time::{Mono, Timestamp};
use crate::encode::gate::Ended;
use crate::encode::{Gate, Item, Origin, Outlet, Request};
use crate::ledger::Ledger;
use crate::plan::{AtCap, DiskSpool, OutputKind};
use crate::ticket::{LineFate, Ticket};

/// A segment is closed at this size, or at a sixteenth of what the spool may take.
const SEGMENT_BYTES: u64 = 8 << 20;

/// Requests written by one fdatasync at the most.
const GROUP_MAX: usize = 64;

/// What failed is tried again after so many milliseconds.
const RETRY_MS: u64 = 1_000;

/// What a turn came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Something moved.
    pub progress: bool,
    /// When to turn again if nothing rings.
    pub deadline: Option<Mono>,
}

/// One output's spool with its gate.
#[derive(Debug)]
pub struct Keeper<S: Store> {
    spool: Spool<S>,
    outlet: Arc<Outlet>,
    ledger: Arc<Ledger>,
    bytes_max: u64,
    at_cap: AtCap,
    /// Came down, and is not on the disk.
    group: Vec<Request>,
    retry_at: Option<Mono>,
    /// The last write failed.
    failing: bool,
    tally: Tally,
}

/// Tells spools of one kind of output from those of the other.
#[must_use]
pub const fn kind_of(kind: &OutputKind) -> [u8; 4] {
    match kind {
        OutputKind::Loki(_) => *b"loki",
        OutputKind::Elasticsearch(_) => *b"bulk",
    }
}

impl<S: Store> Keeper<S> {
    /// Takes up what is in `store`, and opens the gate of `outlet`.
    pub fn open(
        store: S,
        kind: [u8; 4],
        plan: &DiskSpool,
        (outlet, name): (Arc<Outlet>, &str),
        ledger: Arc<Ledger>,
        registry: &Arc<Registry>,
    ) -> Self {
        let mut keeper = Self {
            spool: Spool::open(store, kind, SEGMENT_BYTES.min(plan.bytes_max.0 / 16)),
            outlet,
            ledger,
            bytes_max: plan.bytes_max.0,
            at_cap: plan.at_cap,
            group: Vec::new(),
            retry_at: None,
            failing: false,
            tally: Tally::new(name, registry),
        };
        let backlog = keeper.spool.backlog();
        keeper.tally.found(&backlog);
        if let Some(gate) = &keeper.outlet.gate {
            gate.holds(backlog.requests);
            gate.came_down(0);
        }
        keeper
    }

    /// What waits on the disk.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        self.spool.backlog()
    }

    /// Does what there is to do.
    pub fn turn(&mut self, now: Mono, wall: Timestamp) -> Turn {
        let outlet = Arc::clone(&self.outlet);
        let Some(gate) = &outlet.gate else {
            return Turn::default();
        };
        let mut progress = self.take_ended(gate);
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.spool.retry();
        }
        if self.retry_at.is_none() {
            progress |= self.write(gate, now, wall);
        }
        progress |= self.heed_cap(gate, now);
        progress |= self.lend(gate, now);
        let damage = self.spool.take_damage();
        if damage.errors > 0 {
            self.retry_at.get_or_insert(now.plus_ms(RETRY_MS));
        }
        self.tally.damaged(now, &damage);
        let backlog = self.spool.backlog();
        gate.holds(backlog.requests);
        self.tally.shows(&backlog);
        let deadline = self.retry_at;
        Turn { progress, deadline }
    }

    /// The agent ends: what was settled is not to be sent again.
    pub fn end(&mut self, now: Mono) {
        let outlet = Arc::clone(&self.outlet);
        if let Some(gate) = &outlet.gate {
            self.take_ended(gate);
        }
        if let Err(error) = self.spool.sync() {
            self.tally.failed(now, &error);
        }
    }

    fn take_ended(&mut self, gate: &Gate) -> bool {
        let mut progress = false;
        while let Some(Ended { id, fates, .. }) = gate.take_ended() {
            progress = true;
            if fates.is_some() {
                self.spool.settle(id);
            } else {
                self.spool.give_back(id);
            }
        }
        progress
    }

    /// Writes a group; says whether there was one.
    fn write(&mut self, gate: &Gate, now: Mono, wall: Timestamp) -> bool {
        while self.group.len() < GROUP_MAX
            && let Some(request) = gate.take_down()
        {
            self.group.push(*request);
        }
        if self.group.is_empty() {
            return false;
        }
        if self.at_cap == AtCap::DropNewest && self.spool.backlog().bytes >= self.bytes_max {
            for request in std::mem::take(&mut self.group) {
                let origins = self.origins(&request).1;
                gate.came_down(request.held_bytes());
                settle(request, LineFate::Withheld);
                self.tally.dropped(now, "newest", &origins);
            }
            return true;
        }
        let secs = u32::try_from(wall.secs).unwrap_or(0);
        let group = std::mem::take(&mut self.group);
        let entries: Vec<Entry> = group.iter().map(|it| self.entry(it, secs)).collect();
        if let Err(error) = self.spool.append(&entries) {
            self.group = group;
            self.failing = true;
            self.retry_at = Some(now.plus_ms(RETRY_MS));
            self.tally.failed(now, &error);
            return false;
        }
        self.failing = false;
        gate.holds(self.spool.backlog().requests);
        for request in group {
            gate.came_down(request.held_bytes());
            self.tally.spooled(&request);
            settle(request, LineFate::Spooled);
        }
        true
    }

    /// Closes the gate where no more is to come, and opens it again.
    fn heed_cap(&mut self, gate: &Gate, now: Mono) -> bool {
        let bytes = self.spool.backlog().bytes;
        let mut open = !self.failing && self.spool.is_listed();
        match self.at_cap {
            // Opened again with room for some segments, so that the output is not detached for each.
            AtCap::Wait => {
                let most = if gate.has_room() {
                    self.bytes_max
                } else {
                    self.bytes_max / 10 * 9
                };
                open &= bytes < most;
            }
            AtCap::DropNewest => {}
            AtCap::DropOldest if bytes > self.bytes_max => {
                let origins = self.spool.drop_oldest();
                self.tally.dropped(now, "oldest", &origins);
            }
            AtCap::DropOldest => {}
        }
        let changed = gate.open(open);
        if changed {
            self.outlet.ring_others();
        }
        changed
    }

    fn lend(&mut self, gate: &Arc<Gate>, now: Mono) -> bool {
        let mut progress = false;
        // In order, what is older has left the window first.
        while gate.may_lend() && (gate.live_share > 0 || self.outlet.window() == 0) {
            let Some((id, entry)) = self.spool.lend() else {
                break;
            };
            let (origins, request) = self.request(entry, now);
            gate.lend(id, origins, request);
            progress = true;
        }
        if progress {
            self.outlet.ring_lanes();
        }
        progress
    }

    fn request(&self, entry: Entry, now: Mono) -> (Vec<Origin>, Request) {
        let request = Request {
            output: self.outlet.output,
            tenant: entry.tenant,
            encoder: entry.encoder,
            body: entry.body,
            encoding: entry.encoding,
            inflated: entry.inflated,
            items: entry.items,
            groups: entry.groups,
            tickets: Vec::new(),
            loan: None,
            opened: now,
        };
        (entry.origins, request)
    }

    fn entry(&self, request: &Request, secs: u32) -> Entry {
        let (items, origins) = self.origins(request);
        Entry {
            tenant: request.tenant.clone(),
            encoder: request.encoder,
            body: Bytes::clone(&request.body),
            encoding: request.encoding,
            inflated: request.inflated,
            items,
            groups: request.groups.clone(),
            origins,
            secs,
        }
    }

    /// A request's items, naming origins in place of tickets, and the origins.
    fn origins(&self, request: &Request) -> (Vec<Item>, Vec<Origin>) {
        let mut origins: Vec<Origin> = Vec::new();
        let of_ticket = |ticket: &Ticket| {
            let log = ticket.span().and_then(|span| self.ledger.name_of(span.log));
            let log = log.unwrap_or_else(|| Arc::from("?"));
            let known = origins.iter().position(|origin| origin.log == log);
            known.unwrap_or_else(|| {
                origins.push(Origin {
                    log,
                    lines: 0,
                    bytes: 0,
                });
                origins.len() - 1
            })
        };
        let places: Vec<usize> = request.tickets.iter().map(of_ticket).collect();
        let mut items = request.items.clone();
        for item in &mut items {
            let place = places.get(item.ticket as usize).copied().unwrap_or(0);
            if let Some(origin) = origins.get_mut(place) {
                origin.lines += item.lines;
                origin.bytes += item.bytes();
            }
            (item.ticket, item.held) = (u32::try_from(place).unwrap_or(0), 0);
        }
        (items, origins)
    }
}

/// Settles a request's tickets, with all its lines having met the same fate.
fn settle(request: Request, fate: LineFate) {
    let mut lines = vec![0u32; request.tickets.len()];
    for item in &request.items {
        for place in item.tickets() {
            if let Some(lines) = lines.get_mut(place) {
                *lines += item.lines;
            }
        }
    }
    for (ticket, lines) in request.tickets.into_iter().zip(lines) {
        ticket.note(fate, ticket.outputs(), lines);
        ticket.settle();
    }
}

/// What could not be written, in words.
pub(super) fn words(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room on the disk of `state`, or set a smaller `spool.disk`"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "the disk of `state` was mounted read-only: see the kernel's log"
        }
        io::ErrorKind::PermissionDenied => "give the agent the right to write below `state`",
        _ => "see the kernel's log for what is wrong with the disk of `state`",
    }
}
