//! When a seat of the simulated agent takes its next turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tailwake::base::bell::{Bell, Ring as Rings};
use tailwake::base::time::Mono;

/// A bell that is remembered until its seat turns.
#[derive(Debug, Default)]
pub(crate) struct Rung(AtomicBool);

impl Rings for Rung {
    fn ring(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// When a seat turns next.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    pub(crate) rung: Arc<Rung>,
    /// Its last turn made progress.
    pub(crate) again: bool,
    pub(crate) deadline: Option<Mono>,
}

impl Alarm {
    pub(crate) fn bell(&self) -> Bell {
        Bell::new(Arc::clone(&self.rung) as Arc<dyn Rings>)
    }

    pub(crate) fn is_due(&self, now: Mono) -> bool {
        self.again
            || self.rung.0.load(Ordering::SeqCst)
            || self.deadline.is_some_and(|at| at <= now)
    }

    pub(crate) fn hear(&self) {
        self.rung.0.store(false, Ordering::SeqCst);
    }

    pub(crate) fn set(&mut self, again: bool, deadline: Option<Mono>) {
        (self.again, self.deadline) = (again, deadline);
    }
}
