#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use prost::Message;

use super::super::compress::inflate;
use super::super::fixture::{Told, record, source, ticket, with_facts};
use super::super::request::Encoding;
use super::super::subset::subset;
use super::*;
use crate::base::time::Timestamp;

#[derive(Clone, PartialEq, Message)]
struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<StreamEntries>,
}

#[derive(Clone, PartialEq, Message)]
struct StreamEntries {
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(message, optional, tag = "1")]
    timestamp: Option<Time>,
    #[prost(string, tag = "2")]
    line: String,
    #[prost(message, repeated, tag = "3")]
    structured: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct Time {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

fn loki(labels: Vec<(Arc<str>, Template)>) -> Loki {
    let output = LokiOutput {
        url: String::new(),
        tenant: None,
        labels,
    };
    Loki::new(&output, Arc::new(Counter::default()))
}

fn decode(body: &[u8]) -> PushRequest {
    let raw = inflate(Encoding::Snappy, body).unwrap();
    PushRequest::decode(raw.as_slice()).unwrap()
}

#[test]
fn records_become_entries_of_their_streams_in_order() {
    let told = Arc::new(Told::default());
    let (source, owed) = (source(&[("job", "a")]), ticket(&told, 0, 1));
    let mut loki = loki(Vec::new());
    for (text, stream) in [
        ("one", Stream::Stdout),
        ("two", Stream::Stderr),
        ("three", Stream::Stdout),
    ] {
        let mut record = record(&source, &owed, text.as_bytes());
        record
            .labels
            .push(("stream".into(), stream.name().as_bytes().into()));
        record.stream = stream;
        loki.push(0, &record, Claim::default());
    }
    let sealed = loki.seal(0).unwrap();
    let push = decode(&sealed.body);
    let got: Vec<(String, Vec<String>)> = push
        .streams
        .into_iter()
        .map(|s| {
            (
                s.labels,
                s.entries.into_iter().map(|entry| entry.line).collect(),
            )
        })
        .collect();
    let want = [
        (r#"{job="a", stream="stdout"}"#, vec!["one", "three"]),
        (r#"{job="a", stream="stderr"}"#, vec!["two"]),
    ];
    let want = want.map(|(labels, lines)| {
        (
            labels.to_owned(),
            lines.into_iter().map(str::to_owned).collect(),
        )
    });
    assert_eq!(got, want);
    owed.settle();
}

#[test]
fn an_entry_has_its_time_text_and_structured_metadata() {
    let told = Arc::new(Told::default());
    let (source, owed) = (source(&[]), ticket(&told, 0, 1));
    for (secs, nanos) in [
        (0, 0),
        (1_795_496_400, 123_456_789),
        (-3, 5),
        (i64::MAX, 999_999_999),
    ] {
        let mut loki = loki(Vec::new());
        let mut record = record(&source, &owed, b"bad \xff byte");
        record.time = Timestamp { secs, nanos };
        record
            .structured
            .push(("trace.id".into(), b"42"[..].into()));
        record.structured.push(("empty".into(), b""[..].into()));
        record.cut = true;
        loki.push(0, &record, Claim::default());
        let push = decode(&loki.seal(0).unwrap().body);
        let pair = |name: &str, value: &str| Pair {
            name: name.into(),
            value: value.into(),
        };
        let want = Entry {
            timestamp: Some(Time {
                seconds: secs,
                nanos: nanos as i32,
            }),
            line: "bad \u{fffd} byte".into(),
            structured: vec![pair("trace_id", "42"), pair("cut", "true")],
        };
        assert_eq!(push.streams[0].entries, [want]);
        assert_eq!(push.streams[0].labels, r#"{service="tailwake"}"#);
    }
    owed.settle();
}

#[test]
fn labels_are_merged_and_the_later_win() {
    let told = Arc::new(Told::default());
    let owed = ticket(&told, 0, 1);
    let parts = vec![
        TemplatePart::Field("namespace".into()),
        TemplatePart::Text("/".into()),
        TemplatePart::Field("container".into()),
    ];
    let templates = || {
        vec![
            (Arc::from("job"), Template(parts.clone())),
            (
                Arc::from("from"),
                Template(vec![TemplatePart::Field("stream".into())]),
            ),
            (
                Arc::from("none"),
                Template(vec![TemplatePart::Field("unknown".into())]),
            ),
        ]
    };
    let check = |base: &[(&str, &str)], own: &[(&str, &str)], want: &str| {
        let source = source(base);
        let mut loki = loki(templates());
        let mut record = record(&source, &owed, b"x");
        for (name, value) in own {
            record
                .labels
                .push((Arc::from(*name), value.as_bytes().to_vec().into()));
        }
        loki.push(0, &record, Claim::default());
        assert_eq!(decode(&loki.seal(0).unwrap().body).streams[0].labels, want);
    };
    check(&[], &[], r#"{from="stdout", job="default/app"}"#);
    check(
        &[("job", "b"), ("a.b", "q\"")],
        &[],
        r#"{a_b="q\"", from="stdout", job="b"}"#,
    );
    check(
        &[("job", "b")],
        &[("job", "c"), ("from", "")],
        r#"{job="c"}"#,
    );
    owed.settle();
}

#[test]
fn templates_name_what_the_api_says_of_a_pod_and_another_version_is_another_stream() {
    let told = Arc::new(Told::default());
    let (bare, owed) = (source(&[]), ticket(&told, 0, 1));
    let field = |name: &str| Template(vec![TemplatePart::Field(name.into())]);
    let mut loki = loki(vec![
        ("pod".into(), field("pod")),
        ("app".into(), field("labels.app")),
        ("name".into(), field("labels.app.kubernetes.io/name")),
        ("team".into(), field("annotations.team")),
        ("none".into(), field("labels.other")),
        ("owner".into(), field("owner")),
        ("kind".into(), field("owner_kind")),
    ]);
    loki.push(0, &record(&bare, &owed, b"x"), Claim::default());
    loki.push(
        0,
        &record(&with_facts(&bare), &owed, b"y"),
        Claim::default(),
    );
    owed.settle();
    let streams = decode(&loki.seal(0).unwrap().body).streams;
    let labels: Vec<&str> = streams
        .iter()
        .map(|stream| stream.labels.as_str())
        .collect();
    let full =
        r#"{app="web", kind="Deployment", name="shop", owner="web", pod="web-1", team="a\"b"}"#;
    assert_eq!(labels, [r#"{pod="web-1"}"#, full]);
}

#[test]
fn too_many_streams_are_forgotten_and_counted_and_the_open_body_stays_right() {
    let told = Arc::new(Told::default());
    let (source, owed) = (source(&[]), ticket(&told, 0, 1));
    let forgotten = Arc::new(Counter::default());
    let output = LokiOutput {
        url: String::new(),
        tenant: None,
        labels: Vec::new(),
    };
    let mut loki = Loki::new(&output, Arc::clone(&forgotten));
    let count = STREAMS_MAX + 5;
    for number in 0..count {
        let mut record = record(&source, &owed, b"x");
        record
            .labels
            .push(("n".into(), number.to_string().into_bytes().into()));
        loki.push(0, &record, Claim::default());
    }
    assert_eq!(forgotten.get(), 1);
    assert!(loki.streams.known.len() < STREAMS_MAX);
    assert_eq!(decode(&loki.seal(0).unwrap().body).streams.len(), count);
    owed.settle();
}

proptest! {
    /// Each item's range is one whole entry, its group's range is its labels, and any subset is a
    /// body of just these entries.
    #[test]
    fn items_point_at_their_bytes(
        lines in proptest::collection::vec(
            (0u8..4, proptest::collection::vec(any::<u8>(), 0..40)), 1..20),
        mask in any::<u32>(),
    ) {
        let told = Arc::new(Told::default());
        let (source, owed) = (source(&[]), ticket(&told, 0, 1));
        let mut loki = loki(Vec::new());
        for (stream, line) in &lines {
            let mut record = record(&source, &owed, line);
            record.labels.push(("s".into(), vec![b'a' + stream].into()));
            loki.push(0, &record, Claim::default());
        }
        let sealed = loki.seal(0).unwrap();
        let check = |body: &[u8], items: &[Item], groups: &[Range<u32>]| {
            let raw = inflate(Encoding::Snappy, body).unwrap();
            let push = PushRequest::decode(raw.as_slice()).unwrap();
            let flat: Vec<(String, Entry)> = push.streams.iter()
                .flat_map(|s| s.entries.iter().map(|e| (s.labels.clone(), e.clone())))
                .collect();
            assert_eq!(flat.len(), items.len());
            for (item, want) in items.iter().zip(&flat) {
                let alone = [
                    slice(&raw, &groups[item.group as usize]).unwrap(),
                    slice(&raw, &item.range).unwrap(),
                ].concat();
                let alone = StreamEntries::decode(alone.as_slice()).unwrap();
                assert_eq!((&alone.labels, &alone.entries[..]), (&want.0, &[want.1.clone()][..]));
            }
            flat
        };
        let all = check(&sealed.body, &sealed.items, &sealed.groups);
        prop_assert_eq!(all.len(), lines.len());
        let keep: Vec<usize> = (0..all.len()).filter(|at| mask & (1 << at) != 0).collect();
        let (items, groups) = (&sealed.items, &sealed.groups);
        let part = subset(sealed.encoding, &sealed.body, items, groups, &keep).unwrap();
        let kept = check(&part.body, &part.items, &part.groups);
        let want: Vec<_> = keep.iter().map(|at| all[*at].clone()).collect();
        prop_assert_eq!(kept, want);
        owed.settle();
    }
}

#[test]
fn a_look_sees_what_was_written() {
    use super::super::look::{Entry, Line, Looked, lines, look};
    let told = Arc::new(Told::default());
    let (one, two) = (source(&[("app", "1")]), source(&[("app", "2")]));
    let owed = ticket(&told, 0, 1);
    let mut loki = loki(Vec::new());
    for (source, text) in [(&one, &b"one"[..]), (&two, b""), (&one, b"th\xff")] {
        let mut record = record(source, &owed, text);
        if text.is_empty() {
            record.structured.push(("k".into(), b"val"[..].into()));
            (record.time.secs, record.time.nanos) = (-5, 0);
        }
        loki.push(0, &record, Claim::default());
    }
    owed.settle();
    let sealed = loki.seal(0).unwrap();
    let (body, items, groups) = (&sealed.body, &sealed.items, &sealed.groups);
    let looked = look(sealed.encoding, body, items, groups).unwrap();
    let entry = |line_bytes, stream| Entry {
        time: crate::base::time::Timestamp {
            secs: 1_795_496_400,
            nanos: 123_456_789,
        },
        line_bytes,
        stream,
        ..Entry::default()
    };
    let early = Entry {
        time: crate::base::time::Timestamp { secs: -5, nanos: 0 },
        pairs: 1,
        pair_bytes: 4,
        ..entry(0, 1)
    };
    let Looked { entries, streams } = looked;
    assert_eq!(entries, [entry(3, 0), entry(5, 0), early]);
    assert_eq!(streams.len(), 2);
    assert!(streams[1].contains("app=\"2\""), "{streams:?}");
    let found = lines(sealed.encoding, body, items, groups, &[1]).unwrap();
    let want = Line {
        time: "2026-11-24T05:00:00.123456789Z".to_owned(),
        labels: streams[0].clone(),
        text: "th\u{fffd}".into(),
    };
    assert_eq!(found, [want]);
    assert!(look(sealed.encoding, b"broken", items, groups).is_err());
    assert!(lines(sealed.encoding, body, items, groups, &[9]).is_err());
}
