//! Whether logs are read: what is known of their pods, and what happens while nothing is.
//!
//! ```text
//! pod comes: known -> read   unknown -> held ... bound over -> bare   opted out -> shut
//! Roster::take_changed, and time -> for each log of the pod: Event::Changed
//! ```
//!
//! 1. A log of an unknown pod is handed over held: its files are opened, so that no rotation and no
//!    deletion takes them, and not read.
//! 2. A pod whose directory is gone while its logs are held stays here until they are released.
//! 3. No timer runs but for pods that are held within their bound.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use super::Event;
use super::names::Names;
use super::pods::{Level, Pods};
use super::site::{Site, Touched};
use crate::base::count::{Counter, Registry};
use crate::base::files::Files;
use crate::base::time::Mono;
use crate::plan::{Kubernetes, OnMissing};
use crate::roster::Word;
use crate::ticket::{Facts, Source, Standing};

/// Pods that are held at once; files of others are sent without metadata, counted. Each held file is
/// a descriptor and some 4 KiB.
const HELD_MAX: usize = 4_096;

/// The pods of one input.
#[derive(Debug)]
pub(super) struct Standings {
    on_missing: OnMissing,
    wait_ms: u64,
    pods: BTreeMap<Arc<str>, Pod>,
    /// Those of them that are held.
    held: BTreeSet<Arc<str>>,
    count: Counts,
}

#[derive(Debug)]
struct Pod {
    /// Its directory; none = gone.
    directory: Option<Arc<Path>>,
    since: Mono,
    standing: Standing,
    /// Its bound is over, which was said.
    late: bool,
    /// Held logs whose directories are gone.
    orphans: Vec<Arc<Source>>,
}

#[derive(Debug)]
struct Counts {
    held: Arc<Counter>,
    shut: Arc<Counter>,
    silent: Arc<Counter>,
    unnamed: Arc<Counter>,
    too_many: Arc<Counter>,
}

impl Standings {
    pub(super) fn new(asked: &Kubernetes, registry: &Registry) -> Self {
        let without = |reason| {
            let help = "Pods whose files were sent without metadata from the API.";
            let labels = [("reason", reason)];
            registry.counter("tailwake_pods_without_metadata_total", help, &labels)
        };
        Self {
            on_missing: asked.on_missing,
            wait_ms: asked.wait_ms,
            pods: BTreeMap::new(),
            held: BTreeSet::new(),
            count: Counts {
                held: registry.gauge(
                    "tailwake_pods_held",
                    "Pods whose files are open and unread until their metadata come.",
                    &[],
                ),
                shut: registry.gauge(
                    "tailwake_pods_opted_out",
                    "Pods on this node that are not read as they opted out.",
                    &[],
                ),
                silent: without("silent"),
                unnamed: without("unnamed"),
                too_many: without("too_many"),
            },
        }
    }

    fn set(&mut self, uid: &Arc<str>, standing: Standing) -> Option<Standing> {
        let pod = self.pods.get_mut(uid)?;
        let was = std::mem::replace(&mut pod.standing, standing);
        if was == Standing::Held && standing != Standing::Held {
            self.held.remove(uid);
            self.count.held.sub(1);
        }
        self.count.shut.sub(u64::from(was == Standing::Shut));
        self.count.shut.add(u64::from(standing == Standing::Shut));
        Some(was)
    }

    /// Pods whose bound is over, and the next time to look.
    fn due(
        &mut self,
        heard: Option<Mono>,
        now: Mono,
    ) -> (Vec<Arc<str>>, Vec<Arc<str>>, Option<Mono>) {
        let (mut over, mut late, mut next) = (Vec::new(), Vec::new(), None::<Mono>);
        for uid in &self.held {
            let Some(pod) = self.pods.get_mut(uid) else {
                continue;
            };
            let bound = pod.since.plus_ms(self.wait_ms);
            let ends = match self.on_missing {
                OnMissing::Send => Some(bound),
                // The API has not named it for as long: it never will.
                OnMissing::Wait => heard.map(|heard| heard.max(pod.since).plus_ms(self.wait_ms)),
            };
            if ends.is_some_and(|ends| ends <= now) {
                over.push(Arc::clone(uid));
                continue;
            }
            if !pod.late && bound <= now {
                pod.late = true;
                late.push(Arc::clone(uid));
            }
            let soon = [ends, (!pod.late).then_some(bound)];
            next = soon.into_iter().flatten().chain(next).min();
        }
        (over, late, next)
    }
}

impl Pods {
    /// A pod's directory is there.
    pub(super) fn pod_came<F: Files>(
        &mut self,
        site: &mut Site<'_, F>,
        uid: &Arc<str>,
        path: &Arc<Path>,
    ) {
        let (Some(standings), Some(roster)) = (&mut self.standings, &mut site.roster) else {
            return;
        };
        let directory = Some(Arc::clone(path));
        if let Some(pod) = standings.pods.get_mut(uid) {
            // It has held logs of a directory that is gone.
            pod.directory = directory;
            return;
        }
        roster.came(uid);
        let standing = match roster.word(uid) {
            Word::Known(_) => Standing::Read,
            Word::Shut => Standing::Shut,
            Word::Unknown if standings.held.len() < HELD_MAX => Standing::Held,
            Word::Unknown => Standing::Bare,
        };
        match standing {
            Standing::Held => {
                standings.held.insert(Arc::clone(uid));
                standings.count.held.add(1);
            }
            Standing::Bare => standings.count.too_many.add(1),
            Standing::Shut => standings.count.shut.add(1),
            Standing::Read => {}
        }
        let pod = Pod {
            directory,
            since: site.now,
            standing,
            late: false,
            orphans: Vec::new(),
        };
        standings.pods.insert(Arc::clone(uid), pod);
    }

    /// A pod's directory is gone.
    pub(super) fn pod_left<F: Files>(&mut self, site: &mut Site<'_, F>, uid: &Arc<str>) {
        if let Some(pod) = self
            .standings
            .as_mut()
            .and_then(|all| all.pods.get_mut(uid))
        {
            pod.directory = None;
        }
        self.let_go(site, uid);
    }

    /// A log's directory is gone.
    pub(super) fn log_left(&mut self, source: &Arc<Source>) {
        let standings = self.standings.as_mut();
        if source.standing == Standing::Held
            && let Some(pod) = standings.and_then(|all| all.pods.get_mut(&source.meta.uid))
        {
            pod.orphans.push(Arc::clone(source));
        }
    }

    /// How a pod's logs stand, and what is known of it.
    pub(super) fn standing_of<F: Files>(
        &self,
        site: &Site<'_, F>,
        uid: &Arc<str>,
    ) -> (Standing, Option<Arc<Facts>>) {
        let pod = self.standings.as_ref().and_then(|all| all.pods.get(uid));
        let (Some(pod), Some(roster)) = (pod, &site.roster) else {
            return (Standing::Read, None);
        };
        let facts = match roster.word(uid) {
            Word::Known(facts) => Some(facts),
            Word::Shut | Word::Unknown => None,
        };
        (pod.standing, facts)
    }

    /// Takes up what changed, and what the bound is over for; says when it is for the next.
    pub(super) fn turn<F: Files>(
        &mut self,
        site: &mut Site<'_, F>,
        changed: &BTreeSet<Arc<str>>,
    ) -> Option<Mono> {
        self.standings.as_ref()?;
        for uid in changed {
            self.change(site, uid);
        }
        let heard = site.roster.as_ref().and_then(|roster| roster.heard());
        let (over, late, next) = self.standings.as_mut()?.due(heard, site.now);
        for uid in &over {
            self.give_up(site, uid, heard.is_some());
        }
        if !late.is_empty()
            && let Some(suppressed) = site.tally.may_say(site.now, "held")
        {
            tracing::error!(
                pods = late.len(),
                suppressed,
                "the Kubernetes API has not named these pods within `metadata_wait`: their files stay \
                 open and unread, and nothing of them is lost while there is room on the disk; see \
                 `kubernetes` in /status, or set `on_missing_metadata: send`"
            );
        }
        next
    }

    /// Another word on a pod.
    fn change<F: Files>(&mut self, site: &mut Site<'_, F>, uid: &Arc<str>) {
        let word = site.roster.as_ref().map(|roster| roster.word(uid));
        let standing = match word {
            Some(Word::Known(_)) => Standing::Read,
            Some(Word::Shut) => Standing::Shut,
            Some(Word::Unknown) | None => return,
        };
        let was = self
            .standings
            .as_mut()
            .and_then(|all| all.set(uid, standing));
        if let Some(was) = was {
            self.tell_version(site, uid, was);
        }
    }

    /// A pod's files are sent as they are.
    fn give_up<F: Files>(&mut self, site: &mut Site<'_, F>, uid: &Arc<str>, heard: bool) {
        let Some(standings) = &mut self.standings else {
            return;
        };
        let reason = if heard {
            &standings.count.unnamed
        } else {
            &standings.count.silent
        };
        reason.add(1);
        let was = standings.set(uid, Standing::Bare);
        if let Some(suppressed) = site.tally.may_say(site.now, "bare") {
            let directory = standings
                .pods
                .get(uid)
                .and_then(|pod| pod.directory.as_deref());
            let pod = directory.and_then(Path::file_name);
            tracing::warn!(
                ?pod,
                heard,
                suppressed,
                "the Kubernetes API has not named this pod within `metadata_wait`: its lines are sent \
                 without labels, annotations and owner; `on_missing_metadata: wait` would hold them \
                 while the API is silent"
            );
        }
        if let Some(was) = was {
            self.tell_version(site, uid, was);
        }
    }

    /// Each log of a pod has a new version.
    fn tell_version<F: Files>(&mut self, site: &mut Site<'_, F>, uid: &Arc<str>, was: Standing) {
        let (standing, facts) = self.standing_of(site, uid);
        let version = |source: &Source| {
            let mut source = source.clone();
            source.standing = standing;
            source.meta.facts.clone_from(&facts);
            Arc::new(source)
        };
        let Some(pod) = self
            .standings
            .as_mut()
            .and_then(|all| all.pods.get_mut(uid))
        else {
            return;
        };
        for source in std::mem::take(&mut pod.orphans) {
            let source = version(&source);
            site.out.push(Event::Changed { source });
        }
        let Some(directory) = pod.directory.clone() else {
            return self.let_go(site, uid);
        };
        let below = self
            .directories
            .range_mut::<Path, _>((Bound::Included(&*directory), Bound::Unbounded));
        let below = below
            .skip(1)
            .take_while(|(path, _)| path.starts_with(&*directory));
        let mut reopened = Vec::new();
        for (path, found) in below {
            let Level::Container(container) = &mut found.level else {
                continue;
            };
            let mut source = version(&container.source);
            if was == Standing::Shut && standing != Standing::Shut {
                // A log of its own: what was read before may still be under way.
                Arc::make_mut(&mut source).log = site.tally.log();
                container.source = source;
                (container.files, container.reopens) = (Names::default(), true);
                reopened.push(Arc::clone(path));
                continue;
            }
            if standing == Standing::Shut {
                for name in container.files.names() {
                    self.leads.forget(site, &path.join(name));
                }
            }
            container.source = Arc::clone(&source);
            site.out.push(Event::Changed { source });
        }
        for path in reopened {
            self.list(site, &path, &Touched::default());
        }
    }

    /// Forgets a pod of which nothing is left.
    fn let_go<F: Files>(&mut self, site: &mut Site<'_, F>, uid: &Arc<str>) {
        let Some(standings) = &mut self.standings else {
            return;
        };
        let gone = |pod: &Pod| pod.directory.is_none() && pod.orphans.is_empty();
        if !standings.pods.get(uid).is_some_and(gone) {
            return;
        }
        standings.set(uid, Standing::Read);
        standings.pods.remove(uid);
        if let Some(roster) = &mut site.roster {
            roster.left(uid);
        }
    }
}
