//! What a rung does not announce: when it goes deaf while the agent runs the agent notices by itself;
//! when one file's writer cannot be seen that file is looked at more often. No line is lost.
//!
//! The probes are deafened from outside: their filter, a map of the agent's own, is emptied, so that
//! no write passes it. It needs the probes embedded (`cargo xtask test` has them) and a kernel that
//! loads one of the rungs.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod agent;

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use agent_ebpf::BLOOM_BYTES;
use aya::maps::{Array, Map, MapData};
use harness::receive::Receiver;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use serde_json::Value;

use agent::{Agent, directory, wait_until};

/// Empties the filter; false where the agent has none.
fn deafen(process: u32) -> bool {
    let pages = fs::read_dir(format!("/proc/{process}/fdinfo")).unwrap();
    let pages = pages.filter_map(|page| fs::read_to_string(page.unwrap().path()).ok());
    let mut done = false;
    for page in pages {
        let field = |name: &str| {
            let line = page.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse::<usize>().ok())
        };
        if let Some(id) = field("map_id:")
            && field("value_size:") == Some(BLOOM_BYTES)
        {
            let map = MapData::from_id(u32::try_from(id).unwrap()).unwrap();
            let mut filter: Array<_, [u8; BLOOM_BYTES]> = Map::Array(map).try_into().unwrap();
            filter.set(0, [0; BLOOM_BYTES], 0).unwrap();
            done = true;
        }
    }
    done
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    writeln!(file, "2026-01-01T00:00:00.000000000Z stdout F {text}").unwrap();
}

#[test]
fn a_deaf_rung_is_given_up_once_and_every_file_is_read_again() {
    let directory = directory("stepdown");
    let log = directory.join("pods/ns_deaf_0001/app");
    fs::create_dir_all(&log).unwrap();
    let log = log.join("0.log");
    append(&log, "before");
    let receiver = Receiver::start(Vec::new()).unwrap();
    let url = format!("http://{}", receiver.address());
    let mut agent = Agent::start(&directory, &url, "wake: {sweep: 2s}", &[]);
    agent.wait_ready();
    let lines = |agent: &Agent| agent.status()["outputs"]["loki"]["lines_acknowledged"].as_u64();
    wait_until("the first line", || lines(&agent) == Some(1));
    let rung = agent.status()["rung"].as_str().unwrap().to_owned();
    if !deafen(agent.process()) {
        println!("SKIP: the agent stands on {rung}: {}", agent.log());
        return;
    }
    append(&log, "while deaf");
    wait_until("the step down", || agent.status()["rung"] == "inotify");
    wait_until("the line written while deaf", || lines(&agent) == Some(2));
    let status = agent.status();
    assert_eq!(status["rung_given_up"], rung.as_str(), "{status}");
    let file = &status["containers"][0]["files"][0];
    assert_eq!(file["rung"], "inotify", "{status}");
    let slept = || agent.status()["containers"][0]["files"][0]["asleep"] == true;
    wait_until("the file to sleep", slept);
    let status = agent.status();
    let before = (
        status["wakes_by_rung"]["inotify"].as_u64(),
        status["late_finds"].as_u64(),
    );
    append(&log, "by inotify");
    wait_until("the line by inotify", || lines(&agent) == Some(3));
    let status = agent.status();
    let (wakes, late) = (
        status["wakes_by_rung"]["inotify"].as_u64(),
        status["late_finds"].as_u64(),
    );
    assert!(wakes > before.0 && late == before.1, "{status}");
    let said = agent
        .log()
        .matches("no longer announce every write")
        .count();
    assert_eq!(said, 1, "{}", agent.log());
    let metrics = agent.metrics();
    assert!(
        metrics.contains("\ntailwake_rung_stepdowns_total 1\n"),
        "{metrics}"
    );
}

/// Makes the file longer and stores the line through a mapping.
fn store(path: &Path, text: &str) {
    let line = format!("2026-01-01T00:00:00.000000000Z stdout F {text}\n");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let old = usize::try_from(file.metadata().unwrap().len()).unwrap();
    let new = old + line.len();
    file.set_len(new as u64).unwrap();
    let (none, rights) = (std::ptr::null_mut(), ProtFlags::READ | ProtFlags::WRITE);
    // SAFETY: a new mapping of the whole file at an address of the kernel's choice.
    let base = unsafe { mmap(none, new, rights, MapFlags::SHARED, &file, 0) }.unwrap();
    // SAFETY: the mapping has room for the line behind the old end.
    let bytes = unsafe { std::slice::from_raw_parts_mut(base.cast::<u8>().add(old), line.len()) };
    bytes.copy_from_slice(line.as_bytes());
    // SAFETY: mapped above with this size; the bytes are not used any more.
    unsafe { munmap(base, new) }.unwrap();
}

#[test]
fn a_file_that_only_the_sweep_found_is_looked_at_before_the_next_sweep() {
    let directory = directory("overlooked");
    let log = directory.join("pods/ns_mapped_0001/app");
    fs::create_dir_all(&log).unwrap();
    let log = log.join("0.log");
    append(&log, "appended");
    let receiver = Receiver::start(Vec::new()).unwrap();
    let url = format!("http://{}", receiver.address());
    let mut agent = Agent::start(&directory, &url, "wake: {sweep: 8s}", &[]);
    agent.wait_ready();
    let file = || agent.status()["containers"][0]["files"][0].clone();
    wait_until("the file to sleep", || file()["asleep"] == true);
    if agent.status()["rung"] == "inotify" {
        println!("SKIP: inotify tells of the new length before the line is there");
        return;
    }
    store(&log, "mapped");
    wait_until("the sweep", || file()["late_finds"] == 1);
    assert_eq!(file()["overlooked"], true);
    wait_until("the file to sleep", || file()["asleep"] == true);
    let sweeps = agent.status()["sweeps"]["files"].clone();
    store(&log, "mapped again");
    wait_until("the look", || file()["late_finds"] == 2);
    let status = agent.status();
    assert_eq!(
        status["sweeps"]["files"], sweeps,
        "a sweep has found it: {status}"
    );
    let rung = (&status["rung_given_up"], &status["containers"][0]["rung"]);
    assert_eq!(
        rung,
        (&Value::Null, &status["rung"]),
        "one writer is no deaf rung"
    );
    let lines = || agent.status()["outputs"]["loki"]["lines_acknowledged"].clone();
    wait_until("all lines", || lines() == 3);
}
