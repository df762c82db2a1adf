//! The canary thread: as often as there is a sweep it asks whether the probes still announce appends.
//!
//! It is a thread of its own since an append may wait for the disk. It ends when the rung is given up,
//! for there is no lower one that could go deaf.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;

use crate::base::bell::Bell;
use crate::tail::Roll;
use crate::wake::{Canaries, Rung};

/// The thread, where there is something to ask. Otherwise the canaries are kept all the same: their
/// slots are held by inode numbers, which other files get once these are closed.
#[derive(Debug)]
pub(super) struct Asker {
    thread: Option<(JoinHandle<()>, Arc<AtomicBool>)>,
    _kept: Option<Canaries>,
}

impl Asker {
    /// Starts it; with no canaries, or no sweep, there is no thread.
    ///
    /// # Errors
    /// The system's: no thread is to be had.
    pub(super) fn start(
        mut canaries: Canaries,
        rung: Rung,
        sweep_ms: u64,
        roll: &Arc<Roll>,
        readers: Vec<Bell>,
    ) -> anyhow::Result<Self> {
        if canaries.is_empty() || sweep_ms == 0 {
            return Ok(Self {
                thread: None,
                _kept: Some(canaries),
            });
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, roll) = (Arc::clone(&stop), Arc::clone(roll));
        let ask = move || {
            loop {
                thread::park_timeout(Duration::from_millis(sweep_ms));
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                roll.rounds.add(1);
                if let Some(cause) = canaries.ask() {
                    roll.stepdowns.add(1);
                    tracing::error!(
                        rung = rung.name(), %cause,
                        "the probes no longer announce every write; all files go to inotify until \
                         the next start"
                    );
                    readers.iter().for_each(Bell::ring);
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("canary".to_owned()).spawn(ask);
        Ok(Self {
            thread: Some((thread.context("start the canary thread")?, stop)),
            _kept: None,
        })
    }

    /// Ends it; one that waits for a frozen file system is left to the process's end.
    pub(super) fn stop(&mut self) {
        let Some((thread, stop)) = self.thread.take() else {
            return;
        };
        stop.store(true, Ordering::SeqCst);
        thread.thread().unpark();
        if thread.is_finished() {
            let _ = thread.join();
        }
    }
}
