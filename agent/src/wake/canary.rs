//! Canaries: appends of the agent's own by which it learns that its rung has gone deaf.
//!
//! ```text
//! keep (at start): a file without a name on each file system that the rung serves, held in a slot
//! ask: clear the flag -> append -> is it set?  three times no -> the rung is given up, by all readers
//! the kernel counts the runs of a probe that it left out (`preempt.rs`): any is a cause too
//! ```
//!
//! 1. A probe sets the flag before the write returns, so nothing is waited for.
//! 2. An append that fails proves nothing. It may wait for the disk, or for a frozen file system to
//!    thaw: whoever asks is a thread that nobody waits for.
//! 3. Where no file can be made (a read-only root, and the state directory elsewhere) there is none.
//!
//! Links are not looked at: the kernel has no call that detaches one of these kinds while its
//! descriptor is open (BPF_LINK_DETACH says EOPNOTSUPP), and who takes the programs away by other
//! means is heard by the canaries.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Wake;
use super::ebpf::{Ear, Probes};

/// Appends that are not announced until the rung counts as deaf: the kernel leaves a probe out where
/// it would run within itself.
const TRIES: u32 = 3;
/// The file begins anew here: it stays within its page.
const LENGTH_MAX: u64 = 4096;

/// One for each file system that the probes serve.
#[derive(Debug, Default)]
pub struct Canaries {
    probes: Option<Arc<Probes>>,
    kept: Vec<Canary>,
}

#[derive(Debug)]
struct Canary {
    directory: PathBuf,
    file: File,
    slot: u32,
    length: u64,
}

impl Canaries {
    /// Makes them on the file systems of these directories, as far as `wake` stands on probes.
    pub(super) fn keep(wake: &mut Wake, directories: &[PathBuf]) -> Self {
        let Some(ear) = &mut wake.ear else {
            return Self::default();
        };
        let (mut devices, mut kept) = (Vec::new(), Vec::new());
        for directory in directories {
            match Canary::make(ear, directory, &mut devices) {
                Ok(canary) => kept.extend(canary),
                Err(error) => {
                    tracing::debug!(directory = %directory.display(), %error, "no canary here");
                }
            }
        }
        Self {
            probes: Some(ear.probes()),
            kept,
        }
    }

    /// Whether there is nothing to ask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.probes.is_none()
    }

    /// Asks each. The cause, when the rung is given up for it: readers notice by [`Wake::step_down`].
    pub fn ask(&mut self) -> Option<String> {
        let probes = self.probes.as_ref()?;
        let mut all = self.kept.iter_mut();
        let deaf = all.find_map(|canary| {
            let heard = canary.is_heard(probes);
            let said = || {
                format!(
                    "an append in {} was not announced",
                    canary.directory.display()
                )
            };
            (!heard).then(said)
        });
        let left_out = probes.left_out();
        let busy =
            (left_out > 0).then(|| format!("the kernel left out {left_out} runs of a probe"));
        let cause = deaf.or(busy)?;
        probes.give_up().then_some(cause)
    }
}

impl Canary {
    /// None where another directory's stands for this one's file system, or the probes do not serve it.
    fn make(ear: &mut Ear, directory: &Path, devices: &mut Vec<u64>) -> io::Result<Option<Self>> {
        let there = directory.ancestors().find(|at| at.is_dir());
        let there = there.unwrap_or(Path::new("."));
        let file = ear.probes().systems.nameless(there)?;
        let found = file.metadata()?;
        if devices.contains(&found.dev()) || !ear.covers(file.as_fd()) {
            return Ok(None);
        }
        let slot = ear.hold(found.ino())?.map_err(|refusal| {
            io::Error::other(format!("its inode number has no slot: {refusal:?}"))
        })?;
        devices.push(found.dev());
        Ok(Some(Self {
            directory: there.to_owned(),
            file,
            slot,
            length: 0,
        }))
    }

    fn is_heard(&mut self, probes: &Probes) -> bool {
        (0..TRIES).any(|_| {
            probes.flags.arm(self.slot);
            self.append().is_err() || probes.flags.is_set(self.slot)
        })
    }

    fn append(&mut self) -> io::Result<()> {
        if self.length == LENGTH_MAX {
            self.file.set_len(0)?;
            self.length = 0;
        }
        self.file.write_all_at(b".", self.length)?;
        self.length += 1;
        Ok(())
    }
}
