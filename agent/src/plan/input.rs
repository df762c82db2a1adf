//! Where lines come from.

use std::path::PathBuf;

use super::{Glob, Kubernetes};

/// One input.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// What kind of input it is.
    pub kind: InputKind,
    /// Where a file that was there before the first start is begun.
    pub start_at: StartAt,
}

/// The kinds of input.
#[derive(Clone, Debug)]
pub enum InputKind {
    /// Kubelet's tree: `<root>/<namespace>_<pod>_<uid>/<container>/<attempt>.log`.
    Pods {
        /// Usually `/var/log/pods`.
        root: PathBuf,
        /// Where links of the tree may lead beside itself: docker's directory.
        link_roots: Vec<PathBuf>,
        /// Metadata of pods from the API, if it is asked for.
        kubernetes: Option<Box<Kubernetes>>,
    },
    /// Files that patterns match; each path is a log of its own.
    Files {
        /// Which; at least one.
        paths: Vec<Glob>,
        /// Which of them not.
        exclude: Vec<Glob>,
        /// Where links may lead beside the patterns' own directories.
        link_roots: Vec<PathBuf>,
    },
}

impl InputKind {
    /// Directories that the input looks for files in.
    #[must_use]
    pub fn roots(&self) -> Vec<PathBuf> {
        match self {
            Self::Pods { root, .. } => vec![root.clone()],
            Self::Files { paths, .. } => paths.iter().flat_map(Glob::bases).collect(),
        }
    }

    /// What is asked of the Kubernetes API for it.
    #[must_use]
    pub fn kubernetes(&self) -> Option<&Kubernetes> {
        match self {
            Self::Pods { kubernetes, .. } => kubernetes.as_deref(),
            Self::Files { .. } => None,
        }
    }

    /// Directories that links may lead to, beside those.
    #[must_use]
    pub fn link_roots(&self) -> &[PathBuf] {
        match self {
            Self::Pods { link_roots, .. } | Self::Files { link_roots, .. } => link_roots,
        }
    }
}

/// Where a file that was there before the first start is begun. Files that come later are always
/// read from their first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// At the first byte of the oldest plain file.
    #[default]
    Beginning,
    /// At the end of the newest file.
    End,
    /// Files last written no longer ago than this many seconds are begun at their first byte,
    /// others at their end.
    Age {
        /// Seconds.
        secs: u64,
    },
}
