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
}

impl Meta {
    /// The value of a field by its name in templates (`namespace`, `pod`, `uid`, `container`, `node`).
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Arc<str>> {
        match name {
            "namespace" => Some(&self.namespace),
            "pod" => Some(&self.pod),
            "uid" => Some(&self.uid),
            "container" => Some(&self.container),
            "node" => Some(&self.node),
            _ => None,
        }
    }
}

/// A file's origin and the labels that were decided for it, once a file and metadata version.
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
}
