//! Files that are renamed, compressed, and come back.

use super::Script;
use crate::servers::Mood;

type Done = Result<(), String>;

/// R1: containerd writes to the renamed file until it has opened the new one, and a little longer.
pub(super) fn renamed_unread(s: &mut Script) -> Done {
    let log = s.pod();
    s.start()?;
    s.some(60)?;
    for _ in 0..4 {
        s.say(log, 6);
        if s.rng.chance(50) {
            // The file sleeps, and its last lines come when the new one is there.
            s.settle()?;
            s.run(600)?;
            s.rename(log);
        } else {
            s.some(4)?;
            s.rename(log);
            s.say(log, 3);
            s.some(40)?;
            s.say(log, 2);
        }
        s.create(log);
        // The agent may have the new file before containerd has it, which takes 0.3 ms.
        let new = s.files(log) - 1;
        if s.rng.chance(70) {
            s.opened_at(log, new)?;
            s.some(10)?;
        }
        s.say(log, 1);
        s.switch(log);
        s.say(log, 4);
        s.some(120)?;
    }
    Ok(())
}

/// R2: the agent looks once at several rotations; each file has something.
pub(super) fn in_a_blink(s: &mut Script) -> Done {
    let log = s.pod();
    s.say(log, 2);
    s.start()?;
    for _ in 0..3 {
        s.settle()?;
        for _ in 0..=s.rng.below(4) {
            s.say(log, 5);
            s.rotate(log);
        }
        s.say(log, 2);
        s.some(30)?;
    }
    Ok(())
}

/// R3: an output that lags meets its file compressed; the agent is killed meanwhile. No record comes
/// twice for the copy, and none is missed for the file that went.
pub(super) fn compressed(s: &mut Script) -> Done {
    let log = s.pod();
    s.start()?;
    let lags = s.rng.chance(50);
    for round in 0..4 {
        s.say(log, 12);
        s.some(100)?;
        if lags {
            s.mood(round % 2, Mood::Down);
        }
        s.rotate(log);
        let at = s.files(log) - 2;
        s.say(log, 4);
        s.some(60)?;
        let packing = s.pack_begin(log, at);
        s.some(20)?;
        let killed = s.rng.chance(30);
        if killed {
            s.crash();
        }
        let plain = s.pack_end(log, at, packing);
        s.some(3)?;
        s.sim.world.unlink(&plain);
        if killed {
            s.start()?;
        }
        s.say(log, 2);
        s.some(200)?;
        s.mood(round % 2, Mood::Well);
        if s.rng.chance(50) {
            s.settle()?;
        }
    }
    Ok(())
}

/// R4: one file far above the limit, read under a dead output within the memory formula; kubelet
/// leaves its half-made `.tmp` behind, and the plain file stays.
pub(super) fn late_and_large(s: &mut Script) -> Done {
    let log = s.pod();
    s.start()?;
    s.mood(1, Mood::Down);
    for _ in 0..20 {
        s.say(log, 20);
        s.some(10)?;
    }
    s.rotate(log);
    s.say(log, 5);
    let left = s.pack_begin(log, 0);
    s.some(500)?;
    let path = s.writer(log).packing(0);
    s.moods(Mood::Well);
    s.settle()?;
    s.sim.world.unlink(&path);
    drop(left);
    Ok(())
}

/// R8: the old file ends with `P`, the new one begins with the rest.
pub(super) fn record_across(s: &mut Script) -> Done {
    let log = s.pod();
    s.start()?;
    for _ in 0..6 {
        s.say(log, 2);
        let stream = s.rng.place(2);
        let mut open = s.begin(log, stream, "one part two part three part", 3);
        s.part(log, &mut open, 9);
        s.some(30)?;
        s.rename(log);
        if s.rng.chance(50) {
            s.part(log, &mut open, 10);
            s.some(20)?;
            s.create(log);
            s.switch(log);
        } else {
            s.some(20)?;
            s.create(log);
            s.switch(log);
            s.part(log, &mut open, 10);
        }
        s.some(30)?;
        s.finish(log, open);
        s.say(log, 2);
        if s.rng.chance(40) {
            s.some(100)?;
            s.restart()?;
        } else {
            s.some(300)?;
        }
    }
    Ok(())
}

/// R14: `0.log` becomes a rotated name and then `0.log` again, with lines in between.
pub(super) fn circle(s: &mut Script) -> Done {
    let log = s.pod();
    s.start()?;
    for _ in 0..4 {
        s.say(log, 4);
        s.some(60)?;
        let current = s.writer(log).current();
        s.rename(log);
        s.some(30)?;
        s.say(log, 2);
        s.some(60)?;
        let world = s.sim.world.clone();
        let file = &mut s.writer(log).files[0];
        let away = std::mem::replace(&mut file.path, current);
        world.rename_log(&away, &file.path);
        s.some(60)?;
    }
    Ok(())
}
