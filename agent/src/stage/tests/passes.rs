//! Two passes over the same bytes: merged, abandoned, and whose records are whose.

use super::*;
use crate::plan::Stage;

fn bench() -> Bench {
    let steps = vec![
        Step::Stage(Stage::Cri),
        Step::Output(output(0)),
        Step::Output(output(1)),
    ];
    Bench::new(&plan(steps, 100), 2)
}

/// Gives a chunk for one output alone.
fn chunk_for(bench: &mut Bench, only: u8, pass: u32, base: u64, bytes: &str, open_tail: bool) {
    let all = std::mem::replace(&mut bench.outputs, OutputSet::one(output(only)));
    bench.chunk(1, pass, base, bytes.as_bytes(), open_tail);
    bench.outputs = all;
}

fn merge(bench: &mut Bench) {
    bench.feed(Feed::Merged {
        log: LOG,
        pass: PassId(2),
        into: PassId(1),
    });
}

fn outputs(bench: &Bench) -> Vec<(u8, String)> {
    let texts = bench.texts().into_iter();
    texts
        .zip(&bench.seer.seen)
        .map(|(text, seen)| (seen.output, text))
        .collect()
}

fn seen(list: &[(u8, &str)]) -> Vec<(u8, String)> {
    list.iter()
        .map(|(id, text)| (*id, (*text).to_owned()))
        .collect()
}

#[test]
fn a_pass_reaches_its_own_outputs_alone() {
    let mut bench = bench();
    chunk_for(&mut bench, 1, 2, 0, &cri(0, "stdout", "F", "a"), false);
    assert_eq!(outputs(&bench), seen(&[(1, "a")]));
    bench.check_all_settled();
}

#[test]
fn the_same_beginning_is_one_record_for_both_outputs() {
    let (part, rest) = (cri(0, "stdout", "P", "a"), cri(1, "stdout", "F", "b"));
    let mut bench = bench();
    chunk_for(&mut bench, 0, 1, 0, &part, false);
    chunk_for(&mut bench, 1, 2, 0, &part, false);
    merge(&mut bench);
    assert_eq!(bench.reported(), 0);
    bench.chunk(1, 1, part.len() as u64, rest.as_bytes(), false);
    assert_eq!(outputs(&bench), seen(&[(0, "ab"), (1, "ab")]));
    bench.check_all_settled();
}

#[test]
fn the_same_unfinished_line_is_one_line_for_both_outputs() {
    let line = cri(0, "stdout", "F", "ab");
    let (head, tail) = line.split_at(12);
    let mut bench = bench();
    chunk_for(&mut bench, 0, 1, 0, head, true);
    chunk_for(&mut bench, 1, 2, 0, head, true);
    merge(&mut bench);
    bench.chunk(1, 1, 12, tail.as_bytes(), false);
    assert_eq!(outputs(&bench), seen(&[(0, "ab"), (1, "ab")]));
    bench.check_all_settled();
}

#[test]
fn another_beginning_goes_on_by_itself_for_its_own_outputs() {
    let part = cri(0, "stdout", "P", "a");
    let at = part.len() as u64;
    let mut bench = bench();
    chunk_for(&mut bench, 1, 2, 0, &part, false);
    chunk_for(&mut bench, 0, 1, at, &part, false);
    merge(&mut bench);
    assert_eq!(outputs(&bench), seen(&[(1, "a"), (0, "a")]));
    bench.chunk(1, 1, 2 * at, cri(1, "stdout", "F", "b").as_bytes(), false);
    bench.check_all_settled();
}

fn abandon(bench: &mut Bench) {
    assert!(bench.machine.held_bytes() > 0);
    bench.feed(Feed::Abandoned {
        log: LOG,
        pass: PassId(1),
        permit: None,
    });
    assert_eq!(bench.machine.held_bytes(), 0);
}

/// The end-to-end test saw chunks twice: an output came back, was detached again, and its pass was
/// abandoned with the block that was open at the end of a chunk that was sent but for it.
#[test]
fn a_block_of_an_abandoned_pass_is_sent_as_its_chunk_was() {
    let steps = vec![
        Step::Stage(Stage::Cri),
        super::steps::multiline(100),
        Step::Output(output(0)),
    ];
    let mut bench = Bench::new(&plan(steps, 100), 1);
    let lines = [cri(0, "stdout", "F", "at a"), cri(1, "stdout", "F", "at b")].concat();
    bench.chunk(1, 1, 0, lines.as_bytes(), false);
    assert_eq!(bench.texts(), ["at a"]);
    abandon(&mut bench);
    assert_eq!(bench.texts(), ["at a", "at b"]);
    bench.check_all_settled();
}

#[test]
fn a_record_without_an_end_fails_with_its_pass() {
    let mut bench = bench();
    bench.chunk(1, 1, 0, cri(0, "stdout", "P", "a").as_bytes(), false);
    abandon(&mut bench);
    assert!(bench.texts().is_empty());
    let reports = bench.reports.0.lock().unwrap();
    assert_eq!(reports.len(), 2);
    assert!(reports.iter().all(|(.., settled)| !settled));
}
