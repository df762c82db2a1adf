//! Lines that are not what a stage reads, and lines that are not whole.

use crate::agent::{Agent, Setup};
use crate::bed::{Bed, Log, head};
use crate::sink::{Manner, Sink};

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn a_line_that_is_not_cri_is_sent_as_it_is_counted_and_said_once() {
    let (bed, sink) = (Bed::new("not-cri"), Sink::start(Manner::Good));
    let mut agent = Agent::start(&bed, &Setup::to(&sink));
    let mut want = Vec::new();
    for batch in 0..5 {
        let mut log = bed.log("bad");
        for number in 0..400 {
            let text = match number % 4 {
                0 => format!("plain {batch} {number}"),
                1 => format!("{{\"log\":\"docker {batch} {number}\"}}"),
                2 => format!("2026-13-45T99:99:99Z stdout F {batch} {number}"),
                _ => format!("2026-11-24T05:15:01Z stdin F {batch} {number}"),
            };
            log.raw(format!("{text}\n").as_bytes());
            want.push(text);
        }
        let good = bed.write(&format!("good{batch}"), "good", 200);
        agent.awaits_texts(&sink, &format!("good{batch}"), &good);
        agent.awaits_texts(&sink, "bad", &want);
    }
    agent.awaits_metric("tailwake_lines_not_cri_total", &[], 2_000);
    agent.assert_said_once("lines are no CRI lines");
    agent.end();
}

#[test]
fn a_text_that_is_no_json_is_sent_as_it_is_counted_and_said_once() {
    let (bed, sink) = (Bed::new("no-json"), Sink::start(Manner::Good));
    let mut setup = Setup::to(&sink);
    setup.stages = "[{cri: {}}, {json: {fields: {level: level}}}]";
    let mut agent = Agent::start(&bed, &setup);
    let mut want = Vec::new();
    let mut log = bed.log("bad");
    for number in 0..999 {
        let text = match number % 3 {
            0 => format!("{{\"level\": \"info\", \"cut\": {number}"),
            1 => format!("no json {number}"),
            _ => format!("[{number}]"),
        };
        log.line(&text);
        want.push(text);
    }
    let good: Vec<String> = (0..200)
        .map(|number| format!("{{\"level\":\"info\",\"number\":{number}}}"))
        .collect();
    good.iter().for_each(|text| bed.log("good").line(text));
    agent.awaits_texts(&sink, "good", &good);
    agent.awaits_texts(&sink, "bad", &want);
    agent.awaits_metric("tailwake_json_errors_total", &[], 999);
    agent.assert_said_once("texts are no JSON objects");
    agent.end();
}

#[test]
fn a_half_written_last_line_waits_for_its_rest_across_a_restart_and_comes_once() {
    let (bed, sink) = (Bed::new("half"), Sink::start(Manner::Good));
    let setup = Setup::to(&sink);
    let mut agent = Agent::start(&bed, &setup);
    let mut log = bed.log("bad");
    log.line("whole");
    log.raw(format!("{}ha", head()).as_bytes());
    let good = bed.write("good", "good", 200);
    agent.awaits_texts(&sink, "good", &good);
    agent.awaits_texts(&sink, "bad", &texts(&["whole"]));
    log.raw(b"l");
    agent.end();
    assert_eq!(sink.texts("bad"), texts(&["whole"]));

    let mut agent = Agent::start(&bed, &setup);
    log.raw(b"f\n");
    agent.awaits_texts(&sink, "bad", &texts(&["whole", "half"]));
    assert_eq!(agent.metric("tailwake_unfinished_lines_total", &[]), 0);

    // Its writer was killed in mid-line: the file ends there when it is rotated away.
    log.raw(format!("{}torn", head()).as_bytes());
    let path = bed.container("bad").join("0.log");
    std::fs::rename(&path, path.with_extension("log.20261124-051501")).unwrap();
    Log::open(&path).line("next");
    agent.awaits_texts(&sink, "bad", &texts(&["whole", "half", "torn", "next"]));
    agent.awaits_metric("tailwake_unfinished_lines_total", &[], 1);
    agent.assert_said_once("a file ended in the middle of a line");
    agent.awaits_texts(&sink, "good", &good);
    agent.end();
}
