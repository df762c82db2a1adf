//! Whose bytes they are: the container log, the file, the pass.

use std::sync::Arc;

/// A container log: every file, old and new, that one container writes. Interned while the agent
/// runs; its stable name is [`Source::key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u32);

/// One generation of one file; never used again while the agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64);

/// One walk over a container log for a set of outputs; never used again while the agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PassId(pub u32);

/// What is known of the container. Empty where it is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// Pod name.
    pub pod: Arc<str>,
    /// Pod UID (a static pod's is its config hash).
    pub uid: Arc<str>,
    /// Container name.
    pub container: Arc<str>,
    /// The node this agent runs on.
    pub node: Arc<str>,
    /// What the Kubernetes API says of the pod, where it was asked and has answered.
    pub facts: Option<Arc<Facts>>,
}

/// What the Kubernetes API says of a pod, as far as the config takes it: one version of it, shared by
/// all containers of the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Labels by name.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    /// Annotations by name.
    pub annotations: Vec<(Arc<str>, Arc<str>)>,
    /// The kind of what controls the pod, for example `Deployment`; empty where nothing does.
    pub owner_kind: Arc<str>,
    /// Its name.
    pub owner: Arc<str>,
}

impl Facts {
    fn field(&self, name: &str) -> Option<&Arc<str>> {
        let find = |list: &'_ [(Arc<str>, Arc<str>)], name: &str| {
            list.iter().position(|(have, _)| **have == *name)
        };
        match name {
            "owner" => Some(&self.owner),
            "owner_kind" => Some(&self.owner_kind),
            _ => {
                if let Some(name) = name.strip_prefix("labels.") {
                    return find(&self.labels, name).map(|at| &self.labels[at].1);
                }
                let name = name.strip_prefix("annotations.")?;
                find(&self.annotations, name).map(|at| &self.annotations[at].1)
            }
        }
    }
}

/// Whether a log is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    #[default]
    Read,
    /// It is, without metadata that the config asks for.
    Bare,
    /// Its files are held open and unread until their pod's metadata come.
    Held,
    /// Its pod opted out: its files are not opened.
    Shut,
}

impl Meta {
    /// The value of a field by its name in templates (`namespace`, `pod`, `uid`, `container`, `node`,
    /// `owner`, `owner_kind`, `labels.NAME`, `annotations.NAME`).
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Arc<str>> {
        match name {
            "namespace" => Some(&self.namespace),
            "pod" => Some(&self.pod),
            "uid" => Some(&self.uid),
            "container" => Some(&self.container),
            "node" => Some(&self.node),
            name => self.facts.as_ref()?.field(name),
        }
    }
}

/// A log's origin and the labels that were decided for it: one version of it, which chunks keep that
/// were read under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The container log.
    pub log: LogId,
    /// Which input of the plan found it.
    pub input: usize,
    /// The container log's name across restarts, for example `default_web-1_0a1b/app`.
    pub key: Arc<str>,
    /// The path under which the file was found.
    pub filename: Arc<str>,
    /// What is known of the container.
    pub meta: Meta,
    /// Base labels, sorted by name.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    /// The tag, for plans that route by one.
    pub tag: Option<Arc<str>>,
    /// Whether it is read.
    pub standing: Standing,
}
