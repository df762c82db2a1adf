//! Files and pods that come and go.

use super::{Script, script::Log};
use crate::servers::Mood;

type Done = Result<(), String>;

/// R5: the oldest file is deleted before every output has it, while the agent is down; the bytes are
/// told by output, to the byte. One that is deleted under the agent's eyes loses nothing.
pub(super) fn deleted_unread(s: &mut Script) -> Done {
    let log = s.pod();
    s.start()?;
    s.say(log, 3);
    s.settle()?;
    s.rotate(log);
    s.say(log, 3);
    s.settle()?;
    s.delete(log, 0);
    // Lines without an output's answer: known by their size alone.
    s.moods(Mood::Dead);
    s.say(log, 10);
    let rotated = s.key(log, 1);
    s.rename(log);
    s.create(log);
    s.switch(log);
    s.say(log, 3);
    // Positions are written within a second; what is under way is given up by then.
    s.run(3_000)?;
    s.crash();
    s.delete(log, 1);
    s.give_up(rotated);
    s.moods(Mood::Well);
    s.start()?;
    s.settle()?;
    s.told_losses()
}

/// R6: a pod's files are deleted, and its directories with them, while bytes are unread: what the
/// agent has open is read to its end. Some pods live for 20 ms.
pub(super) fn deleted_open(s: &mut Script) -> Done {
    s.sim.node.unlink_ms = 0;
    s.start()?;
    for _ in 0..5 {
        let log = s.pod();
        s.say(log, 2);
        s.opened(log)?;
        let slow = s.rng.chance(50);
        s.say(log, if slow { 40 } else { 3 });
        s.some(if slow { 100 } else { 10 })?;
        s.say(log, 2);
        s.end_pod(log);
        s.some(200)?;
    }
    s.sim.settle(Some(0))
}

/// R7: a new pod is read from its first byte, and soon: nothing waits for a look around.
pub(super) fn found_at_once(s: &mut Script) -> Done {
    s.start()?;
    s.run(500)?;
    for _ in 0..5 {
        let log = s.pod();
        s.some(3)?;
        s.say(log, 4);
        s.run(SOON_MS)?;
        s.arrived("a new pod's first lines, soon after them")?;
    }
    Ok(())
}

/// R24: many pods come and go, some under the name of one before; descriptors, watches and series
/// go with them.
pub(super) fn churn(s: &mut Script) -> Done {
    s.start()?;
    for round in 0..12 {
        let pods: Vec<Log> = (0..3)
            .map(|number| s.pod_named(&format!("job-{}", (round + number) % 4)))
            .collect();
        for log in &pods {
            s.say(*log, 3);
            s.some(10)?;
            s.rotate(*log);
            s.say(*log, 2);
        }
        s.settle()?;
        s.most_held(2 * pods.len())?;
        for log in pods {
            s.end_pod(log);
        }
        s.sim.settle(Some(0))?;
        s.sim.check_nothing_is_left()?;
    }
    Ok(())
}

/// Reading, batching, sending and the turns of a busy node, with room to spare; a look around every
/// second or more is not within it.
const SOON_MS: u64 = 400;
