//! The spool on the disk, end to end: the real binary, an output that is down, files that are gone.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "shared with the tests of bad input")]
#[path = "../bad/agent.rs"]
mod agent;
#[path = "../bad/bed.rs"]
mod bed;
#[expect(dead_code, reason = "shared with the tests of bad input")]
#[path = "../bad/sink.rs"]
mod sink;

use std::collections::BTreeSet;
use std::path::PathBuf;

use agent::{Agent, Setup};
use bed::Bed;
use harness::text::Random;
use sink::{Manner, Sink};

/// Far more than the window of the output holds.
const LINES: usize = 3_000;

const WAITING: &str = "tailwake_spool_lines";

/// An output with little room, little patience and a spool.
fn spooling(output: &str, spool: &str) -> Setup {
    let rest = "batch_bytes: 1KiB, window_bytes: 16KiB, linger: 20ms, timeout: 300ms, \
                retry: {min: 50ms, max: 200ms}";
    Setup {
        stages: "[{cri: {}}]",
        start_at: "beginning",
        kind: None,
        outputs: vec![("bad", format!("{output}, {rest}, spool: {{{spool}}}"))],
        more: "limits: {buffer_bytes: 4KiB, grace: 200ms}",
        args: &[],
        log: None,
        user: None,
        variables: Vec::new(),
    }
}

/// Lines that it found in its spool, as it says.
fn found(agent: &mut Agent) -> u64 {
    agent.until("it says what it found", |agent| {
        let said = agent.said();
        let (_, rest) = said.split_once("the spool holds")?;
        let (_, lines) = rest.split_once(" lines=")?;
        lines.split_whitespace().next()?.parse().ok()
    })
}

fn segments(bed: &Bed) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(bed.path("state/spool/bad"));
    let mut paths: Vec<PathBuf> = listed
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "seg"))
        .collect();
    paths.sort();
    paths
}

/// Writes until all of it is spooled or in the window, and deletes the files.
fn spool_and_delete(bed: &Bed, agent: &mut Agent, text: &str) -> Vec<String> {
    let before = agent.status()["lines_read"].as_u64().unwrap_or(0);
    let lines = bed.write("good", text, LINES);
    agent.awaits("all is read", |agent| {
        agent.status()["lines_read"] == before + LINES as u64
    });
    agent.awaits("most of it is spooled", |agent| {
        agent.metric(WAITING, &[]) > LINES as u64 / 2
    });
    std::fs::remove_dir_all(bed.pod("good")).unwrap();
    lines
}

#[test]
fn what_is_spooled_outlives_its_files_and_the_agent() {
    for (name, of) in [
        ("spool-loki", Sink::loki as fn(&Sink) -> String),
        ("spool-bulk", Sink::bulk),
    ] {
        let (bed, sink) = (Bed::new(name), Sink::start(Manner::Silent));
        let setup = spooling(&of(&sink), "disk: 64MiB, live_share: 0");
        let mut agent = Agent::start(&bed, &setup);
        let mut want = spool_and_delete(&bed, &mut agent, "first");
        assert!(!segments(&bed).is_empty());
        agent.kill();

        // A second run adds to it, and is killed as well.
        let mut agent = Agent::start(&bed, &setup);
        assert!(found(&mut agent) > LINES as u64 / 2);
        want.extend(spool_and_delete(&bed, &mut agent, "second"));
        agent.kill();

        sink.behave(Manner::Good);
        let mut agent = Agent::start(&bed, &setup);
        let third = bed.write("good", "third", 10);
        agent.awaits("the last line", |_| {
            sink.texts("good").last() == third.last()
        });
        // What a run had in its window when it was killed is lost with the files, and is known.
        let texts = sink.texts("good");
        want.extend(third);
        let places: Vec<usize> = texts
            .iter()
            .map(|text| want.iter().position(|other| other == text).unwrap())
            .collect();
        assert!(places.is_sorted_by(|a, b| a < b), "each once, in order");
        assert_eq!(texts.len() as u64, found(&mut agent) + 10);
        assert!(segments(&bed).is_empty(), "nothing is left on the disk");
        agent.awaits("the spool is empty", |agent| {
            agent.metric(WAITING, &[]) == 0
        });
        agent.end();
    }
}

#[test]
fn nothing_is_written_while_the_output_keeps_up() {
    let (bed, sink) = (Bed::new("spool-idle"), Sink::start(Manner::Good));
    let setup = spooling(&sink.loki(), "disk: 64MiB");
    let mut agent = Agent::start(&bed, &setup);
    let want = bed.write("good", "good", 20);
    agent.awaits_texts(&sink, "good", &want);
    assert!(segments(&bed).is_empty());
    agent.end();
}

#[test]
fn a_damaged_spool_is_set_aside_and_counted_and_all_else_is_delivered() {
    let (bed, sink) = (Bed::new("spool-torn"), Sink::start(Manner::Silent));
    let setup = spooling(&sink.loki(), "disk: 64MiB, live_share: 0");
    let mut agent = Agent::start(&bed, &setup);
    spool_and_delete(&bed, &mut agent, "good");
    agent.kill();
    let path = segments(&bed).remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    // In the middle a byte is another, and the end is torn.
    let half = bytes.len() / 2;
    bytes[half] ^= 1;
    bytes.extend([0; 100]);
    std::fs::write(&path, &bytes).unwrap();
    std::fs::write(bed.path("state/spool/bad/0000000000000007.seg"), "not ours").unwrap();
    std::fs::create_dir_all(bed.path("state/spool/gone")).unwrap();
    std::fs::copy(&path, bed.path("state/spool/gone/0000000000000001.seg")).unwrap();

    sink.behave(Manner::Good);
    let mut agent = Agent::start(&bed, &setup);
    let there = found(&mut agent);
    agent.awaits("all else arrives", |agent| {
        let lost = agent.metric("tailwake_spool_damaged_lines_total", &[]);
        // Where a header is damaged, nobody knows of the lines.
        let unknown = agent.metric("tailwake_spool_unreadable_bytes_total", &[]) > 0;
        (lost > 0 || unknown) && sink.texts("good").len() as u64 + lost == there
    });
    agent.awaits("it is set aside", |_| {
        path.with_extension("damaged").exists()
    });
    for words in [
        "a part of the spool is not what was written",
        "files in the spool's directory that are not this output's",
        "a spool of an output that is not in the config",
    ] {
        agent.assert_said_once(words);
    }
    agent.end();

    // Another output of its kind adopts what is left of one that is no more.
    let spool = "disk: 64MiB, adopt: gone";
    let before = sink.texts("good").len();
    let mut agent = Agent::start(&bed, &spooling(&sink.loki(), spool));
    agent.awaits("the adopted lines come", |_| {
        sink.texts("good").len() == 2 * before
    });
    assert!(!bed.path("state/spool/gone").exists());
    agent.end();
}

/// Text that compresses little.
fn text(noise: &mut Random, bytes: usize) -> String {
    let letters = std::iter::repeat_with(|| char::from(b'0' + noise.below(75) as u8));
    letters.take(bytes).collect()
}

#[test]
fn at_its_cap_the_oldest_or_the_newest_are_given_up_and_counted() {
    const MORE: usize = 400;
    for policy in ["drop_oldest", "drop_newest", "wait"] {
        let (bed, sink) = (Bed::new(policy), Sink::start(Manner::Silent));
        let mut setup = spooling(&sink.loki(), &format!("disk: 16MiB, at_cap: {policy}"));
        // Texts that do not compress: the least cap is some segments.
        setup.more = "limits: {buffer_bytes: 64KiB, grace: 200ms, memory: 64MiB}";
        setup.outputs[0].1 = setup.outputs[0].1.replace(
            "batch_bytes: 1KiB, window_bytes: 16KiB",
            "batch_bytes: 512KiB, window_bytes: 256KiB",
        );
        let mut agent = Agent::start(&bed, &setup);
        let mut log = bed.log("good");
        let (mut noise, mut lines) = (Random::new(1), 0);
        let dropped = "tailwake_spool_dropped_lines_total";
        let full = |agent: &Agent| match policy {
            "wait" => agent.metric("tailwake_spool_bytes", &[]) >= 16 << 20,
            _ => agent.metric(dropped, &[]) > 0,
        };
        while !full(&agent) {
            assert!(lines < 20_000, "the cap was never reached");
            for _ in 0..MORE {
                log.line(&format!("{lines} {}", text(&mut noise, 8 << 10)));
                lines += 1;
            }
            agent.awaits("it is read, or waits", |agent| {
                let read = agent.status()["lines_read"].as_u64().unwrap_or(0);
                read + 100 >= lines as u64 || full(agent)
            });
        }
        sink.behave(Manner::Good);
        let known = |agent: &Agent| sink.texts("good").len() as u64 + agent.metric(dropped, &[]);
        agent.awaits("each line has come or was counted", |agent| {
            known(agent) >= lines as u64
        });
        assert_eq!(known(&agent), lines as u64, "{policy}");
        let numbers: Vec<usize> = sink
            .texts("good")
            .iter()
            .map(|text| text.split(' ').next().unwrap().parse().unwrap())
            .collect();
        assert!(numbers.is_sorted(), "{policy}: in order");
        let given_up = agent.metric(dropped, &[]);
        assert_eq!(given_up > 0, policy != "wait", "{policy}");
        // What the window had first is sent in any case.
        let has_last = numbers.contains(&(lines - 1));
        assert!(numbers.contains(&0) && (has_last || policy == "drop_newest"));
        agent.end();
    }
}

/// How often the agent is killed: `TAILWAKE_ROUNDS=200` takes some minutes.
fn rounds() -> u64 {
    let told = std::env::var("TAILWAKE_ROUNDS").ok();
    told.and_then(|rounds| rounds.parse().ok()).unwrap_or(40)
}

#[test]
fn killed_again_and_again_it_delivers_each_line() {
    let (bed, sink) = (Bed::new("spool-kills"), Sink::start(Manner::Silent));
    let setup = spooling(&sink.loki(), "disk: 16MiB, live_share: 0");
    let (mut random, mut want) = (Random::new(5), Vec::new());
    for round in 0..rounds() {
        let mut agent = Agent::start(&bed, &setup);
        want.extend(bed.write("good", &format!("round {round} line"), 300));
        // Killed while it spools, while it lends, or while it does neither.
        match random.below(3) {
            0 => {
                sink.behave(Manner::Silent);
                let some = agent.metric(WAITING, &[]) + random.below(200);
                agent.awaits("some lines are spooled", |agent| {
                    agent.metric(WAITING, &[]) >= some
                });
            }
            1 => {
                let some = sink.texts("good").len() + 1 + random.below(300) as usize;
                sink.behave(Manner::Good);
                agent.awaits("some lines arrive", |_| sink.texts("good").len() >= some);
            }
            _ => {}
        }
        agent.kill();
    }
    sink.behave(Manner::Good);
    let mut agent = Agent::start(&bed, &setup);
    // A killed agent's window is read again, behind what it had spooled.
    let different = || BTreeSet::from_iter(sink.texts("good"));
    agent.awaits("all lines", |_| different().len() >= want.len());
    assert_eq!(different(), BTreeSet::from_iter(want));
    agent.awaits("the spool is empty", |agent| {
        agent.metric(WAITING, &[]) == 0
    });
    assert!(segments(&bed).is_empty());
    agent.end();
    assert_eq!(
        std::fs::read_dir(bed.path("state/spool/bad"))
            .unwrap()
            .count(),
        0
    );
}
