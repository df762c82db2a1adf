//! An event that the wake source lost calls for a sweep, also where none is planned.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::sync::Arc;

use super::agent::Agent;
use super::rng::Rng;
use super::world::World;
use crate::base::time::{Mono, Timestamp};
use crate::discover::{Event, Place, Rotated};
use crate::ledger::positions::Positions;
use crate::ticket::{Feed, LogId, Meta, Source};

fn found(world: &World, number: u32) -> (u64, Event) {
    let path = PathBuf::from(format!("/pods/ns_pod-{number}_uid/app/0.log"));
    let key = world.create(&path);
    let source = Arc::new(Source {
        log: LogId(number),
        input: 0,
        key: format!("ns_pod-{number}_uid/app").into(),
        filename: path.display().to_string().into(),
        meta: Meta::default(),
        labels: Vec::new(),
        tag: None,
    });
    let place = Place {
        attempt: 0,
        rotated: Rotated::Current,
    };
    let event = Event::Found {
        source,
        path,
        place,
        at_start: false,
    };
    (key, event)
}

/// Turns long enough for every read to end; what was read is settled.
fn turn(agent: &mut Agent, from_ms: u64, mut news: Vec<Event>) {
    for ms in from_ms..from_ms + 400 {
        let now = Mono(ms * 1_000_000);
        let next = &mut || news.pop();
        agent.reader.turn(now, Timestamp::default(), next).unwrap();
        while let Some(feed) = agent.feeds.take() {
            if let Feed::Chunk(chunk) = feed {
                chunk.ticket.settle();
            }
        }
    }
}

fn read(agent: &Agent) -> Vec<u64> {
    let accounts = agent.ledger.accounts();
    accounts.iter().map(|log| log.read.lines).collect()
}

#[test]
fn a_refused_event_is_found_by_a_sweep_as_soon_as_another_file_wakes() {
    let world = World::new(true);
    let positions = Positions::default();
    let mut agent = Agent::new(&mut Rng::new(1), &world, positions, false);
    let ((lost, first), (other, second)) = (found(&world, 1), found(&world, 2));
    turn(&mut agent, 1, vec![first, second]);
    let line = b"t stdout F one\n";
    let write = |key| {
        world.announce(key, line.len() as u64);
        world.append(key, line);
    };
    world.refuse(1);
    write(lost);
    turn(&mut agent, 500, Vec::new());
    assert_eq!(read(&agent), [0, 0], "nobody was told");
    write(other);
    turn(&mut agent, 1_000, Vec::new());
    assert_eq!(read(&agent), [1, 1]);
    let counted = ["wake_refused", "sweep_alarms", "sweeps", "sweep_late_finds"]
        .map(|name| agent.registry.value(&format!("tailwake_{name}_total")));
    assert_eq!(counted, [1, 1, 1, 1]);
}
