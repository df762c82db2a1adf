//! Configs, good and bad, and the messages that people see.

#![expect(clippy::unwrap_used, reason = "tests")]

mod bulk;
mod http;
mod messages;
mod outputs_page;
mod round;
mod spool;

use super::*;
use crate::plan::memory::Memory;
use crate::plan::print;

fn env(name: &str) -> Option<String> {
    match name {
        "TENANT" => Some("team".to_owned()),
        "PASSWORD" => Some("hunter2".to_owned()),
        _ => None,
    }
}

/// A config of one input, one output and what is under test from line 3 on.
fn with(extra: &str) -> String {
    format!(
        "inputs: {{pods: {{pods: {{}}}}}}\noutputs: {{loki: {{loki: {{url: http://h/push}}}}}}\n\
         {extra}\n"
    )
}

/// A config whose stages are under test, on line 4.
fn staged(stages: &str) -> String {
    with(&format!(
        "pipelines: {{p: {{from: pods, to: loki, stages:\n[{stages}]}}}}"
    ))
}

fn plan(text: &str) -> Plan {
    parse("t.yaml", text, &env)
        .map_err(|found| found.to_string())
        .unwrap()
}

fn refused(text: &str) -> String {
    parse("t.yaml", text, &env).unwrap_err().to_string()
}

fn examples() -> Vec<String> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples");
    let items = std::fs::read_dir(dir).unwrap();
    let mut paths: Vec<_> = items.map(|item| item.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
    paths.sort();
    assert!(!paths.is_empty());
    let read = |path: &std::path::PathBuf| std::fs::read_to_string(path).unwrap();
    paths.iter().map(read).collect()
}

#[test]
fn variables_fill_values_and_are_no_yaml() {
    let text = with(
        "pipelines: {p: {from: pods, to: loki, stages: [{drop: {value: '${TENANT}: {}', \
         reason: '${NONE:-other}'}}]}}",
    );
    let printed = print::yaml(&plan(&text));
    assert!(printed.contains("value: \"team: {}\""), "{printed}");
    assert!(printed.contains("reason: other"), "{printed}");
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let found = load(Path::new("/nonexistent/t.yaml")).unwrap_err();
    let text = found.to_string();
    assert!(
        text.starts_with("/nonexistent/t.yaml: cannot be read: No such file"),
        "{text}"
    );
    let found = load(Path::new("/")).unwrap_err().to_string();
    assert!(found.starts_with("/: this is a directory"), "{found}");
}

#[test]
fn the_default_limits_hold_two_outputs_and_one_encoder() {
    let text = &examples()[1];
    let plan = plan(text);
    assert_eq!(plan.outputs.len(), 2);
    let memory = Memory::of(&plan, 1, 1).unwrap();
    assert_eq!(
        memory.to_string(),
        "pool 9MiB + windows 12MiB + batches 6MiB + joins 8704KiB = 36352KiB of 36MiB"
    );
    assert_eq!(memory.pool_buffers, 72);
}

#[test]
fn open_thread_counts_are_cut_to_what_fits_and_given_ones_are_refused() {
    let open = with("pipelines: {p: {from: pods, to: loki}}");
    let threads = Memory::threads(&plan(&open), 16).unwrap();
    // 36 - pool 9 - window 6 - joins 8 = 13 MiB = 6 encoders of 2 MiB.
    assert_eq!((threads.readers, threads.encoders), (2, 6));
    let mut given = plan(&open);
    given.limits.encoders = Some(8);
    let cause = Memory::threads(&given, 16).unwrap_err();
    assert!(
        cause.contains("= 39MiB of 36MiB; set `limits.memory: 40MiB`"),
        "{cause}"
    );
    given.limits.memory = crate::base::size::ByteSize(40 << 20);
    assert!(Memory::threads(&given, 16).is_ok());
    given.limits.memory = crate::base::size::ByteSize(56 << 20);
    given.limits.record_bytes_max = crate::base::size::ByteSize(256 << 10);
    assert_eq!(Memory::of(&given, 7, 8).unwrap().pool_buffers, 112);
    assert_eq!(Memory::threads(&plan(&open), 1).unwrap().encoders, 1);
}

#[test]
fn check_prints_tables_and_the_formula() {
    let want = "\
INPUT  READS               START AT
pods   pods /var/log/pods  beginning

PIPELINE  FROM  STEPS  TO
pods      pods  3      common shop archive

OUTPUT   KIND           SENDS TO                                BATCH  LINGER  WINDOW  SPOOL
common   loki           http://loki:3100/loki/api/v1/push       1MiB   100ms   6MiB    none
shop     loki           http://loki:3100/loki/api/v1/push       1MiB   100ms   6MiB    none
archive  elasticsearch  https://***@elasticsearch:9200 archive  2MiB   100ms   6MiB    none

threads: 1 reader(s), 1 encoder(s)
memory: pool 10MiB + windows 18MiB + batches 8MiB + joins 4MiB = 40MiB of 40MiB (80 read buffers)
";
    assert_eq!(check(&plan(&examples()[0]), 2).unwrap(), want);
}
