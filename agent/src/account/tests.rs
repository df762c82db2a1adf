//! The sums, and that a term that is missing turns them red.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use super::*;
use crate::base::bell::Bell;
use crate::base::outputs::{OutputId, OutputSet};
use crate::base::time::Mono;
use crate::ledger::positions::Positions;
use crate::ledger::{Gap, Identity, Ledger};
use crate::ticket::{FileId, LineFate, LogId, Meta, PassId, Source, Span, Standing};

const ROTATION: Rotation = Rotation {
    bytes: 1_000,
    files: 5,
};

struct Books {
    ledger: Arc<Ledger>,
    source: Arc<Source>,
    file: FileId,
    paces: Paces,
}

impl Books {
    fn new() -> Self {
        let source = Arc::new(Source {
            log: LogId(0),
            input: 0,
            key: "ns_pod_uid/app".into(),
            filename: "0.log".into(),
            meta: Meta {
                namespace: "ns".into(),
                pod: "pod".into(),
                container: "app".into(),
                uid: "uid".into(),
                ..Meta::default()
            },
            labels: Vec::new(),
            tag: None,
            standing: Standing::Read,
        });
        let names = vec!["loki".to_owned()];
        let ledger = Ledger::new(names, vec![Bell::silent()], Positions::default());
        let file = ledger.register(&source, Identity::default(), |_| 0, None);
        Self {
            ledger,
            source,
            file,
            paces: Paces::default(),
        }
    }

    fn saw(&self, size: u64) {
        self.ledger.saw(LogId(0), self.file, size);
    }

    /// Ten lines from `start` to `end`, of which `delivered` are stored.
    fn read(&self, start: u64, end: u64, delivered: u32) {
        let span = Span {
            log: LogId(0),
            file: self.file,
            pass: PassId(1),
            start,
            end,
            lines: 10,
        };
        let ticket = self.ledger.open(span, OutputSet::first(1));
        ticket.note(LineFate::Delivered, OutputSet::first(1), delivered);
        ticket.settle();
    }

    fn row_at(&mut self, secs: u64) -> Row {
        self.paces.begin();
        let account = self.ledger.accounts().remove(0);
        let now = Mono(0).plus_ms(secs * 1_000);
        let pace = self.paces.look(&account, now, ROTATION);
        Row::new(&account, self.ledger.outputs(), pace)
    }

    fn row(&mut self) -> Row {
        self.row_at(0)
    }
}

fn loki(row: &Row) -> &OutputRow {
    &row.outputs["loki"]
}

#[test]
fn what_was_written_is_read_and_acknowledged_or_lags() {
    let mut books = Books::new();
    books.saw(300);
    books.read(0, 100, 10);
    let row = books.row();
    assert_eq!(
        (row.written_bytes, row.read_bytes, row.unread_bytes),
        (Some(300), 100, 200)
    );
    assert_eq!((loki(&row).bytes, loki(&row).lag_bytes), (100, 200));
    assert_eq!((row.unproven_bytes, row.state()), (0, State::Behind));
    books.read(100, 300, 10);
    let row = books.row();
    assert_eq!((row.unread_bytes, row.state()), (0, State::Proven));
    assert!(is_clean(&[row], &Beyond::default()));
}

#[test]
fn bytes_in_flight_are_read_and_not_acknowledged() {
    let mut books = Books::new();
    books.saw(100);
    let span = Span {
        log: LogId(0),
        file: books.file,
        pass: PassId(1),
        start: 0,
        end: 100,
        lines: 1,
    };
    let ticket = books.ledger.open(span, OutputSet::first(1));
    let row = books.row();
    assert_eq!(
        (row.read_bytes, loki(&row).bytes, loki(&row).in_flight_bytes),
        (100, 0, 100)
    );
    assert_eq!(row.state(), State::Behind);
    ticket.note(LineFate::Withheld, OutputSet::first(1), 1);
    ticket.settle();
    let row = books.row();
    assert_eq!(
        (loki(&row).in_flight_bytes, loki(&row).withheld_lines),
        (0, 1)
    );
    assert_eq!(row.state(), State::Proven);
}

/// Planted loss: the reader went past bytes that it gave to nobody.
#[test]
fn bytes_that_the_reader_skips_are_unproven() {
    let mut books = Books::new();
    books.saw(300);
    books.read(0, 100, 10);
    books.read(150, 300, 10);
    let row = books.row();
    assert_eq!((row.unread_bytes, row.unproven_bytes), (0, 50));
    assert_eq!(row.state(), State::Unproven);
    assert!(!is_clean(&[row], &Beyond::default()));
}

/// Planted loss: a span is settled of which two lines were neither stored nor withheld.
#[test]
fn lines_that_are_settled_and_not_delivered_are_unproven() {
    let mut books = Books::new();
    books.saw(100);
    books.read(0, 100, 8);
    let row = books.row();
    assert_eq!((loki(&row).lines, loki(&row).unproven_lines), (10, 2));
    assert_eq!(row.state(), State::Unproven);
}

#[test]
fn what_is_lost_is_counted_where_it_is_lost_and_the_sum_holds() {
    let mut books = Books::new();
    books.saw(300);
    books.read(0, 100, 10);
    books.ledger.lose(LogId(0), OutputId(0), 200);
    books.ledger.lose_unread(LogId(0), books.file);
    books.ledger.forget(LogId(0), books.file);
    let row = books.row();
    assert_eq!(
        (loki(&row).lost_bytes, row.unread_lost_bytes),
        (Some(200), 200)
    );
    assert_eq!((row.unproven_bytes, row.state()), (0, State::Lost));
}

#[test]
fn a_gap_is_unknown_and_never_zero() {
    let mut books = Books::new();
    books.saw(100);
    books.read(0, 100, 10);
    books.ledger.gap(LogId(0), Gap::Down);
    let row = books.row();
    assert_eq!((row.written_bytes, loki(&row).lost_bytes), (None, None));
    assert_eq!(
        (row.written_known_bytes, row.state()),
        (100, State::Unknown)
    );
    let json = serde_json::to_value(&row).unwrap();
    assert!(json["written_bytes"].is_null() && json["gap"] == "down");
    let text = table(std::slice::from_ref(&row), &Beyond::default());
    let cells: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(cells[..4], ["ns/pod/app", "loki", "?", "down"], "{text}");
    let mut series = series::Series::default();
    series.add(&row);
    let text = series.pieces().concat();
    assert!(!text.contains("written_bytes_total{"), "{text}");
    assert!(text.contains("tailwake_container_incomplete{namespace=\"ns\",pod=\"pod\",container=\"app\",uid=\"uid\",reason=\"down\"} 1"), "{text}");
}

#[test]
fn the_kernels_word_counts_where_it_is_the_larger_and_is_named() {
    let mut books = Books::new();
    books.saw(100);
    assert_eq!(books.row().written_source, Word::Stat);
    books.ledger.announced(LogId(0), books.file, 150);
    let row = books.row();
    assert_eq!(
        (row.written_bytes, row.written_source),
        (Some(150), Word::Kernel)
    );
    books.ledger.disbelieve(LogId(0), books.file);
    assert_eq!(books.row().written_bytes, Some(100));
    // Bytes that nobody announced: an mmap.
    books.saw(120);
    assert_eq!(books.row().written_source, Word::Stat);
}

#[test]
fn holes_are_passed_over_and_no_loss() {
    let mut books = Books::new();
    books.saw(100);
    let span = Span {
        log: LogId(0),
        file: books.file,
        pass: PassId(1),
        start: 0,
        end: 40,
        lines: 0,
    };
    books.ledger.pass_over(&span, OutputSet::first(1));
    books.read(40, 100, 10);
    let row = books.row();
    assert_eq!(
        (row.hole_bytes, row.read_bytes, loki(&row).hole_bytes),
        (40, 60, 40)
    );
    assert_eq!(row.state(), State::Proven);
}

#[test]
fn an_unfinished_line_is_unread_and_nobody_waits_for_it() {
    let mut books = Books::new();
    books.saw(107);
    books.read(0, 100, 10);
    books.ledger.unfinished(LogId(0), books.file, 7);
    let row = books.row();
    assert_eq!((row.unread_bytes, row.unfinished_bytes), (7, 7));
    assert_eq!(row.state(), State::Proven);
    assert!(!books.ledger.lacks(LogId(0), books.file, 107));
    books.saw(200);
    assert!(books.ledger.lacks(LogId(0), books.file, 200));
}

#[test]
fn the_time_left_is_what_may_still_be_written_at_the_present_rate() {
    let mut books = Books::new();
    books.saw(100);
    assert_eq!(loki(&books.row_at(1)).rotated_away_secs, None);
    books.saw(600);
    // 500 bytes in 10 s, and 400 + 4 * 1000 until the file is deleted.
    let row = books.row_at(11);
    assert_eq!(row.write_rate, Some(50.0));
    assert_eq!(loki(&row).rotated_away_secs, Some(4_400.0 / 50.0));
    // 600 bytes at 50 a second: they were begun 12 s ago.
    assert_eq!(loki(&row).lag_secs, Some(12.0));
    // Nothing is written any more: no file goes, and the lag is as old as it was seen.
    let newer = books
        .ledger
        .register(&books.source, Identity::default(), |_| 0, None);
    books.ledger.saw(LogId(0), newer, 500);
    let row = books.row_at(21);
    let left = (500.0 + 3.0 * 1_000.0) / row.write_rate.unwrap();
    assert_eq!(loki(&row).rotated_away_secs, Some(left));
}
