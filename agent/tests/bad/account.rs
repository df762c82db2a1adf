//! The account of a real run: proven, behind, unknown and lost, as commands show it.

use std::process::{Command, Output};

use serde_json::Value;

use crate::agent::{Agent, Setup, config};
use crate::bed::Bed;
use crate::sink::{Manner, Sink};

fn tailwake(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tailwake"))
        .args(args)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `tailwake account --json`, and its exit code with `--strict`.
fn account(agent: &Agent) -> (Value, Option<i32>) {
    let at = agent.admin().to_string();
    let said = tailwake(&["account", "--admin", &at, "--json", "--strict"]);
    let value = serde_json::from_str(&text(&said)).unwrap();
    (value, said.status.code())
}

fn container<'v>(said: &'v Value, pod: &str) -> &'v Value {
    let mut all = said["containers"].as_array().unwrap().iter();
    all.find(|row| row["pod"] == pod).unwrap()
}

fn is(row: &Value, state: &str) -> bool {
    row["outputs"]["good"]["state"] == state
}

#[test]
fn what_is_written_is_proven_delivered_and_both_views_show_it() {
    let (bed, sink) = (Bed::new("account"), Sink::start(Manner::Good));
    let want = bed.write("web", "line", 500);
    let mut agent = Agent::start(&bed, &Setup::to(&sink));
    agent.awaits_texts(&sink, "web", &want);
    agent.awaits("it is proven", |agent| {
        is(container(&account(agent).0, "web"), "proven")
    });
    let (said, code) = account(&agent);
    let row = container(&said, "web");
    let size = std::fs::metadata(bed.container("web").join("0.log"))
        .unwrap()
        .len();
    let good = &row["outputs"]["good"];
    for (name, figure) in [
        ("written", &row["written_bytes"]),
        ("read", &row["read_bytes"]),
        ("acknowledged", &good["bytes"]),
    ] {
        assert_eq!(*figure, size, "{name}: {said:#}");
    }
    assert_eq!(
        (&good["lines"], &good["delivered_lines"]),
        (&500.into(), &500.into())
    );
    assert_eq!(code, Some(0), "{said:#}");
    let at = agent.admin().to_string();
    let table = text(&tailwake(&["account", "--admin", &at]));
    let top = text(&tailwake(&["top", "--admin", &at, "--filter", "web"]));
    for shown in [&table, &top] {
        let line = shown.lines().find(|line| line.starts_with("ns/web/app"));
        let cells: Vec<&str> = line.unwrap().split_whitespace().collect();
        let size = size.to_string();
        assert_eq!(cells[1..3], ["good", size.as_str()], "{shown}");
        assert_eq!(cells.last(), Some(&"proven"), "{shown}");
    }
    let written = "tailwake_container_written_bytes_total";
    assert_eq!(agent.metric(written, &["pod=\"web\""]), size);
    std::fs::remove_dir_all(bed.pod("web")).unwrap();
    agent.awaits("its series go with it", |agent| {
        let text = agent.get("/metrics").unwrap_or_default();
        text.contains(written) && !text.contains("pod=\"web\"")
    });
    agent.end();
}

/// The rest that an encoder leaves out of a record lies in chunks that are settled by themselves.
#[test]
fn a_line_that_is_longer_than_any_record_leaves_nothing_unproven() {
    let (bed, sink) = (Bed::new("account-long"), Sink::start(Manner::Good));
    let mut log = bed.log("web");
    log.line("before");
    log.line(&"x".repeat(5 << 20));
    log.line("after");
    let mut agent = Agent::start(&bed, &Setup::to(&sink));
    agent.awaits("the last line is there", |_| {
        sink.texts("web").last().is_some_and(|text| text == "after")
    });
    agent.awaits("all is acknowledged", |agent| {
        let said = account(agent).0;
        let good = &container(&said, "web")["outputs"]["good"];
        good["lag_bytes"] == 0 && good["in_flight_bytes"] == 0 && good["lines"] == 3
    });
    let said = account(&agent).0;
    assert!(is(container(&said, "web"), "proven"), "{said:#}");
    agent.end();
}

#[test]
fn what_a_dead_output_has_not_is_lag_and_no_loss() {
    let (bed, sink) = (Bed::new("account-lag"), Sink::start(Manner::Silent));
    bed.write("web", "line", 50);
    let mut agent = Agent::start(&bed, &Setup::to(&sink));
    let size = std::fs::metadata(bed.container("web").join("0.log"))
        .unwrap()
        .len();
    agent.awaits("it is in flight", |agent| {
        container(&account(agent).0, "web")["outputs"]["good"]["in_flight_bytes"] == size
    });
    let (said, code) = account(&agent);
    let good = &container(&said, "web")["outputs"]["good"];
    assert_eq!(
        (&good["lag_bytes"], &good["lost_bytes"]),
        (&size.into(), &0.into())
    );
    assert_eq!(
        (good["state"].as_str(), code),
        (Some("behind"), Some(0)),
        "{said:#}"
    );
    agent.kill();
}

#[test]
fn what_came_and_went_while_no_agent_was_there_is_unknown_and_never_zero() {
    let (bed, sink) = (Bed::new("account-gap"), Sink::start(Manner::Good));
    let mut want = bed.write("web", "first", 20);
    let calm = bed.write("calm", "calm", 20);
    let mut agent = Agent::start(&bed, &Setup::to(&sink));
    agent.awaits_texts(&sink, "web", &want);
    agent.awaits_texts(&sink, "calm", &calm);
    agent.end();
    // A file is made and deleted meanwhile, and there is another one.
    let dir = bed.container("web");
    std::fs::rename(dir.join("0.log"), dir.join("0.log.20261124-051501")).unwrap();
    bed.write("web", "never seen", 5);
    std::fs::remove_file(dir.join("0.log")).unwrap();
    want.extend(bed.write("web", "last", 20));
    let mut agent = Agent::start(&bed, &Setup::to(&sink));
    agent.awaits_texts(&sink, "web", &want);
    agent.awaits("the gap is known", |agent| {
        container(&account(agent).0, "web")["gap"] == "down"
    });
    let (said, code) = account(&agent);
    let row = container(&said, "web");
    assert!(row["written_bytes"].is_null(), "{said:#}");
    assert!(row["outputs"]["good"]["lost_bytes"].is_null(), "{said:#}");
    assert!(is(row, "unknown"), "{said:#}");
    // Whose file is the one that it was has no gap.
    assert!(is(container(&said, "calm"), "proven"), "{said:#}");
    assert_eq!(code, Some(1));
    let table = text(&tailwake(&[
        "account",
        "--admin",
        &agent.admin().to_string(),
    ]));
    let line = table
        .lines()
        .find(|line| line.starts_with("ns/web/app"))
        .unwrap();
    assert!(line.contains(" ? ") && line.contains("down"), "{table}");
    let incomplete = "tailwake_container_incomplete";
    assert_eq!(
        agent.metric(incomplete, &["pod=\"web\"", "reason=\"down\""]),
        1
    );
    assert_eq!(agent.metric(incomplete, &["pod=\"calm\""]), 0);
    agent.end();
}

fn run_once(bed: &Bed, setup: &Setup, timeout: &str) -> Output {
    let config = config(bed, setup);
    let config = config.to_str().unwrap();
    tailwake(&["run", "--config", config, "--once", "--timeout", timeout])
}

#[test]
fn a_run_once_delivers_what_is_there_proves_it_and_ends() {
    let (bed, sink) = (Bed::new("once"), Sink::start(Manner::Good));
    let mut want = Vec::new();
    for number in 0..20 {
        let pod = format!("pod{number}");
        want.push((pod.clone(), bed.write(&pod, "line", 100)));
    }
    // Nobody knows whether the last line goes on: it is left for the next run.
    bed.log("pod0").raw(b"no newline");
    let said = run_once(&bed, &Setup::to(&sink), "60");
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    let table = text(&said);
    assert_eq!(table.matches("proven").count(), 20, "{table}");
    assert!(table.contains("clean: "), "{table}");
    for (pod, want) in &want {
        assert_eq!(sink.texts(pod), *want, "{pod}");
    }
    // Nothing is sent twice by another.
    let said = run_once(&bed, &Setup::to(&sink), "60");
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    assert_eq!(sink.texts("pod1"), want[1].1);
}

#[test]
fn a_run_once_that_cannot_deliver_says_so_and_ends_with_one() {
    let (bed, sink) = (Bed::new("once-dead"), Sink::start(Manner::Silent));
    bed.write("web", "line", 10);
    let mut setup = Setup::to(&sink);
    setup.more = "limits: {grace: 100ms}";
    let said = run_once(&bed, &setup, "1");
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    let table = text(&said);
    assert!(
        table.contains("behind") && table.contains("not proven: the time was up"),
        "{table}"
    );
}
