//! The Kubernetes API as the agent's watch tells of it: it is silent at times, names pods late, changes
//! their labels, begins lists that it does not end, and forgets pods whose files are still there.
//!
//! 1. A pod's label `app` is its name and a number that grows: what arrives says under which it was read.
//! 2. Every pod is named once. A pod is forgotten early only when the agent's snapshot has it: else nobody could know it any more.
//! 3. Whoever is silent tells all, or all that was missed, when it is heard again.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tailwake::roster::Update;

use crate::node::{Node, Presence};
use crate::rng::Rng;
use crate::trace::Trace;

#[derive(Debug)]
struct Pod {
    name: String,
    version: u64,
}

/// The API and the agent's watch of it.
#[derive(Debug)]
pub(crate) struct Api {
    rng: Rng,
    trace: Trace,
    silent: bool,
    /// In so many steps a new pod is named.
    late: u64,
    /// From now on it is heard, and names every pod at once.
    calm: bool,
    pods: BTreeMap<String, Pod>,
    forgotten: BTreeSet<String>,
    /// What the watch has for the agent.
    pub(crate) told: Vec<Update>,
    /// What was not told while it was silent, after a whole list.
    missed: Option<Vec<Update>>,
    /// The agent's last snapshot that reached the disk.
    pub(crate) snapshot: Option<Vec<u8>>,
}

impl Api {
    pub(crate) fn new(mut rng: Rng, trace: Trace) -> Self {
        Self {
            late: [5, 40, 200][rng.place(3)],
            rng,
            trace,
            silent: true,
            calm: false,
            pods: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            told: Vec::new(),
            missed: None,
            snapshot: None,
        }
    }

    /// An agent starts: its watch knows no place.
    pub(crate) fn connect(&mut self) {
        self.told.clear();
        self.missed = None;
        if !self.silent {
            self.list();
        }
    }

    /// It is heard from now on.
    pub(crate) fn calm(&mut self) {
        self.calm = true;
        self.speak();
    }

    /// Something happens to it.
    pub(crate) fn act(&mut self, node: &Node) {
        if !self.calm && self.rng.once_in(60) {
            self.hush();
        } else if self.silent && self.rng.once_in(30) {
            self.speak();
        }
        for pod in node.pods() {
            if self.forgotten.contains(&pod.uid) {
                continue;
            }
            let known = self.pods.contains_key(&pod.uid);
            match pod.presence {
                // The watch is late; the API itself had every pod before its node.
                _ if !known => {
                    if self.calm || self.rng.once_in(self.late) {
                        let (name, version) = (pod.name, 1);
                        self.pods.insert(pod.uid.clone(), Pod { name, version });
                        self.say(named(&pod.uid, &self.pods[&pod.uid]));
                    }
                }
                Presence::Gone if !self.silent || self.is_kept(&pod.uid) => self.forget(&pod.uid),
                Presence::Ending if self.is_kept(&pod.uid) && self.rng.once_in(10) => {
                    self.forget(&pod.uid);
                }
                Presence::There if !self.calm && self.rng.once_in(60) => {
                    if let Some(have) = self.pods.get_mut(&pod.uid) {
                        have.version += 1;
                    }
                    self.say(named(&pod.uid, &self.pods[&pod.uid]));
                }
                Presence::There | Presence::Ending | Presence::Gone => {}
            }
        }
    }

    fn is_kept(&self, uid: &str) -> bool {
        let snapshot = self.snapshot.as_deref().unwrap_or_default();
        String::from_utf8_lossy(snapshot).contains(&format!("\"{uid}\""))
    }

    fn forget(&mut self, uid: &str) {
        self.pods.remove(uid);
        self.forgotten.insert(uid.to_owned());
        self.say(Update::Gone(metadata(uid, "")));
    }

    fn say(&mut self, update: Update) {
        self.trace.say(|| format!("api: {update:?}"));
        match &mut self.missed {
            _ if !self.silent => self.told.push(update),
            Some(missed) => missed.push(update),
            None => {}
        }
    }

    fn hush(&mut self) {
        if !self.silent {
            self.trace.say(|| "api: is silent".to_owned());
            self.silent = true;
            self.missed = Some(Vec::new());
            self.told.push(Update::Silent);
        }
    }

    fn speak(&mut self) {
        if !self.silent {
            return;
        }
        self.trace.say(|| "api: is heard".to_owned());
        if !self.calm && self.rng.chance(30) {
            // A list that is cut.
            self.told.push(Update::Began);
            let some = self.pods.iter().take(1);
            self.told.extend(some.map(|(uid, pod)| named(uid, pod)));
            return self.told.push(Update::Silent);
        }
        self.silent = false;
        match self.missed.take() {
            Some(missed) if self.rng.chance(50) => {
                self.told.push(Update::Heard);
                self.told.extend(missed);
            }
            Some(_) | None => self.list(),
        }
    }

    fn list(&mut self) {
        self.told.push(Update::Began);
        let all = self.pods.iter();
        self.told.extend(all.map(|(uid, pod)| named(uid, pod)));
        self.told.push(Update::Whole);
    }
}

fn named(uid: &str, pod: &Pod) -> Update {
    Update::Pod(metadata(uid, &format!("{}.{}", pod.name, pod.version)))
}

fn metadata(uid: &str, app: &str) -> Box<tailwake::roster::wire::Metadata> {
    let pod = json!({"uid": uid, "labels": {"app": app}});
    serde_json::from_value(pod)
        .map(Box::new)
        .unwrap_or_default()
}
