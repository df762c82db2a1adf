//! Files that are read again when they change: tokens, passwords, certificates.
//!
//! 1. A file is looked at when something is to be sent, at most once in [`LOOK_MS`]; nothing wakes
//!    up for it.
//! 2. What is looked at is where links lead: Kubernetes swaps a link when it projects a volume anew.
//! 3. It is read on the control thread: a few KiB of a local file or a projected volume.
//! 4. A file that has become unreadable or makes no sense keeps what was read before, and is said
//!    once until it is fine again. Without a before it is an error, each time.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::base::time::Mono;

/// A file is looked at no more often than this.
pub(super) const LOOK_MS: u64 = 1_000;

/// A longer file is none of ours; a bundle of all public authorities has some 250 KiB.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What a file was when it was read. The change time goes with every write, rename and touch.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

/// What is made of some files, again whenever one of them changes.
#[derive(Debug)]
pub(super) struct Watched<T> {
    /// What is made of them, for messages.
    what: String,
    paths: Vec<PathBuf>,
    stamps: Vec<Stamp>,
    value: Option<T>,
    looked: Option<Mono>,
    /// What was wrong at the last look.
    said: Option<String>,
    /// How often the value was made.
    made: u64,
}

impl<T: Clone> Watched<T> {
    /// Nothing is read yet. Without paths, the value is made once.
    pub(super) fn new(what: impl Into<String>, paths: Vec<PathBuf>) -> Self {
        Self {
            what: what.into(),
            paths,
            stamps: Vec::new(),
            value: None,
            looked: None,
            said: None,
            made: 0,
        }
    }

    /// The value of now, and how often it was made; `make` gets the files' bytes in order.
    ///
    /// # Errors
    /// There has never been one: which file, and why.
    pub(super) fn get(
        &mut self,
        now: Mono,
        make: impl FnOnce(&[Vec<u8>]) -> Result<T, String>,
    ) -> Result<(T, u64), String> {
        if let Some(value) = &self.value
            && (self.paths.is_empty() || self.looked.is_some_and(|at| now.ms_since(at) < LOOK_MS))
        {
            return Ok((value.clone(), self.made));
        }
        self.looked = Some(now);
        let fresh = self.fresh(make);
        match (fresh, &self.value) {
            (Ok(()), _) => self.said = None,
            (Err(error), None) => return Err(error),
            (Err(error), Some(_)) => self.say(error),
        }
        let value = self.value.clone();
        value
            .map(|value| (value, self.made))
            .ok_or_else(|| format!("{}: nothing was read", self.what))
    }

    /// Makes the value anew if a file has changed. The stamp is taken before the bytes are: what is
    /// written in between is seen at the next look.
    fn fresh(&mut self, make: impl FnOnce(&[Vec<u8>]) -> Result<T, String>) -> Result<(), String> {
        let stamps = self.paths.iter().map(|path| stamp(path));
        let stamps = stamps.collect::<Result<Vec<_>, _>>()?;
        if self.value.is_some() && stamps == self.stamps {
            return Ok(());
        }
        let texts = self.paths.iter().map(|path| bytes(path));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        let value = make(&texts)?;
        if self.value.is_some() {
            tracing::info!("{} has changed and was read again", self.what);
        }
        self.value = Some(value);
        self.stamps = stamps;
        self.made += 1;
        Ok(())
    }

    fn say(&mut self, error: String) {
        if self.said.as_ref() != Some(&error) {
            tracing::warn!(
                "{error}; what was read of it before is still used, until it is mended: see the \
                 file of {}",
                self.what
            );
            self.said = Some(error);
        }
    }
}

fn stamp(path: &Path) -> Result<Stamp, String> {
    let told = |why: &dyn std::fmt::Display| format!("read {}: {why}", path.display());
    let meta = std::fs::metadata(path).map_err(|why| told(&why))?;
    if !meta.is_file() {
        return Err(told(&"it is no regular file"));
    }
    if meta.len() > FILE_BYTES_MAX {
        return Err(told(&"it is over 4 MiB"));
    }
    Ok(of(&meta))
}

fn of(meta: &Metadata) -> Stamp {
    let modified = (meta.mtime(), meta.mtime_nsec());
    let changed = (meta.ctime(), meta.ctime_nsec());
    (meta.dev(), meta.ino(), meta.len(), modified, changed)
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?
            .take(FILE_BYTES_MAX)
            .read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    read().map_err(|why| format!("read {}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn text(bytes: &[Vec<u8>]) -> Result<String, String> {
        let text = String::from_utf8(bytes[0].clone()).unwrap();
        if text.is_empty() {
            return Err("it is empty".to_owned());
        }
        Ok(text)
    }

    #[test]
    fn a_file_is_read_again_when_the_link_before_it_is_swapped_and_a_broken_one_keeps_the_old() {
        let name = format!("tailwake-watched-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&dir);
        // As kubelet does it: token -> ..data/token, ..data -> ..1
        let put = |version: &str, token: &str| {
            std::fs::create_dir_all(dir.join(version)).unwrap();
            std::fs::write(dir.join(version).join("token"), token).unwrap();
            std::os::unix::fs::symlink(version, dir.join("..tmp")).unwrap();
            std::fs::rename(dir.join("..tmp"), dir.join("..data")).unwrap();
        };
        let path = dir.join("token");
        let mut watched = Watched::new("a token", vec![path.clone()]);
        let mut get = |ms| watched.get(Mono(0).plus_ms(ms), text);
        assert!(get(0).unwrap_err().contains("token: No such file"));
        put("..1", "one");
        std::os::unix::fs::symlink("..data/token", &path).unwrap();
        // Nothing was read before: it is looked for each time.
        assert_eq!(get(1).unwrap(), ("one".to_owned(), 1));
        put("..2", "two");
        assert_eq!(get(LOOK_MS).unwrap(), ("one".to_owned(), 1));
        assert_eq!(get(1 + LOOK_MS).unwrap(), ("two".to_owned(), 2));
        put("..3", "");
        assert_eq!(get(1 + 2 * LOOK_MS).unwrap(), ("two".to_owned(), 2));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(get(1 + 3 * LOOK_MS).unwrap(), ("two".to_owned(), 2));
        std::os::unix::fs::symlink("..data/token", &path).unwrap();
        put("..4", "four");
        assert_eq!(get(1 + 4 * LOOK_MS).unwrap(), ("four".to_owned(), 3));
        assert_eq!(get(1 + 9 * LOOK_MS).unwrap(), ("four".to_owned(), 3));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
