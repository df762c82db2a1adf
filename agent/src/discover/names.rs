//! The names of one container's log files.
//!
//! A sorted list: kubelet keeps a handful, and a node has thousands of containers, for each of which
//! a tree would take some 600 bytes with its first entry.

use std::ffi::{OsStr, OsString};

use super::Place;

/// Names with their places, sorted by name.
#[derive(Debug, Default)]
pub(super) struct Names(Box<[(OsString, Place)]>);

impl Names {
    pub(super) fn new(mut names: Vec<(OsString, Place)>) -> Self {
        names.sort();
        Self(names.into())
    }

    pub(super) fn get(&self, name: &OsStr) -> Option<&Place> {
        let at = self.0.binary_search_by(|(have, _)| (**have).cmp(name));
        at.ok().map(|at| &self.0[at].1)
    }

    pub(super) fn has(&self, name: &OsStr) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(OsString, Place)> {
        self.0.iter()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.0.iter().map(|(name, _)| &**name)
    }
}
