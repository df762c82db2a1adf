//! The logs of globbed files: what each is called, and when it ends.
//!
//! 1. A log ends when it has had no file for ENDING_MS: between a rename and the new file its name
//!    belongs to it still.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::name::{before_rotation, container_link};
use super::site::{Site, Tally};
use super::{Event, Place, Rotated};
use crate::base::files::{Files, Refusal};
use crate::base::time::Mono;
use crate::ticket::{Meta, Source, Standing};

/// How long a log waits for its next file. Rotators make it within a second.
const ENDING_MS: u64 = 10_000;

const CURRENT: Place = Place {
    attempt: 0,
    rotated: Rotated::Current,
};

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A regular file: device and inode.
    File((u64, u64)),
    /// Nothing, or nothing that may be read.
    Nothing,
    /// The system would not say; asked again by the sweep.
    Unknown,
}

/// The logs of one input.
#[derive(Debug)]
pub(super) struct Logs {
    input: usize,
    /// Begins every key: two inputs may match the same path.
    name: Arc<str>,
    node: Arc<str>,
    logs: BTreeMap<PathBuf, Log>,
}

#[derive(Debug)]
struct Log {
    source: Arc<Source>,
    files: usize,
    /// It has no file, and ends then.
    ends: Option<Mono>,
}

impl Logs {
    pub(super) fn new(input: usize, name: &str, node: Arc<str>) -> Self {
        Self {
            input,
            name: name.into(),
            node,
            logs: BTreeMap::new(),
        }
    }

    /// A file of a log comes: the path's own, or that of the name it had before it was rotated.
    pub(super) fn gain(&mut self, tally: &mut Tally, path: &Path) -> (Arc<Source>, Place) {
        let (own, place) = match rotated(path) {
            Some((before, place)) if self.logs.contains_key(&before) => (before, place),
            _ => (path.to_owned(), CURRENT),
        };
        let (input, name, node) = (self.input, &self.name, &self.node);
        let log = self.logs.entry(own).or_insert_with_key(|path| Log {
            source: Arc::new(source(tally, input, name, node, path)),
            files: 0,
            ends: None,
        });
        log.files += 1;
        log.ends = None;
        (Arc::clone(&log.source), place)
    }

    /// The place of a path that takes over in a log.
    pub(super) fn place_in(&self, source: &Source, path: &Path) -> Place {
        let own = |before: &PathBuf| Path::new(&*source.filename) == before;
        rotated(path).map_or(
            CURRENT,
            |(before, place)| {
                if own(&before) { place } else { CURRENT }
            },
        )
    }

    /// A file of a log is gone.
    pub(super) fn lose(&mut self, source: &Source, now: Mono) {
        if let Some(log) = self.logs.get_mut(Path::new(&*source.filename)) {
            log.files -= 1;
            if log.files == 0 {
                log.ends = Some(now.plus_ms(ENDING_MS));
            }
        }
    }

    /// Logs that waited long enough end; says when the next does.
    pub(super) fn turn<F: Files>(&mut self, site: &mut Site<'_, F>) -> Option<Mono> {
        let now = site.now;
        self.logs.retain(|_, log| {
            let ends = log.ends.is_some_and(|ends| ends <= now);
            if ends {
                let source = Arc::clone(&log.source);
                site.out.push(Event::Ended { source });
            }
            !ends
        });
        self.logs.values().filter_map(|log| log.ends).min()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.logs.len()
    }
}

fn rotated(path: &Path) -> Option<(PathBuf, Place)> {
    let (before, rotated) = before_rotation(path.file_name()?.to_str()?)?;
    let place = Place {
        attempt: 0,
        rotated,
    };
    Some((path.with_file_name(before), place))
}

fn source(tally: &mut Tally, input: usize, name: &str, node: &Arc<str>, path: &Path) -> Source {
    let filename = path.to_string_lossy();
    let mut meta = Meta {
        node: Arc::clone(node),
        ..Meta::default()
    };
    let last = path.file_name().map(|last| last.to_string_lossy());
    if let Some((pod, namespace, container)) = last.as_deref().and_then(container_link) {
        meta.pod = pod.into();
        meta.namespace = namespace.into();
        meta.container = container.into();
    }
    Source {
        log: tally.log(),
        input,
        key: format!("{name}:{filename}").into(),
        filename: filename.as_ref().into(),
        meta,
        labels: Vec::new(),
        tag: None,
        standing: Standing::Read,
    }
}

/// Opens a path, asks which file it is, and closes it.
pub(super) fn probe<F: Files>(site: &mut Site<'_, F>, path: &Path) -> Seen {
    let opened = site.files.open_log(path);
    let error = match opened.and_then(|file| site.files.stat(&file)) {
        Ok(stat) => {
            site.tally.clear(path);
            return Seen::File((stat.device, stat.inode));
        }
        Err(error) => error,
    };
    match (Refusal::of(&error), error.kind()) {
        (Some(Refusal::NotRegular), _) | (None, ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            site.tally.clear(path);
            Seen::Nothing
        }
        (Some(refusal), _) => {
            site.tally.refuse(site.now, path, refusal);
            Seen::Nothing
        }
        (None, _) => {
            if let Some(suppressed) = site.tally.may_say(site.now, "probe") {
                tracing::warn!(path = %path.display(), %error, suppressed,
                    "cannot open a file; tried again by the sweep");
            }
            Seen::Unknown
        }
    }
}
