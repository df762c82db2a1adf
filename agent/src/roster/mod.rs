//! The pods of this node: what the API says of each, by the uid that its directory bears.
//!
//! ```text
//! kube: Update (began, pod, gone, whole, silent, heard) -> Roster -> uids that changed -> discover
//! discover: came(uid), left(uid) -> Roster -> word(uid): known | shut | unknown
//! Roster <-> snapshot: known again after a restart, while the API is silent
//! ```
//!
//! 1. A pod stays known while the API names it or its directory is there.
//! 2. What is the same is there once: names and values are shared by all pods, and a pod whose
//!    metadata did not change keeps its version.
//! 3. A list speaks only when it is whole: what it does not name is gone from then on.
//! 4. A static pod goes by its config hash, and another mirror of it does not end it.

pub mod snapshot;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::wire::{CONFIG_HASH, Metadata};
use crate::base::time::Mono;
use crate::plan::{Kubernetes, NameGlob};
use crate::ticket::Facts;

/// Pods at the most; kubelet allows 110, and large nodes some hundreds. Those beyond are not known.
const PODS_MAX: usize = 10_000;

/// What the watch tells.
#[derive(Debug)]
pub enum Update {
    /// A list begins.
    Began,
    /// A pod is as this says.
    Pod(Box<Metadata>),
    /// A pod is gone.
    Gone(Box<Metadata>),
    /// The list is whole.
    Whole,
    /// The API is not heard any more.
    Silent,
    /// It is heard again, and nothing was missed.
    Heard,
}

/// What is known of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Its metadata.
    Known(Arc<Facts>),
    /// It opted out.
    Shut,
    /// Nothing.
    Unknown,
}

#[derive(Debug)]
struct Pod {
    facts: Arc<Facts>,
    shut: bool,
    /// By this uid the API names it; none = it does not any more, or has not yet since the start.
    api: Option<Box<str>>,
}

/// The pods of this node.
#[derive(Debug)]
pub struct Roster {
    taken: Kubernetes,
    pods: BTreeMap<Arc<str>, Pod>,
    /// How many directories bear the uid.
    there: BTreeMap<Arc<str>, u32>,
    words: BTreeSet<Arc<str>>,
    /// Uids that a list under way has named.
    named: Option<BTreeSet<Arc<str>>>,
    changed: BTreeSet<Arc<str>>,
    /// Since when the API is heard without a gap.
    heard: Option<Mono>,
    /// A list was whole.
    listed: bool,
    unwritten: bool,
}

impl Roster {
    /// Nobody is known.
    #[must_use]
    pub fn new(taken: Kubernetes) -> Self {
        Self {
            taken,
            pods: BTreeMap::new(),
            there: BTreeMap::new(),
            words: BTreeSet::new(),
            named: None,
            changed: BTreeSet::new(),
            heard: None,
            listed: false,
            unwritten: false,
        }
    }

    /// Since when the API is heard without a gap.
    #[must_use]
    pub const fn heard(&self) -> Option<Mono> {
        self.heard
    }

    /// How many pods are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// Whether none of the pods that have directories here is known, though there are some: then the API
    /// was asked for another node's.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        let known = |uid: &Arc<str>| self.pods.contains_key(uid);
        self.heard.is_some() && !self.there.is_empty() && !self.there.keys().any(known)
    }

    /// What is known of the pod whose directory bears this uid.
    #[must_use]
    pub fn word(&self, uid: &str) -> Word {
        match self.pods.get(uid) {
            Some(pod) if pod.shut => Word::Shut,
            Some(pod) => Word::Known(Arc::clone(&pod.facts)),
            None => Word::Unknown,
        }
    }

    /// A directory that bears this uid is there.
    pub fn came(&mut self, uid: &Arc<str>) {
        *self.there.entry(Arc::clone(uid)).or_default() += 1;
    }

    /// It is gone.
    pub fn left(&mut self, uid: &Arc<str>) {
        let Some(count) = self.there.get_mut(uid) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.there.remove(uid);
            self.let_go(uid);
        }
    }

    /// Takes up what the watch tells.
    pub fn hear(&mut self, update: Update, now: Mono) {
        match update {
            Update::Began => self.named = Some(BTreeSet::new()),
            Update::Pod(pod) => self.put(&pod),
            Update::Gone(pod) => self.gone(&pod),
            Update::Whole => {
                let named = self.named.take().unwrap_or_default();
                let all: Vec<Arc<str>> = self.pods.keys().cloned().collect();
                for uid in all.iter().filter(|uid| !named.contains(*uid)) {
                    if let Some(pod) = self.pods.get_mut(uid) {
                        pod.api = None;
                    }
                    self.let_go(uid);
                }
                self.listed = true;
                self.heard.get_or_insert(now);
            }
            Update::Silent => (self.heard, self.named) = (None, None),
            Update::Heard => {
                if self.listed {
                    self.heard.get_or_insert(now);
                }
            }
        }
    }

    /// The uids whose word has changed since the last call.
    #[must_use]
    pub fn take_changed(&mut self) -> BTreeSet<Arc<str>> {
        std::mem::take(&mut self.changed)
    }

    fn put(&mut self, pod: &Metadata) {
        let hash = pod
            .annotations
            .as_ref()
            .and_then(|all| all.get(CONFIG_HASH));
        let uid = self.word_of(hash.map_or(pod.uid.as_str(), String::as_str));
        if uid.is_empty() || (self.pods.len() >= PODS_MAX && !self.pods.contains_key(&uid)) {
            return;
        }
        if let Some(named) = &mut self.named {
            named.insert(Arc::clone(&uid));
        }
        let facts = self.facts(pod);
        let opt_out = self.taken.opt_out.as_deref();
        let opt_out = opt_out.and_then(|name| pod.annotations.as_ref()?.get(name));
        let shut = opt_out.is_some_and(|value| value == "true");
        let api = Some(pod.uid.as_str().into());
        match self.pods.get_mut(&uid) {
            Some(have) if *have.facts == facts && have.shut == shut => have.api = api,
            have => {
                let fresh = Pod {
                    facts: Arc::new(facts),
                    shut,
                    api,
                };
                match have {
                    Some(have) => *have = fresh,
                    None => drop(self.pods.insert(Arc::clone(&uid), fresh)),
                }
                self.changed.insert(uid);
                self.unwritten = true;
            }
        }
        self.forget_words();
    }

    fn gone(&mut self, pod: &Metadata) {
        let hash = pod
            .annotations
            .as_ref()
            .and_then(|all| all.get(CONFIG_HASH));
        let uid: Arc<str> = hash.map_or(pod.uid.as_str(), String::as_str).into();
        if let Some(named) = &mut self.named {
            named.remove(&uid);
        }
        // Another mirror of a static pod may have come before this one has gone.
        let same = |have: &&mut Pod| have.api.as_deref() == Some(pod.uid.as_str());
        if let Some(have) = self.pods.get_mut(&uid).filter(same) {
            have.api = None;
            self.let_go(&uid);
        }
    }

    /// Forgets a pod that neither the API nor a directory names.
    fn let_go(&mut self, uid: &Arc<str>) {
        let gone = self.pods.get(uid).is_some_and(|pod| pod.api.is_none());
        if gone && !self.there.contains_key(uid) {
            self.pods.remove(uid);
            self.unwritten = true;
            self.forget_words();
        }
    }

    fn facts(&mut self, pod: &Metadata) -> Facts {
        let (labels, annotations) = (self.taken.labels.clone(), self.taken.annotations.clone());
        let (owner_kind, owner) = owner(pod);
        Facts {
            labels: self.taken_of(pod.labels.as_ref(), &labels),
            annotations: self.taken_of(pod.annotations.as_ref(), &annotations),
            owner_kind: self.word_of(owner_kind),
            owner: self.word_of(owner),
        }
    }

    fn taken_of(
        &mut self,
        all: Option<&BTreeMap<String, String>>,
        globs: &[NameGlob],
    ) -> Vec<(Arc<str>, Arc<str>)> {
        let taken = all.into_iter().flatten();
        let taken = taken.filter(|(name, _)| globs.iter().any(|glob| glob.matches(name)));
        taken
            .map(|(name, value)| (self.word_of(name), self.word_of(value)))
            .collect()
    }

    /// One copy of each text.
    fn word_of(&mut self, text: &str) -> Arc<str> {
        if let Some(word) = self.words.get(text) {
            return Arc::clone(word);
        }
        let word: Arc<str> = text.into();
        self.words.insert(Arc::clone(&word));
        word
    }

    /// Texts that nobody has any more, once they may be many.
    fn forget_words(&mut self) {
        if self.words.len() > 64 + 32 * self.pods.len() {
            self.words.retain(|word| Arc::strong_count(word) > 1);
        }
    }
}

/// Kind and name of what controls a pod; of a ReplicaSet that a Deployment has made, the Deployment:
/// the set is called as that, with the hash that its pods bear.
fn owner(pod: &Metadata) -> (&str, &str) {
    let owners = pod.owner_references.iter().flatten();
    let mut controls = owners.filter(|owner| owner.controller == Some(true));
    let Some(owner) = controls.next() else {
        return ("", "");
    };
    let hash = pod
        .labels
        .as_ref()
        .and_then(|all| all.get("pod-template-hash"));
    let deployment = hash
        .filter(|hash| owner.kind == "ReplicaSet" && !hash.is_empty())
        .and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
    match deployment {
        Some(name) if !name.is_empty() => ("Deployment", name),
        Some(_) | None => (&owner.kind, &owner.name),
    }
}

#[cfg(test)]
mod tests;
