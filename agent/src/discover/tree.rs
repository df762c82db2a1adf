//! All inputs' files, kept by directory watches.
//!
//! ```text
//! Files::events -> Watches: which directory -> Pods, Globs: what came and left -> Event
//! ```
//!
//! 1. Nothing is listed again but what an event names, what no watch covers, and, seldom, by the
//!    sweep, everything.
//! 2. When events were lost, everything is looked at once, as if all had been touched.
//! 3. A root that is missing is awaited in the nearest directory above it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Event;
use super::globbed::Logs;
use super::globs::Globs;
use super::pods::Pods;
use super::site::{Site, Tally, Touched};
use super::standing::Standings;
use super::watches::{Hold, Watches};
use crate::base::count::{Counter, Registry};
use crate::base::files::{DirEvent, Files};
use crate::base::time::Mono;
use crate::plan::{InputKind, Plan};
use crate::roster::{Roster, Update};

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The next sweep, or an earlier look at some directories.
    pub deadline: Option<Mono>,
}

#[derive(Debug)]
enum Input {
    Pods(Pods),
    Globs(Globs),
}

/// All inputs' files.
#[derive(Debug)]
pub struct Tree {
    inputs: Vec<Input>,
    /// What the Kubernetes API says of pods, where it is asked.
    roster: Option<Roster>,
    watches: Watches,
    tally: Tally,
    /// Missing roots by input, and the directory above that is held in their place.
    awaited: BTreeMap<(usize, PathBuf), Option<PathBuf>>,
    now: Mono,
    sweep_ms: u64,
    next_sweep: Mono,
    sweeps: Arc<Counter>,
    late: Arc<Counter>,
    overflows: Arc<Counter>,
    missing: Arc<Counter>,
}

impl Tree {
    /// The files of the plan's inputs, not listed yet. `node` becomes the sources' node.
    #[must_use]
    pub fn new(plan: &Plan, node: &str, registry: &Registry) -> Self {
        let count = |name, help| registry.counter(name, help, &[]);
        let node: Arc<str> = node.into();
        let input = |(number, input): (usize, &crate::plan::Input)| match &input.kind {
            InputKind::Pods {
                root, kubernetes, ..
            } => {
                let asked = kubernetes.as_deref();
                let standings = asked.map(|asked| Standings::new(asked, registry));
                let (node, root) = (Arc::clone(&node), root.clone());
                Input::Pods(Pods::new(number, node, root, standings))
            }
            InputKind::Files { paths, exclude, .. } => {
                let logs = Logs::new(number, &input.name, Arc::clone(&node));
                Input::Globs(Globs::new(logs, paths.clone(), exclude.clone()))
            }
        };
        Self {
            inputs: plan.inputs.iter().enumerate().map(input).collect(),
            roster: plan.kubernetes().map(|asked| Roster::new(asked.clone())),
            watches: Watches::new(registry),
            tally: Tally::new(registry),
            awaited: BTreeMap::new(),
            now: Mono(0),
            sweep_ms: plan.wake.sweep_ms,
            next_sweep: Mono(0).plus_ms(plan.wake.sweep_ms),
            sweeps: registry.counter(
                "tailwake_sweeps_total",
                "Sweeps of all sizes or names.",
                &[("of", "names")],
            ),
            late: count(
                "tailwake_discovery_late_finds_total",
                "Names only the sweep found.",
            ),
            overflows: count(
                "tailwake_watch_overflows_total",
                "Times directory events were lost.",
            ),
            missing: registry.gauge(
                "tailwake_roots_missing",
                "Directories of inputs that are not there.",
                &[],
            ),
        }
    }

    /// Takes up what the watch of the Kubernetes API tells; the next turn acts on it.
    pub fn hear_api(&mut self, update: Update, now: Mono) {
        let Some(roster) = &mut self.roster else {
            return;
        };
        let whole = matches!(update, Update::Whole);
        roster.hear(update, now);
        if whole
            && roster.is_elsewhere()
            && let Some(suppressed) = self.tally.may_say(now, "elsewhere")
        {
            tracing::error!(
                suppressed,
                "the Kubernetes API names none of the pods whose directories are here: is this node's \
                 name right? Set NODE_NAME from the field spec.nodeName, or `node` in the input's \
                 `kubernetes`"
            );
        }
    }

    /// What the Kubernetes API says of pods, where the plan asks for it.
    pub const fn roster(&mut self) -> Option<&mut Roster> {
        self.roster.as_mut()
    }

    /// The first listing: what it finds was there before the agent.
    pub fn start<F: Files>(&mut self, files: &F, out: &mut Vec<Event>) {
        self.await_roots(files, out);
        self.tally.starting = false;
        self.watches.settle(files, self.now);
        out.shrink_to_fit();
        self.watches.pack();
        for input in &mut self.inputs {
            if let Input::Pods(pods) = input {
                pods.pack();
            }
        }
    }

    /// Takes up what happened, and sweeps when it is time.
    pub fn turn<F: Files>(&mut self, files: &F, now: Mono, out: &mut Vec<Event>) -> Turn {
        self.now = now;
        let touched = self.gather(files);
        let any = !touched.is_empty();
        self.hear(files, &touched, out);
        let uncovered = self.watches.look(files, now);
        let whole = |path| {
            let touched = Touched {
                whole: true,
                ..Touched::default()
            };
            (path, touched)
        };
        let uncovered = uncovered.into_iter().map(whole).collect();
        self.hear(files, &uncovered, out);
        if any || !uncovered.is_empty() {
            self.await_roots(files, out);
        }
        if self.sweep_ms > 0 && now >= self.next_sweep {
            self.next_sweep = now.plus_ms(self.sweep_ms);
            self.sweeps.add(1);
            let before = out.len();
            self.sweep(files, out);
            self.late.add((out.len() - before) as u64);
        }
        let changed = self.roster.as_mut().map(Roster::take_changed);
        let changed = changed.unwrap_or_default();
        let mut deadline = (self.sweep_ms > 0).then_some(self.next_sweep);
        for number in 0..self.inputs.len() {
            let (input, mut site) = self.site(number, files, out);
            let due = match input {
                Input::Pods(pods) => pods.turn(&mut site, &changed),
                Input::Globs(globs) => globs.turn(&mut site),
            };
            deadline = deadline.into_iter().chain(due).min();
        }
        self.watches.settle(files, now);
        Turn {
            deadline: deadline.into_iter().chain(self.watches.deadline()).min(),
        }
    }

    /// Lists everything again.
    pub fn sweep<F: Files>(&mut self, files: &F, out: &mut Vec<Event>) {
        self.tally.look_again(files);
        for number in 0..self.inputs.len() {
            let (input, mut site) = self.site(number, files, out);
            match input {
                Input::Pods(pods) => pods.sweep(&mut site),
                Input::Globs(globs) => globs.sweep(&mut site),
            }
        }
        self.await_roots(files, out);
    }

    /// Whether every root was listed with all that is below it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let whole = |input: &Input| match input {
            Input::Pods(pods) => pods.is_whole(),
            Input::Globs(globs) => globs.is_whole(),
        };
        self.inputs.iter().all(whole)
    }

    fn site<'a, F: Files>(
        &'a mut self,
        number: usize,
        files: &'a F,
        out: &'a mut Vec<Event>,
    ) -> (&'a mut Input, Site<'a, F>) {
        let site = Site {
            files,
            watches: &mut self.watches,
            tally: &mut self.tally,
            roster: self.roster.as_mut(),
            now: self.now,
            out,
        };
        (&mut self.inputs[number], site)
    }

    /// What the events since the last turn touched, by directory.
    fn gather<F: Files>(&mut self, files: &F) -> BTreeMap<PathBuf, Touched> {
        let mut events = Vec::new();
        if let Err(error) = files.events(&mut events)
            && let Some(suppressed) = self.tally.may_say(self.now, "events")
        {
            tracing::warn!(%error, suppressed,
                "cannot read directory events; the sweep finds what came");
        }
        let mut touched: BTreeMap<PathBuf, Touched> = BTreeMap::new();
        for event in events {
            let (id, name, came) = match event {
                DirEvent::Came(id, name) => (id, name, true),
                DirEvent::Left(id, name) => (id, name, false),
                DirEvent::Ended(id) => {
                    for path in self.watches.ended(files, id, self.now) {
                        touched.entry(path).or_default().ended = true;
                    }
                    continue;
                }
                DirEvent::Overflow => {
                    self.overflows.add(1);
                    for path in self.watches.held() {
                        touched.entry(path.to_owned()).or_default().whole = true;
                    }
                    continue;
                }
            };
            for path in self.watches.paths(id) {
                let touched = touched.entry(path.to_owned()).or_default();
                *touched.names.entry(name.clone()).or_default() |= came;
            }
        }
        touched
    }

    fn hear<F: Files>(
        &mut self,
        files: &F,
        touched: &BTreeMap<PathBuf, Touched>,
        out: &mut Vec<Event>,
    ) {
        for input in &mut self.inputs {
            if let Input::Pods(pods) = input {
                let touched = touched.iter();
                touched.for_each(|(path, touched)| pods.note(path, touched));
            }
        }
        for (path, touched) in touched {
            for number in 0..self.inputs.len() {
                let (input, mut site) = self.site(number, files, out);
                match input {
                    Input::Pods(pods) => pods.hear(&mut site, path, touched),
                    Input::Globs(globs) => globs.hear(&mut site, path, touched),
                }
            }
        }
    }

    /// Enters the roots that are there now, and awaits the others.
    fn await_roots<F: Files>(&mut self, files: &F, out: &mut Vec<Event>) {
        for number in 0..self.inputs.len() {
            let roots = match &self.inputs[number] {
                Input::Pods(pods) => pods.roots(),
                Input::Globs(globs) => globs.roots(),
            };
            for root in roots {
                let (input, mut site) = self.site(number, files, out);
                let there = match input {
                    Input::Pods(pods) => {
                        if !pods.has(&root) {
                            pods.enter_root(&mut site, &root);
                        }
                        pods.has(&root)
                    }
                    Input::Globs(globs) => {
                        if !globs.has(&root) {
                            globs.enter_root(&mut site, &root);
                        }
                        globs.has(&root)
                    }
                };
                self.await_root(files, (number, root), there);
            }
        }
    }

    fn await_root<F: Files>(&mut self, files: &F, key: (usize, PathBuf), there: bool) {
        // The new one is held before the old one is let go, so that no watch ends in between.
        let above = if there {
            None
        } else {
            if let Some(suppressed) = self.tally.may_say(self.now, "root") {
                tracing::warn!(root = %key.1.display(), suppressed,
                    "this directory of an input is not there; its logs are read once it is: is the \
                     path right, and mounted into the agent's pod?");
            }
            self.hold_above(files, &key.1)
        };
        let old = if there {
            self.awaited.remove(&key)
        } else {
            self.awaited.insert(key, above)
        };
        self.missing.set(self.awaited.len() as u64);
        if let Some(old) = old.flatten() {
            self.watches.release(files, &old);
        }
    }

    /// The nearest directory above `root` that is there.
    fn hold_above<F: Files>(&mut self, files: &F, root: &Path) -> Option<PathBuf> {
        let mut above = root.ancestors().skip(1);
        let there = above.find(|dir| self.watches.hold(files, dir, self.now) == Hold::There);
        there.map(Path::to_owned)
    }

    /// Directories held, watches, uncovered directories, and what the inputs know.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize, usize, usize) {
        let size = |input: &Input| match input {
            Input::Pods(pods) => pods.size(),
            Input::Globs(globs) => globs.size(),
        };
        let (held, ids, uncovered) = self.watches.counts();
        (held, ids, uncovered, self.inputs.iter().map(size).sum())
    }
}
