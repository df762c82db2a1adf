//! The way from the encoders to one output's lanes, with the window that bounds it.
//!
//! ```text
//! encoder: has_room? -> put(request)      window += held_bytes
//! lanes:   take -> ... -> all items settled or the request dropped -> release(bytes)   window -= them
//! ```
//!
//! 1. The window counts what requests hold that are sealed and not yet settled, in the queue or in a
//!    lane: compressed bodies with their tables and claims.
//! 2. A request is put whenever the window is below its size: it may pass it by one request.
//! 3. A detached output takes no more records until it has joined again.
//! 4. With a spool, what the window has no room for goes there (`gate.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;

use super::bulk::Names;
use super::gate::Gate;
use super::request::Request;
use crate::base::bell::Bell;
use crate::base::count::{Counter, Registry};
use crate::base::outputs::OutputId;

/// Requests that may wait at once, an output; the window's bytes are the tighter bound.
const REQUESTS_MAX: usize = 1024;

/// What an output's encoders count.
#[derive(Clone, Debug)]
pub struct OutletCounters {
    /// Records encoded for the output.
    pub records: Arc<Counter>,
    /// Body bytes before compression.
    pub inflated: Arc<Counter>,
    /// Body bytes after compression.
    pub compressed: Arc<Counter>,
    /// Requests sealed.
    pub requests: Arc<Counter>,
    /// Times the output was detached.
    pub detaches: Arc<Counter>,
}

/// One output's queue of sealed requests.
#[derive(Debug)]
pub struct Outlet {
    /// Which output.
    pub output: OutputId,
    /// What is counted.
    pub counters: OutletCounters,
    /// The way to its spool, if it has one on the disk.
    pub gate: Option<Arc<Gate>>,
    /// Index names that its encoders have made (bulk).
    pub(super) names: Names,
    /// Boxed: there is room for far more than the window lets in.
    queue: ArrayQueue<Box<Request>>,
    window_max: u64,
    window: AtomicU64,
    /// What all sealed requests held.
    sealed: Counter,
    detached: AtomicBool,
    /// Rings the lanes.
    lanes: Bell,
    /// Ring the encoders when the window has room again, and the readers, who leave a detached
    /// output out and take it in again when its window is empty.
    others: Vec<Bell>,
}

impl Outlet {
    /// An outlet with a window of `window_max` bytes.
    #[must_use]
    pub fn new(
        output: OutputId,
        name: &str,
        window_max: u64,
        lanes: Bell,
        others: Vec<Bell>,
        registry: &Registry,
    ) -> Self {
        let labels = [("output", name)];
        let counters = OutletCounters {
            records: registry.counter(
                "tailwake_encoded_records_total",
                "Records encoded.",
                &labels,
            ),
            inflated: registry.counter(
                "tailwake_encoded_bytes_total",
                "Request body bytes before compression.",
                &labels,
            ),
            compressed: registry.counter(
                "tailwake_compressed_bytes_total",
                "Request body bytes after compression.",
                &labels,
            ),
            requests: registry.counter("tailwake_requests_total", "Requests sealed.", &labels),
            detaches: registry.counter(
                "tailwake_output_detaches_total",
                "Times the output was detached because its window stayed full.",
                &labels,
            ),
        };
        Self {
            output,
            counters,
            gate: None,
            names: Names::default(),
            queue: ArrayQueue::new(REQUESTS_MAX),
            window_max,
            window: AtomicU64::new(0),
            sealed: Counter::default(),
            detached: AtomicBool::new(false),
            lanes,
            others,
        }
    }

    /// With the way to a spool.
    #[must_use]
    pub fn with_gate(mut self, gate: Option<Arc<Gate>>) -> Self {
        self.gate = gate;
        self
    }

    /// Whether a request may be put now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        match &self.gate {
            None => self.window_has_room(),
            Some(gate) => gate.has_room() || !gate.is_first() && self.window_has_room(),
        }
    }

    fn window_has_room(&self) -> bool {
        self.window.load(Ordering::Acquire) < self.window_max && !self.queue.is_full()
    }

    /// A request was sealed that holds so many bytes.
    pub(super) fn count_sealed(&self, bytes: u64) {
        self.sealed.add(bytes);
    }

    /// What the window holds of bodies before compression, by what was sealed until now.
    #[must_use]
    pub fn window_inflated(&self) -> u64 {
        let (inflated, sealed) = (self.counters.inflated.get(), self.sealed.get());
        let window = u128::from(self.window_max) * u128::from(inflated.max(1));
        let window = window / u128::from(sealed.max(1));
        u64::try_from(window)
            .unwrap_or(u64::MAX)
            .max(self.window_max)
    }

    /// Puts a request and rings the lanes; or sends it to the spool.
    ///
    /// # Errors
    /// Gives the request back when there is no room; the caller holds it and tries again.
    #[expect(clippy::result_large_err, reason = "the request itself comes back")]
    pub fn put(&self, request: Request) -> Result<(), Request> {
        if let Some(gate) = &self.gate
            && (gate.is_first() || !self.window_has_room())
        {
            return gate.put(request);
        }
        let bytes = request.held_bytes();
        // Counted first: a lane may take and release it before this returns.
        self.window.fetch_add(bytes, Ordering::AcqRel);
        let put = self.queue.push(Box::new(request)).map_err(|back| *back);
        match &put {
            Ok(()) => self.lanes.ring(),
            Err(_) => drop(self.window.fetch_sub(bytes, Ordering::AcqRel)),
        }
        put
    }

    /// The next request for the lanes.
    #[must_use]
    pub fn take(&self) -> Option<Request> {
        self.queue.pop().map(|request| *request)
    }

    /// A request that held `bytes` has left the lanes, settled or dropped.
    pub fn release(&self, bytes: u64) {
        let before = self.window.fetch_sub(bytes, Ordering::AcqRel);
        let after = before - bytes;
        if after == 0
            && let Some(gate) = &self.gate
        {
            gate.ring();
        }
        let has_room_again = before >= self.window_max && after < self.window_max;
        if has_room_again || (after == 0 && self.is_detached()) {
            self.others.iter().for_each(Bell::ring);
        }
    }

    /// Rings the encoders, who may have something for the spool.
    pub fn ring_others(&self) {
        self.others.iter().for_each(Bell::ring);
    }

    /// Rings the lanes.
    pub fn ring_lanes(&self) {
        self.lanes.ring();
    }

    /// Bytes held by what is sealed and not settled.
    #[must_use]
    pub fn window(&self) -> u64 {
        self.window.load(Ordering::Acquire)
    }

    /// The window's size in bytes.
    #[must_use]
    pub const fn window_max(&self) -> u64 {
        self.window_max
    }

    /// Whether the output is detached: encoders drop its claims, readers leave it out.
    #[must_use]
    pub fn is_detached(&self) -> bool {
        self.detached.load(Ordering::Acquire)
    }

    /// Detaches the output, counted once. Everybody looks up and drops the claims that they hold
    /// for it.
    pub fn detach(&self) {
        if !self.detached.swap(true, Ordering::AcqRel) {
            self.counters.detaches.add(1);
            // Its window may be empty by now: then no release is left that would ring.
            self.others.iter().for_each(Bell::ring);
        }
    }

    /// The output takes records again; the ledger's watermarks say from where.
    pub fn attach(&self) {
        self.detached.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::base::bell::Ring;

    #[derive(Default)]
    struct Rung(AtomicU32);

    impl Ring for Rung {
        fn ring(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The output that came back was taken in again only by the next sweep.
    #[test]
    fn readers_hear_that_a_detached_output_is_owed_nothing_more() {
        let rung = Arc::new(Rung::default());
        let bells = vec![Bell::new(Arc::clone(&rung) as Arc<dyn Ring>)];
        let registry = Registry::default();
        let outlet = Outlet::new(OutputId(0), "x", 100, Bell::silent(), bells, &registry);
        outlet.window.store(30, Ordering::SeqCst);
        let heard = || rung.0.swap(0, Ordering::SeqCst);
        outlet.release(10);
        assert_eq!(heard(), 0, "it had room before");
        outlet.detach();
        assert_eq!(heard(), 1, "its window may have run empty");
        outlet.release(10);
        assert_eq!(heard(), 0);
        outlet.release(10);
        assert_eq!(heard(), 1, "it may be attached");
    }
}
