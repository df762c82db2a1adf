//! Where links lead: the directories of their targets are watched, so that a target that is
//! rotated is heard of although the link stays as it is.
//!
//! 1. Every path that a known link leads over has its directory held, once that is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::site::Site;
use super::watches::Hold;
use crate::base::files::Files;

/// The links that one input knows.
#[derive(Debug, Default)]
pub(super) struct Leads {
    links: BTreeMap<PathBuf, Lead>,
    targets: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
}

#[derive(Debug)]
struct Lead {
    hops: Vec<PathBuf>,
    /// Directories of the hops that were there to be held.
    held: Vec<PathBuf>,
}

impl Leads {
    /// Looks where `path` leads now. A plain file leads nowhere, and costs nothing.
    pub(super) fn follow<F: Files>(&mut self, site: &mut Site<'_, F>, path: &Path) {
        let hops = site.files.links(path);
        let same = |old: &Lead| old.hops == hops && old.held.len() == hops.len();
        if self.links.get(path).map_or(hops.is_empty(), same) {
            return;
        }
        self.forget(site, path);
        if hops.is_empty() {
            return;
        }
        let mut held = Vec::new();
        for hop in &hops {
            let links = self.targets.entry(hop.clone()).or_default();
            links.insert(path.to_owned());
            if let Some(dir) = hop.parent()
                && site.watches.hold(site.files, dir, site.now) == Hold::There
            {
                held.push(dir.to_owned());
            }
        }
        self.links.insert(path.to_owned(), Lead { hops, held });
    }

    /// The link is gone.
    pub(super) fn forget<F: Files>(&mut self, site: &mut Site<'_, F>, path: &Path) {
        let Some(lead) = self.links.remove(path) else {
            return;
        };
        for hop in lead.hops {
            if let Some(links) = self.targets.get_mut(&hop) {
                links.remove(path);
                if links.is_empty() {
                    self.targets.remove(&hop);
                }
            }
        }
        for dir in lead.held {
            site.watches.release(site.files, &dir);
        }
    }

    /// The links that lie below `dir`.
    pub(super) fn below(&self, dir: &Path) -> impl Iterator<Item = &PathBuf> {
        let links = self.links.range(dir.to_owned()..).map(|(link, _)| link);
        links.take_while(move |link| link.starts_with(dir))
    }

    /// The links that lead over `target`.
    pub(super) fn to<'a>(&'a self, target: &Path) -> impl Iterator<Item = &'a PathBuf> + use<'a> {
        self.targets.get(target).into_iter().flatten()
    }

    /// The links that lead over a name in `dir`.
    pub(super) fn inside(&self, dir: &Path) -> impl Iterator<Item = &PathBuf> {
        let below = self.targets.range(dir.to_owned()..);
        let below = below.take_while(move |(target, _)| target.starts_with(dir));
        let own = below.filter(move |(target, _)| target.parent() == Some(dir));
        own.flat_map(|(_, links)| links)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.links.len() + self.targets.len()
    }
}
