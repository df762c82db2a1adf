#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::base::size::ByteSize;
use crate::encode::Line;

struct Bed {
    state: PathBuf,
    registry: Registry,
}

impl Bed {
    fn new(name: &str) -> Self {
        let state =
            std::env::temp_dir().join(format!("tailwake-letters-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&state);
        fs::create_dir_all(directory(&state, "o")).unwrap();
        let registry = Registry::default();
        Self { state, registry }
    }

    fn book(&self, file_bytes: u64, files: u64) -> Book {
        let file_bytes = ByteSize(file_bytes);
        Book::new(
            &self.state,
            "o",
            DeadLetters { file_bytes, files },
            &self.registry,
        )
    }

    fn lines(&self) -> Vec<String> {
        let files = files(&directory(&self.state, "o")).unwrap();
        let texts = files
            .iter()
            .map(|(_, path)| fs::read_to_string(path).unwrap());
        let all: String = texts.collect();
        assert!(all.is_empty() || all.ends_with('\n'));
        all.lines().map(str::to_owned).collect()
    }

    fn count(&self, name: &str) -> u64 {
        self.registry.value_of(name, &[("output", "o")])
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.state);
    }
}

fn letter(text: &str) -> Letter {
    Letter {
        output: "o".into(),
        tenant: None,
        reason: "too_old",
        words: "words".into(),
        line: Line {
            text: text.into(),
            ..Line::default()
        },
        lines: 2,
    }
}

#[test]
fn files_are_bounded_and_the_oldest_letters_go_counted() {
    let bed = Bed::new("bounded");
    let mut book = bed.book(400, 3);
    for number in 0..40 {
        book.push(&letter(&format!("line {number:02}")), "now")
            .unwrap();
        book.flush(true).unwrap();
    }
    let dir = directory(&bed.state, "o");
    let files = files(&dir).unwrap();
    assert_eq!(files.len(), 3);
    assert!(
        files
            .iter()
            .all(|(_, path)| fs::metadata(path).unwrap().len() < 600)
    );
    let lines = bed.lines();
    let dropped = bed.count("tailwake_deadletters_dropped_total");
    assert_eq!(bed.count("tailwake_deadletters_total"), 40);
    assert_eq!(lines.len() as u64 + dropped, 40);
    assert!(lines.last().unwrap().contains("line 39"));
    assert_eq!(bed.count("tailwake_deadletter_lost_lines_total"), 0);
    // Another run goes on where this one was.
    drop(book);
    let mut book = bed.book(400, 3);
    book.push(&letter("later"), "now").unwrap();
    book.flush(true).unwrap();
    assert!(bed.lines().last().unwrap().contains("later"));
}

#[test]
fn what_cannot_be_written_is_lost_by_line_and_later_letters_are_kept() {
    let bed = Bed::new("lost");
    let mut book = bed.book(1 << 20, 3);
    let dir = directory(&bed.state, "o");
    fs::remove_dir_all(&dir).unwrap();
    book.push(&letter("one"), "now").unwrap();
    assert!(book.flush(true).is_err());
    assert_eq!(bed.count("tailwake_deadletter_lost_lines_total"), 2);
    fs::create_dir_all(&dir).unwrap();
    book.push(&letter("two"), "now").unwrap();
    book.flush(true).unwrap();
    assert_eq!(bed.lines().len(), 1);
    assert_eq!(bed.count("tailwake_deadletters_total"), 1);
}
