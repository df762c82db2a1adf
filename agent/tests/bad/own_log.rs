//! The agent's own log stands in the tree that it reads, as it does on every node.
//!
//! What it complains of comes back as lines that it may complain of. That must die out: the test
//! waits for the moment at which all that it ever said has been read and acknowledged.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread::JoinHandle;

use crate::agent::{Agent, Setup};
use crate::bed::{Bed, Log};
use crate::sink::{Manner, Sink};

/// Lines that its log may have at the most, with all that is said at start. Bad lines, of which it
/// could say one each, are far more.
const SAID_MAX: usize = 60;

const BAD: usize = 2_000;

/// Makes it complain of everything at once, and proves that its log ends.
fn complains(bed: &Bed, sink: &Sink, mut agent: Agent, own: &PathBuf) -> Agent {
    let mut log = bed.log("bad");
    let mut bad = Vec::new();
    for number in 0..BAD {
        bad.push(format!("neither CRI nor JSON {number}"));
        log.raw(format!("{}\n", bad[number]).as_bytes());
    }
    std::os::unix::fs::symlink("/proc/kmsg", bed.container("bad").join("1.log")).unwrap();
    let good = bed.write("good", "good", 200);
    agent.awaits_texts(sink, "good", &good);
    agent.awaits_texts(sink, "bad", &bad);
    agent.awaits(
        "all it said is acknowledged and it has said no more",
        |agent| {
            let size = || std::fs::metadata(own).map_or(0, |own| own.len());
            let before = size();
            let status = agent.status();
            let containers = status["containers"].as_array().cloned();
            let own = containers.unwrap_or_default();
            let own = own.iter().find(|container| container["pod"] == "own");
            let acknowledged = own.and_then(|own| own["outputs"]["good"]["bytes"].as_u64());
            acknowledged == Some(before) && before == size()
        },
    );
    let said = agent.said();
    let lines = said.lines().count();
    assert!(lines <= SAID_MAX, "{lines} lines:\n{said}");
    assert_eq!(sink.texts("own").len(), lines);
    agent
}

fn setup(bed: &Bed, sink: &Sink, silent: &Sink) -> Setup {
    let mut setup = Setup::to(sink).and(silent.loki());
    setup.stages = "[{cri: {}}, {json: {fields: {level: level}}}]";
    setup.log = Some(bed.container("own").join("0.log"));
    setup
}

#[test]
fn its_own_log_in_the_tree_as_it_is_written_does_not_feed_itself() {
    let bed = Bed::new("own-raw");
    let (sink, silent) = (Sink::start(Manner::Good), Sink::start(Manner::Silent));
    let setup = setup(&bed, &sink, &silent);
    let own = setup.log.clone().unwrap();
    let agent = Agent::start(&bed, &setup);
    let mut agent = complains(&bed, &sink, agent, &own);
    let said = agent.said();
    let of_itself = said.lines().count() as u64;
    let not_cri = agent.metric("tailwake_lines_not_cri_total", &[]);
    assert!(not_cri >= BAD as u64 + of_itself, "{not_cri} {of_itself}");
    agent.assert_said_once("lines are no CRI lines");
    agent.assert_said_once("texts are no JSON objects");
    agent.assert_said_once("no log file after all");
    agent.assert_said_once("no answer in time; sent again");
    agent.end();
}

#[test]
fn its_own_log_in_the_tree_framed_by_a_runtime_does_not_feed_itself_even_at_trace() {
    let bed = Bed::new("own-cri");
    let (sink, silent) = (Sink::start(Manner::Good), Sink::start(Manner::Silent));
    let mut setup = setup(&bed, &sink, &silent);
    setup.args = &["--log-level", "trace"];
    let own = setup.log.clone().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut framed = Log::open(&own);
    // As a container runtime does: each line of standard error becomes a CRI line.
    let runtime: JoinHandle<()> = std::thread::spawn(move || {
        for line in BufReader::new(reader).lines() {
            framed.line(&line.unwrap());
        }
    });
    let agent = Agent::start_with(&bed, &setup, |_| Stdio::from(writer));
    let mut agent = complains(&bed, &sink, agent, &own);
    // The silent output's passes read some lines again; none of its own is among them.
    let not_cri = agent.metric("tailwake_lines_not_cri_total", &[]);
    assert!(not_cri >= BAD as u64, "{not_cri}");
    agent.assert_said_once("lines are no CRI lines");
    agent.end();
    runtime.join().unwrap();
}
