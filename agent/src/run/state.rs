//! The state directory: locked by one agent, holding the positions file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};

use crate::base::count::Registry;
use crate::base::files::Files;
use crate::ledger::positions::Positions;
use crate::machine::MachineFiles;
use crate::roster::Roster;

/// The state directory, locked while this lives.
#[derive(Debug)]
pub(super) struct State {
    dir: PathBuf,
    _lock: File,
}

impl State {
    /// Makes the directory where it is missing and locks it. Another agent that has it is waited for, as
    /// in a rollout; with `once` it is an error.
    ///
    /// # Errors
    /// Says what could not be done, or that another agent has it.
    pub(super) fn take(dir: &Path, once: bool) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)
            .with_context(|| format!("make the state directory {}", dir.display()))?;
        let path = dir.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            if once {
                anyhow::bail!(
                    "another agent has the state directory {}: let it end first, or give this run a `state` \
                     of its own",
                    dir.display()
                );
            }
            tracing::warn!(state = %dir.display(), "another agent has this state directory; waiting for it to end");
            flock(&lock, FlockOperation::LockExclusive)
                .with_context(|| format!("lock {}", path.display()))?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            _lock: lock,
        })
    }

    /// Where the positions file is.
    #[must_use]
    pub(super) fn positions_path(&self) -> PathBuf {
        self.dir.join("positions")
    }

    /// Where what is known of this node's pods is.
    #[must_use]
    pub(super) fn pods_path(&self) -> PathBuf {
        self.dir.join("pods")
    }

    /// What the last run knew of this node's pods, if it has left that. What does not hold is said and
    /// passed over: the API will be asked.
    pub(super) fn recall_pods(&self, roster: &mut Roster) {
        let path = self.pods_path();
        let said = match MachineFiles::default().load(&path) {
            Ok(bytes) => roster.recall(&bytes).map_err(|error| error.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = said {
            tracing::warn!(path = %path.display(), %error,
                "what the last run knew of this node's pods is not used; the Kubernetes API is asked");
        }
    }

    /// Reads the positions file. One that cannot be read is kept aside, counted, and the agent
    /// starts as at the first time: never a crash loop.
    pub(super) fn load_positions(&self, registry: &Registry) -> Positions {
        let path = self.positions_path();
        let corrupt = registry.counter(
            "tailwake_positions_corrupt_total",
            "Positions files that could not be read at start.",
            &[],
        );
        let bytes = match MachineFiles::default().load(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Positions::default(),
            Err(error) => {
                corrupt.add(1);
                tracing::error!(path = %path.display(), %error,
                    "cannot read the positions file; logs are read as `start_at` says, so lines may \
                     come twice: mend the disk of `state`");
                return Positions::default();
            }
        };
        match Positions::read(&bytes) {
            Ok(positions) => positions,
            Err(error) => {
                let aside = path.with_extension("corrupt");
                let kept = fs::rename(&path, &aside).is_ok();
                corrupt.add(1);
                tracing::error!(path = %path.display(), %error, kept, aside = %aside.display(),
                    "the positions file is damaged and was set aside; logs are read as `start_at` says, so lines may come twice: see what writes to `state`, or how its disk fails");
                Positions::default()
            }
        }
    }
}
