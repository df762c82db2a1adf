//! The outputs' spools below the state directory: `spool/NAME`, taken up at the start.
//!
//! 1. Directories are made, and spools adopted, before the guard: after it the agent may do neither.
//! 2. A spool whose output is no more stays where it is, and is named with its bytes at each start, until
//!    an output adopts it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::count::Registry;
use crate::base::store::Store as _;
use crate::base::time::{Mono, Timestamp};
use crate::encode::Outlet;
use crate::ledger::Ledger;
use crate::machine::store::MachineStore;
use crate::plan::{DiskSpool, Plan, Spool};
use crate::spool::{self, Keeper, is_of_kind, kind_of, segment_name, segment_number};

/// The directory of all spools within the state directory.
const SPOOL: &str = "spool";

/// A spool that is to be taken up.
#[derive(Debug)]
struct Wanted {
    dir: PathBuf,
    name: String,
    kind: [u8; 4],
    plan: DiskSpool,
    outlet: Arc<Outlet>,
}

/// All spools of a plan.
#[derive(Debug)]
pub(super) struct Spools {
    wanted: Vec<Wanted>,
    keepers: Vec<Keeper<MachineStore>>,
    ledger: Arc<Ledger>,
    registry: Arc<Registry>,
}

impl Spools {
    /// Those of the plan, none taken up yet.
    pub(super) fn of(
        plan: &Plan,
        outlets: &[Arc<Outlet>],
        ledger: &Arc<Ledger>,
        registry: &Arc<Registry>,
    ) -> Self {
        let all = plan.state.join(SPOOL);
        let spools = plan.outputs.iter().zip(outlets);
        let wanted = spools.filter_map(|(output, outlet)| match &output.spool {
            Spool::Disk(disk) => Some(Wanted {
                dir: all.join(&output.name),
                name: output.name.clone(),
                kind: kind_of(&output.kind),
                plan: disk.clone(),
                outlet: Arc::clone(outlet),
            }),
            Spool::Off | Spool::Memory(_) => None,
        });
        Self {
            wanted: wanted.collect(),
            keepers: Vec::new(),
            ledger: Arc::clone(ledger),
            registry: Arc::clone(registry),
        }
    }

    /// Takes them up: goes through their segments.
    pub(super) fn take_up(&mut self) {
        for wanted in std::mem::take(&mut self.wanted) {
            let store = MachineStore::new(wanted.dir.clone());
            let registry = &self.registry;
            let ledger = Arc::clone(&self.ledger);
            self.keepers.push(Keeper::open(
                store,
                wanted.kind,
                &wanted.plan,
                (wanted.outlet, &wanted.name),
                ledger,
                registry,
            ));
        }
    }

    /// A turn of each.
    pub(super) fn turn(&mut self, now: Mono, wall: Timestamp) -> spool::keeper::Turn {
        let mut all = spool::keeper::Turn::default();
        for keeper in &mut self.keepers {
            let turn = keeper.turn(now, wall);
            all.progress |= turn.progress;
            all.deadline = [all.deadline, turn.deadline].into_iter().flatten().min();
        }
        all
    }

    /// The agent ends.
    pub(super) fn end(&mut self, now: Mono) {
        self.keepers.iter_mut().for_each(|keeper| keeper.end(now));
    }
}

/// Makes the directories of a plan's spools, and has those adopted that it says. What lies in the state
/// directory for no output is named.
pub(super) fn prepare(plan: &Plan) {
    let all = plan.state.join(SPOOL);
    let mut taken = Vec::new();
    for output in &plan.outputs {
        let Spool::Disk(disk) = &output.spool else {
            continue;
        };
        let dir = all.join(&output.name);
        taken.push(output.name.clone());
        if let Err(error) = fs::create_dir_all(&dir) {
            // Said again, with its cure, when something is to be spooled.
            tracing::warn!(output = %output.name, %error, "cannot make {}", dir.display());
        }
        if let Some(old) = &disk.adopt {
            taken.push(old.clone());
            let into = MachineStore::new(dir.clone());
            adopt(
                &output.name,
                (&all.join(old), &dir, &into),
                kind_of(&output.kind),
            );
        }
    }
    for dir in fs::read_dir(&all).into_iter().flatten().flatten() {
        let name = dir.file_name().to_string_lossy().into_owned();
        let listed = MachineStore::new(dir.path()).list().unwrap_or_default();
        let bytes: u64 = listed.iter().map(|(_, size)| size).sum();
        if !taken.contains(&name) && bytes > 0 {
            tracing::warn!(spool = %name, bytes, "there is a spool of an output that is not in the config, or \
                has no `spool.disk` any more; it is kept and not sent: let an output of its kind have \
                `spool: {{adopt: {name}}}`, or delete {}", dir.path().display());
        }
    }
}

/// Puts the segments of another spool behind those that are there.
fn adopt(output: &str, (from, to, into): (&Path, &Path, &MachineStore), kind: [u8; 4]) {
    match move_segments(from, to, into, kind) {
        Ok(0) => {}
        Ok(segments) => {
            let _ = fs::remove_dir(from);
            tracing::info!(output, segments, "adopted the spool {}", from.display());
        }
        Err(error) => tracing::error!(output, %error,
            "cannot adopt the whole spool; what is left of it stays in {}", from.display()),
    }
}

/// Moves all segments of a kind, in order; says how many.
fn move_segments(
    dir: &Path,
    to: &Path,
    into: &MachineStore,
    kind: [u8; 4],
) -> std::io::Result<usize> {
    let from = MachineStore::new(dir.to_owned());
    let numbers = |listed: Vec<(String, u64)>| -> Vec<u64> {
        let names = listed.iter().map(|(name, _)| name.as_str());
        let mut numbers: Vec<u64> = names.filter_map(segment_number).collect();
        numbers.sort_unstable();
        numbers
    };
    let mut next = numbers(into.list()?).last().map_or(1, |last| last + 1);
    let mut moved = 0;
    for number in numbers(from.list()?) {
        let name = segment_name(number);
        if !is_of_kind(&from, &name, kind)? {
            return Err(std::io::Error::other(
                "it holds requests of another kind of output: let an output of that kind adopt it",
            ));
        }
        fs::rename(dir.join(name), to.join(segment_name(next)))?;
        (next, moved) = (next + 1, moved + 1);
    }
    Ok(moved)
}
