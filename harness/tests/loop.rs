//! Generator, a forwarder that plays the agent, receiver and account, without an agent.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use harness::account::Account;
use harness::generate::{Generator, Options, journal_directory};
use harness::journal::read_all;
use harness::proxy::Proxy;
use harness::receive::{Fault, Planned, Receiver};
use harness::serve::post;
use harness::text::parse_rfc3339;
use harness::wire::Output;
use harness::wire::loki::{LabelledEntries, Line, Push, Timestamp};
use prost::Message;
use serde_json::{Value, json};

/// A record as the forwarder joined it.
struct Joined {
    namespace: String,
    pod: String,
    container: String,
    stream: String,
    time: String,
    text: String,
}

fn generated(name: &str, seed: u64) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&directory);
    let options = Options {
        directory: directory.clone(),
        pods: 3,
        records: Some(1500),
        rate: 0,
        rotate_bytes: 400_000,
        duration: None,
        seed,
        invalid_utf8: true,
        noise: false,
    };
    Generator::start(&options).unwrap().wait().unwrap();
    directory
}

/// Reads a finished tree: rotated files first, parts joined per stream.
fn joined(directory: &Path) -> Vec<Joined> {
    let mut out = Vec::new();
    for pod in sorted(&directory.join("pods")) {
        let name = pod.file_name().unwrap().to_str().unwrap().to_owned();
        let words: Vec<&str> = name.split('_').collect();
        for container in sorted(&pod) {
            let mut open: HashMap<String, (String, Vec<u8>)> = HashMap::new();
            let mut files = sorted(&container);
            files.rotate_left(1); // `0.log` sorts before `0.log.<stamp>` and is the newest.
            for file in files {
                let bytes = std::fs::read(file).unwrap();
                for line in bytes
                    .split(|byte| *byte == b'\n')
                    .filter(|line| !line.is_empty())
                {
                    let mut parts = line.splitn(4, |byte| *byte == b' ');
                    let mut word = || String::from_utf8(parts.next().unwrap().to_vec()).unwrap();
                    let (time, stream, tag) = (word(), word(), word());
                    let held = open.entry(stream.clone()).or_insert((time, Vec::new()));
                    held.1.extend_from_slice(parts.next().unwrap());
                    if tag == "F" {
                        let (time, text) = open.remove(&stream).unwrap();
                        out.push(Joined {
                            namespace: words[0].to_owned(),
                            pod: words[1].to_owned(),
                            container: container.file_name().unwrap().to_str().unwrap().to_owned(),
                            stream,
                            time,
                            text: String::from_utf8_lossy(&text).into_owned(),
                        });
                    }
                }
            }
        }
    }
    out
}

fn sorted(directory: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|found| found.unwrap().path())
        .collect();
    all.sort();
    all
}

fn send_loki(address: SocketAddr, records: &[Joined]) -> u16 {
    let streams = records.iter().map(|record| {
        let Joined {
            namespace,
            pod,
            container,
            stream,
            ..
        } = record;
        let time = parse_rfc3339(&record.time).unwrap();
        let labels = format!(
            "{{namespace=\"{namespace}\", pod=\"{pod}\", container=\"{container}\", \
             stream=\"{stream}\"}}"
        );
        let timestamp = Some(Timestamp {
            seconds: i64::try_from(time / 1_000_000_000).unwrap(),
            nanos: i32::try_from(time % 1_000_000_000).unwrap(),
        });
        let entries = vec![Line {
            timestamp,
            line: record.text.clone(),
            metadata: Vec::new(),
        }];
        LabelledEntries { labels, entries }
    });
    let push = Push {
        streams: streams.collect(),
    }
    .encode_to_vec();
    let body = snap::raw::Encoder::new().compress_vec(&push).unwrap();
    post(
        address,
        "/loki/api/v1/push",
        "application/x-protobuf",
        &body,
    )
    .unwrap()
}

fn send_bulk(address: SocketAddr, records: &[Joined]) -> u16 {
    let mut body = String::new();
    for record in records {
        let fields: Option<Value> = serde_json::from_str(&record.text).ok();
        let mut document = match fields {
            Some(Value::Object(fields)) => fields,
            _ => [("message".to_owned(), json!(record.text))]
                .into_iter()
                .collect(),
        };
        document.insert("@timestamp".to_owned(), json!(record.time));
        document.insert("stream".to_owned(), json!(record.stream));
        document.insert("log".to_owned(), json!({"offset": 0}));
        let Joined {
            namespace,
            pod,
            container,
            ..
        } = record;
        document.insert(
            "kubernetes".to_owned(),
            json!({"namespace": namespace, "pod": pod, "container": container}),
        );
        body.push_str(&format!(
            "{{\"index\":{{}}}}\n{}\n",
            Value::Object(document)
        ));
    }
    post(
        address,
        "/demo/_bulk",
        "application/x-ndjson",
        body.as_bytes(),
    )
    .unwrap()
}

fn account(directory: &Path, receiver: &Receiver) -> Account {
    let journals = read_all(&journal_directory(directory)).unwrap();
    Account::draw(
        &journals,
        receiver.tally(),
        &[Output::Loki, Output::Elasticsearch],
    )
}

fn forwarded(name: &str, plan: Vec<Planned>) -> Account {
    let directory = generated(name, 7);
    let receiver = Receiver::start(plan).unwrap();
    for batch in joined(&directory).chunks(500) {
        assert_eq!(send_loki(receiver.address(), batch), 204);
        assert_eq!(send_bulk(receiver.address(), batch), 200);
    }
    account(&directory, &receiver)
}

#[test]
fn a_clean_run_is_green_with_every_kind_of_record() {
    let account = forwarded("clean", Vec::new());
    assert!(account.is_clean(), "{account}");
    assert_eq!(account.rows.len(), 6);
    assert!(
        account
            .rows
            .iter()
            .all(|row| row.written >= 1500 && row.duplicates == 0),
        "{account}"
    );
}

#[test]
fn a_dropped_swapped_or_altered_record_is_red_on_either_output() {
    for output in [Output::Loki, Output::Elasticsearch] {
        for (fault, want) in [
            (Fault::Drop, (1, 0, 0)),
            (Fault::Swap, (0, 0, 1)),
            (Fault::Alter, (0, 1, 0)),
        ] {
            let planned = Planned {
                output,
                first: 1,
                count: 1,
                fault,
            };
            let account = forwarded(&format!("{fault:?}-{output}"), vec![planned]);
            let sum = |of: fn(&harness::account::Row) -> u64| account.rows.iter().map(of).sum();
            let got: (u64, u64, u64) = (
                sum(|row| row.missing),
                sum(|row| row.altered),
                sum(|row| row.disordered).min(1),
            );
            assert_eq!(got, want, "{fault:?} on {output}\n{account}");
            assert!(!account.is_clean());
        }
    }
}

#[test]
fn refused_requests_are_not_tallied_and_repeats_are_duplicates() {
    let directory = generated("refused", 9);
    let output = Output::Loki;
    let plan = vec![Planned {
        output,
        first: 0,
        count: 1,
        fault: Fault::Status(429),
    }];
    let receiver = Receiver::start(plan).unwrap();
    let records = joined(&directory);
    assert_eq!(send_loki(receiver.address(), &records), 429);
    assert_eq!(receiver.tally().distinct(output), 0);
    assert_eq!(send_loki(receiver.address(), &records), 204);
    assert_eq!(send_loki(receiver.address(), &records), 204);
    assert_eq!(receiver.tally().distinct(output), records.len() as u64);
    assert_eq!(receiver.tally().duplicates(output), records.len() as u64);
}

#[test]
fn a_proxy_counts_what_passed_and_what_was_acknowledged() {
    let directory = generated("proxy", 11);
    let output = Output::Loki;
    let plan = vec![Planned {
        output,
        first: 0,
        count: 1,
        fault: Fault::Status(500),
    }];
    let receiver = Receiver::start(plan).unwrap();
    let proxy = Proxy::start(&format!("http://{}", receiver.address())).unwrap();
    let records = joined(&directory);
    assert_eq!(send_loki(proxy.address(), &records), 500);
    assert_eq!(send_loki(proxy.address(), &records), 204);
    let journals = read_all(&journal_directory(&directory)).unwrap();
    let account = Account::draw(&journals, proxy.acknowledged(), &[output]);
    assert!(account.is_clean(), "{account}");
    assert_eq!(proxy.acknowledged().duplicates(output), 0);
    assert_eq!(proxy.sent().duplicates(output), records.len() as u64);
}
