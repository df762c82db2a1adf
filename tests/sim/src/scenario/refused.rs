//! What servers refuse: items of a bulk, lines and streams of a push.

use harness::limits::Limits;

use super::Script;
use crate::servers::{Mood, SPOILT};

type Done = Result<(), String>;

/// R21: some items of a bulk are put off, some bear fields that the server refuses, some lines it refuses
/// for good: the first go again alone, the second as text, and the third alone are rejected, counted
/// item by item and with the dead letters.
pub(super) fn bulk_items(s: &mut Script) -> Done {
    let (log, json) = (s.pod(), s.json_pod());
    s.start()?;
    for round in 0..8 {
        s.mood(1, [Mood::Picky, Mood::Busy][round % 2]);
        s.say(log, 8);
        s.say(json, 4);
        s.spoil(log, 1 + round % 3);
        s.say(log, 3);
        s.some(300)?;
    }
    s.mood(1, Mood::Picky);
    s.settle()?;
    s.rejected(1)
}

/// R22: Loki answers 404, 429, 500 or not at all, then refuses lines (too long, or in words that nobody
/// knows), the rate of one stream and a stream's making: what it stores is acknowledged, what it refuses
/// is rejected and nothing else, and who is not limited does not wait.
pub(super) fn push_limits(s: &mut Script) -> Done {
    let logs = [s.pod(), s.pod(), s.pod()];
    s.start()?;
    s.limits(
        0,
        Limits {
            line_bytes: Some(80),
            stream_rate: Some((60, 130)),
            whole_stream: true,
            unknown: Some(SPOILT.to_owned()),
            ..Limits::default()
        },
    );
    for mood in [Mood::Busy, Mood::Down, Mood::Odd, Mood::Well, Mood::Picky] {
        if mood == Mood::Picky {
            s.settle_all(20_000)?;
        }
        s.mood(0, mood);
        for log in logs {
            s.say(log, 6);
            s.spoil(log, usize::from(mood == Mood::Picky));
        }
        s.some(600)?;
    }
    s.settle_all(60_000)?;
    let [fast, calm, late] = logs;
    s.say_in(fast, 0, 12);
    s.some(50)?;
    for _ in 0..2 {
        s.say_in(calm, 1, 1);
        s.run(1_000)?;
        // A window that the fast stream fills holds up everybody.
        if s.has_room(0) {
            s.arrived_of(calm)?;
        }
    }
    if s.arrived_of(fast).is_ok() {
        return Err("the fast stream was not limited".to_owned());
    }
    // No further stream is made; those that are there go on.
    let more = s.pod();
    let held = Limits {
        streams: Some(1),
        ..Limits::default()
    };
    s.limits(0, held);
    s.say_in(more, 0, 5);
    s.run(500)?;
    s.say_in(late, 0, 2);
    s.run(1_000)?;
    if s.has_room(0) {
        s.arrived_of(late)?;
    }
    if s.arrived_of(more).is_ok() {
        return Err("the new stream was not held".to_owned());
    }
    s.limits(0, Limits::default());
    s.settle_all(60_000)?;
    s.rejected(0)
}
