//! What happened, line by line, for the seed that is replayed.
//!
//! 1. Lines bear the simulated milliseconds; nothing is formatted when nobody asked for a trace.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A trace, shared by everybody who has something to say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    now: Arc<AtomicU64>,
    lines: Option<Arc<Mutex<Vec<String>>>>,
}

impl Trace {
    /// A trace that keeps lines, or one that keeps none.
    pub(crate) fn new(keeps: bool) -> Self {
        Self {
            now: Arc::default(),
            lines: keeps.then(Arc::default),
        }
    }

    /// The time that lines bear from now on.
    pub(crate) fn at(&self, now: u64) {
        self.now.store(now, Ordering::Relaxed);
    }

    /// Adds a line.
    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        if let Some(lines) = &self.lines {
            let line = format!("{:>7} {}", self.now.load(Ordering::Relaxed), what());
            lines
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line);
        }
    }

    /// All lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        let lines = self.lines.as_ref();
        lines.map_or_else(Vec::new, |lines| {
            lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
        })
    }
}
