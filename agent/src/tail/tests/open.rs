//! Records that lie over a chunk's end, or have none.

use super::*;

const PART: &str = "2026-11-24T05:00:00.1Z stdout P last words\n";
const OTHER: &str = "2026-11-24T05:00:00.2Z stderr F other\n";

/// The place that a restart would begin at.
fn mark(bench: &Bench) -> u64 {
    let positions = bench.ledger.snapshot().unwrap();
    positions.files[0].marks.get("out").unwrap().at
}

/// A record in parts, longer than a buffer; without an end, if it has none.
fn long(name: &str, ends: bool) -> String {
    let text = name.repeat(1_000 / name.len());
    let mut lines: String = (0..6)
        .map(|part| format!("2026-11-24T05:00:0{part}.1Z stdout P {text}\n"))
        .collect();
    if ends {
        lines.push_str("2026-11-24T05:00:06.1Z stdout F end\n");
    }
    lines
}

/// Another log beside the bench's own.
pub(super) fn other_log(bench: &Bench, log: u32) -> Event {
    let name = format!("other{log}");
    let source = Source {
        log: LogId(log),
        key: format!("a_b_c/{name}").into(),
        ..Source::clone(&bench.source)
    };
    Event::Found {
        source: Arc::new(source),
        path: bench.path(&name),
        place: log_file("0.log").unwrap(),
        at_start: false,
    }
}

fn ends(bench: &Bench) -> usize {
    bench
        .lines
        .iter()
        .filter(|line| line.ends_with("F end"))
        .count()
}

#[test]
fn a_part_that_stays_open_is_finished_after_ten_seconds_and_nobody_is_deaf_meanwhile() {
    let mut bench = Bench::new("lapse");
    fs::write(bench.path("0.log"), [PART, OTHER].concat()).unwrap();
    bench.settle();
    bench.later(1_000);
    assert_eq!(bench.lines.len(), 2);
    bench.later(5_000);
    let mut file = OpenOptions::new()
        .append(true)
        .open(bench.path("0.log"))
        .unwrap();
    file.write_all(OTHER.as_bytes()).unwrap();
    bench.later(1_200);
    assert_eq!(bench.lines.len(), 3, "woken while the part is open");
    assert_eq!((bench.finished, mark(&bench)), (0, 0));
    // The other stream's lines give the part no more time.
    bench.later(3_000);
    assert_eq!(bench.finished, 1);
    assert_eq!(mark(&bench), (PART.len() + 2 * OTHER.len()) as u64);
    assert_eq!(bench.count("tailwake_records_lapsed_total"), 1);
    file.write_all(line("afterwards").as_bytes()).unwrap();
    bench.later(100);
    assert_eq!((bench.lines.len(), bench.finished), (4, 1));
}

#[test]
fn a_log_without_a_permit_waits_on_disk_until_the_encoder_has_the_other_record_whole() {
    let mut bench = Bench::new("permit");
    bench.keeps = true;
    for name in ["0.log", "other1", "other2"] {
        fs::write(bench.path(name), long(name, true)).unwrap();
    }
    let mut events = bench.list(false);
    events.extend([other_log(&bench, 1), other_log(&bench, 2)]);
    bench.turn(events);
    // Two of four buffers are the encoder's, with the only permit: the others hold none.
    assert_eq!((bench.kept.len(), bench.reader.pool.free()), (2, 2));
    assert_eq!(bench.count("tailwake_open_record_waits_total"), 2);
    for whole in 2..=3 {
        let kept = std::mem::take(&mut bench.kept);
        kept.into_iter().for_each(|chunk| chunk.ticket.settle());
        bench.read();
        assert_eq!(ends(&bench), whole);
    }
    assert_eq!(bench.lines.len(), 21);
    assert_eq!(bench.count("tailwake_records_lapsed_total"), 0);
}

#[test]
fn a_record_without_an_end_gives_its_permit_up_when_others_wait() {
    let mut bench = Bench::new("pressure");
    fs::write(bench.path("0.log"), long("0.log", false)).unwrap();
    bench.settle();
    bench.later(2_000);
    fs::write(bench.path("other1"), long("other1", true)).unwrap();
    let events = VecDeque::from([other_log(&bench, 1)]);
    bench.turn(events);
    assert_eq!(
        (ends(&bench), bench.finished, bench.lines.len()),
        (1, 1, 13)
    );
}

#[test]
fn a_disk_that_fails_while_a_file_is_told_apart_makes_none_unknown() {
    for failing in 1..6 {
        let mut bench = Bench::new("flaky");
        bench.log("0.log", &["one", "two"]);
        bench.settle();
        let mut bench = bench.restart();
        bench.log("0.log", &["three"]);
        bench.failing.set(failing);
        bench.settle();
        bench.later(failing as u64 * 1_000);
        bench.has(&["one", "two", "three"]);
    }
}

#[test]
fn a_part_that_stays_open_holds_the_other_stream_up_for_a_second_and_its_attempt_at_most() {
    let mut bench = Bench::new("open");
    fs::write(bench.path("0.log"), [PART, OTHER, OTHER].concat()).unwrap();
    bench.settle();
    bench.read();
    assert_eq!(bench.lines.len(), 3, "{:?}", bench.lines);
    assert_eq!(mark(&bench), 0, "the open record is not settled yet");
    assert_eq!(bench.finished, 0);
    bench.log("1.log", &["next attempt"]);
    fs::remove_file(bench.path("0.log")).unwrap();
    bench.settle();
    assert_eq!((bench.lines.len(), bench.finished), (4, 1));
}
