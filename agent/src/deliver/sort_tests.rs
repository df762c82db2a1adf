//! Single answers; whole pushes against a server with limits are `refusal`'s tests.

use super::super::judge::Said;
use super::*;

/// (stream, time in milliseconds, bytes of the line)
fn looked(streams: &[&str], entries: &[(u32, i64, u64)]) -> Looked {
    let entry = |&(stream, ms, line_bytes): &(u32, i64, u64)| Entry {
        time: Timestamp {
            secs: ms.div_euclid(1_000),
            nanos: (ms.rem_euclid(1_000) * 1_000_000) as u32,
        },
        line_bytes,
        stream,
        ..Entry::default()
    };
    Looked {
        entries: entries.iter().map(entry).collect(),
        streams: streams.iter().map(|text| (*text).to_owned()).collect(),
    }
}

/// `.` stored, `x` refused, `h` held, `?` again; or the other ends.
fn shown(words: &str, looked: &Looked) -> String {
    match sort(&super::super::judge::read(words.as_bytes()), looked) {
        Sorted::Places { places, .. } => {
            let letter = |place: &Place| match place {
                Place::Stored => '.',
                Place::Refused(_) => 'x',
                Place::Held => 'h',
                Place::Again => '?',
            };
            places.iter().map(letter).collect()
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn a_limit_refuses_what_it_names_and_nothing_else() {
    let long = |stream: &str, length: u64| {
        format!(
            "max entry size '9' bytes exceeded for stream '{stream}' while adding an entry with length \
             '{length}' bytes"
        )
    };
    let push = looked(
        &["{a=\"1\"}", "{a=\"2\"}"],
        &[(0, 1_000, 5), (0, 2_000, 12), (1, 3_000, 12), (1, 4_000, 9)],
    );
    // One is named, and another is beyond the limit: an older Loki names the last alone.
    assert_eq!(shown(&long("{a=\"1\"}", 12), &push), "?x??");
    let both = format!(
        "1 errors like: {}; 1 errors like: {}",
        long("{a=\"1\"}", 12),
        long("{a=\"2\"}", 12)
    );
    assert_eq!(shown(&both, &push), ".xx.");
    let added = both.replace("\"1\"}", "\"1\", service_name=\"x\"}");
    assert_eq!(shown(&added, &push), ".xx.");
    let foreign = long("{a=\"1\", b=\"x\"}", 12);
    assert_eq!(shown(&foreign, &push), "Halves");
    let counted = format!("2 errors like: {}", long("{a=\"1\"}", 12));
    assert_eq!(shown(&counted, &push), "?x??", "one more than is there");
}

#[test]
fn within_a_second_the_oldest_are_too_old_and_the_newest_too_new() {
    let push = looked(
        &["{a=\"1\"}"],
        &[(0, 1_000, 1), (0, 1_700, 1), (0, 1_300, 1), (0, 2_000, 1)],
    );
    let time = "1970-01-01T00:00:01Z";
    let old = format!(
        "2 errors like: entry for stream '{{a=\"1\"}}' has timestamp too old: {time}, oldest \
         acceptable timestamp is: {time}"
    );
    assert_eq!(shown(&old, &push), "x.x.");
    let new = format!("entry for stream '{{a=\"1\"}}' has timestamp too new: {time}");
    // What is newer still was not named.
    assert_eq!(shown(&new, &push), "?x??");
}

#[test]
fn an_ingester_speaks_of_one_stream_alone() {
    let push = looked(
        &["{a=\"1\"}", "{a=\"2\"}"],
        &[(0, 1_000, 5), (1, 1_000, 5), (1, 2_000, 5), (1, 3_000, 5)],
    );
    let entry = |second: u32, why: &str| {
        format!(
            "entry with timestamp 1970-01-01 00:00:0{second} +0000 UTC ignored, reason: '{why}',\n"
        )
    };
    let end = |ignored: u32, of: u32| {
        format!("user 'f', total ignored: {ignored} out of {of} for stream: {{a=\"2\"}}\n")
    };
    let (rate, far) = (
        "Per stream rate limit exceeded (limit: 1KB/sec)",
        "entry too far behind",
    );
    let check = |words: &[String], want: &str| assert_eq!(shown(&words.concat(), &push), want);
    check(&[entry(2, rate), entry(3, rate), end(2, 3)], "?.hh");
    check(&[entry(1, far), end(1, 3)], "?x..");
    check(&[entry(1, far), entry(3, rate), end(2, 3)], "?x.h");
    // Not all are named: the stream's rest is held with them, or goes again.
    check(&[entry(2, rate), end(2, 3)], "?hhh");
    check(&[entry(1, far), end(2, 3)], "?x??");
    // The distributor had refused one of the stream's before.
    check(&[entry(2, rate), end(1, 2)], "?hhh");
    check(&[entry(7, rate), end(1, 3)], "Wait(StreamRate)");
    check(&[entry(7, far), end(1, 3)], "Halves");
    let limit =
        "maximum active stream limit exceeded when trying to create stream {a=\"2\"}, reduce";
    check(&[limit.to_owned()], "?hhh");
    check(
        &["Maximum active stream limit exceeded, reduce".to_owned()],
        "Wait(StreamLimit)",
    );
}

#[test]
fn the_head_of_a_stream_lies_before_the_schema() {
    let push = looked(
        &["{a=\"1\"}", "{a=\"2\"}"],
        &[
            (0, 5_000, 5),
            (1, 1_500, 5),
            (1, 86_399_999, 5),
            (1, 86_400_000, 5),
        ],
    );
    let words = "failed to create stream: no schema config found for time 1.5";
    assert_eq!(shown(words, &push), "?xx?");
    assert_eq!(shown("no schema config found for time 7", &push), "Halves");
    assert_eq!(sort(&Said::Unparsed, &push), Sorted::StreamHalves);
}
