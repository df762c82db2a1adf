//! What stands in files: parts, torn lines, and contents that are alike.

use super::Script;
use crate::servers::Mood;
use crate::writer::line;

type Done = Result<(), String>;

/// R9: parts of records in both streams, mixed, with looks and a crash in between.
pub(super) fn streams_mixed(s: &mut Script) -> Done {
    let log = s.pod();
    s.start()?;
    for round in 0..8 {
        let mut open = [0, 1].map(|stream| s.begin(log, stream, "a text of some length, cut", 3));
        for part in 0..4 {
            let first = s.rng.place(2);
            s.part(log, &mut open[(first + part) % 2], 7);
            if part % 2 == 0 {
                s.part(log, &mut open[(first + part + 1) % 2], 5);
                break;
            }
            s.some(20)?;
        }
        let [mut out, mut err] = open;
        s.part(log, &mut out, 6);
        s.some(30)?;
        s.part(log, &mut err, 6);
        if round == 4 {
            s.restart()?;
        }
        s.finish(log, err);
        s.some(30)?;
        s.finish(log, out);
        s.say(log, 1);
        s.some(100)?;
    }
    Ok(())
}

/// R10: a line written in pieces, empty records, a character cut by a part, parts without end within
/// the memory formula, and a stream whose last line is a part.
pub(super) fn torn_lines(s: &mut Script) -> Done {
    let log = s.pod();
    s.sim.books.blanks = true;
    s.start()?;
    for _ in 0..5 {
        let bytes = s.compose(log, 2);
        let (first, second) = bytes.split_at(s.rng.place(bytes.len()));
        s.put(log, first);
        s.some(150)?;
        s.put(log, second);
        let blank = line(0, 'F', b"");
        s.blank(log, &blank);
        s.some(60)?;
    }
    let mut open = s.begin(log, 0, &"ü".repeat(800), 61);
    for _ in 0..60 {
        s.part(log, &mut open, 25);
        s.some(4)?;
    }
    s.finish(log, open);
    let mut left = s.begin(log, 1, "nobody ends this", 1);
    s.part(log, &mut left, 100);
    s.say_in(log, 0, 1);
    s.settle_but(1)?;
    s.end_pod(log);
    s.sim.settle(Some(0))
}

/// R11: logrotate copies and truncates; the file grows past its old length before anybody looks, its
/// first 1,100 bytes the same each time; unread bytes come from the copy. Then it is cut without one.
pub(super) fn truncated(s: &mut Script) -> Done {
    let log = s.pod();
    s.start()?;
    for round in 0..4 {
        header(s, log);
        s.say(log, 4 + round);
        // A read that is under way while the file is cut and grows again is beyond anybody's help.
        s.settle()?;
        if s.rng.chance(50) {
            s.say(log, 2);
        }
        s.copy(log);
        s.cut(log, 0);
        s.some(2)?;
        header(s, log);
        s.say(log, 8 + round);
        s.settle()?;
    }
    s.is("truncations", s.metric("tailwake_truncations_total"), 4)?;
    // No copy: what was read is not read again, and the next lines are not missed.
    s.cut(log, 0);
    s.say(log, 3);
    s.settle()?;
    s.told_losses()
}

/// R12: the file's number goes to its successor at once, under the same name, with a length beyond
/// the stored place; the agent is down meanwhile.
pub(super) fn number_again(s: &mut Script) -> Done {
    let log = s.pod();
    s.start()?;
    for _ in 0..4 {
        s.say(log, 4);
        s.settle()?;
        s.run(1_500)?;
        s.crash();
        let at = s.files(log) - 1;
        s.delete(log, at);
        s.create(log);
        s.switch(log);
        let more = 5 + s.rng.place(10);
        s.say(log, more);
        s.start()?;
        s.some(300)?;
    }
    Ok(())
}

/// R13: empty files, tiny files, and files whose first 1,100 bytes are the same, rotated in every
/// state and met again after a crash.
pub(super) fn alike(s: &mut Script) -> Done {
    let log = s.pod();
    s.start()?;
    for round in 0..6 {
        match round % 3 {
            0 => {}
            1 => s.say(log, 1),
            _ => {
                header(s, log);
                s.say(log, 1);
            }
        }
        if s.rng.chance(50) {
            s.settle()?;
        } else {
            s.some(30)?;
        }
        s.rotate(log);
        if s.rng.chance(40) {
            s.mood(0, Mood::Down);
            s.some(300)?;
            s.restart()?;
            s.mood(0, Mood::Well);
        }
    }
    for _ in 0..3 {
        header(s, log);
        s.say(log, 1);
        s.rotate(log);
        s.some(40)?;
    }
    Ok(())
}

/// Lines that the plan drops, the same in every file, longer than what a file is told by.
fn header(s: &mut Script, log: super::script::Log) {
    let text = "DROP-ME, a banner of many words that each start prints".repeat(4);
    let bytes = line(0, 'F', text.as_bytes()).repeat(5);
    s.blank(log, &bytes);
}
