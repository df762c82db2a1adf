//! What is stored, and lives that end.

use super::Script;
use crate::servers::Mood;

type Done = Result<(), String>;

/// R16: the positions file is full of NULs, cut, altered in one digit, or missing: the agent starts,
/// and nothing is missed.
pub(super) fn damaged_positions(s: &mut Script) -> Done {
    let log = s.pod();
    s.start()?;
    for round in 0..5 {
        s.say(log, 6);
        s.settle()?;
        s.run(1_500)?;
        s.crash();
        s.say(log, 6);
        let mut state = s.sim.world.lock();
        let mut bytes = state.positions.take().unwrap_or_default();
        match round {
            0 => bytes.fill(0),
            1 => bytes.truncate(bytes.len() / 2),
            2 => bytes.clear(),
            3 => further(&mut bytes),
            _ => {}
        }
        state.positions = (round < 4).then_some(bytes);
        drop(state);
        s.start()?;
    }
    Ok(())
}

/// The watermark's first digit is altered: further than anything that arrived.
fn further(bytes: &mut [u8]) {
    let key = b"\"at\":";
    let places = bytes.windows(key.len()).enumerate();
    let places: Vec<usize> = places.filter(|it| it.1 == key).map(|it| it.0).collect();
    for at in places {
        bytes[at + key.len()] = b'9';
    }
}

/// R17: positions are stored when the servers have the bytes, and not before: a kill while nothing is
/// answered costs nothing.
pub(super) fn stored_too_early(s: &mut Script) -> Done {
    let log = s.pod();
    s.start()?;
    for _ in 0..5 {
        let mood = [Mood::Down, Mood::Busy][s.rng.place(2)];
        let output = s.rng.place(2);
        s.mood(output, mood);
        s.say(log, 8);
        s.some(1_500)?;
        s.restart()?;
        s.some(200)?;
        s.mood(output, Mood::Well);
    }
    Ok(())
}

/// R20: a start with a backlog of many buffers and windows, under slow servers, killed on its way:
/// each turn stays within the memory formula.
pub(super) fn backlog(s: &mut Script) -> Done {
    let log = s.pod();
    for _ in 0..6 {
        s.say(log, 60);
        s.rotate(log);
    }
    s.say(log, 20);
    s.moods(Mood::Busy);
    s.start()?;
    s.some(600)?;
    s.restart()?;
    s.mood(0, Mood::Well);
    s.some(600)?;
    s.restart()
}

/// R27: the agent is killed again and again, at any turn; the wall clock is set back and forth.
pub(super) fn killed(s: &mut Script) -> Done {
    let log = s.pod();
    s.start()?;
    for round in 0..12 {
        s.sim.wall_shift = [0, -86_400 * 400, 3_600, -1][round % 4];
        s.say(log, 3);
        if round % 5 == 4 {
            s.rotate(log);
            s.say(log, 2);
        }
        s.some(80)?;
        s.restart()?;
    }
    Ok(())
}

/// R27: an agent that is told to end delivers what it has read, stores where it is, and its successor
/// sends none of it again.
pub(super) fn told_to_end(s: &mut Script) -> Done {
    let log = s.pod();
    s.start()?;
    for _ in 0..6 {
        s.say(log, 10);
        s.some(60)?;
        if s.rng.chance(30) {
            s.rotate(log);
            s.say(log, 3);
        }
        s.stop()?;
        s.say(log, 2);
        s.start()?;
    }
    Ok(())
}
