//! Where documents go, and the names of what they say.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::fixture::{Told, record, source, ticket};
use super::tests::{NOW, lines_of, made, output};
use super::*;
use crate::plan::{DatePart, OpType, Pattern, PatternPart};
use crate::stage::TimeOrigin;

fn text(text: &str) -> PatternPart {
    PatternPart::Text(text.into())
}

fn field(name: &str) -> PatternPart {
    PatternPart::Field(name.into())
}

fn label(name: &str) -> PatternPart {
    PatternPart::Label(name.into())
}

fn daily() -> [PatternPart; 5] {
    [
        PatternPart::Date(DatePart::Year),
        text("."),
        PatternPart::Date(DatePart::Month),
        text("."),
        PatternPart::Date(DatePart::Day),
    ]
}

/// The (action, document) of one record of an output.
fn pair(
    output: &ElasticsearchOutput,
    body: &[u8],
    change: &dyn Fn(&mut Record<'_>),
) -> (Value, Value) {
    let told = Arc::new(Told::default());
    let (source, owed) = (source(&[("app", "Shop/1")]), ticket(&told, 0, 1));
    let mut bulk = made(output);
    let mut record = record(&source, &owed, body);
    change(&mut record);
    bulk.push(0, &mut record, Claim::default(), NOW);
    drop(record);
    owed.settle();
    lines_of(&mut bulk).remove(0)
}

#[test]
fn index_names_are_filled_in_and_cleaned() {
    let mut output = output(false, 0);
    let none: &dyn Fn(&mut Record<'_>) = &|_| ();
    let team: &dyn Fn(&mut Record<'_>) = &|record| {
        record
            .labels
            .push(("team".into(), b"\xffA,\"b*"[..].into()))
    };
    let old: &dyn Fn(&mut Record<'_>) = &|record| record.time.secs = -1;
    let ours = |parts: &[PatternPart]| [&[text("logs-")], parts, &[text("-")], &daily()].concat();
    for (parts, change, want) in [
        (ours(&[field("namespace")]), none, "logs-default-2026.11.24"),
        (ours(&[field("namespace")]), old, "logs-default-1969.12.31"),
        (ours(&[label("app")]), none, "logs-shop_1-2026.11.24"),
        (ours(&[label("team")]), none, "logs-none-2026.11.24"),
        (ours(&[label("team")]), team, "logs-_a__b_-2026.11.24"),
        (vec![label("team"), text("-x")], team, "a__b_-x"),
        (vec![label("a"), text("-"), label("b")], none, "none-none"),
        (vec![field("tag")], none, "none"),
        (vec![field("stream"), text(".")], none, "stdout."),
        (
            vec![
                text("w"),
                PatternPart::Date(DatePart::WeekYear),
                PatternPart::Date(DatePart::Week),
                text("d"),
                PatternPart::Date(DatePart::DayOfYear),
                text("h"),
                PatternPart::Date(DatePart::Hour),
            ],
            none,
            "w202648d328h05",
        ),
    ] {
        output.index = Pattern(parts);
        let (action, _) = pair(&output, b"x", change);
        assert_eq!(action, json!({"index": {"_index": want}}));
    }
    output.data_stream = true;
    output.shape.op_type = OpType::Create;
    output.index = Pattern(vec![text("logs-kubernetes-"), field("pod")]);
    let (action, _) = pair(&output, b"x", none);
    assert_eq!(
        action,
        json!({"create": {"_index": "logs-kubernetes-web_1"}})
    );
}

#[test]
fn one_name_too_many_goes_to_the_fallback_and_is_counted() {
    let told = Arc::new(Told::default());
    let (source, owed) = (source(&[]), ticket(&told, 0, 1));
    let mut output = output(false, 0);
    output.index = Pattern([&[label("user"), text("-")][..], &daily()].concat());
    let mut bulk = made(&output);
    let day = |bulk: &mut Bulk, user: &str, days: i64, now: u64| {
        let mut record = record(&source, &owed, b"x");
        record.labels.push(("user".into(), user.as_bytes().into()));
        record.time.secs += days * 86_400;
        bulk.push(0, &mut record, Claim::default(), Mono(now));
        let action = lines_of(bulk).remove(0).0;
        action["index"]["_index"].as_str().unwrap().to_owned()
    };
    for user in ["a", "b", "c", "a"] {
        assert_eq!(day(&mut bulk, user, 0, 1), format!("{user}-2026.11.24"));
    }
    assert_eq!(day(&mut bulk, "d", 0, 1), "other");
    assert_eq!(day(&mut bulk, "d", 0, 1), "other");
    assert_eq!(day(&mut bulk, "d", 1, 1), "d-2026.11.25");
    assert_eq!(bulk.over.get(), 2);
    // Times of a log's content are no way around it.
    let names: BTreeSet<String> = (0..100).map(|at| day(&mut bulk, "e", at, 1)).collect();
    assert_eq!(names.len(), 3 * 4 - 4 + 1, "{names:?}");
    owed.settle();
}

#[test]
fn pipeline_routing_and_alias_stand_in_the_action_and_the_id_after_them() {
    let mut output = output(false, 0);
    output.shape.pipeline = Some("p".into());
    output.shape.routing = Some(Pattern(vec![field("namespace"), text("/"), label("team")]));
    output.shape.require_alias = true;
    output.shape.ids = Ids::Timed;
    output.index = "plain".into();
    let of = |output: &ElasticsearchOutput, change: &dyn Fn(&mut Record<'_>)| {
        let mut action = pair(output, b"x", change).0["index"].take();
        let id = action.as_object_mut().unwrap().remove("_id");
        (action, id.map(|id| id.as_str().unwrap().len()))
    };
    let (action, id) = of(&output, &|_| ());
    let want = json!({"_index": "plain", "pipeline": "p", "routing": "default/",
        "require_alias": true});
    assert_eq!((action, id), (want, Some(22)));
    let (action, id) = of(&output, &|record| {
        record.labels.push(("team".into(), b"A\"b"[..].into()));
        record.time_origin = TimeOrigin::Read;
    });
    assert_eq!(
        (action["routing"].as_str(), id),
        (Some("default/A\"b"), None)
    );
}

#[test]
fn the_common_schema_has_its_names() {
    let mut output = output(true, 0);
    output.shape.fields = FieldShape::Ecs;
    let none: &dyn Fn(&mut Record<'_>) = &|_| ();
    let (_, document) = pair(&output, b"x", none);
    let want = json!({
        "@timestamp": "2026-11-24T05:00:00.123456789Z", "stream": "stdout",
        "kubernetes": {"namespace": "default", "pod": {"name": "web-1", "uid": "0a1b"},
            "container": {"name": "app"}, "node": {"name": "node-1"}},
        "log": {"file": {"path": "/var/log/pods/default_web-1_0a1b/app/0.log"}, "offset": 7},
        "ecs": {"version": "8.11.0"}, "labels": {"app": "Shop/1"}, "message": "x",
    });
    assert_eq!(document, want);
    let (_, document) = pair(&output, b"x", &|record| record.cut = true);
    assert_eq!(document["log"]["flags"], json!(["truncated"]));
    // What a library of the schema writes: its version wins, its time does not.
    let body = br#"{"@timestamp":"2020-01-01T00:00:00Z","log.level":"INFO","message":"m",
        "ecs.version":"1.6.0","log.file":"x","log.file.path":"y","log.file.line":3}"#;
    let (_, document) = pair(&output, body, none);
    assert_eq!(document["@timestamp"], want["@timestamp"]);
    let rest = |name: &str| document.get(name).cloned();
    assert_eq!(rest("ecs.version"), Some(json!("1.6.0")));
    assert_eq!(rest("log.file.line"), Some(json!(3)));
    assert_eq!(
        (rest("log.file"), rest("log.file.path"), rest("ecs")),
        (None, None, None)
    );
    assert_eq!(rest("log.level"), Some(json!("INFO")));
}

#[test]
fn a_json_text_is_nested_or_kept_as_text_where_it_is_asked() {
    let mut output = output(true, 0);
    let of = |output: &ElasticsearchOutput, body: &[u8]| {
        let (_, mut document) = pair(output, body, &|_| ());
        (document["parsed"].take(), document["message"].take())
    };
    output.shape.json = JsonBody::Nest("parsed".into());
    for (body, want) in [
        (
            &b"{\"log\":1,\n\"stream\":{\"a\":[]}}"[..],
            json!({"log": 1, "stream": {"a": []}}),
        ),
        (b" {} ", json!({})),
        (br#"{"a":1,"b":2,"a":3}"#, json!({"b": 2, "a": 3})),
        (br#"{"n":1e400,"a":"\ud800"}"#, Value::Null),
    ] {
        let (parsed, message) = of(&output, body);
        let plain = want.is_null();
        assert_eq!((parsed, message.is_string()), (want, plain), "{body:?}");
    }
    assert_eq!(of(&output, b"plain"), (Value::Null, json!("plain")));
    output.shape.json = JsonBody::Text;
    assert_eq!(of(&output, b"{\"a\":1}"), (Value::Null, json!("{\"a\":1}")));
}

#[test]
fn nanosecond_times_stay_where_the_mapping_takes_them() {
    let mut output = output(true, 0);
    for (kind, secs, want) in [
        (
            TimestampKind::Date,
            16_725_225_600,
            "2500-01-01T00:00:00.000000005Z",
        ),
        (
            TimestampKind::DateNanos,
            1_795_496_400,
            "2026-11-24T05:00:00.000000005Z",
        ),
        (
            TimestampKind::DateNanos,
            16_725_225_600,
            "2262-04-11T23:47:16.854775807Z",
        ),
        (
            TimestampKind::DateNanos,
            -7,
            "1970-01-01T00:00:00.000000000Z",
        ),
    ] {
        output.shape.timestamp = kind;
        let (_, document) = pair(&output, b"x", &|record| {
            record.time = Timestamp { secs, nanos: 5 };
        });
        assert_eq!(document["@timestamp"], json!(want));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a log says, each index name is one that the servers take.
    #[test]
    fn index_names_are_always_good(
        value in prop::collection::vec(any::<u8>(), 0..300),
        data_stream in any::<bool>(),
        front in any::<bool>(),
    ) {
        let mut output = output(data_stream, 0);
        let parts: Vec<PatternPart> = (0..4).flat_map(|_| [label("x"), text("-")]).collect();
        let first = if front { vec![text("a-")] } else { Vec::new() };
        output.index = Pattern([&first[..], &parts, &daily()].concat());
        let (action, _) = pair(&output, b"x", &|record| {
            record.labels.push(("x".into(), value.clone().into()));
        });
        let name = action.as_object().unwrap().values().next().unwrap()["_index"].as_str().unwrap();
        prop_assert!(name.len() <= 255 && !name.starts_with(['-', '_', '+', '.']), "{name}");
        prop_assert!(name.ends_with("-2026.11.24"), "{name}");
        prop_assert!(name.matches('-').count() >= 4 + usize::from(front), "{name}");
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        prop_assert!(name.chars().all(fits), "{name}");
    }
}
