//! Whole pushes against a Loki with limits (`harness::limits`), on simulated time: what it does not
//! store is rejected with the right reason, what it stores is not, and nothing is asked for ever.

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "refusal_bed.rs"]
mod bed;

use std::collections::BTreeMap;

use harness::limits::Limits;
use proptest::prelude::*;

use bed::{Bed, START_SECS, Said};

/// One push of a good, a bad and a good line in two streams: requests, and why the bad were refused.
fn check(limits: Limits, said: &[Said<'_>], requests: usize, reasons: &[(&str, &str)]) {
    let mut bed = Bed::new(limits);
    bed.put(said);
    bed.run(3_600);
    let lines: Vec<&str> = said.iter().map(|it| it.2).collect();
    let have: Vec<(&str, &str)> = bed
        .letters
        .iter()
        .map(|it| (it.0.as_str(), *it.1))
        .collect();
    assert_eq!(have, reasons);
    assert_eq!(bed.requests, requests, "requests");
    bed.assert_done(&lines);
}

const HOUR: u64 = 3_600_000_000_000;

#[test]
fn each_limit_takes_what_it_names_and_costs_one_request() {
    let said = [
        ("a", 9, "one"),
        ("a", 5, "long-long"),
        ("b", 7_200, "old"),
        ("b", -900, "new"),
        ("b", 1, "two"),
    ];
    check(Limits::default(), &said, 1, &[]);
    let line_bytes = Some(8);
    check(
        Limits {
            line_bytes,
            ..Limits::default()
        },
        &said,
        1,
        &[("long-long", "line_too_long")],
    );
    let max_age_ns = Some(HOUR);
    check(
        Limits {
            max_age_ns,
            ..Limits::default()
        },
        &said,
        1,
        &[("old", "too_old")],
    );
    let grace_ns = Some(HOUR / 6);
    check(
        Limits {
            grace_ns,
            ..Limits::default()
        },
        &said,
        1,
        &[("new", "too_new")],
    );
    let all = Limits {
        line_bytes,
        max_age_ns,
        grace_ns,
        ..Limits::default()
    };
    let reasons = [
        ("long-long", "line_too_long"),
        ("new", "too_new"),
        ("old", "too_old"),
    ];
    check(all, &said, 1, &reasons);
    let metadata = [("a", 1, "one"), ("a", 1, "meta")];
    let no_metadata = true;
    check(
        Limits {
            no_metadata,
            ..Limits::default()
        },
        &metadata,
        1,
        &[("meta", "metadata")],
    );
    let labels = Some(0);
    let reasons = [("meta", "labels"), ("one", "labels")];
    check(
        Limits {
            labels,
            ..Limits::default()
        },
        &metadata,
        1,
        &reasons,
    );
}

/// The ingester's words hide the distributor's: the rest is asked once more.
#[test]
fn what_lies_too_far_behind_hides_what_is_too_long() {
    let said = [
        ("b", 9, "one"),
        ("b", 5, "long-long"),
        ("a", 1, "head"),
        ("a", 7_200, "behind"),
        ("a", 0, "two"),
    ];
    let limits = Limits {
        line_bytes: Some(8),
        behind_ns: Some(HOUR),
        ..Limits::default()
    };
    check(
        limits,
        &said,
        2,
        &[("behind", "too_far_behind"), ("long-long", "line_too_long")],
    );
}

/// Nothing of the push is stored, and the words name no stream: the streams are halved.
#[test]
fn a_label_set_that_does_not_parse_is_found_by_halves() {
    let names: Vec<String> = (0..16).map(|at| format!("s{at}")).collect();
    let lines: Vec<String> = (0..16).map(|at| format!("line {at}")).collect();
    let said: Vec<Said<'_>> = (0..16).map(|at| (&*names[at], 1, &*lines[at])).collect();
    let limits = Limits {
        unparsable: Some("\"s5\"".to_owned()),
        ..Limits::default()
    };
    check(limits, &said, 9, &[("line 5", "labels")]);
}

#[test]
fn words_that_nobody_knows_are_halved_down_to_the_line_that_spoils_the_push() {
    let lines: Vec<String> = (0..64).map(|at| format!("line {at:02}")).collect();
    let all: Vec<&str> = lines.iter().map(String::as_str).collect();
    let said: Vec<Said<'_>> = all.iter().map(|line| ("a", 1, *line)).collect();
    for bad in ["line 00", "line 31", "line 63"] {
        let mut bed = Bed::new(Limits::default());
        bed.instead = Box::new(move |lines| {
            let is_bad = lines.iter().any(|line| line == bad);
            is_bad.then(|| (400, "some new limit of a later version\n".to_owned()))
        });
        bed.put(&said);
        bed.run(60);
        assert!(
            bed.requests <= 2 * 6 + 4,
            "{bad}: {} requests",
            bed.requests
        );
        assert_eq!(
            bed.letters,
            BTreeMap::from([(bad.to_owned(), "bad_request")])
        );
        bed.assert_done(&all);
    }
    // All of it is bad: the budget ends it, and the rest is rejected as undecided after some tries.
    let mut bed = Bed::new(Limits::default());
    bed.instead = Box::new(|_| Some((400, "some new limit\n".to_owned())));
    bed.put(&said);
    bed.run(36_000);
    let undecided = bed
        .letters
        .values()
        .filter(|reason| **reason == "undecided")
        .count();
    assert_eq!(bed.letters.len(), 64);
    assert!(
        undecided > 0 && bed.requests < 100,
        "{} requests, {undecided}",
        bed.requests
    );
}

#[test]
fn an_endpoint_that_refuses_everything_rejects_nothing() {
    for (status, words) in [
        (400, "mime: no media type\n"),
        (400, "tenant ID 'a/b' contains unsupported character '/'\n"),
        (401, "no org id"),
        (403, ""),
        (404, "404 page not found"),
        (405, ""),
        (302, ""),
        (260, "ingestion blocked for user 'fake'"),
        (500, "at least 1 live replicas required, could only find 0"),
        (
            429,
            "ingestion rate limit exceeded for user fake (limit: 9999 bytes/sec) while attempting to ingest '1' lines totaling '3' bytes",
        ),
    ] {
        let mut bed = Bed::new(Limits::default());
        bed.instead = Box::new(move |_| Some((status, words.to_owned())));
        bed.put(&[("a", 1, "one"), ("a", 1, "two")]);
        bed.run(7_200);
        assert!(
            bed.letters.is_empty() && !bed.deliverer.idle(),
            "{status} {words}"
        );
        bed.instead = Box::new(|_| None);
        bed.run(300);
        bed.assert_done(&["one", "two"]);
    }
}

/// A plain outage is never bisected; a time before the schema is believed at the fifth answer.
#[test]
fn a_500_blames_an_entry_only_where_it_names_one() {
    let schema_ns = Some((START_SECS - 20) * 1_000_000_000);
    let said = [
        ("b", 1, "good"),
        ("a", 3_600, "old 1"),
        ("a", 3_599, "old 2"),
        ("a", 1, "new"),
    ];
    let limits = Limits {
        schema_ns,
        ..Limits::default()
    };
    let reasons = [("old 1", "before_schema"), ("old 2", "before_schema")];
    check(limits, &said, 6, &reasons);
    let mut bed = Bed::new(Limits::default());
    bed.instead = Box::new(|lines| Some((500, format!("panic {}", lines.len()))));
    bed.put(&said);
    bed.run(7_200);
    let before = bed.requests;
    bed.instead = Box::new(|_| None);
    bed.run(300);
    assert_eq!(bed.requests, before + 1, "in one piece");
    bed.assert_done(&["good", "old 1", "old 2", "new"]);
}

#[test]
fn a_push_over_the_burst_is_halved_until_it_passes() {
    let lines: Vec<String> = (0..30).map(|at| format!("{at:0100}")).collect();
    let all: Vec<&str> = lines.iter().map(String::as_str).collect();
    let said: Vec<Said<'_>> = all.iter().map(|line| ("a", 1, *line)).collect();
    let mut bed = Bed::new(Limits {
        rate: Some((1_000, 1_200)),
        ..Limits::default()
    });
    bed.put(&said);
    bed.run(120);
    assert!(bed.letters.is_empty());
    bed.assert_done(&all);
    // A line over the burst never passes: it alone is given up.
    let long = "x".repeat(2_000);
    let mut bed = Bed::new(Limits {
        rate: Some((1_000, 1_200)),
        ..Limits::default()
    });
    bed.put(&[("a", 2, "one"), ("a", 1, &long), ("a", 0, "two")]);
    bed.run(3_600);
    assert_eq!(bed.letters, BTreeMap::from([(long.clone(), "over_burst")]));
    bed.assert_done(&["one", &long, "two"]);
}

/// Its later requests queue behind it, the other streams go on, and each keeps its order.
#[test]
fn a_stream_over_its_rate_waits_alone_and_in_order() {
    for whole_stream in [false, true] {
        let stream_rate = Some((100, 300));
        let mut bed = Bed::new(Limits {
            stream_rate,
            whole_stream,
            ..Limits::default()
        });
        let mut all: Vec<String> = Vec::new();
        for round in 0..10 {
            let fast: Vec<String> = (0..5)
                .map(|at| format!("fast {round} {at} {}", "f".repeat(40)))
                .collect();
            let calm = format!("calm {round}");
            let mut said: Vec<Said<'_>> =
                fast.iter().map(|line| ("fast", 0, line.as_str())).collect();
            said.insert(0, ("calm", 0, &calm));
            bed.put(&said);
            bed.run(1);
            let stored = bed.lines();
            assert!(
                stored.contains(&calm),
                "round {round}, whole {whole_stream}: calm waits"
            );
            all.extend(fast);
            all.push(calm);
        }
        assert_eq!(bed.deliverer.status(bed.now)[0].slow_streams, 1);
        bed.run(600);
        let lines: Vec<&str> = all.iter().map(String::as_str).collect();
        bed.assert_done(&lines);
        assert!(bed.letters.is_empty());
        let order = &bed.stored["{app=\"fast\"}"];
        assert!(order.is_sorted(), "whole {whole_stream}: {order:?}");
    }
}

#[test]
fn streams_that_are_not_made_are_held_and_the_others_go_on() {
    let mut bed = Bed::new(Limits {
        streams: Some(2),
        ..Limits::default()
    });
    bed.put(&[
        ("a", 3, "a1"),
        ("n1", 3, "n1 1"),
        ("b", 3, "b1"),
        ("n2", 3, "n2 1"),
    ]);
    bed.run(5);
    bed.put(&[
        ("n1", 2, "n1 2"),
        ("a", 2, "a2"),
        ("n2", 2, "n2 2"),
        ("b", 2, "b2"),
    ]);
    bed.run(600);
    // Which two were made first is the server's business.
    assert_eq!(bed.loki.entries().count(), 4, "{:?}", bed.lines());
    assert_eq!(bed.deliverer.status(bed.now)[0].slow_streams, 2);
    assert!(bed.letters.is_empty());
    bed.loki.limits.streams = None;
    bed.run(600);
    bed.assert_done(&["a1", "a2", "b1", "b2", "n1 1", "n1 2", "n2 1", "n2 2"]);
    for held in bed.stored.values() {
        assert!(held.is_sorted(), "{held:?}");
    }
}

/// There are more limited streams than ways: the lane waits, and nothing is lost.
#[test]
fn slow_ways_are_bounded() {
    let names: Vec<String> = (0..crate::deliver::deliverer::SLOW_MAX + 5)
        .map(|at| format!("n{at}"))
        .collect();
    let said: Vec<Said<'_>> = names.iter().map(|name| (&**name, 1, &**name)).collect();
    let mut bed = Bed::new(Limits {
        streams: Some(0),
        ..Limits::default()
    });
    bed.put(&said);
    bed.run(600);
    assert_eq!(
        bed.deliverer.status(bed.now)[0].slow_streams,
        crate::deliver::deliverer::SLOW_MAX
    );
    bed.loki.limits.streams = None;
    bed.run(600);
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    bed.assert_done(&all);
}

/// What is settled of a request is given back to the window before its slow rest is.
#[test]
fn a_slow_stream_holds_no_more_of_the_window_than_its_own() {
    let long: Vec<String> = (0..200u32)
        .map(|at| format!("{at} {:x}", at.wrapping_mul(2_654_435_761)))
        .collect();
    let mut said: Vec<Said<'_>> = long.iter().map(|line| ("calm", 1, line.as_str())).collect();
    said.push(("new", 1, "held"));
    let mut bed = Bed::new(Limits {
        streams: Some(1),
        ..Limits::default()
    });
    bed.put(&said);
    let whole = bed.outlet.window();
    bed.run(60);
    let held = bed.outlet.window();
    assert!(held > 0 && held < whole / 10, "{held} of {whole}");
    bed.loki.limits.streams = None;
    bed.run(600);
    assert_eq!(bed.outlet.window(), 0);
}

proptest! {
    /// Whatever the limits and the entries, what is stored is acknowledged, what was refused is
    /// rejected and lies with the dead letters, and the streams keep their order.
    #[test]
    fn what_is_stored_and_what_is_rejected_make_the_whole(
        entries in proptest::collection::vec((0usize..4, 0i64..40, 1usize..30), 1..60),
        pushes in 1usize..4,
        limits in (prop_oneof![0u8..0x80, Just(0x80)], any::<bool>()),
    ) {
        let on = |bit: u8| limits.0 & (1 << bit) != 0;
        let second = 1_000_000_000;
        let bed_limits = Limits {
            line_bytes: on(0).then_some(20),
            max_age_ns: on(1).then_some(30 * second),
            grace_ns: on(2).then_some(0),
            no_metadata: on(3),
            stream_rate: on(4).then_some((100, 150)),
            whole_stream: limits.1,
            streams: on(5).then_some(3),
            behind_ns: on(6).then_some(15 * second),
            // Alone: what the distributor refuses may lead a stream, and nobody sees which is its head.
            schema_ns: (limits.0 == 0x80).then_some(START_SECS * second - 20 * second),
            ..Limits::default()
        };
        let mut bed = Bed::new(bed_limits);
        let names = ["a", "b", "c", "d"];
        let line = |(at, (_, _, length)): (usize, &(usize, i64, usize))| {
            let kind = if at % 5 == 0 { "meta" } else { "line" };
            format!("{kind} {at:02}{}", "x".repeat(*length))
        };
        let lines: Vec<String> = entries.iter().enumerate().map(line).collect();
        let said: Vec<Said<'_>> = entries
            .iter()
            .zip(&lines)
            .map(|((stream, age, _), line)| (names[*stream], *age, line.as_str()))
            .collect();
        for chunk in said.chunks(said.len().div_ceil(pushes)) {
            bed.put(chunk);
        }
        bed.run(600);
        bed.loki.limits.streams = None;
        bed.run(36_000);
        let all: Vec<&str> = lines.iter().map(String::as_str).collect();
        bed.assert_whole(&all);
        // Twins in time, of which one is refused by each half of Loki, may use up the budget.
        for (line, _) in bed.letters.iter().filter(|letter| *letter.1 != "undecided") {
            prop_assert!(bed.refused.contains(line), "{} was not refused: {:?}", line, bed.letters);
        }
        prop_assert!(bed.requests < 60 + 40 * lines.len(), "{} requests", bed.requests);
    }
}
