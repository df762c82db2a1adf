//! How much one log may hold.

use super::*;
use crate::base::size::ByteSize;
use crate::plan::OverRate;

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

/// A pod that may read 10,000 bytes a second, and has 30,000.
fn limited(over_rate: OverRate) -> (Bench, usize) {
    let mut bench = Bench::new(&format!("rate-{over_rate:?}"));
    let limits = Limits {
        pod_rate: Some(ByteSize(10_000)),
        over_rate,
        ..Limits::default()
    };
    bench.reader.settings.rates = Rates::new(&limits, &bench.registry);
    let line_bytes = fill(&bench, 30_000 / line(&"x".repeat(56)).len());
    (bench, line_bytes)
}

#[test]
fn a_pod_beyond_its_rate_is_read_later_and_counted() {
    let (mut bench, line_bytes) = limited(OverRate::Defer);
    let begun = bench.now;
    bench.log("other1", &["other"]);
    let mut events = bench.list(false);
    events.push_back(open::other_log(&bench, 1));
    bench.turn(events);
    assert_eq!(bench.lines.len(), 1 + 30_000 / line_bytes);
    // A second's bytes come at once; the rest takes two seconds. Another pod's log waits for none of it.
    let took = bench.now.ms_since(begun);
    assert!((1_800..3_000).contains(&took), "{took} ms");
    let other = bench.lines.iter().position(|line| text_of(line) == "other");
    assert!(other.unwrap() * line_bytes < 15_000);
    assert!(bench.count("tailwake_rate_deferrals_total") > 0);
    let metrics = bench.registry.render();
    assert!(metrics.contains("tailwake_rate_deferrals_total{namespace=\"\",pod=\"a_b_c/d\"}"));
    assert_eq!(bench.count("tailwake_rate_dropped_lines_total"), 0);
}

#[test]
fn lines_beyond_a_rate_are_dropped_only_where_the_config_says_so_and_counted() {
    let (mut bench, line_bytes) = limited(OverRate::Drop);
    bench.settle();
    let all = 30_000 / line_bytes;
    let dropped = bench.count("tailwake_rate_dropped_lines_total") as usize;
    assert!(
        dropped > 0 && bench.lines.len() + dropped == all,
        "{dropped} of {all}"
    );
    let bytes = bench.count("tailwake_rate_dropped_bytes_total");
    assert_eq!(bytes, (dropped * line_bytes) as u64);
    // The books have them as dropped on purpose; what this bench settles it delivers to nobody.
    let output = bench.ledger.accounts()[0].outputs[0];
    let (withheld, unproven) = (output.withheld_lines, output.unproven_lines);
    assert_eq!(
        (withheld, unproven),
        (dropped as u64, bench.lines.len() as u64)
    );
    // What was dropped is not read again.
    let lines = bench.lines.len();
    let mut bench = bench.restart();
    bench.settle();
    assert_eq!(bench.lines.len(), lines);
}
