//! Parts and whole lines: CRI and Docker.

use super::*;
use crate::plan::Stage;

fn run_head(head: Stage, max: u64, chunks: &[(u64, &[u8])]) -> Bench {
    let steps = vec![Step::Stage(head), Step::Output(output(0))];
    let mut bench = Bench::new(&plan(steps, max), 1);
    let mut bases = std::collections::BTreeMap::new();
    for (at, (file, bytes)) in chunks.iter().enumerate() {
        let base = bases.entry(*file).or_insert(0u64);
        let goes_on = chunks.get(at + 1).is_some_and(|(next, _)| next == file);
        let open_tail = goes_on && bytes.last() != Some(&b'\n');
        bench.chunk(*file, 1, *base, bytes, open_tail);
        *base += bytes.len() as u64;
    }
    bench.end();
    bench.check_all_settled();
    bench
}

fn check(max: u64, lines: &[String], want: &[(&str, u32, bool)]) {
    let text = lines.concat();
    let bench = run_head(Stage::Cri, max, &[(1, text.as_bytes())]);
    let got: Vec<_> = bench
        .texts()
        .into_iter()
        .zip(&bench.seer.seen)
        .map(|(text, seen)| (text, seen.lines, seen.cut))
        .collect();
    let want: Vec<_> = want
        .iter()
        .map(|(text, lines, cut)| ((*text).to_owned(), *lines, *cut))
        .collect();
    assert_eq!(got, want, "{text}");
}

#[test]
fn parts_join_a_stream() {
    let (out, err) = ("stdout", "stderr");
    check(
        100,
        &[
            cri(0, out, "F", "a"),
            cri(1, out, "F", ""),
            cri(2, err, "F", "c"),
        ],
        &[("a", 1, false), ("", 1, false), ("c", 1, false)],
    );
    check(
        100,
        &[
            cri(0, out, "P", "a"),
            cri(1, out, "P:x", "b"),
            cri(2, out, "F", "c"),
        ],
        &[("abc", 3, false)],
    );
    // The streams do not mix.
    check(
        100,
        &[
            cri(0, out, "P", "a"),
            cri(1, err, "P", "x"),
            cri(2, err, "F", "y"),
            cri(3, out, "F", "b"),
        ],
        &[("xy", 2, false), ("ab", 2, false)],
    );
    // Empty parts, and a line between that is no CRI.
    check(
        100,
        &[cri(0, out, "P", ""), "plain\n".into(), cri(1, out, "F", "")],
        &[("plain", 1, false), ("", 2, false)],
    );
    // Nothing ends the parts but the end of the log.
    check(
        100,
        &[cri(0, out, "P", "a"), cri(1, out, "P", "b")],
        &[("ab", 2, false)],
    );
}

#[test]
fn a_joined_record_is_cut_at_the_limit_and_the_rest_left_out() {
    let out = "stdout";
    check(
        5,
        &[
            cri(0, out, "P", "abc"),
            cri(1, out, "P", "def"),
            cri(2, out, "P", "ghi"),
            cri(3, out, "F", "jkl"),
            cri(4, out, "F", "next"),
        ],
        &[("abcde", 2, true), ("next", 1, false)],
    );
    // Exactly the limit is not cut; no half character is left.
    check(
        5,
        &[cri(0, out, "P", "ab"), cri(1, out, "F", "cde")],
        &[("abcde", 2, false)],
    );
    check(3, &[cri(0, out, "F", "abü")], &[("ab", 1, true)]);
    check(
        3,
        &[cri(0, out, "P", "ab"), cri(1, out, "F", "ü")],
        &[("ab", 2, true)],
    );
    check(3, &["plain\n".into()], &[("pla", 1, true)]);
}

#[test]
fn a_never_ending_text_holds_no_claim_past_the_limit() {
    let steps = vec![Step::Stage(Stage::Cri), Step::Output(output(0))];
    let mut bench = Bench::new(&plan(steps, 10), 1);
    let part = cri(0, "stdout", "P", "0123");
    for at in 0..100u64 {
        bench.chunk(1, 1, at * part.len() as u64, part.as_bytes(), false);
        assert!(bench.machine.held_bytes() < 1_000);
    }
    assert_eq!(bench.texts(), ["0123012301"]);
    assert_eq!(bench.metric("tailwake_records_cut_total"), 1);
    assert_eq!(bench.metric("tailwake_record_bytes_cut_total"), 390);
    // All but the three chunks of the record are settled already.
    assert_eq!(bench.reported(), 97);
    bench.end();
    bench.check_all_settled();
}

#[test]
fn one_streams_record_is_ended_and_the_others_goes_on() {
    let steps = vec![Step::Stage(Stage::Cri), Step::Output(output(0))];
    let mut bench = Bench::new(&plan(steps, 10), 1);
    let open = [
        cri(0, "stdout", "P", "dead"),
        cri(1, "stderr", "P", "0123456789ab"),
    ];
    bench.text(&open.concat());
    bench.feed(Feed::Finished {
        log: LOG,
        pass: PassId(1),
        ended: Ended {
            stdout: true,
            ..Ended::default()
        },
        permit: None,
    });
    assert_eq!(bench.texts(), ["0123456789", "dead"]);
    assert_eq!(bench.machine.held_bytes(), 0);
    // The other's rest is left out still.
    let rest = [
        cri(2, "stderr", "F", "rest"),
        cri(3, "stdout", "F", "next"),
        cri(4, "stderr", "F", "other"),
    ];
    bench.chunk(1, 1, 1_000, rest.concat().as_bytes(), false);
    assert_eq!(bench.texts(), ["0123456789", "dead", "next", "other"]);
    bench.check_all_settled();
}

#[test]
fn a_line_without_end_holds_no_claim_past_the_limit() {
    let mut bench = Bench::new(&plan(vec![Step::Output(output(0))], 10), 1);
    for at in 0..100u64 {
        bench.chunk(1, 1, at * 10, b"0123456789", true);
    }
    // The frame allows a head of 128 bytes.
    assert_eq!(bench.texts(), ["0123456789"]);
    assert_eq!(bench.reported(), 86);
    bench.chunk(1, 1, 1000, b"rest\nnext\n", false);
    assert_eq!(bench.texts(), ["0123456789", "next"]);
    assert_eq!(bench.metric("tailwake_lines_total"), 2);
    bench.check_all_settled();
}

#[test]
fn parts_of_16_kib_that_cut_a_character_join() {
    let text = format!("{}ü{}", "a".repeat(16_383), "b".repeat(100));
    let (head, tail) = text.as_bytes().split_at(16_384);
    let mut log = b"2026-11-24T05:15:00Z stdout P ".to_vec();
    log.extend_from_slice(head);
    log.extend_from_slice(b"\n2026-11-24T05:15:01Z stdout F ");
    log.extend_from_slice(tail);
    log.push(b'\n');
    let bench = run_head(Stage::Cri, 1 << 20, &[(1, &log)]);
    assert_eq!(bench.texts(), [text]);
}

#[test]
fn parts_join_over_chunks_and_a_rotation_under_the_first_ones_place_and_time() {
    let lines = [
        cri(0, "stdout", "F", "zero"),
        cri(1, "stdout", "P", "one,"),
        cri(2, "stdout", "P", "two,"),
        cri(3, "stdout", "F", "three"),
    ];
    let first = [lines[0].as_bytes(), lines[1].as_bytes()].concat();
    let (head, tail) = lines[2].as_bytes().split_at(20);
    let bench = run_head(
        Stage::Cri,
        100,
        &[(1, &first), (1, head), (1, tail), (2, lines[3].as_bytes())],
    );
    assert_eq!(bench.texts(), ["zero", "one,two,three"]);
    let joined = &bench.seer.seen[1];
    assert_eq!(joined.offset, lines[0].len() as u64);
    assert_eq!(joined.secs, CRI_SECS + 1);
    assert!(joined.from_line);
}

#[test]
fn a_torn_line_passes_as_it_is() {
    for torn in ["2026-11-24T05:15:00Z stdout F", "2026-11-24T05:15", "plain"] {
        let bench = run_head(Stage::Cri, 100, &[(1, torn.as_bytes())]);
        assert_eq!(bench.texts(), [torn]);
        let seen = &bench.seer.seen[0];
        assert_eq!((seen.stream, seen.secs), (Stream::Unknown, WALL.secs));
        assert!(!seen.from_line);
        assert_eq!(bench.metric("tailwake_lines_not_cri_total"), 1);
    }
}

#[test]
fn dockers_parts_join_until_a_newline() {
    let line = |stream: &str, log: &str| {
        format!(r#"{{"log":"{log}","stream":"{stream}","time":"2026-11-24T05:15:00Z"}}"#) + "\n"
    };
    let text = [
        line("stdout", "a"),
        line("stderr", r"x\n"),
        line("stdout", r"b\tc"),
        line("stdout", r"d\n"),
        line("stdout", r"\n"),
        "torn\n".to_owned(),
    ];
    let bench = run_head(Stage::Docker, 100, &[(1, text.concat().as_bytes())]);
    assert_eq!(bench.texts(), ["x", "ab\tcd", "", "torn"]);
    assert_eq!(bench.metric("tailwake_lines_not_docker_total"), 1);
}

#[test]
fn blocks_beyond_their_share_leave_early_and_oldest_first_and_lose_nothing() {
    let first_line = regex::bytes::Regex::new("^start").unwrap();
    let stage = crate::plan::MultilineStage {
        first_line,
        wait_ms: 3_000,
        lines_max: 1_000,
    };
    let steps = vec![
        Step::Stage(Stage::Multiline(stage)),
        Step::Output(output(0)),
    ];
    let mut bench = Bench::new(&plan(steps, 4_096), 1);
    // The bench's machine may hold 4,096 bytes of blocks; each takes some 1,600.
    for pass in 0..4 {
        let text = format!("start {pass}{}\n", "x".repeat(1_000));
        bench.chunk(1, pass, 0, text.as_bytes(), false);
        bench.now = bench.now.plus_ms(10);
        assert!(bench.machine.held_bytes() <= 4_096);
    }
    let begins = |bench: &Bench| -> Vec<String> {
        let texts = bench.texts().into_iter();
        texts
            .map(|text| text.split('x').next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(begins(&bench), ["start 0", "start 1"]);
    assert_eq!(bench.metric("tailwake_blocks_early_total"), 2);
    // What still comes of it is a block of its own.
    bench.chunk(1, 0, 1_008, b"more\neven more\n", false);
    bench.tick(3_000);
    assert!(
        bench.texts().contains(&"more\neven more".to_owned()),
        "{:?}",
        bench.texts()
    );
    bench.check_all_settled();
}
