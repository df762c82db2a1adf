//! `tailwake probe`: what it says, and its exit codes.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::process::{Command, Output};

use serde_json::Value;

fn probe(before: &[&str], words: &[&str]) -> Output {
    let mut line = before.to_vec();
    line.extend([env!("CARGO_BIN_EXE_tailwake"), "probe"]);
    line.extend(words);
    Command::new(line[0]).args(&line[1..]).output().unwrap()
}

fn said(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_exit_code_says_whether_probes_serve_every_root() {
    let here = env!("CARGO_TARGET_TMPDIR");
    for roots in [&[here][..], &["/dev/shm"], &["/proc"], &[here, "/proc"]] {
        let mut words = vec!["--json"];
        roots.iter().for_each(|root| words.extend(["--root", root]));
        let output = probe(&[], &words);
        let said = said(&output);
        let serve = said["roots"].as_array().unwrap().iter().all(|root| {
            let probed = !["inotify", "sweep"].contains(&root["rung"].as_str().unwrap());
            assert_eq!(probed, root["hooks"] != serde_json::json!([]), "{root}");
            probed
        });
        assert_eq!(said["probes_serve_all_roots"], serve);
        assert_eq!(output.status.code(), Some(i32::from(!serve)), "{said:#}");
        assert!(!serve || !roots.contains(&"/proc"), "{said:#}");
        assert_eq!(said["rungs"].as_array().unwrap().len(), 3);
    }
}

#[test]
fn a_wrong_line_or_config_is_a_two() {
    for words in [
        &["--config", "/nonexistent.yaml"][..],
        &["--roots", "/var/log"],
        &["--config", "a.yaml", "--root", "/var/log"],
    ] {
        let output = probe(&[], words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}

#[test]
fn the_roots_are_the_configs() {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/loki.yaml");
    let said = said(&probe(&[], &["--json", "--config", config]));
    assert_eq!(said["roots"][0]["path"], "/var/log/pods");
}

#[test]
fn missing_capabilities_are_named_with_their_cure() {
    if !rustix::process::geteuid().is_root() {
        return println!("SKIP: not root");
    }
    let drop = [
        "setpriv",
        "--bounding-set",
        "-bpf,-perfmon,-sys_admin",
        "--",
    ];
    let root = env!("CARGO_TARGET_TMPDIR");
    let output = probe(&drop, &["--root", root]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("CAP_BPF (loads the probes), CAP_PERFMON"),
        "{text}"
    );
    assert!(text.contains("capabilities.add: [BPF, PERFMON]"), "{text}");
}
