#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::compress::inflate;
use super::super::fixture::{Told, record, source, ticket, with_facts};
use super::super::loki::slice;
use super::super::subset::subset;
use super::*;
use crate::base::bell::Bell;
use crate::base::outputs::OutputId;
use crate::plan::{OpType, Shape};

pub(super) fn output(data_stream: bool, gzip_level: u32) -> ElasticsearchOutput {
    let op_type = if data_stream {
        OpType::Create
    } else {
        OpType::Index
    };
    ElasticsearchOutput {
        urls: Vec::new(),
        index: "logs-\"x\"".into(),
        data_stream,
        shape: Shape {
            op_type,
            fallback: "other".into(),
            index_names_max: 3,
            ..Shape::default()
        },
        filter_path: true,
        template: None,
        compression: crate::plan::Compression::Gzip,
        gzip_level,
    }
}

pub(super) fn made(output: &ElasticsearchOutput) -> Bulk {
    let (registry, bell) = (Registry::default(), Bell::silent());
    let outlet = Outlet::new(OutputId(0), "o", 1 << 20, bell, Vec::new(), &registry);
    Bulk::new(output, "o", Arc::new(outlet), &registry, Arc::default())
}

fn bulk(data_stream: bool, gzip_level: u32) -> Bulk {
    made(&output(data_stream, gzip_level))
}

pub(super) const NOW: Mono = Mono(1);

/// The (action, document) of all records of an open body, which is sealed.
pub(super) fn lines_of(bulk: &mut Bulk) -> Vec<(Value, Value)> {
    let sealed = bulk.seal(0).unwrap();
    let raw = inflate(sealed.encoding, &sealed.body).unwrap();
    let lines: Vec<&[u8]> = raw.split(|byte| *byte == b'\n').collect();
    let parsed = |line: &[u8]| serde_json::from_slice(line).unwrap();
    let pairs = lines.chunks_exact(2);
    pairs
        .map(|pair| (parsed(pair[0]), parsed(pair[1])))
        .collect()
}

/// The document of one text, as text, without its newline.
fn document(text: &[u8]) -> String {
    let told = Arc::new(Told::default());
    let (source, owed) = (source(&[]), ticket(&told, 0, 1));
    let mut bulk = bulk(true, 1);
    bulk.push(0, &mut record(&source, &owed, text), Claim::default(), NOW);
    owed.settle();
    let sealed = bulk.seal(0).unwrap();
    let raw = String::from_utf8(inflate(sealed.encoding, &sealed.body).unwrap()).unwrap();
    let lines: Vec<&str> = raw.split('\n').collect();
    assert_eq!((lines.len(), lines[2]), (3, ""), "two whole lines: {raw:?}");
    lines[1].to_owned()
}

/// What the body adds to our own keys.
fn added(text: &[u8]) -> Value {
    let Value::Object(mut object) = serde_json::from_str(&document(text)).unwrap() else {
        return Value::Null;
    };
    assert_eq!(
        object.remove("@timestamp"),
        Some(json!("2026-11-24T05:00:00.123456789Z"))
    );
    assert_eq!(object.remove("stream"), Some(json!("stdout")));
    let kubernetes = json!({"namespace": "default", "pod": "web-1", "uid": "0a1b",
        "container": "app", "node": "node-1"});
    assert_eq!(object.remove("kubernetes"), Some(kubernetes));
    let log = json!({"file": "/var/log/pods/default_web-1_0a1b/app/0.log", "offset": 7});
    assert_eq!(object.remove("log"), Some(log));
    Value::Object(object)
}

#[test]
fn what_the_api_says_of_a_pod_stands_under_kubernetes() {
    let told = Arc::new(Told::default());
    let (source, owed) = (with_facts(&source(&[])), ticket(&told, 0, 1));
    let mut bulk = bulk(true, 0);
    let text = br#"{"kubernetes.owner":"mine","kubernetes.host":"h"}"#;
    bulk.push(
        0,
        &mut record(&source, &owed, text),
        Claim::default(),
        Mono(0),
    );
    owed.settle();
    let sealed = bulk.seal(0).unwrap();
    let raw = inflate(sealed.encoding, &sealed.body).unwrap();
    let document = raw.split(|byte| *byte == b'\n').nth(1).unwrap();
    let document: Value = serde_json::from_slice(document).unwrap();
    let want = json!({"namespace": "default", "pod": "web-1", "uid": "0a1b", "container": "app",
        "node": "node-1", "owner": "web", "owner_kind": "Deployment",
        "labels": {"app": "web", "app_kubernetes_io/name": "shop"},
        "annotations": {"team": "a\"b"}});
    assert_eq!(document["kubernetes"], want);
    assert_eq!(document["kubernetes.host"], json!("h"));
    assert!(document.get("kubernetes.owner").is_none(), "ours wins");
}

#[test]
fn a_text_is_a_message_and_a_json_body_is_spliced() {
    let table: [(&[u8], Value); 12] = [
        (b"plain", json!({"message": "plain"})),
        (b"", json!({"message": ""})),
        (b"\xff", json!({"message": "\u{fffd}"})),
        (b"[1]", json!({"message": "[1]"})),
        (b"{\"a\":", json!({"message": "{\"a\":"})),
        (b"{}", json!({})),
        (b"  { }\r", json!({})),
        (
            br#"{"message":"m","n":{"message":[1,{}]}}"#,
            json!({"message": "m", "n": {"message": [1, {}]}}),
        ),
        (
            b"{\"a\":1,\n \"b\":\r\n\"x\\ny\"}",
            json!({"a": 1, "b": "x\ny"}),
        ),
        (br#"{"stream":"mine","a":1}"#, json!({"a": 1})),
        (br#"{"log":"mine","@timestamp":3,"labels.x":1}"#, json!({})),
        (
            br#"{"log.level":"info","log.file.path":"/x","log.offset":1}"#,
            json!({"log.level": "info"}),
        ),
    ];
    for (text, want) in table {
        assert_eq!(added(text), want, "{:?}", String::from_utf8_lossy(text));
    }
}

#[test]
fn a_spliced_body_keeps_its_bytes() {
    let body = r#""n":12345678901234567890123,"f":1.10,"e":"\u00e9","d":{"x" : [1, 2]}"#;
    let document = document(format!("{{{body}}}").as_bytes());
    assert!(document.ends_with(&format!(",{body}}}")), "{document}");
}

#[test]
fn labels_are_merged_and_the_record_wins() {
    let told = Arc::new(Told::default());
    let (source, owed) = (
        source(&[("app", "a"), ("app.io/name", "n"), ("no", "")]),
        ticket(&told, 0, 1),
    );
    let check = |fill: &dyn Fn(&mut Record<'_>), want: Value| {
        let mut bulk = bulk(false, 0);
        let mut record = record(&source, &owed, b"x");
        fill(&mut record);
        bulk.push(0, &mut record, Claim::default(), NOW);
        let sealed = bulk.seal(0).unwrap();
        let mut lines = sealed.body.split(|byte| *byte == b'\n');
        let action: Value = serde_json::from_slice(lines.next().unwrap()).unwrap();
        assert_eq!(action, json!({"index": {"_index": "logs-\"x\""}}));
        let document: Value = serde_json::from_slice(lines.next().unwrap()).unwrap();
        assert_eq!(document["labels"], want);
        assert_eq!(document["log"].get("cut").is_some(), record.cut);
    };
    check(&|_| (), json!({"app": "a", "app_io/name": "n"}));
    check(
        &|record| record.cut = true,
        json!({"app": "a", "app_io/name": "n"}),
    );
    check(
        &|record| {
            record.labels.push(("app".into(), b"b"[..].into()));
            record.structured.push(("trace".into(), b"\xff"[..].into()));
        },
        json!({"app": "b", "app_io/name": "n", "trace": "\u{fffd}"}),
    );
    owed.settle();
}

#[test]
fn a_part_is_compressed_as_hard_as_the_whole() {
    let told = Arc::new(Told::default());
    let (source, owed) = (source(&[]), ticket(&told, 0, 1));
    let mut sizes = Vec::new();
    for level in [0, 1, 9] {
        let mut bulk = bulk(true, level);
        for line in 0..500 {
            let text = format!("GET /api/v1/items/{} took {} ms", line * 7919, line % 13);
            let mut record = record(&source, &owed, text.as_bytes());
            bulk.push(0, &mut record, Claim::default(), NOW);
        }
        let whole = bulk.seal(0).unwrap();
        let all: Vec<usize> = (0..whole.items.len()).collect();
        let (items, groups) = (&whole.items, &whole.groups);
        let part = subset(whole.encoding, &whole.body, items, groups, &all).unwrap();
        assert_eq!(part.body, whole.body, "level {level}");
        sizes.push(part.body.len());
    }
    owed.settle();
    assert!(sizes[0] > sizes[1] && sizes[1] > sizes[2], "{sizes:?}");
}

proptest! {
    /// Each item is its two lines, and any subset is a body of just these items.
    #[test]
    fn items_point_at_their_bytes(
        lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..20),
        mask in any::<u32>(),
        level in 0u32..3,
    ) {
        let told = Arc::new(Told::default());
        let (source, owed) = (source(&[]), ticket(&told, 0, 1));
        let mut bulk = bulk(true, level);
        for line in &lines {
            bulk.push(0, &mut record(&source, &owed, line), Claim::default(), NOW);
        }
        owed.settle();
        let sealed = bulk.seal(0).unwrap();
        let messages = |encoding, body: &[u8], items: &[Item]| -> Vec<String> {
            let raw = inflate(encoding, body).unwrap();
            assert_eq!(items.last().map_or(0, |item| item.range.end) as usize, raw.len());
            items.iter().map(|item| {
                let two = slice(&raw, &item.range).unwrap();
                let mut two = two.split_inclusive(|byte| *byte == b'\n');
                let action: Value = serde_json::from_slice(two.next().unwrap()).unwrap();
                assert!(action["create"].is_object());
                let document: Value = serde_json::from_slice(two.next().unwrap()).unwrap();
                assert!(two.next().is_none());
                document["message"].as_str().unwrap().to_owned()
            }).collect()
        };
        let lossy = |line: &Vec<u8>| String::from_utf8_lossy(line).into_owned();
        let want: Vec<String> = lines.iter().map(lossy).collect();
        prop_assert_eq!(&messages(sealed.encoding, &sealed.body, &sealed.items), &want);
        let keep: Vec<usize> = (0..want.len()).filter(|at| mask & (1 << at) != 0).collect();
        let (items, groups) = (&sealed.items, &sealed.groups);
        let part = subset(sealed.encoding, &sealed.body, items, groups, &keep).unwrap();
        let want: Vec<String> = keep.iter().map(|at| want[*at].clone()).collect();
        prop_assert_eq!(messages(sealed.encoding, &part.body, &part.items), want);
    }
}
