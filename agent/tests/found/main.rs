//! Finding files, end to end: the real binary, and a tree that comes and goes.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "shared with the tests of bad input")]
#[path = "../bad/agent.rs"]
mod agent;
#[path = "../bad/bed.rs"]
mod bed;
#[expect(dead_code, reason = "shared with the tests of bad input")]
#[path = "../bad/sink.rs"]
mod sink;

use std::os::unix::fs::symlink;
use std::path::Path;

use agent::{Agent, Setup};
use bed::{Bed, Log};
use sink::{Manner, Sink};

const MISSED: &str = "tailwake_containers_missed_total";

#[test]
fn an_open_file_is_drained_although_all_of_its_pod_is_gone() {
    let (bed, sink) = (Bed::new("drain"), Sink::start(Manner::Good));
    let mut agent = Agent::start(&bed, &Setup::to(&sink));
    for number in 0..20 {
        let pod = format!("job{number}");
        let mut want = bed.write(&pod, "first", 1);
        agent.awaits_texts(&sink, &pod, &want);
        want.extend(bed.write(&pod, "last", 500));
        std::fs::remove_dir_all(bed.pod(&pod)).unwrap();
        agent.awaits_texts(&sink, &pod, &want);
    }
    assert_eq!(agent.metric(MISSED, &[]), 0);
    agent.awaits("all is closed", |agent| {
        agent.metric("tailwake_files_open", &[]) == 0
    });
    agent.end();
}

#[test]
fn a_container_that_is_gone_at_once_loses_nothing_or_is_counted() {
    const PODS: usize = 100;
    let (bed, sink) = (Bed::new("brief"), Sink::start(Manner::Good));
    let mut agent = Agent::start(&bed, &Setup::to(&sink));
    agent.awaits("it is ready", |agent| agent.get("/ready").is_ok());
    let name = |number: usize| format!("brief{number}");
    for number in 0..PODS {
        bed.write(&name(number), "line", 20);
        std::fs::remove_dir_all(bed.pod(&name(number))).unwrap();
    }
    let whole = |sink: &Sink| {
        let texts = (0..PODS).map(|number| sink.texts(&name(number)).len());
        texts.filter(|lines| *lines == 20).count() as u64
    };
    agent.awaits("each is whole or missed", |agent| {
        let (whole, missed) = (whole(&sink), agent.metric(MISSED, &[]));
        whole + missed >= PODS as u64
    });
    let none = (0..PODS).filter(|number| sink.texts(&name(*number)).is_empty());
    assert_eq!(none.count() as u64, agent.metric(MISSED, &[]));
    agent.end();
}

/// Descriptors, watches and series of the agent, and what it holds open.
fn held(agent: &Agent) -> (usize, u64, usize, u64) {
    let fds = std::fs::read_dir(format!("/proc/{}/fd", agent.process())).unwrap();
    let text = agent.get("/metrics").unwrap();
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    (
        fds.count(),
        agent.metric("tailwake_directories_watched", &[]),
        series,
        agent.metric("tailwake_files_open", &[]),
    )
}

#[test]
fn pods_that_come_and_go_leave_nothing_in_the_agent() {
    let (bed, sink) = (Bed::new("churn"), Sink::start(Manner::Good));
    let mut agent = Agent::start(&bed, &Setup::to(&sink));
    let wave = |agent: &mut Agent, wave: usize| {
        for pod in 0..25 {
            let pod = format!("pod{wave}-{pod}");
            for file in 0..10 {
                let path = bed.container(&pod).join(format!("{file}.log"));
                Log::open(&path).line(&format!("line {file}"));
            }
        }
        for pod in 0..25 {
            let pod = format!("pod{wave}-{pod}");
            agent.awaits(&format!("all lines of {pod}"), |_| {
                sink.texts(&pod).len() == 10
            });
            std::fs::remove_dir_all(bed.pod(&pod)).unwrap();
        }
        agent.awaits("all is closed", |agent| {
            let none = |name| agent.metric(name, &[]) == 0;
            none("tailwake_files_open") && agent.status()["containers"] == serde_json::json!([])
        });
    };
    // Pools and connections are made in the first wave.
    wave(&mut agent, 0);
    let before = held(&agent);
    (1..8).for_each(|number| wave(&mut agent, number));
    agent.awaits("as before", |agent| held(agent) == before);
    assert_eq!(agent.metric(MISSED, &[]), 0);
    assert_eq!(agent.metric("tailwake_discovery_late_finds_total", &[]), 0);
    agent.end();
}

#[test]
fn links_of_containers_and_plain_files_are_read_by_patterns() {
    let (bed, sink) = (Bed::new("patterns"), Sink::start(Manner::Good));
    for dir in ["containers", "docker/id", "app/deep"] {
        std::fs::create_dir_all(bed.path(dir)).unwrap();
    }
    let at = |name: &str| bed.path(name).display().to_string();
    let mut setup = Setup::to(&sink);
    setup.kind = Some(format!(
        "files: {{paths: [{}, '{}'], link_roots: [{}, {}]}}",
        at("containers/*.log"),
        at("app/**/*.log"),
        at("pods"),
        at("docker"),
    ));
    let mut agent = Agent::start(&bed, &setup);
    let link = bed.path(&format!("containers/web_ns_app-{}.log", "0a".repeat(32)));
    let target = bed.path("docker/id/id.log");
    let lines = |path: &Path, text: &str, count: usize| {
        let texts = (0..count).map(|number| format!("{text} {number}"));
        let texts: Vec<String> = texts.collect();
        let mut log = Log::open(path);
        texts.iter().for_each(|text| log.line(text));
        texts
    };
    let mut want = lines(&target, "first", 100);
    symlink(&target, bed.container("web").join("0.log")).unwrap();
    symlink(bed.container("web").join("0.log"), &link).unwrap();
    agent.awaits_texts(&sink, "web", &want);
    // Docker rotates; both links stay as they are.
    want.extend(lines(&target, "second", 100));
    std::fs::rename(&target, bed.path("docker/id/id.log.1")).unwrap();
    want.extend(lines(&target, "third", 100));
    agent.awaits_texts(&sink, "web", &want);

    // A plain file has no pod. Its rotated name is not matched, and what it got last is read.
    let plain = bed.path("app/deep/x.log");
    let mut want = lines(&plain, "first", 100);
    agent.awaits_texts(&sink, "", &want);
    want.extend(lines(&plain, "second", 100));
    std::fs::rename(&plain, bed.path("app/deep/x.log.1")).unwrap();
    want.extend(lines(&plain, "third", 100));
    agent.awaits_texts(&sink, "", &want);
    agent.end();
}
