//! Configs, good and bad, and the messages that people see.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::plan::print;

fn env(name: &str) -> Option<String> {
    match name {
        "TENANT" => Some("team".to_owned()),
        "PASSWORD" => Some("hunter2".to_owned()),
        _ => None,
    }
}

/// The rest of a config whose `extra` is under test.
fn with(extra: &str) -> String {
    format!(
        "inputs: {{pods: {{pods: {{}}}}}}\noutputs: {{loki: {{loki: {{url: http://h/push}}}}}}\n\
         {extra}"
    )
}

fn piped(stages: &str) -> String {
    with(&format!(
        "pipelines: {{p: {{from: pods, to: loki, stages: {stages}}}}}\n"
    ))
}

fn refused(text: &str) -> String {
    parse("t.yaml", text, &env).unwrap_err().to_string()
}

/// Refused with exactly this cause and cure at this place.
fn check_bad(text: &str, place: &str, cause: &str, cure: &str) {
    let found = refused(text);
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(
        lines[0],
        format!("t.yaml:{place}: {cause}"),
        "{text}\n{found}"
    );
    assert_eq!(
        lines.last(),
        Some(&format!("  cure: {cure}").as_str()),
        "{text}\n{found}"
    );
}

#[test]
fn print_all() {
    for text in [
        piped("[a, {cri: {}, json: {}}, {}, {jsno: {}}]"),
        piped("{}"),
    ] {
        println!("{}", refused(&text));
    }
}
