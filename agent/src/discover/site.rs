//! What a turn of discovery works with.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Event;
use super::watches::Watches;
use crate::base::count::{Counter, Registry};
use crate::base::files::{Files, Refusal};
use crate::base::quiet::Quiet;
use crate::base::time::Mono;
use crate::roster::Roster;
use crate::ticket::LogId;

/// The file system, the watches, the time, and where news go.
#[derive(Debug)]
pub(super) struct Site<'a, F: Files> {
    pub(super) files: &'a F,
    pub(super) watches: &'a mut Watches,
    pub(super) tally: &'a mut Tally,
    /// What the API says of pods, where it is asked.
    pub(super) roster: Option<&'a mut Roster>,
    pub(super) now: Mono,
    pub(super) out: &'a mut Vec<Event>,
}

/// What all inputs count together.
#[derive(Debug)]
pub(super) struct Tally {
    next_log: u32,
    /// What is found now was there before the agent.
    pub(super) starting: bool,
    list_errors: Arc<Counter>,
    odd_names: Arc<Counter>,
    odd_kinds: Arc<Counter>,
    refused_files: Arc<Counter>,
    /// Paths that were counted as refused, while they are.
    refused: BTreeSet<PathBuf>,
    missed: Arc<Counter>,
    quiet: Quiet,
}

/// What is known to have happened in a directory.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Names that came or left; whether they came at least once.
    pub(super) names: BTreeMap<OsString, bool>,
    /// Anything may have happened: news were lost.
    pub(super) whole: bool,
    /// The directory itself was deleted, and maybe made again.
    pub(super) ended: bool,
}

impl Tally {
    pub(super) fn new(registry: &Registry) -> Self {
        let count = |name, help| registry.counter(name, help, &[]);
        let skipped = |reason| {
            let help = "Names in kubelet's tree that are no log, once each.";
            registry.counter("tailwake_names_skipped_total", help, &[("reason", reason)])
        };
        Self {
            next_log: 0,
            starting: true,
            list_errors: count(
                "tailwake_list_errors_total",
                "Listings of directories that failed.",
            ),
            odd_names: skipped("name"),
            odd_kinds: skipped("kind"),
            refused: BTreeSet::new(),
            refused_files: count(
                "tailwake_files_refused_total",
                "Paths that are no log file, or lead out of the allowed directories.",
            ),
            missed: count(
                "tailwake_containers_missed_total",
                "Containers that were gone before a file of them could be opened.",
            ),
            quiet: Quiet::default(),
        }
    }

    /// The next log's number.
    pub(super) fn log(&mut self) -> LogId {
        let log = LogId(self.next_log);
        self.next_log += 1;
        log
    }

    /// A listing failed, and not as the directory is gone.
    pub(super) fn unlisted(&mut self, now: Mono, path: &Path, error: &io::Error) {
        self.list_errors.add(1);
        if let Some(suppressed) = self.quiet.allow(now, ("list", error.kind())) {
            tracing::warn!(path = %path.display(), %error, suppressed,
                "cannot list a directory; logs that came into it are not found until the sweep can: \
                 give the agent the right to read it");
        }
    }

    /// A name in kubelet's tree that is no log, or one of a kind that none has.
    pub(super) fn odd(&mut self, now: Mono, path: &Path, kind: bool) {
        if !kind {
            // Kubelet's own `.tmp` files are such names: nothing to be said.
            return self.odd_names.add(1);
        }
        self.odd_kinds.add(1);
        if let Some(suppressed) = self.quiet.allow(now, "kind") {
            tracing::warn!(path = %path.display(), suppressed,
                "neither a file nor a directory of kubelet's tree, nor a link to a file; it is not \
                 read: remove it, or have the runtime write a regular file");
        }
    }

    /// A container, or a whole pod, came and went before it could be looked into.
    pub(super) fn miss(&mut self, now: Mono, name: &dyn std::fmt::Display) {
        self.missed.add(1);
        if let Some(suppressed) = self.quiet.allow(now, "missed") {
            tracing::warn!(log = %name, suppressed,
                "a container was gone before a file of it could be opened: its lines are lost");
        }
    }

    /// A path may not be read: counted once while that is so.
    pub(super) fn refuse(&mut self, now: Mono, path: &Path, refusal: Refusal) {
        if !self.refused.insert(path.to_owned()) {
            return;
        }
        self.refused_files.add(1);
        if let Some(suppressed) = self.quiet.allow(now, refusal.reason()) {
            tracing::warn!(path = %path.display(), %refusal, suppressed, "a file is not read");
        }
    }

    /// Nothing refused stands at this path.
    pub(super) fn clear(&mut self, path: &Path) {
        self.refused.remove(path);
    }

    /// Forgets the refused paths that are gone.
    pub(super) fn look_again<F: Files>(&mut self, files: &F) {
        let is_refused = |error: &io::Error| Refusal::of(error).is_some();
        (self.refused).retain(|path| files.open_log(path).is_err_and(|error| is_refused(&error)));
    }

    /// Whether a message of this key may be printed now.
    pub(super) fn may_say(&mut self, now: Mono, key: &'static str) -> Option<u64> {
        self.quiet.allow(now, key)
    }
}
