//! How bytes are cut into chunks changes nothing.

use proptest::prelude::*;
use regex::bytes::Regex;

use super::*;
use crate::plan::{JsonField, JsonStage, LabelField, MultilineStage, Stage};

/// Heads, tags and texts that meet each other in every order.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        Just(Vec::new()),
        Just(b"START a".to_vec()),
        Just(b" next".to_vec()),
        Just("ü\u{1f600}ü".as_bytes().to_vec()),
        Just(b"\xff\x80".to_vec()),
        Just(br#"{"level":"info","n":7}"#.to_vec()),
        Just(br#"{"level":"w\u0061rn"}"#.to_vec()),
        prop::collection::vec(b'a'..=b'z', 0..300),
    ];
    let head = prop_oneof![
        4 => Just("2026-11-24T05:15:01.5Z stdout F "),
        2 => Just("2026-11-24T05:15:02Z stdout P "),
        2 => Just("2026-11-24T05:15:03.123456789Z stderr P "),
        2 => Just("2026-11-24T05:15:04+01:00 stderr F "),
        1 => Just(""),
    ];
    (head, text).prop_map(|(head, text)| [head.as_bytes(), &text, b"\n"].concat())
}

fn steps() -> Vec<Step> {
    let field = JsonField {
        name: "level".into(),
        path: vec!["level".into()],
    };
    let label = LabelField {
        label: "level".into(),
        from: "level".into(),
    };
    vec![
        Step::Stage(Stage::Cri),
        Step::Stage(Stage::Json(JsonStage {
            fields: vec![field],
        })),
        Step::Stage(Stage::Labels(vec![label])),
        Step::Output(output(0)),
        Step::Stage(Stage::Multiline(MultilineStage {
            first_line: Regex::new("^START").unwrap(),
            wait_ms: 1000,
            lines_max: 3,
        })),
        Step::Output(output(1)),
    ]
}

/// Feeds two files of one log, each cut at `cuts`.
fn feed(files: &[Vec<u8>; 2], cuts: &[usize], max: u64) -> Bench {
    let mut bench = Bench::new(&plan(steps(), max), 2);
    for (number, bytes) in files.iter().enumerate() {
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        ends.push(bytes.len());
        ends.sort_unstable();
        let mut start = 0;
        for end in ends {
            let piece = &bytes[start..end];
            let open_tail = end < bytes.len() && piece.last().is_some_and(|last| *last != b'\n');
            // Nothing was read, or the line that was begun goes on: both are open.
            let open_tail = open_tail || (piece.is_empty() && end < bytes.len());
            bench.chunk(number as u64, 1, start as u64, piece, open_tail);
            start = end;
        }
    }
    bench.end();
    bench
}

fn run(files: &[Vec<u8>; 2], cuts: &[usize]) -> Vec<Seen> {
    let mut bench = feed(files, cuts, 60);
    bench.check_all_settled();
    bench.seer.seen
}

proptest! {
    #[test]
    fn any_split_gives_the_same_records_and_settles_every_ticket_once(
        first in prop::collection::vec(line(), 0..12),
        second in prop::collection::vec(line(), 0..6),
        torn in prop::collection::vec(any::<u8>(), 0..40),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let files = [[first.concat(), torn].concat(), second.concat()];
        prop_assert_eq!(run(&files, &cuts), run(&files, &[]));
    }

    #[test]
    fn no_chunk_with_bytes_is_settled_before_its_records_are_acknowledged(
        first in prop::collection::vec(line(), 0..12),
        second in prop::collection::vec(line(), 0..6),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        // Nothing is dropped or cut: every byte is in some record of either output.
        let mut bench = feed(&[first.concat(), second.concat()], &cuts, 1 << 20);
        for (span, output, settled) in &*bench.reports.0.lock().unwrap() {
            // A lone newline may belong to a record whose text lies in the chunk before.
            prop_assert!(span.end - span.start <= 1, "{span:?} {output:?} {settled}");
        }
        bench.check_all_settled();
    }
}
