//! A state disk that is full, and a positions file that is damaged.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::agent::{Agent, Setup};
use crate::bed::Bed;
use crate::sink::{Manner, Sink};

/// A small file system in memory.
struct Small(PathBuf);

impl Small {
    /// None, with the reason printed, where mounting is refused.
    fn mount(path: &Path) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "tailwake-test"]);
        match mount.arg(path).output() {
            Ok(done) if done.status.success() => Some(Self(path.to_owned())),
            Ok(done) => {
                eprintln!("skipped: {}", String::from_utf8_lossy(&done.stderr));
                None
            }
            Err(error) => {
                eprintln!("skipped: mount: {error}");
                None
            }
        }
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut ballast = std::fs::File::create(self.0.join("ballast")).unwrap();
        while ballast.write_all(&[0; 512]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_state_disk_delays_no_line_and_is_written_again_when_there_is_room() {
    let (bed, sink) = (Bed::new("full"), Sink::start(Manner::Good));
    let Some(disk) = Small::mount(&bed.path("state")) else {
        return;
    };
    let setup = Setup::to(&sink);
    let mut agent = Agent::start(&bed, &setup);
    let mut good = bed.write("good", "first", 10);
    agent.awaits_texts(&sink, "good", &good);
    let path = bed.path("state/positions");
    agent.awaits("positions are written", |_| path.exists());
    disk.fill();
    good.extend(bed.write("good", "second", 200));
    agent.awaits_texts(&sink, "good", &good);
    let errors = "tailwake_positions_write_errors_total";
    // Nothing more is delivered, and it is tried again all the same.
    agent.awaits("two writes fail", |agent| agent.metric(errors, &[]) >= 2);
    agent.assert_said_once("cannot write positions");
    assert!(!path.with_extension("tmp").exists());
    disk.make_room();
    let size = std::fs::metadata(bed.container("good").join("0.log")).unwrap();
    let told = format!("\"at\":{}", size.len());
    agent.awaits("they are written", |_| {
        std::fs::read_to_string(&path).is_ok_and(|text| text.contains(&told))
    });
    agent.kill();

    // All of it was known: nothing comes twice.
    let mut agent = Agent::start(&bed, &setup);
    good.extend(bed.write("good", "third", 10));
    agent.awaits_texts(&sink, "good", &good);
    disk.fill();
    good.extend(bed.write("good", "fourth", 10));
    agent.awaits_texts(&sink, "good", &good);
    agent.kill();

    // What was acknowledged since the last write comes again; nothing is missing.
    disk.make_room();
    let mut agent = Agent::start(&bed, &setup);
    bed.write("good", "fifth", 10);
    agent.awaits("the last line", |_| {
        sink.texts("good")
            .last()
            .is_some_and(|text| text == "fifth 9")
    });
    let texts = sink.texts("good");
    assert!(good.iter().all(|text| texts.contains(text)));
    agent.end();
}

#[test]
fn where_start_at_began_is_known_after_a_crash_though_nothing_was_delivered() {
    let bed = Bed::new("start-at");
    let silent = Sink::start(Manner::Silent);
    let mut setup = Setup::to(&silent);
    setup.start_at = "end";
    bed.write("good", "old", 10);
    let mut agent = Agent::start(&bed, &setup);
    let path = bed.path("state/positions");
    agent.awaits("positions are written", |_| {
        std::fs::read_to_string(&path).is_ok_and(|text| text.contains("ns_good_good-uid"))
    });
    let new = bed.write("good", "new", 10);
    agent.awaits("they are read", |agent| agent.status()["lines_read"] == 10);
    agent.kill();
    silent.behave(Manner::Good);
    let mut agent = Agent::start(&bed, &setup);
    agent.awaits_texts(&silent, "good", &new);
    agent.end();
}

#[test]
fn what_a_stage_drops_is_known_after_a_crash_though_nothing_was_delivered() {
    let bed = Bed::new("dropped");
    let silent = Sink::start(Manner::Silent);
    let mut setup = Setup::to(&silent);
    setup.stages = "[{cri: {}}, {drop: {expression: noise}}]";
    let mut agent = Agent::start(&bed, &setup);
    bed.write("noisy", "noise", 10);
    agent.awaits("they are read", |agent| agent.status()["lines_read"] == 10);
    let size = std::fs::metadata(bed.container("noisy").join("0.log")).unwrap();
    let path = bed.path("state/positions");
    agent.awaits("positions are at its end", |_| {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        text.contains(&format!("{{\"at\":{}}}", size.len()))
    });
    agent.kill();
}

#[test]
fn a_damaged_positions_file_is_set_aside_counted_and_never_a_crash_loop() {
    let (bed, sink) = (Bed::new("corrupt"), Sink::start(Manner::Good));
    let setup = Setup::to(&sink);
    let mut agent = Agent::start(&bed, &setup);
    let mut good = bed.write("good", "good", 50);
    agent.awaits_texts(&sink, "good", &good);
    agent.end();
    let path = bed.path("state/positions");
    let whole = std::fs::read(&path).unwrap();
    let altered = String::from_utf8_lossy(&whole).replace("good", "evil");
    let damaged = [
        vec![0; whole.len()],
        whole[..whole.len() / 2].to_vec(),
        altered.into_bytes(),
        Vec::new(),
    ];
    for (round, bytes) in damaged.into_iter().enumerate() {
        std::fs::write(&path, &bytes).unwrap();
        let mut agent = Agent::start(&bed, &setup);
        // Read as at the first time: all of it again, and in order.
        good.extend(good[..50].to_vec());
        agent.awaits_texts(&sink, "good", &good);
        agent.awaits_metric("tailwake_positions_corrupt_total", &[], 1);
        agent.assert_said_once("the positions file is damaged and was set aside");
        let aside = std::fs::read(path.with_extension("corrupt")).unwrap();
        assert_eq!(aside, bytes, "round {round}");
        agent.end();
    }
    // The last run has written a whole one: nothing comes again.
    let mut agent = Agent::start(&bed, &setup);
    let other = bed.write("other", "other", 5);
    agent.awaits_texts(&sink, "other", &other);
    assert_eq!(sink.texts("good"), good);
    assert_eq!(agent.metric("tailwake_positions_corrupt_total", &[]), 0);
    agent.end();
}
