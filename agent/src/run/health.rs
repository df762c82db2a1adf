//! Whether the data threads turn: what `/healthz` says.
//!
//! 1. A thread that stands still although it has work and room is named, and so is one that ended
//!    while the agent runs. An output that does not answer makes no thread sick.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::beat::{Beat, Pulse, Sick};
use crate::base::time::Mono;

/// Whether something waits for a thread.
type Work = Box<dyn Fn() -> bool + Send>;

/// The data threads' beats.
#[derive(Debug, Default)]
pub(super) struct Health {
    ending: AtomicBool,
    threads: Mutex<Vec<Member>>,
}

struct Member {
    name: String,
    beat: Arc<Beat>,
    work: Work,
    pulse: Pulse,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Member({} {:?})", self.name, self.beat)
    }
}

/// A thread's own end of its beat: it ends with the thread, also by a panic.
#[derive(Debug)]
pub(super) struct Beating(Arc<Beat>);

impl std::ops::Deref for Beating {
    type Target = Beat;

    fn deref(&self) -> &Beat {
        &self.0
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Health {
    /// A new thread; `work` says whether something waits for it.
    pub(super) fn member(&self, name: &str, work: impl Fn() -> bool + Send + 'static) -> Beating {
        let beat = Arc::new(Beat::default());
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.push(Member {
            name: name.to_owned(),
            beat: Arc::clone(&beat),
            work: Box::new(work),
            pulse: Pulse::default(),
        });
        Beating(beat)
    }

    /// From now on threads end because they are told to.
    pub(super) fn ending(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// Looks at every thread.
    ///
    /// # Errors
    /// Says which are sick, and how.
    pub(super) fn check(&self, now: Mono) -> Result<(), String> {
        let ending = self.ending.load(Ordering::Acquire);
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sick = Vec::new();
        for member in threads.iter_mut() {
            match member.pulse.judge(&member.beat, (member.work)(), now) {
                Ok(()) => {}
                Err(Sick::Ended) if ending => {}
                Err(Sick::Ended) => sick.push(format!("{} has ended", member.name)),
                Err(Sick::Still(ms)) => sick.push(format!(
                    "{} has work and room and did not turn for {} s",
                    member.name,
                    ms / 1_000
                )),
            }
        }
        if sick.is_empty() {
            Ok(())
        } else {
            Err(sick.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panicked_is_named_until_the_agent_ends() {
        let health = Health::default();
        let (reader, encoder) = (
            health.member("reader-0", || false),
            health.member("encoder-0", || true),
        );
        encoder.turn();
        assert_eq!(health.check(Mono(0)), Ok(()));
        let ended = std::thread::spawn(move || {
            let _reader = reader;
            std::panic::resume_unwind(Box::new("on purpose"));
        });
        assert!(ended.join().is_err());
        let why = health.check(Mono(0).plus_ms(61_000));
        let want = "reader-0 has ended; encoder-0 has work and room and did not turn for 61 s";
        assert_eq!(why, Err(want.to_owned()));
        encoder.park(false);
        health.ending();
        assert_eq!(health.check(Mono(0).plus_ms(62_000)), Ok(()));
    }
}
