//! The books of a log as the real reader keeps them.

use super::{Bench, line};
use crate::account::{Paces, Rotation, Row, State};
use crate::base::time::Mono;

impl Bench {
    /// The log's row after a look at its files.
    fn row(&mut self) -> Row {
        self.reader.settings.roll.ask();
        self.read();
        let account = self.ledger.accounts().remove(0);
        let rotation = Rotation {
            bytes: 1 << 20,
            files: 5,
        };
        let mut paces = Paces::default();
        let pace = paces.look(&account, Mono(0), rotation);
        Row::new(&account, self.ledger.outputs(), pace)
    }
}

/// Bytes of so many lines of these tests.
fn bytes(texts: &[&str]) -> u64 {
    texts.iter().map(|text| line(text).len() as u64).sum()
}

#[track_caller]
fn adds_up(row: &Row) {
    let out = &row.outputs["out"];
    assert_eq!((row.unproven_bytes, out.unproven_bytes), (0, 0), "{row:#?}");
}

/// Planted loss: this bench settles what it is given and delivers it to nobody.
#[test]
fn lines_that_are_settled_and_delivered_to_nobody_are_unproven() {
    let mut bench = Bench::new("unproven");
    bench.log("0.log", &["1", "2"]);
    bench.settle();
    let row = bench.row();
    adds_up(&row);
    assert_eq!(row.outputs["out"].unproven_lines, 2);
    assert_eq!(row.state(), State::Unproven);
}

/// Planted loss: the reader's place is moved on, as if it had read a line.
#[test]
fn a_line_that_the_reader_skips_is_unproven() {
    let mut bench = Bench::new("skipped");
    bench.log("0.log", &["1"]);
    bench.settle();
    bench.log("0.log", &["2", "3"]);
    let skipped = bytes(&["2"]);
    for log in bench.reader.logs.values_mut() {
        log.passes
            .iter_mut()
            .for_each(|pass| pass.offset += skipped);
    }
    bench.settle();
    bench.has(&["1", "3"]);
    let row = bench.row();
    assert_eq!(row.unproven_bytes, skipped, "{row:#?}");
    assert_eq!(row.outputs["out"].lag_bytes, skipped);
}

#[test]
fn the_books_add_up_over_rotation_truncation_and_restart() {
    let mut bench = Bench::new("books");
    bench.log("0.log", &["1", "2"]);
    bench.settle();
    bench.rename("0.log", "0.log.20260101-000001");
    bench.log("0.log", &["3"]);
    bench.settle();
    let row = bench.row();
    adds_up(&row);
    assert_eq!(row.written_bytes, Some(bytes(&["1", "2", "3"])));
    std::fs::remove_file(bench.path("0.log.20260101-000001")).unwrap();
    bench.settle();
    bench.later(500);
    adds_up(&bench.row());
    // It is truncated with a line that was looked at and not read.
    bench.log("0.log", &["4"]);
    let file = std::fs::File::options()
        .write(true)
        .open(bench.path("0.log"));
    file.unwrap().set_len(0).unwrap();
    bench.log("0.log", &["5"]);
    bench.later(500);
    adds_up(&bench.row());
    let mut bench = bench.restart();
    bench.settle();
    bench.log("0.log", &["6"]);
    bench.settle();
    let row = bench.row();
    adds_up(&row);
    assert_eq!(row.read_before_bytes + row.read_bytes, bytes(&["5", "6"]));
    assert_eq!(row.gap, None);
}
