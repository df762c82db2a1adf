//! Servers that answer garbage, or never.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::agent::{Agent, Setup};
use crate::bed::Bed;
use crate::sink::{Manner, Sink};

const LINES: usize = 3_000;

#[test]
fn a_server_that_never_answers_delays_no_other_output_and_leaves_the_agent_healthy() {
    let bed = Bed::new("silent");
    let (sink, silent) = (Sink::start(Manner::Good), Sink::start(Manner::Silent));
    let mut agent = Agent::start(&bed, &Setup::to(&sink).and(silent.loki()));
    let good = bed.write("good", "good", LINES);
    agent.awaits_texts(&sink, "good", &good);
    assert!(silent.texts("good").is_empty());
    let retries = "tailwake_request_retries_total";
    let late = &["output=\"bad\"", "reason=\"timeout\""][..];
    agent.awaits("it was tried again", |agent| {
        agent.metric(retries, late) >= 3
    });
    agent.assert_said_once("no answer in time; sent again");
    // Lines wait for it, and that is healthy.
    assert!(agent.status()["outputs"]["bad"]["window_bytes"].as_u64() > Some(0));
    assert!(agent.get("/healthz").is_ok());
    assert!(agent.get("/ready").is_ok());

    silent.behave(Manner::Good);
    agent.awaits_each(&silent, "good", &good);
    // Each request that it swallowed was counted, and no other.
    agent.awaits_metric(retries, late, silent.misbehaved());
    assert_eq!(agent.metric("tailwake_rejected_lines_total", &[]), 0);
    agent.awaits_texts(&sink, "good", &good);
    agent.end();
}

#[test]
fn the_only_output_that_never_answers_leaves_the_agent_healthy_while_lines_wait_in_their_files() {
    let (bed, silent) = (Bed::new("only"), Sink::start(Manner::Silent));
    let mut setup = Setup::to(&silent);
    setup.outputs.clear();
    let setup = setup.and(silent.loki());
    let mut agent = Agent::start(&bed, &setup);
    let lines = bed.write("good", "good", LINES);
    agent.awaits("its window is full, and it was tried again", |agent| {
        let window = agent.status()["outputs"]["bad"]["window_bytes"].as_u64();
        let tried = agent.metric("tailwake_request_retries_total", &["reason=\"timeout\""]);
        window >= Some(16 << 10) && tried >= 3
    });
    assert!(agent.get("/healthz").is_ok());
    silent.behave(Manner::Good);
    agent.awaits_each(&silent, "good", &lines);
    assert_eq!(agent.metric("tailwake_output_detaches_total", &[]), 0);
    assert!(agent.get("/healthz").is_ok());
    agent.end();
}

#[test]
fn garbage_in_an_answer_is_no_acknowledgement() {
    let bed = Bed::new("garbage");
    let sink = Sink::start(Manner::Good);
    let garbage = Sink::start(Manner::Garbage("<html>It works!</html>"));
    let mut agent = Agent::start(&bed, &Setup::to(&sink).and(garbage.bulk()));
    let good = bed.write("good", "good", LINES);
    agent.awaits_texts(&sink, "good", &good);
    agent.awaits("it was tried again", |_| garbage.misbehaved() >= 3);
    // Another kind: it speaks of errors, and of fewer items than were sent.
    garbage.behave(Manner::Garbage("{\"errors\":true,\"items\":[]}"));
    let before = garbage.misbehaved();
    agent.awaits("again", |_| garbage.misbehaved() >= before + 3);
    agent.assert_said_once("sent again until it is stored");
    assert!(agent.get("/healthz").is_ok());
    let acknowledged = ["output=\"bad\""];
    assert_eq!(
        agent.metric("tailwake_acknowledged_lines_total", &acknowledged),
        0
    );

    garbage.behave(Manner::Good);
    agent.awaits_texts(&garbage, "good", &good);
    let malformed = ["output=\"bad\"", "reason=\"malformed\""];
    let (retries, times) = ("tailwake_request_retries_total", garbage.misbehaved());
    agent.awaits_metric(retries, &malformed, times);
    agent.awaits_texts(&sink, "good", &good);
    agent.end();
}

/// Answers every connection with bytes that are no HTTP.
fn babble(listener: &TcpListener, stop: &AtomicBool) -> u64 {
    let mut times = 0;
    while let Ok((mut client, _)) = listener.accept() {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        times += u64::from(client.write_all(b"\x00\xffBABBLE 999 \r\n\r\n\x00").is_ok());
    }
    times
}

#[test]
fn a_server_that_speaks_no_http_is_tried_again_until_one_does() {
    let bed = Bed::new("babble");
    let sink = Sink::start(Manner::Good);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let server = std::thread::spawn(move || babble(&listener, &told));
    let url = format!("loki: {{url: \"http://{address}/loki/api/v1/push\"}}");
    let mut agent = Agent::start(&bed, &Setup::to(&sink).and(url));
    let good = bed.write("good", "good", LINES);
    agent.awaits_texts(&sink, "good", &good);
    let retries = "tailwake_request_retries_total";
    let broken = &["output=\"bad\"", "reason=\"broken\""][..];
    agent.awaits("it was tried again", |agent| {
        agent.metric(retries, broken) >= 3
    });
    agent.assert_said_once("sent again until it is stored");
    stop.store(true, Ordering::SeqCst);
    drop(TcpStream::connect(address));
    assert!(server.join().unwrap() >= 3);

    let healed = Sink::start_at(address.port(), Manner::Good);
    agent.awaits_texts(&healed, "good", &good);
    assert_eq!(agent.metric("tailwake_rejected_lines_total", &[]), 0);
    agent.awaits_texts(&sink, "good", &good);
    agent.end();
}
