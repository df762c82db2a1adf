//! Faults on the wire, at each phase of a call: the agent tries again, loses nothing, holds no more
//! than an answer may have, and no other output waits.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use harness::fault::{FaultServer, Manner};

use crate::agent::{Agent, Setup};
use crate::bed::Bed;
use crate::sink::{self, Sink};

const LINES: usize = 500;

/// What the agent may hold at its highest, with all its answers: a debug build, its buffers of
/// 36 MiB, and 4 MiB for each of the few answers that fly.
const PEAK_KIB_MAX: u64 = 192 << 10;

/// Beyond what an answer may have, the two sockets' buffers take some.
const ANSWER_BYTES_MAX: u64 = (4 << 20) + (12 << 20);

pub(crate) fn loki(server: &FaultServer) -> String {
    format!(
        "loki: {{url: \"http://{}/loki/api/v1/push\"}}",
        server.address()
    )
}

fn bulk(server: &FaultServer) -> String {
    format!(
        "elasticsearch: {{urls: [\"http://{}\"], index: logs}}",
        server.address()
    )
}

/// The pod's texts that a server has taken, in order, each by its first coming.
pub(crate) fn texts(server: &FaultServer, pod: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut texts = Vec::new();
    for request in server.taken() {
        let arrived = if request.target().contains("/loki/") {
            sink::pushed(&request.body)
        } else {
            let gzip = request.header("content-encoding");
            sink::indexed(&harness::wire::inflate(gzip, &request.body).unwrap())
        };
        let own = arrived.into_iter().filter(|(of, _)| of == pod);
        texts.extend(
            own.map(|(_, text)| text)
                .filter(|text| seen.insert(text.clone())),
        );
    }
    texts
}

fn peak_kib(agent: &Agent) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.process())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Tries again for one of `reasons`, says it, recovers, and has delivered everything to both.
fn check_with(manner: Manner, is_bulk: bool, reasons: &[&str], more: &str) -> FaultServer {
    static BEDS: AtomicU64 = AtomicU64::new(0);
    let number = BEDS.fetch_add(1, Ordering::SeqCst);
    let bed = Bed::new(&format!("fault{number}"));
    let (sink, server) = (
        Sink::start(sink::Manner::Good),
        FaultServer::start(manner).unwrap(),
    );
    let output = if is_bulk {
        bulk(&server)
    } else {
        loki(&server)
    };
    let mut agent = Agent::start(&bed, &Setup::to(&sink).and(output + more));
    let lines = bed.write("good", "good", LINES);
    agent.awaits_texts(&sink, "good", &lines);
    let retries = |agent: &Agent| -> u64 {
        let of = |reason: &&str| {
            let reason = format!("reason=\"{reason}\"");
            agent.metric(
                "tailwake_request_retries_total",
                &["output=\"bad\"", &reason],
            )
        };
        reasons.iter().map(of).sum()
    };
    agent.awaits("it was tried again", |agent| {
        retries(agent) >= 3 && server.failed() >= 3
    });
    agent.assert_said_once("sent again until it is stored");
    let acknowledged = ["output=\"bad\""];
    assert_eq!(
        agent.metric("tailwake_acknowledged_lines_total", &acknowledged),
        0
    );
    assert!(agent.get("/healthz").is_ok());
    assert!(peak_kib(&agent) < PEAK_KIB_MAX, "{} KiB", peak_kib(&agent));

    server.behave(Manner::Good);
    agent.awaits("all of it has come", |_| {
        texts(&server, "good").len() >= LINES
    });
    assert_eq!(texts(&server, "good"), lines);
    assert_eq!(agent.metric("tailwake_rejected_lines_total", &[]), 0);
    agent.awaits_texts(&sink, "good", &lines);
    agent.end();
    server
}

fn check(manner: Manner, reasons: &[&str]) -> FaultServer {
    check_with(manner, false, reasons, "")
}

#[test]
fn a_server_that_hangs_after_the_accept_is_tried_again() {
    check(Manner::HangAccepted, &["timeout"]);
}

#[test]
fn a_server_that_hangs_before_its_answer_is_tried_again() {
    check(Manner::HangRead, &["timeout"]);
}

#[test]
fn a_server_that_hangs_after_the_head_of_its_answer_is_tried_again() {
    check(Manner::HangHead, &["timeout"]);
}

#[test]
fn a_server_that_hangs_in_the_middle_of_its_answer_is_tried_again() {
    check(Manner::HangBody, &["timeout"]);
}

#[test]
fn a_server_that_drips_is_tried_again() {
    check(Manner::Drip, &["timeout"]);
}

#[test]
fn a_request_that_is_reset_in_the_middle_is_sent_again() {
    // One that is lost on a kept connection is sent again by the client itself.
    check(Manner::ResetRequest, &["broken", "connect"]);
}

#[test]
fn an_answer_that_is_reset_in_the_middle_is_no_answer() {
    check(Manner::ResetAnswer, &["broken"]);
}

#[test]
fn half_an_answer_is_no_answer() {
    check(Manner::HalfAnswer, &["broken"]);
}

#[test]
fn an_endless_answer_is_left_alone_after_four_mebibytes() {
    let server = check(Manner::Endless, &["broken", "timeout"]);
    let most = server.failed() * ANSWER_BYTES_MAX;
    assert!(server.written() <= most, "{} of {most}", server.written());
}

#[test]
fn a_gzip_bomb_does_not_go_off() {
    check(Manner::Bomb, &["broken", "timeout"]);
}

#[test]
fn an_answer_of_another_kind_is_no_acknowledgement() {
    let html = || {
        (
            "content-type: text/html\r\n".to_owned(),
            "<html>".to_owned(),
        )
    };
    let (head, body) = html();
    check_with(
        Manner::Answer("200 OK", head, body),
        true,
        &["malformed"],
        "",
    );
}

#[test]
fn a_redirect_is_not_followed_and_says_where_it_leads() {
    let other = FaultServer::start(Manner::Good).unwrap();
    let bed = Bed::new("redirect");
    let location = format!("location: http://u:pw@{}/x?sig=abc\r\n", other.address());
    let manner = Manner::Answer("307 Temporary Redirect", location, String::new());
    let (sink, server) = (
        Sink::start(sink::Manner::Good),
        FaultServer::start(manner).unwrap(),
    );
    let mut agent = Agent::start(&bed, &Setup::to(&sink).and(loki(&server)));
    let lines = bed.write("good", "good", LINES);
    agent.awaits_texts(&sink, "good", &lines);
    let said = format!("leads to http://***@{}/x?...", other.address());
    agent.assert_said_once(&said);
    assert_eq!(other.accepted(), 0);
    server.behave(Manner::Good);
    agent.awaits("all of it has come", |_| texts(&server, "good") == lines);
    agent.end();
}

#[test]
fn nonsense_in_retry_after_is_passed_over() {
    for nonsense in [
        "-1",
        "soon",
        "1e99",
        "99999999999999999999",
        "Mon, 99 Foo 2026 25:61:61 GMT",
    ] {
        let head = format!("retry-after: {nonsense}\r\n");
        check(
            Manner::Answer("503 Busy", head, String::new()),
            &["server_error"],
        );
    }
}

#[test]
fn a_date_in_retry_after_that_has_passed_is_no_wait() {
    let head = "retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\n".to_owned();
    check(
        Manner::Answer("503 Busy", head, String::new()),
        &["server_error"],
    );
}

#[test]
fn a_huge_wait_in_retry_after_is_cut_to_five_minutes() {
    for wish in ["4000000000", "Sat, 06 Nov 9999 08:49:37 GMT"] {
        let bed = Bed::new("wait");
        let manner = Manner::Answer(
            "429 Busy",
            format!("retry-after: {wish}\r\n"),
            String::new(),
        );
        let (sink, server) = (
            Sink::start(sink::Manner::Good),
            FaultServer::start(manner).unwrap(),
        );
        let mut agent = Agent::start(&bed, &Setup::to(&sink).and(loki(&server)));
        let lines = bed.write("good", "good", LINES);
        agent.awaits_texts(&sink, "good", &lines);
        agent.awaits("it says how long", |agent| {
            agent.said().contains("wait_ms=300000")
        });
        agent.end();
    }
}

#[test]
fn an_answer_that_does_not_begin_in_its_time_is_given_up_before_the_whole_time_is_over() {
    let more = ", answer_timeout: 50ms";
    let bed = Bed::new("head");
    let server = FaultServer::start(Manner::HangRead).unwrap();
    let sink = Sink::start(sink::Manner::Good);
    let mut setup = Setup::to(&sink);
    // The whole may take an hour: only the answer's head has less.
    setup
        .outputs
        .push(("slow", loki(&server) + ", timeout: 1h" + more));
    let mut agent = Agent::start(&bed, &setup);
    let lines = bed.write("good", "good", LINES);
    agent.awaits("it was tried again", |_| server.failed() >= 2);
    server.behave(Manner::Good);
    agent.awaits("all of it has come", |_| texts(&server, "good") == lines);
    agent.end();
}
