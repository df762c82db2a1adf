//! How much one log may hold.

use super::*;

/// Writes that many lines; gives the bytes of one.
fn fill(bench: &Bench, lines: usize) -> usize {
    let text = "x".repeat(56);
    bench.log("0.log", &vec![text.as_str(); lines]);
    line(&text).len()
}

#[test]
fn a_log_has_no_more_buffers_at_its_encoder_than_its_share() {
    let mut bench = Bench::new("share");
    fill(&bench, 400);
    bench.keeps = true;
    bench.settle();
    assert_eq!((bench.kept.len(), bench.reader.pool.free()), (2, 2));
    // Another log is read meanwhile.
    bench.log("other1", &["other"]);
    let events = VecDeque::from([open::other_log(&bench, 1)]);
    bench.turn(events);
    assert_eq!(text_of(bench.lines.last().unwrap()), "other");
    while bench.lines.len() < 401 {
        let before = bench.lines.len();
        bench.kept.clear();
        bench.keeps = false;
        bench.read();
        assert!(bench.lines.len() > before, "it goes on when they come home");
    }
}

#[test]
fn a_log_has_no_more_bytes_unsettled_than_its_share_of_the_window() {
    let mut bench = Bench::new("window");
    let line_bytes = fill(&bench, 2_000);
    bench.reader.settings.log_bytes_min = 4_096;
    bench.keeps = true;
    bench.settle();
    let mut owed = Vec::new();
    while !bench.kept.is_empty() {
        // The encoder is done with the buffers; the output answers nothing.
        owed.extend(bench.kept.drain(..).map(|chunk| chunk.ticket));
        bench.read();
    }
    let read = bench.lines.len() * line_bytes;
    let share = (1 << 20) / 8;
    assert!((share..share + 4_096).contains(&read), "{read} of {share}");
    bench.keeps = false;
    owed.into_iter().for_each(crate::ticket::Ticket::settle);
    bench.read();
    assert_eq!(bench.lines.len(), 2_000);
}
