//! Graphs by hand: match, copy, goto, multiline with its ticks, labels, drops.

use regex::bytes::Regex;

use super::*;
use crate::plan::{
    DropStage, Entry, JsonField, JsonStage, LabelField, MatchOp, Matcher, MultilineStage, Selector,
    Stage, TimestampFormat, TimestampStage,
};

fn select(label: &str, op: MatchOp, steps: Vec<Step>) -> Step {
    Step::Match {
        selector: Selector(vec![Matcher {
            label: label.into(),
            op,
        }]),
        steps,
    }
}

pub(super) fn multiline(lines_max: usize) -> Step {
    Step::Stage(Stage::Multiline(MultilineStage {
        first_line: Regex::new("^at ").unwrap(),
        wait_ms: 100,
        lines_max,
    }))
}

fn drop_stage() -> DropStage {
    DropStage {
        source: None,
        expression: None,
        value: None,
        longer_than: None,
        older_than_secs: None,
        reason: "test".into(),
    }
}

fn json(names: &[&str]) -> [Step; 2] {
    let fields = names.iter().map(|name| JsonField {
        name: (*name).into(),
        path: name.split('.').map(Arc::from).collect(),
    });
    let labels = names.iter().map(|name| LabelField {
        label: (*name).into(),
        from: (*name).into(),
    });
    [
        Step::Stage(Stage::Json(JsonStage {
            fields: fields.collect(),
        })),
        Step::Stage(Stage::Labels(labels.collect())),
    ]
}

#[test]
fn nested_match_copy_multiline_and_drop_settle_every_claim_once() {
    // stderr: copied to output 0 as it is and to output 1 in blocks; then stdout lines that say
    // `noise` are dropped and the others go to both.
    let blocks = vec![multiline(100), Step::Output(output(1))];
    let errors = select(
        "namespace",
        MatchOp::Matches(Regex::new("def.*|x").unwrap()),
        vec![Step::Copy(vec![vec![Step::Output(output(0))], blocks])],
    );
    let noise = DropStage {
        expression: Some(Regex::new("noise").unwrap()),
        reason: "noise".into(),
        ..drop_stage()
    };
    let steps = vec![
        Step::Stage(Stage::Cri),
        select("stream", MatchOp::Equal("stderr".into()), vec![errors]),
        select(
            "app",
            MatchOp::NotEqual("web".into()),
            vec![Step::Drop {
                reason: "never".to_owned(),
            }],
        ),
        Step::Stage(Stage::Drop(noise)),
        Step::Output(output(0)),
        Step::Output(output(1)),
    ];
    let mut bench = Bench::new(&plan(steps, 1000), 2);
    let lines = [
        cri(0, "stderr", "F", "stray"),
        cri(0, "stderr", "F", "at one"),
        cri(1, "stdout", "F", "noise"),
        cri(2, "stderr", "F", "more"),
        cri(3, "stdout", "F", "fine"),
        cri(4, "stderr", "F", "at two"),
    ];
    let mut base = 0;
    for line in &lines {
        bench.chunk(1, 1, base, line.as_bytes(), false);
        base += line.len() as u64;
    }
    let seen = |bench: &Bench, id| -> Vec<String> {
        let texts = bench.texts().into_iter().zip(&bench.seer.seen);
        texts
            .filter(|(_, seen)| seen.output == id)
            .map(|(text, _)| text)
            .collect()
    };
    assert_eq!(
        seen(&bench, 0),
        ["stray", "at one", "more", "fine", "at two"]
    );
    assert_eq!(seen(&bench, 1), ["stray", "fine", "at one\nmore"]);
    assert_eq!(
        bench.metric("tailwake_records_dropped_total{reason=\"noise\"}"),
        1
    );
    assert_eq!(bench.machine.deadline(), Some(Mono(100_000_000)));
    bench.tick(99);
    assert_eq!(seen(&bench, 1).len(), 3);
    bench.tick(1);
    assert_eq!(seen(&bench, 1)[3..], ["at two"]);
    assert_eq!(bench.machine.deadline(), None);
    bench.check_all_settled();
}

#[test]
fn a_block_waits_for_its_last_line_and_a_full_one_goes_on_as_a_new_one() {
    let steps = vec![multiline(2), Step::Output(output(0))];
    let mut bench = Bench::new(&plan(steps, 1000), 1);
    bench.text("at a\nb\nc\nd\ne\n");
    assert_eq!(bench.texts(), ["at a\nb", "c\nd"]);
    bench.tick(60);
    bench.chunk(1, 1, 20, b"f\n", false);
    assert_eq!(bench.texts()[2..], ["e\nf"]);
    bench.chunk(1, 1, 22, b"at g\n", false);
    bench.tick(60);
    bench.tick(60);
    assert_eq!(bench.texts()[3..], ["at g"]);
    bench.end();
    bench.check_all_settled();
}

#[test]
fn parts_that_end_with_the_log_still_join_their_block() {
    let steps = vec![
        Step::Stage(Stage::Cri),
        multiline(100),
        Step::Output(output(0)),
    ];
    let mut bench = Bench::new(&plan(steps, 1000), 1);
    bench.text(&[cri(0, "stdout", "F", "at a"), cri(1, "stdout", "P", "b")].concat());
    assert!(bench.texts().is_empty());
    bench.end();
    assert_eq!(bench.texts(), ["at a\nb"]);
    assert_eq!(bench.seer.seen[0].secs, CRI_SECS);
    bench.check_all_settled();
}

#[test]
fn values_become_labels() {
    let [read, label] = json(&["level", "http.status", "ok", "none", "deep"]);
    let mut bench = Bench::new(&plan(vec![read, label, Step::Output(output(0))], 1000), 1);
    bench.text(concat!(
        r#"{"level":"info","http":{"status":200},"ok":true,"none":null,"deep":{}}"#,
        "\n",
        r#"{"level":"a\"b","http":1}"#,
        "\nplain\n",
    ));
    let labels = |at: usize| -> Vec<(String, String)> {
        let labels = bench.seer.seen[at].labels.iter();
        let text = |value: &Vec<u8>| String::from_utf8(value.clone()).unwrap();
        labels
            .map(|(name, value)| (name.clone(), text(value)))
            .collect()
    };
    let want = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        let own = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        list.iter().map(own).collect()
    };
    assert_eq!(
        labels(0),
        want(&[("level", "info"), ("http.status", "200"), ("ok", "true")])
    );
    assert_eq!(labels(1), want(&[("level", "a\"b")]));
    assert_eq!(labels(2), want(&[]));
    assert_eq!(bench.metric("tailwake_json_errors_total"), 1);
    bench.check_all_settled();
}

#[test]
fn a_drop_needs_all_its_conditions() {
    let old = r#"{"t":"1799990000","level":"debug"}"#;
    let new = r#"{"t":"1800000000","level":"debug"}"#;
    let info = r#"{"level":"info"}"#;
    let all = [old, new, info];
    let level = || Some(Arc::from("level"));
    for (stage, want) in [
        (drop_stage(), &all[3..]),
        (
            DropStage {
                longer_than: Some(20),
                ..drop_stage()
            },
            &all[2..],
        ),
        (
            DropStage {
                source: level(),
                value: Some("info".into()),
                ..drop_stage()
            },
            &all[..2],
        ),
        (
            DropStage {
                older_than_secs: Some(60),
                ..drop_stage()
            },
            &all[1..],
        ),
        (
            DropStage {
                source: level(),
                expression: Some(Regex::new("bug").unwrap()),
                older_than_secs: Some(60),
                ..drop_stage()
            },
            &all[1..],
        ),
        (
            DropStage {
                source: Some("absent".into()),
                ..drop_stage()
            },
            &all[..],
        ),
    ] {
        let time = TimestampStage {
            source: "t".into(),
            format: TimestampFormat::Unix,
        };
        let [read, _] = json(&["t", "level"]);
        let steps = vec![
            read,
            Step::Stage(Stage::Timestamp(time)),
            Step::Stage(Stage::Drop(stage)),
            Step::Output(output(0)),
        ];
        let mut bench = Bench::new(&plan(steps, 1000), 1);
        bench.text(&all.join("\n"));
        assert_eq!(bench.texts(), want);
        assert_eq!(bench.metric("tailwake_timestamp_errors_total"), 1);
        bench.check_all_settled();
    }
}

#[test]
fn a_goto_ends_its_steps_and_a_circle_drops() {
    let entry = |name: &str, steps| Entry {
        name: name.to_owned(),
        steps,
    };
    let mut plan = plan(
        vec![
            Step::Goto(0),
            Step::Drop {
                reason: "after".to_owned(),
            },
        ],
        1000,
    );
    plan.entries = vec![
        entry("a", vec![Step::Output(output(0)), Step::Goto(1)]),
        entry("b", vec![Step::Output(output(1)), Step::Goto(0)]),
    ];
    let mut bench = Bench::new(&plan, 2);
    bench.text("x\n");
    assert_eq!(bench.texts(), ["x", "x"]);
    assert_eq!(
        bench.metric("tailwake_records_dropped_total{reason=\"goto_loop\"}"),
        1
    );
    assert_eq!(
        bench.metric("tailwake_records_dropped_total{reason=\"after\"}"),
        0
    );
    bench.check_all_settled();
}

#[test]
fn an_input_of_two_pipelines_and_one_of_none() {
    let mut plan = plan(vec![Step::Stage(Stage::Cri), Step::Output(output(0))], 1000);
    plan.pipelines.push(Pipeline {
        name: "raw".to_owned(),
        from: vec![0, 9],
        steps: vec![Step::Output(output(1))],
    });
    let line = cri(0, "stdout", "F", "x");
    let mut bench = Bench::new(&plan, 2);
    bench.text(&line);
    assert_eq!(bench.texts(), ["x", line.trim_end()]);
    bench.check_all_settled();
    plan.pipelines.clear();
    let mut bench = Bench::new(&plan, 2);
    bench.text(&line);
    assert!(bench.texts().is_empty());
    bench.check_all_settled();
}
