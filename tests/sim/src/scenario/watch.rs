//! What announces itself badly or not at all: links, sick disks, lost events.

use std::path::{Path, PathBuf};

use super::Script;
use crate::plan::LINKED;
use crate::world::{Errno, Ills};

type Done = Result<(), String>;

/// R15: docker's link is led elsewhere, and removed before its target; a link out of the roots is
/// refused and counted.
pub(super) fn links(s: &mut Script) -> Done {
    let world = s.sim.world.clone();
    world.make_directory(Path::new(LINKED));
    s.start()?;
    let log = s.pod();
    s.say(log, 2);
    let out = s.writer(log).directory().join("5.log");
    world.link(&out, Path::new("/etc/shadow"));
    s.settle()?;
    s.is("refused", s.metric("tailwake_files_refused_total"), 1)?;
    world.unlink_link(&out);
    for number in 1..4 {
        // A restart: a new attempt, whose name leads below another root.
        let target = PathBuf::from(format!("{LINKED}/{number}.log"));
        let link = s.linked(log, &target);
        s.say(log, 4);
        s.some(60)?;
        s.say(log, 3);
        if s.rng.chance(50) {
            s.settle()?;
        }
        s.opened(log)?;
        if s.rng.chance(50) {
            // Docker rotates: the name that the link leads to is another file's now.
            let old = PathBuf::from(format!("{}.1", target.display()));
            world.rename_log(&target, &old);
            s.settle()?;
            s.at_target(log, &target);
            s.say(log, 3);
            s.opened(log)?;
            s.some(60)?;
        }
        world.unlink_link(&link);
        s.say(log, 2);
        s.some(60)?;
        s.settle()?;
        world.unlink(&target);
        s.gone(log);
    }
    s.attempt(log);
    s.say(log, 2);
    Ok(())
}

/// R25: one file's disk is sick: reads, stats and opens fail, and the others go on; once it is well
/// again everything arrives.
pub(super) fn sick_disk(s: &mut Script) -> Done {
    let (sick, well) = (s.pod(), s.pod());
    s.start()?;
    for round in 0..4 {
        s.say(sick, 3);
        s.some(100)?;
        let key = s.target(sick);
        let mut ills = Ills::default();
        match round % 3 {
            0 => ills.read.extend([key]),
            1 => ills.stat.extend([key]),
            _ => {
                ills.read.extend([key]);
                ills.full = true;
            }
        }
        s.ills(ills);
        s.say(sick, 5);
        s.say(well, 5);
        s.run(SOON_MS)?;
        s.arrived_of(well)?;
        s.run(2_500)?;
        s.ills(Ills::default());
        s.run(2_500)?;
        s.arrived("a second after the disk was well")?;
    }
    Ok(())
}

/// R26: no directory and no file can be watched, names and writes come unannounced, descriptors are
/// used up: the sweep finds everything within its time, and what recovers is used again.
pub(super) fn unannounced(s: &mut Script) -> Done {
    let old = s.pod();
    s.start()?;
    s.say(old, 2);
    s.settle()?;
    let refused = |number| Ills {
        watch: number == 0,
        rungs: number == 0 || number == 1,
        deaf: number != 3,
        overflow: number == 2,
        open: (number == 3).then_some(Errno::Emfile),
        ..Ills::default()
    };
    for number in 0..4 {
        s.ills(refused(number));
        let new = s.pod();
        s.say(old, 3);
        s.say(new, 3);
        if number == 3 {
            s.run(SWEEP_MS)?;
            s.ills(Ills::default());
        }
        s.run(2 * SWEEP_MS + LISTED_MS + SOON_MS)?;
        s.arrived("unannounced, after the sweep")?;
        s.rotate(old);
        s.say(old, 2);
        s.run(2 * SWEEP_MS + LISTED_MS + SOON_MS)?;
        s.arrived("rotated unannounced, after the sweep")?;
    }
    Ok(())
}

/// The simulated plan's sweep.
const SWEEP_MS: u64 = 400;

/// Directories without a watch are listed this often.
const LISTED_MS: u64 = 2_000;

/// Reading, batching and sending.
const SOON_MS: u64 = 400;
