//! The watch of pods in the control thread's turn: its updates to the tree, the roster to the disk.

use super::disk::{Disk, Job};
use crate::base::bell::Bell;
use crate::base::count::{Counter, Registry};
use crate::base::time::{MachineClock, Mono};
use crate::discover::Tree;
use crate::kube::{Board, Watching};
use crate::plan::Kubernetes;

use std::sync::Arc;

/// What is known of pods is written at most this often.
const WRITE_MS: u64 = 5_000;

/// The watch, and when its last word is written down.
#[derive(Debug)]
pub(super) struct PodWatch {
    watching: Watching,
    known: Arc<Counter>,
    due: Option<Mono>,
}

impl PodWatch {
    /// Starts it.
    pub(super) fn start(
        asked: &Kubernetes,
        control: Bell,
        clock: MachineClock,
        registry: &Registry,
    ) -> Self {
        let watching = Watching::start(asked, control, clock, registry);
        tracing::info!(
            node = watching.node(),
            "asks the Kubernetes API for this node's pods"
        );
        Self {
            watching,
            known: registry.gauge(
                "tailwake_kubernetes_pods",
                "Pods of this node that metadata are known of.",
                &[],
            ),
            due: None,
        }
    }

    /// A face for `/status`.
    pub(super) fn board(&self) -> Board {
        self.watching.board()
    }

    /// Takes up what the watch has told, before the tree's turn; says when to look again.
    pub(super) fn turn(&mut self, tree: &mut Tree, disk: &Disk, now: Mono) -> Option<Mono> {
        while let Some(update) = self.watching.next() {
            tree.hear_api(update, now);
        }
        let roster = tree.roster()?;
        if disk.has_failed_pods() {
            roster.write_again();
        }
        self.known.set(roster.len() as u64);
        if roster.is_unwritten() {
            let due = *self.due.get_or_insert_with(|| now.plus_ms(WRITE_MS));
            if due <= now {
                self.due = None;
                if !disk.write(Job::Pods(roster.snapshot())) {
                    roster.write_again();
                    self.due = Some(now.plus_ms(WRITE_MS));
                }
            }
        } else {
            self.due = None;
        }
        [self.watching.turn(now), self.due]
            .into_iter()
            .flatten()
            .min()
    }

    /// Writes what is known down once more, at the end; a disk that is behind has the last but one.
    pub(super) fn write_last(&mut self, tree: &mut Tree, disk: &Disk) {
        if let Some(roster) = tree.roster().filter(|roster| roster.is_unwritten()) {
            let _ = disk.write(Job::Pods(roster.snapshot()));
        }
    }
}
