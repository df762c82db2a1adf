//! Records that lie over a chunk's end, or have none.

use super::*;

const PART: &str = "2026-11-24T05:00:00.1Z stdout P last words\n";
const OTHER: &str = "2026-11-24T05:00:00.2Z stderr F other\n";

/// The place that a restart would begin at.
fn mark(bench: &Bench) -> u64 {
    let positions = bench.ledger.snapshot().unwrap().positions();
    positions.files[0].marks.get("out").unwrap().at
}

fn append(bench: &Bench, name: &str, text: &str) {
    let path = bench.path(name);
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
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
        at_end: false,
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
fn records_without_an_end_hold_no_permit_and_nobody_up() {
    let mut bench = Bench::new("endless");
    fs::write(bench.path("0.log"), long("0.log", false)).unwrap();
    bench.settle();
    assert!(bench.lines.is_empty(), "it waits on disk");
    for _ in 0..10 {
        // It grows all the while, and another has a long record that is whole.
        let mut file = OpenOptions::new()
            .append(true)
            .open(bench.path("0.log"))
            .unwrap();
        file.write_all(PART.as_bytes()).unwrap();
        bench.later(500);
    }
    fs::write(bench.path("other1"), long("other1", true)).unwrap();
    let events = VecDeque::from([other_log(&bench, 1)]);
    bench.turn(events);
    assert_eq!((ends(&bench), bench.lines.len(), bench.finished), (1, 7, 0));
    assert_eq!(bench.count("tailwake_open_record_waits_total"), 0);
    // Nothing more comes of it: after ten seconds it goes as it is, all of it at once.
    bench.later(10_500);
    assert_eq!((bench.lines.len(), bench.finished), (7 + 16, 1));
}

#[test]
fn a_long_record_over_a_rotation_waits_for_nothing() {
    let mut bench = Bench::new("long-rotated");
    fs::write(bench.path("0.log"), long("first", false)).unwrap();
    bench.settle();
    bench.rename("0.log", OLDER);
    fs::write(bench.path("0.log"), long("second", true)).unwrap();
    let begun = bench.now;
    let events = bench.list(false);
    bench.turn(events);
    assert_eq!(
        (ends(&bench), bench.lines.len(), bench.finished),
        (1, 13, 0)
    );
    // The turn itself waits 600 ms for more.
    let took = bench.now.ms_since(begun);
    assert!(took < 1_000, "{took} ms");
}

#[test]
fn a_record_longer_than_any_may_be_holds_no_file_and_no_place_back() {
    let mut bench = Bench::new("over");
    bench.reader.settings.record_bytes_max = 4_096;
    let mut written = 0;
    for number in 0..8 {
        let part = long(&format!("endless{number}"), false);
        written += part.len() as u64;
        fs::write(bench.path("0.log"), part).unwrap();
        bench.settle();
        bench.rename("0.log", &format!("0.log.20261124-05000{number}"));
        if number > 0 {
            let before = bench.path(&format!("0.log.20261124-05000{}", number - 1));
            fs::remove_file(before).unwrap();
        }
    }
    bench.log("0.log", &["end"]);
    bench.settle();
    bench.later(1_000);
    assert_eq!(bench.lines.len(), 8 * 6 + 1);
    assert_eq!(bench.finished, 0);
    let settled = bench.ledger.accounts()[0].outputs[0].settled.bytes;
    assert!(settled > written, "{settled} of {written}");
    // The newest and the one before it, whose name is still there.
    assert!(bench.count("tailwake_files_open") <= 2);
}

#[test]
fn lines_beside_an_endless_record_do_not_come_again_after_a_restart() {
    let mut bench = Bench::new("beside");
    bench.reader.settings.record_bytes_max = 2_048;
    for _ in 0..20 {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(bench.path("0.log"))
            .unwrap();
        file.write_all(
            [&long("endless", false)[..1_040], OTHER]
                .concat()
                .as_bytes(),
        )
        .unwrap();
        bench.settle();
        bench.later(1_200);
    }
    let others = |bench: &Bench| {
        bench
            .lines
            .iter()
            .filter(|line| line.ends_with("other"))
            .count()
    };
    assert_eq!(others(&bench), 20);
    let mut bench = bench.restart();
    bench.settle();
    bench.later(2_000);
    assert!(others(&bench) <= 22, "{} lines", others(&bench));
}

/// Parts of standard error, some 1,000 bytes each, that never end.
fn endless(parts: usize) -> String {
    let text = "e".repeat(1_000);
    format!("2026-11-24T05:00:07.1Z stderr P {text}\n").repeat(parts)
}

#[test]
fn a_part_that_stays_open_holds_neither_place_nor_permit_while_the_other_stream_goes_on_and_on() {
    let mut bench = Bench::new("dead-beside");
    bench.reader.settings.record_bytes_max = 4_096;
    let begun = bench.now;
    let text = [PART.to_owned(), endless(40)].concat();
    fs::write(bench.path("0.log"), &text).unwrap();
    bench.settle();
    // By what went by, not by time: four of the longest records.
    assert!(bench.now.ms_since(begun) < 2_000);
    assert_eq!(bench.count("tailwake_records_lapsed_total"), 1);
    // What the buffer's size leaves stays on disk with the record.
    assert!(mark(&bench) > text.len() as u64 - 4_096);
    fs::write(bench.path("other1"), long("other1", true)).unwrap();
    let events = VecDeque::from([other_log(&bench, 1)]);
    bench.turn(events);
    assert_eq!(
        (
            ends(&bench),
            bench.count("tailwake_open_record_waits_total")
        ),
        (1, 0)
    );
}

#[test]
fn a_permit_does_not_come_home_while_one_of_two_streams_is_kept() {
    let mut bench = Bench::new("both");
    bench.reader.settings.record_bytes_max = 4_096;
    // Standard error's has left its encoder after five parts; standard output's stays there.
    let text = [PART.to_owned(), endless(11)].concat();
    fs::write(bench.path("0.log"), &text).unwrap();
    fs::write(bench.path("other1"), long("other1", true)).unwrap();
    bench.settle();
    bench.later(1_200);
    assert_eq!((mark(&bench), bench.finished), (0, 0));
    let events = VecDeque::from([other_log(&bench, 1)]);
    bench.turn(events);
    // Five seconds, as another waits: it alone is ended, and the other's rest is left out still.
    assert_eq!(bench.count("tailwake_open_record_waits_total"), 1);
    bench.later(5_000);
    assert_eq!((ends(&bench), bench.finished), (1, 1));
    let stdout = Ended {
        stdout: true,
        ..Ended::default()
    };
    assert_eq!(bench.ended, stdout);
    assert_eq!(mark(&bench), text.len() as u64);
}

#[test]
fn a_torn_line_after_lines_beside_an_open_part_is_not_read_again_and_again() {
    let mut bench = Bench::new("torn-beside");
    fs::write(bench.path("0.log"), [PART, OTHER, &OTHER[..30]].concat()).unwrap();
    bench.settle();
    bench.later(1_200);
    append(&bench, "0.log", &OTHER[30..35]);
    bench.later(3_000);
    assert_eq!((bench.lines.len(), bench.finished), (2, 0));
    let reads = bench.count("tailwake_reads_total");
    assert!(reads < 30, "{reads} reads");
}

#[test]
fn what_lies_behind_the_first_buffer_beside_an_open_part_waits_for_nothing() {
    let mut bench = Bench::new("behind");
    let part = PART.replace("last words", &"b".repeat(1_000));
    let text = [&part, OTHER].concat().repeat(20);
    fs::write(bench.path("0.log"), text).unwrap();
    bench.settle();
    bench.later(4_000);
    assert_eq!((bench.lines.len(), bench.finished), (40, 0));
}

#[test]
fn the_last_permit_is_for_a_record_whose_end_is_known() {
    let mut bench = Bench::new("last-permit");
    bench.reader.permits = Permits::new(2, Bell::silent());
    fs::write(bench.path("0.log"), [PART, OTHER].concat()).unwrap();
    bench.settle();
    bench.later(1_200);
    // It went on without an end; another that would waits, and the record that has one does not.
    assert_eq!(bench.lines.len(), 2);
    let other = OTHER.replace("other", "later");
    fs::write(bench.path("other1"), [PART, &other].concat()).unwrap();
    let events = VecDeque::from([other_log(&bench, 1)]);
    bench.turn(events);
    fs::write(bench.path("other2"), long("other2", true)).unwrap();
    let events = VecDeque::from([other_log(&bench, 2)]);
    bench.turn(events);
    bench.later(5_000);
    let place = |end: &str| bench.lines.iter().position(|line| line.ends_with(end));
    assert!(
        place("F end").unwrap() < place("later").unwrap(),
        "{:?}",
        bench.lines
    );
    assert_eq!(bench.lines.len(), 4 + 7);
}

#[test]
fn what_has_no_end_by_the_agents_end_is_sent_and_does_not_come_again() {
    let mut bench = Bench::new("agents-end");
    fs::write(bench.path("0.log"), [PART, OTHER].concat()).unwrap();
    bench.settle();
    bench.later(1_200);
    assert_eq!((bench.lines.len(), mark(&bench)), (2, 0));
    bench.reader.end(bench.now);
    bench.take();
    assert_eq!(bench.ended, Ended::ALL);
    assert_eq!(mark(&bench), [PART, OTHER].concat().len() as u64);
    bench.ledger.snapshot_failed();
    let mut bench = bench.restart();
    bench.settle();
    bench.later(2_000);
    assert_eq!(bench.lines.len(), 2);
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
