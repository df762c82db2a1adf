//! Least privilege: what the agent can still do once it has started.
//!
//! ```text
//! run: state locked -> admin bound -> ladder attached -> rings made
//!   -> enter: no_new_privs -> capabilities -> Landlock -> seccomp
//!   -> encoders, readers, disk and resolver threads, which inherit all of it
//! ```
//!
//! 1. Every mechanism is a property of a thread and is inherited. So `enter` runs on the only
//!    thread there is, and every later one is born with it; nothing has to be synchronised.
//! 2. seccomp comes last, since the others need calls that it may refuse; no_new_privs comes first,
//!    since Landlock and seccomp ask it of whoever is not root.
//! 3. A mechanism that this kernel lacks is said at info, one that is refused at warn, each once and
//!    with what follows from it. None keeps the agent from starting.
//! 4. What was kept is what the running agent uses, found by trying: see `capabilities`.
//! 5. What must stay readable stands in [`Confines`] and nowhere else. Whatever will one day be
//!    read anew while the agent runs (a config, a token, an authority) belongs into `read`.
//!
//! docs/privileges.md has the table of capabilities, and what a pod must be given.

mod capabilities;
mod landlock;
mod seccomp;

use std::path::{Path, PathBuf};

pub use capabilities::{Names, held};
pub use landlock::version as landlock_version;

/// What the agent needs of the world after its start.
#[derive(Clone, Debug)]
pub struct Confines {
    /// Files and directories to read, with all below; one that is not there is left out.
    pub read: Vec<PathBuf>,
    /// Log roots, read with all below; one that is not there yet counts as its nearest parent.
    pub roots: Vec<PathBuf>,
    /// The one directory that is written to.
    pub state: PathBuf,
    /// TCP ports to connect to; `None` when they are not all known, and then all are open.
    pub ports: Option<Vec<u16>>,
}

/// How a mechanism stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It holds.
    Holds,
    /// The kernel has none of it, or only a part.
    Lacking,
    /// The kernel has it and said no.
    Refused,
}

/// One mechanism.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mechanism {
    /// Its name in /status and log.
    pub name: &'static str,
    /// Whether it holds.
    pub standing: Standing,
    /// What it does now, or why not, and what follows.
    pub said: String,
}

impl Mechanism {
    fn holds(name: &'static str, said: impl Into<String>) -> Self {
        Self::new(name, Standing::Holds, said)
    }

    fn lacking(name: &'static str, said: impl Into<String>) -> Self {
        Self::new(name, Standing::Lacking, said)
    }

    fn refused(name: &'static str, said: impl Into<String>) -> Self {
        Self::new(name, Standing::Refused, said)
    }

    fn new(name: &'static str, standing: Standing, said: impl Into<String>) -> Self {
        let said = said.into();
        Self {
            name,
            standing,
            said,
        }
    }
}

/// What was given up; empty where the config said to keep all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order in which they were applied.
    pub mechanisms: Vec<Mechanism>,
}

/// Restricts the calling thread, and all that it will start, for good. `maps_answer` says whether
/// the kernel lets this thread at its BPF maps; it is asked after the capabilities are down.
pub fn enter(confines: &Confines, maps_answer: &dyn Fn() -> bool) -> Report {
    let report = Report {
        mechanisms: vec![
            no_new_privs(),
            capabilities::shrink(&confines.state, maps_answer),
            landlock::confine(confines),
            seccomp::refuse(),
        ],
    };
    report.say();
    report
}

impl Report {
    fn say(&self) {
        for Mechanism {
            name,
            standing,
            said,
        } in &self.mechanisms
        {
            match standing {
                Standing::Holds | Standing::Lacking => tracing::info!("{name}: {said}"),
                Standing::Refused => tracing::warn!("{name}: {said}"),
            }
        }
    }
}

fn no_new_privs() -> Mechanism {
    const NAME: &str = "no_new_privs";
    match rustix::thread::set_no_new_privs(true) {
        Ok(()) => Mechanism::holds(NAME, "no program that is run could gain a privilege"),
        Err(error) => Mechanism::refused(NAME, format!("{error}; Landlock and seccomp need it")),
    }
}

/// The path, or its nearest parent that is there.
fn nearest(path: &Path) -> Option<&Path> {
    path.ancestors().find(|at| at.exists())
}
