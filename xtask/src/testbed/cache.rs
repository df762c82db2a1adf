//! Where built servers and their state lie: outside the checkout, so that a fresh clone finds them.
//!
//! ```text
//! $XDG_CACHE_HOME/tailwake/testbed/<key>/loki            go binaries
//! <jvm root>/<key>/elasticsearch-9.5.3/bin/...           unpacked Java servers
//! <jvm root>/state/<server>/{server.json,out.log,...}    what `testbed up` runs
//! ```
//!
//! 1. A key is a hash of everything that decides the build, so an entry never goes stale.
//! 2. An entry appears by rename: a build that was cut short is never taken for a finished one.
//! 3. The Java root can be reached by `nobody`, because those servers refuse to run as root.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xxhash_rust::xxh3::xxh3_64;

/// The folders in which the testbed keeps what it built and what it runs.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    open_root: PathBuf,
}

impl Cache {
    /// The cache of the current user, created when missing.
    pub fn open() -> Result<Self> {
        let base = std::env::var_os("XDG_CACHE_HOME")
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
            .context("neither XDG_CACHE_HOME nor HOME is set")?;
        Self::at(&base.join("tailwake/testbed"))
    }

    /// A cache in a folder of the caller's choice.
    pub fn at(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("create {}", root.display()))?;
        let open_root = if runs_as_root() && !reachable_by_all(root) {
            PathBuf::from("/var/tmp/tailwake-testbed")
        } else {
            root.to_path_buf()
        };
        let cache = Self {
            root: root.to_path_buf(),
            open_root,
        };
        make_open(&cache.open_root)?;
        Ok(cache)
    }

    /// The folder of one build, not yet created.
    pub fn entry(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// The folder of one build that `nobody` must be able to reach.
    pub fn open_entry(&self, key: &str) -> PathBuf {
        self.open_root.join(key)
    }

    /// Waits until no other process or thread builds; the lock ends with the returned file.
    pub fn lock(&self) -> Result<File> {
        let path = self.root.join("lock");
        let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        file.lock()
            .with_context(|| format!("lock {}", path.display()))?;
        Ok(file)
    }

    /// The folder in which the servers of `testbed up` keep their data.
    pub fn state(&self) -> PathBuf {
        self.open_root.join("state")
    }
}

/// A short name for everything that decides a build.
pub(super) fn key_of(parts: &[&[u8]]) -> String {
    let mut joined = Vec::new();
    for part in parts {
        joined.extend_from_slice(&(part.len() as u64).to_le_bytes());
        joined.extend_from_slice(part);
    }
    format!("{:016x}", xxh3_64(&joined))
}

/// Creates a folder that everyone may enter.
pub(super) fn make_open(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("open {} to all", dir.display()))
}

/// Whether Java servers have to be handed to `nobody`.
pub(super) fn runs_as_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn reachable_by_all(dir: &Path) -> bool {
    dir.ancestors().all(|folder| {
        folder.as_os_str().is_empty()
            || fs::metadata(folder).is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0)
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn key_depends_on_every_part_and_on_their_borders() {
        let keys = [
            key_of(&[b"ab", b"c"]),
            key_of(&[b"a", b"bc"]),
            key_of(&[b"abc"]),
            key_of(&[b"abc", b""]),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert_eq!(key.len(), 16);
            assert!(!keys[..index].contains(key), "{key} twice");
        }
        assert_eq!(key_of(&[b"ab", b"c"]), keys[0]);
    }

    #[test]
    fn a_private_ancestor_makes_a_folder_unreachable() {
        let base = std::env::temp_dir().join(format!("tailwake-cache-{}", std::process::id()));
        let inner = base.join("inner");
        fs::create_dir_all(&inner).unwrap();
        fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(reachable_by_all(&inner));
        fs::set_permissions(&base, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!reachable_by_all(&inner));
        fs::remove_dir_all(&base).unwrap();
    }
}
