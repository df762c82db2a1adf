//! The way to an output's spool and back.
//!
//! ```text
//! encoder: Outlet::put --no window--> down -> disk thread: on the disk, then the tickets are settled
//! disk thread: lend -> up -> lane -> ended -> disk thread: settled there, or lent again
//! ```
//!
//! 1. What is under way down is bounded, and what is lent as well: each by its bytes and one request.
//! 2. In order (`live_share` 0): once something is spooled, what comes later is spooled too, until all of
//!    it has been delivered; nothing is lent before what is older has left the window.
//! 3. Else lanes take from both, in the stated proportion of bytes; what the window has no room for is
//!    spooled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_queue::{ArrayQueue, SegQueue};
use serde::{Deserialize, Serialize};

use super::request::Request;
use crate::base::bell::Bell;
use crate::plan::{SPOOL_WAY_BYTES, Spool};

/// Requests each way; the bytes are the tighter bound.
const REQUESTS_MAX: usize = 256;

/// Where a spooled request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpoolId {
    /// The segment's number.
    pub segment: u64,
    /// The frame's place in it.
    pub place: u32,
}

/// A container log's share in a spooled request; [`super::Item::ticket`] names it by its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The container log's name across restarts.
    pub log: Arc<str>,
    /// Its lines.
    pub lines: u32,
    /// Their bytes in the body before compression.
    pub bytes: u64,
}

/// What a request that came from a spool owes in place of tickets. One that is dropped unsettled is lent
/// again.
#[derive(Debug)]
pub struct Loan {
    gate: Arc<Gate>,
    id: SpoolId,
    /// Whose lines it has.
    pub origins: Box<[Origin]>,
    /// What it takes of the way, in bytes.
    bytes: u64,
    /// Lines by origin, delivered and rejected, once it is settled.
    fates: Option<Vec<[u32; 2]>>,
}

impl Loan {
    /// All of it was delivered, or rejected and counted: lines by origin.
    pub fn settle(mut self, fates: Vec<[u32; 2]>) {
        self.fates = Some(fates);
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.gate.up_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.gate.ended.push(Ended {
            id: self.id,
            origins: std::mem::take(&mut self.origins),
            fates: self.fates.take(),
        });
        self.gate.disk.ring();
    }
}

/// How a loan has ended.
#[derive(Debug)]
pub struct Ended {
    /// Which.
    pub id: SpoolId,
    /// Whose lines it had.
    pub origins: Box<[Origin]>,
    /// Lines delivered and rejected by origin; none where it was dropped, and is to be lent again.
    pub fates: Option<Vec<[u32; 2]>>,
}

/// Between an outlet, its lanes and the disk thread.
#[derive(Debug)]
pub struct Gate {
    /// Percent of an output's bytes that live requests have while a backlog is sent; 0 = in order.
    pub live_share: u8,
    down: ArrayQueue<Box<Request>>,
    down_bytes: AtomicU64,
    up: ArrayQueue<Box<Request>>,
    up_bytes: AtomicU64,
    ended: SegQueue<Ended>,
    /// Requests under way down.
    coming: AtomicU64,
    /// Requests on the disk that have not ended, as the disk thread says.
    held: AtomicU64,
    /// The disk takes more.
    open: AtomicBool,
    /// Rings the disk thread.
    disk: Bell,
}

impl Gate {
    /// A way that the disk thread has not opened yet: until it has seen what is there, nothing that is to
    /// be in order may pass.
    #[must_use]
    pub fn new(live_share: u8, disk: Bell) -> Self {
        Self {
            live_share,
            down: ArrayQueue::new(REQUESTS_MAX),
            down_bytes: AtomicU64::new(0),
            up: ArrayQueue::new(REQUESTS_MAX),
            up_bytes: AtomicU64::new(0),
            ended: SegQueue::new(),
            coming: AtomicU64::new(1),
            held: AtomicU64::new(0),
            open: AtomicBool::new(false),
            disk,
        }
    }

    /// The way of a plan's spool, if it is on the disk.
    #[must_use]
    pub fn of(spool: &Spool, disk: &Bell) -> Option<Arc<Self>> {
        match spool {
            Spool::Disk(plan) => Some(Arc::new(Self::new(plan.live_share, disk.clone()))),
            Spool::Off | Spool::Memory(_) => None,
        }
    }

    /// Whether everything that comes is to be spooled.
    #[must_use]
    pub fn is_first(&self) -> bool {
        // In this order: a request that comes down is held before it is coming no more.
        self.live_share == 0
            && (self.coming.load(Ordering::Acquire) > 0 || self.held.load(Ordering::Acquire) > 0)
    }

    /// Whether a request may go down.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let open = self.open.load(Ordering::Acquire);
        let bytes = self.down_bytes.load(Ordering::Acquire);
        open && bytes < SPOOL_WAY_BYTES && !self.down.is_full()
    }

    /// Sends a request down.
    ///
    /// # Errors
    /// Gives it back where there is no room.
    #[expect(clippy::result_large_err, reason = "the request itself comes back")]
    pub(super) fn put(&self, request: Request) -> Result<(), Request> {
        if !self.has_room() {
            return Err(request);
        }
        let bytes = request.held_bytes();
        self.coming.fetch_add(1, Ordering::AcqRel);
        self.down_bytes.fetch_add(bytes, Ordering::AcqRel);
        let put = self.down.push(Box::new(request)).map_err(|back| *back);
        match &put {
            Ok(()) => self.disk.ring(),
            Err(_) => {
                self.came_down(bytes);
            }
        }
        put
    }

    /// For the disk thread: the next that is to be written.
    #[must_use]
    pub fn take_down(&self) -> Option<Box<Request>> {
        self.down.pop()
    }

    /// For the disk thread: what came down with so many bytes is held, or given up.
    pub fn came_down(&self, bytes: u64) {
        self.coming.fetch_sub(1, Ordering::AcqRel);
        self.down_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// For the disk thread: whether a request may be lent.
    #[must_use]
    pub fn may_lend(&self) -> bool {
        self.up_bytes.load(Ordering::Acquire) < SPOOL_WAY_BYTES && !self.up.is_full()
    }

    /// For the disk thread: lends a request, which is no one's yet; call only where one may be lent.
    pub fn lend(self: &Arc<Self>, id: SpoolId, origins: Vec<Origin>, mut request: Request) {
        let bytes = request.held_bytes();
        self.up_bytes.fetch_add(bytes, Ordering::AcqRel);
        request.loan = Some(Loan {
            gate: Arc::clone(self),
            id,
            origins: origins.into(),
            bytes,
            fates: None,
        });
        // One that finds no room is dropped, and comes back as ended.
        drop(self.up.push(Box::new(request)));
    }

    /// For lanes: whether something is lent that no lane has.
    #[must_use]
    pub fn has_lent(&self) -> bool {
        !self.up.is_empty()
    }

    /// For lanes: the next that is lent.
    #[must_use]
    pub fn take_lent(&self) -> Option<Request> {
        self.up.pop().map(|request| *request)
    }

    /// For the disk thread: the next that has ended.
    #[must_use]
    pub fn take_ended(&self) -> Option<Ended> {
        self.ended.pop()
    }

    /// For the disk thread: so many requests are on the disk that have not ended.
    pub fn holds(&self, requests: u64) {
        self.held.store(requests, Ordering::Release);
    }

    /// For the disk thread: whether it takes more from now on. Says whether that is new.
    pub fn open(&self, open: bool) -> bool {
        self.open.swap(open, Ordering::AcqRel) != open
    }

    /// Bytes under way down and up.
    #[must_use]
    pub fn under_way(&self) -> (u64, u64) {
        let bytes = |of: &AtomicU64| of.load(Ordering::Acquire);
        (bytes(&self.down_bytes), bytes(&self.up_bytes))
    }

    /// Rings the disk thread.
    pub fn ring(&self) {
        self.disk.ring();
    }
}
