#![expect(clippy::unwrap_used, reason = "tests")]
//! Lanes on simulated time against a scripted transport.

#[path = "deliverer_bed.rs"]
mod bed;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use bed::Bed;

#[test]
fn requests_of_a_lane_go_one_by_one_in_order_and_lanes_fly_together() {
    let mut bed = Bed::new(Sink::Loki);
    bed.put("ab");
    bed.put("cd");
    bed.put_held("ef", Some("other"), &[]);
    bed.turn();
    assert_eq!(bed.wire.sent, ["ab", "ef"]);
    // Six bytes of bodies, and what is held beside them.
    assert!(bed.outlet.window() > 6);
    bed.answer(204, "");
    assert_eq!(bed.wire.sent, ["ab", "ef", "cd"]);
    bed.answer(204, "");
    assert_eq!(bed.settled(), [0, 1, 4, 5]);
    bed.answer(204, "");
    assert_eq!(bed.counts(), (6, 0));
    bed.assert_done();
}

#[test]
fn calls_bear_the_right_headers_and_no_secret_in_the_url() {
    let mut bed = Bed::new(Sink::Loki);
    bed.put("a");
    bed.put_held("b", Some("t9"), &[]);
    bed.turn();
    let (one, other) = (&bed.wire.flying[0].1, &bed.wire.flying[1].1);
    assert_eq!(&*one.url, "http://l:3100/loki/api/v1/push");
    assert!(one.headers.contains(&("x-scope-orgid", "t0".into())));
    assert!(one.headers.iter().all(|(name, _)| *name != "authorization"));
    assert!(other.headers.contains(&("x-scope-orgid", "t9".into())));
    assert!(!format!("{one:?}").contains("secret"));
    let mut bed = Bed::new(Sink::Bulk);
    bed.put("a");
    bed.put("b");
    bed.turn();
    bed.answer(200, r#"{"errors":false}"#);
    let call = &bed.wire.flying[0].1;
    assert_eq!(&*call.url, format!("http://b:9200{BULK_PATH}"));
    assert!(call.headers.contains(&("content-encoding", "gzip".into())));
    assert!(
        call.headers
            .contains(&("content-type", "application/x-ndjson".into()))
    );
}

#[test]
fn a_failure_is_retried_with_growing_waits_without_end() {
    let mut bed = Bed::new(Sink::Loki);
    bed.put("ab");
    bed.put("cd");
    bed.turn();
    for full in [100, 200, 400, 800, 1000, 1000, 1000] {
        bed.end(Err(Failure::Connect("refused".to_owned())));
        let waited = bed.wait();
        assert!((full / 2..=full).contains(&waited), "{waited} of {full}");
    }
    let status = bed.deliverer.status(bed.now).remove(0);
    assert_eq!((status.retries, status.in_flight), (7, 1));
    assert!(status.failing_secs.is_some_and(|secs| secs >= 2));
    assert_eq!(status.last_error.as_deref(), Some("connect: refused"));
    assert!(bed.settled().is_empty());
    bed.answer(204, "");
    bed.answer(500, "");
    assert!(bed.wait() <= 100, "a success begins the waits again");
    bed.answer(204, "");
    assert_eq!(bed.settled(), [0, 1, 2, 3]);
    bed.assert_done();
}

#[test]
fn retry_after_is_followed_up_to_five_minutes() {
    let mut bed = Bed::new(Sink::Loki);
    bed.put("a");
    bed.turn();
    for (wish, least) in [(7_000, 7_000), (u64::MAX, 300_000), (0, 1)] {
        let (status, body) = (429, Bytes::new());
        bed.end(Ok(Answer {
            status,
            retry_after_ms: Some(wish),
            body,
        }));
        let wait = bed.wait();
        assert!((least..=300_000).contains(&wait), "{wish}: {wait}");
    }
}

#[test]
fn only_the_items_that_were_put_off_go_again() {
    let mut bed = Bed::new(Sink::Bulk);
    bed.put("abcde");
    bed.put("z");
    bed.turn();
    bed.statuses(&[201, 429, 400, 409, 503]);
    assert_eq!(bed.settled(), [0, 3, 2]);
    assert_eq!(bed.counts(), (2, 1));
    bed.wait();
    bed.statuses(&[429, 201]);
    bed.wait();
    bed.answer(200, r#"{"errors":false}"#);
    assert_eq!(bed.wire.sent, ["abcde", "be", "b", "z"]);
    assert_eq!(bed.settled(), [0, 3, 2, 4, 1]);
    bed.answer(200, r#"{"errors":false}"#);
    assert_eq!(bed.counts(), (5, 1));
    bed.assert_done();
    let text = bed.registry.render();
    for line in [
        "tailwake_rejected_lines_total{output=\"out\",reason=\"bad_item\"} 1",
        "tailwake_request_retries_total{output=\"out\",reason=\"busy\"} 2",
        "tailwake_acknowledged_lines_total{output=\"out\"} 5",
        "tailwake_acknowledge_latency_ms_count{output=\"out\"} 2",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn a_missing_index_is_given_up_after_ten_tries_and_a_block_never() {
    let mut bed = Bed::new(Sink::Bulk);
    bed.put("ab");
    bed.turn();
    for _ in 1..10 {
        bed.statuses(&[404, 403]);
        bed.wait();
    }
    bed.statuses(&[404, 403]);
    assert_eq!((bed.settled(), bed.counts()), (vec![0], (0, 1)));
    for _ in 0..20 {
        bed.wait();
        bed.statuses(&[403]);
    }
    assert_eq!(bed.wire.sent.last().unwrap(), "b");
    assert_eq!(bed.settled(), [0]);
}

#[test]
fn a_request_that_is_too_large_goes_in_halves_in_order() {
    let mut bed = Bed::new(Sink::Loki);
    bed.put("abcde");
    bed.put("z");
    bed.turn();
    bed.answer(413, "too large");
    bed.answer(204, "");
    bed.answer(413, "");
    bed.answer(413, "");
    assert_eq!(bed.counts(), (2, 1));
    bed.answer(204, "");
    bed.answer(204, "");
    assert_eq!(bed.wire.sent, ["abcde", "ab", "cde", "c", "de", "z"]);
    assert_eq!(bed.settled(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(bed.counts(), (5, 1));
    bed.assert_done();
}

#[test]
fn the_item_that_spoils_a_bulk_is_found_by_halves() {
    let mut bed = Bed::new(Sink::Bulk);
    bed.put("abXd");
    bed.turn();
    while !bed.wire.flying.is_empty() {
        let bad = bed.wire.sent.last().unwrap().contains('X');
        let (status, body) = if bad {
            (400, "{}")
        } else {
            (200, r#"{"errors":false}"#)
        };
        bed.answer(status, body);
    }
    assert_eq!(bed.wire.sent, ["abXd", "ab", "Xd", "X", "d"]);
    assert_eq!((bed.settled(), bed.counts()), (vec![0, 1, 2, 3], (3, 1)));
    bed.assert_done();
}

#[test]
fn an_answer_that_cannot_be_read_means_the_whole_again() {
    let mut bed = Bed::new(Sink::Bulk);
    bed.put("ab");
    bed.turn();
    for body in [
        "",
        "garbage",
        r#"{"errors":true,"items":[{"create":{"status":201}}]}"#,
    ] {
        bed.answer(200, body);
        bed.wait();
    }
    bed.answer(200, r#"{"errors":false}"#);
    assert_eq!(bed.wire.sent, ["ab", "ab", "ab", "ab"]);
    assert_eq!(bed.settled(), [0, 1]);
    bed.assert_done();
}

#[test]
fn an_item_that_is_refused_goes_once_more_as_text_and_then_to_the_dead_letters() {
    let mut bed = Bed::new(Sink::Bulk);
    bed.put("AbCD");
    bed.put("z");
    bed.turn();
    // `b` is text already; `D` is put off and keeps its fields.
    bed.statuses(&[400, 400, 400, 429]);
    assert_eq!((bed.settled(), bed.counts()), (vec![1], (0, 1)));
    bed.wait();
    bed.statuses(&[201, 400]);
    assert_eq!((bed.settled(), bed.counts()), (vec![1, 2, 0], (1, 2)));
    bed.answer(200, r#"{"errors":false}"#);
    bed.answer(200, r#"{"errors":false}"#);
    assert_eq!(bed.wire.sent, ["AbCD", "ac", "D", "z"]);
    bed.assert_done();
    let mut letters = String::new();
    while let Some(letter) = bed.dead.take() {
        assert_eq!((&*letter.output, letter.reason), ("out", "bad_item"));
        assert!(letter.words.contains("item status 400"), "{}", letter.words);
        letters.push(char::from(letter.line.text[0]));
    }
    assert_eq!(letters, "bc");
    let text = bed.registry.render();
    for line in [
        "tailwake_rejected_bytes_total{output=\"out\",reason=\"bad_item\"} 2",
        "tailwake_plain_lines_total{output=\"out\"} 1",
        "tailwake_deadletter_lost_lines_total{output=\"out\"} 0",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn a_body_that_breaks_off_is_halved_when_none_so_large_was_ever_stored() {
    let mut bed = Bed::new(Sink::Bulk);
    bed.put("abcd");
    bed.turn();
    let reset = || Err(Failure::Broken("reset".to_owned()));
    bed.end(reset());
    bed.wait();
    bed.end(reset());
    bed.wait();
    bed.answer(200, r#"{"errors":false}"#);
    bed.answer(200, r#"{"errors":false}"#);
    assert_eq!(bed.wire.sent, ["abcd", "abcd", "ab", "cd"]);
    // A small one has passed in this size: its server is away, and a lone item is never given up.
    bed.put("xy");
    bed.turn();
    for _ in 0..9 {
        bed.end(reset());
        bed.wait();
    }
    assert_eq!(bed.wire.sent.last().unwrap(), "xy");
    bed.end(reset());
    for _ in 0..30 {
        bed.wait();
        bed.end(reset());
    }
    assert_eq!(bed.wire.sent.last().unwrap(), "x");
    assert_eq!(bed.counts(), (4, 0));
}

#[test]
fn a_ticket_that_several_items_name_waits_for_all_of_them() {
    let mut bed = Bed::new(Sink::Bulk);
    // The second item has bytes of the first chunk too, the third of both before.
    bed.put_held("abc", None, &[0, 1, 2]);
    bed.turn();
    bed.statuses(&[201, 201, 429]);
    assert!(bed.settled().is_empty());
    bed.wait();
    bed.answer(200, r#"{"errors":false}"#);
    assert_eq!(bed.settled(), [0, 1, 2]);
    bed.assert_done();
}

#[test]
fn a_body_that_cannot_be_taken_apart_is_dropped_and_its_claims_fail() {
    let mut bed = Bed::new(Sink::Bulk);
    bed.put("!bc");
    bed.turn();
    bed.statuses(&[201, 429, 201]);
    let log = bed.ledger.0.lock().unwrap().clone();
    assert_eq!(log, [(0, true), (2, true), (1, false)]);
    bed.assert_done();
}

#[test]
fn a_call_that_the_transport_forgets_is_given_up_and_its_late_end_ignored() {
    let mut bed = Bed::new(Sink::Loki);
    bed.put("a");
    bed.now = Mono(5);
    let deadline = bed.turn().deadline.unwrap();
    assert_eq!(deadline.ms_since(bed.now), 10_000 + GIVE_UP_MS);
    bed.now = deadline;
    bed.turn();
    let (id, _) = bed.wire.flying.remove(0);
    assert_eq!(bed.wire.cancelled, [id]);
    let late = Answer {
        status: 204,
        retry_after_ms: None,
        body: Bytes::new(),
    };
    bed.wire.ended.push_back((id, Ok(late)));
    bed.turn();
    assert!(bed.settled().is_empty());
    bed.wait();
    bed.answer(204, "");
    assert_eq!(bed.settled(), [0]);
    bed.assert_done();
}

#[test]
fn what_is_unsettled_at_the_end_fails() {
    let mut bed = Bed::new(Sink::Loki);
    bed.put("ab");
    bed.turn();
    let ledger = Arc::clone(&bed.ledger);
    drop(bed);
    assert_eq!(*ledger.0.lock().unwrap(), [(0, false), (1, false)]);
}

#[test]
fn lanes_are_bounded_and_what_waits_is_taken_later() {
    let mut bed = Bed::new(Sink::Loki);
    for tenant in 0..LANES_MAX + 3 {
        bed.put_held("a", Some(&tenant.to_string()), &[]);
    }
    bed.turn();
    assert_eq!(bed.wire.flying.len(), LANES_MAX);
    assert!(!bed.deliverer.idle());
    while !bed.wire.flying.is_empty() {
        bed.answer(204, "");
    }
    assert_eq!(bed.settled().len(), LANES_MAX + 3);
    bed.assert_done();
}

proptest! {
    /// Whatever is answered, each ticket is settled exactly once, each line is acknowledged or
    /// rejected once, and the window is given back.
    #[test]
    fn every_line_ends_once(
        sizes in proptest::collection::vec(1usize..6, 1..5),
        script in proptest::collection::vec((0u8..8, proptest::collection::vec(0u8..5, 6)), 0..40),
    ) {
        let mut bed = Bed::new(Sink::Bulk);
        for size in &sizes {
            bed.put(&"abcdef"[..*size]);
        }
        bed.turn();
        let mut script = script.into_iter();
        while !bed.deliverer.idle() {
            if bed.wire.flying.is_empty() {
                bed.wait();
            }
            let count = bed.wire.sent.last().unwrap().len();
            match script.next() {
                Some((0, _)) => bed.answer(413, ""),
                Some((1, _)) => bed.answer(400, ""),
                Some((2, _)) => bed.answer(503, ""),
                Some((3, _)) => bed.end(Err(Failure::Timeout)),
                Some((4, _)) => bed.answer(200, "{"),
                Some((_, items)) => {
                    let status = |item: &u8| [201, 429, 400, 404, 409][usize::from(*item)];
                    let statuses: Vec<u16> = items.iter().map(status).take(count).collect();
                    bed.statuses(&statuses);
                }
                None => bed.answer(200, r#"{"errors":false}"#),
            }
        }
        let mut settled = bed.settled();
        settled.sort_unstable();
        let lines: usize = sizes.iter().sum();
        prop_assert_eq!(settled, (0..lines as u64).collect::<Vec<_>>());
        let (acknowledged, rejected) = bed.counts();
        prop_assert_eq!(acknowledged + rejected, lines as u64);
        bed.assert_done();
    }
}
