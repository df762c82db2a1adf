//! Dead letters on their way to the disk: what an output has refused for good.
//!
//! ```text
//! lane: give_up -> counted -> Dead::put -> [bounded queue] -> disk thread -> file of the output
//! ```
//!
//! 1. A lane never waits for the disk: what finds no room is counted as lost and goes without.
//! 2. The queue is bounded in letters and bytes, for all outputs together.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;

use crate::base::count::{Counter, Registry};
use crate::encode::Line;

/// Letters that may wait at once.
const LETTERS_MAX: usize = 16_384;

/// Bytes of their texts: a batch of either kind may be refused whole.
const BYTES_MAX: u64 = 4 << 20;

/// What a letter takes beside its texts.
const LETTER_BYTES: u64 = size_of::<Letter>() as u64 + 64;

/// A line that was refused for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The output's name.
    pub output: Arc<str>,
    /// The tenant that it was sent for.
    pub tenant: Option<Arc<str>>,
    /// Why, as in the counter's `reason`.
    pub reason: &'static str,
    /// The server's words, on one line.
    pub words: Arc<str>,
    /// The line, with its time and labels.
    pub line: Line,
    /// Source lines that it stands for.
    pub lines: u32,
}

impl Letter {
    fn bytes(&self) -> u64 {
        let texts = self.line.text.len() + self.line.labels.len() + self.line.time.len();
        texts as u64 + LETTER_BYTES
    }

    /// As a line of JSON without its newline; `now` is the time of rejection, in RFC 3339. A text that
    /// is no UTF-8 is `{"$b64": ".."}`.
    #[must_use]
    pub fn json(&self, now: &str) -> String {
        let line = match std::str::from_utf8(&self.line.text) {
            Ok(text) => quoted(text),
            Err(_) => format!(
                "{{\"$b64\":\"{}\"}}",
                super::redact::base64(&self.line.text)
            ),
        };
        let mut out = format!(
            "{{\"time\":{},\"output\":{},\"reason\":{},\"words\":{}",
            quoted(now),
            quoted(&self.output),
            quoted(self.reason),
            quoted(&self.words)
        );
        if let Some(tenant) = &self.tenant {
            let _ = write!(out, ",\"tenant\":{}", quoted(tenant));
        }
        let _ = write!(
            out,
            ",\"lines\":{},\"entry_time\":{},\"labels\":{},\"line\":{line}}}",
            self.lines,
            quoted(&self.line.time),
            quoted(&self.line.labels)
        );
        out
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The way to the disk thread.
#[derive(Debug)]
pub struct DeadQueue {
    letters: ArrayQueue<Letter>,
    bytes: AtomicU64,
}

impl Default for DeadQueue {
    fn default() -> Self {
        Self {
            letters: ArrayQueue::new(LETTERS_MAX),
            bytes: AtomicU64::new(0),
        }
    }
}

impl DeadQueue {
    /// The next letter for the disk.
    #[must_use]
    pub fn take(&self) -> Option<Letter> {
        let letter = self.letters.pop()?;
        self.bytes.fetch_sub(letter.bytes(), Ordering::AcqRel);
        Some(letter)
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// Says no when there is no room.
    fn put(&self, letter: Letter) -> bool {
        let bytes = letter.bytes();
        if self.bytes.fetch_add(bytes, Ordering::AcqRel) + bytes <= BYTES_MAX
            && self.letters.push(letter).is_ok()
        {
            return true;
        }
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        false
    }
}

/// The counter of lines that were refused and are in no file either.
#[must_use]
pub fn lost_counter(output: &str, registry: &Registry) -> Arc<Counter> {
    registry.counter(
        "tailwake_deadletter_lost_lines_total",
        "Rejected lines that could not be kept as dead letters either: no room on their way, or no disk.",
        &[("output", output)],
    )
}

/// One output's end of it.
#[derive(Debug)]
pub(crate) struct Dead {
    output: Arc<str>,
    /// `None` = the output keeps none.
    queue: Option<Arc<DeadQueue>>,
    lost: Arc<Counter>,
}

impl Dead {
    pub(crate) fn new(output: &str, queue: Option<Arc<DeadQueue>>, registry: &Registry) -> Self {
        Self {
            output: output.into(),
            queue,
            lost: lost_counter(output, registry),
        }
    }

    /// Whether it keeps any.
    pub(crate) const fn is_kept(&self) -> bool {
        self.queue.is_some()
    }

    pub(crate) fn put(
        &self,
        tenant: Option<&Arc<str>>,
        (reason, words): (&'static str, &Arc<str>),
        line: Line,
        lines: u32,
    ) {
        let Some(queue) = &self.queue else { return };
        let letter = Letter {
            output: Arc::clone(&self.output),
            tenant: tenant.cloned(),
            reason,
            words: Arc::clone(words),
            line,
            lines,
        };
        if !queue.put(letter) {
            self.lost.add(u64::from(lines));
        }
    }

    /// Lines that cannot even be read again.
    pub(crate) fn lose(&self, lines: u64) {
        self.lost.add(lines);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn line(text: &[u8]) -> Line {
        Line {
            time: "2026-11-24T05:00:00.1Z".to_owned(),
            labels: "{a=\"b\"}".to_owned(),
            text: text.to_vec(),
        }
    }

    #[test]
    fn a_letter_is_one_line_of_json_whatever_it_holds() {
        for (text, want) in [
            (&b"a\"\n\x01"[..], r#""a\"\n\u0001""#),
            (b"\xff\x00", r#"{"$b64":"/wA="}"#),
        ] {
            let letter = Letter {
                output: "o".into(),
                tenant: Some("t".into()),
                reason: "too_old",
                words: "w\n".into(),
                line: line(text),
                lines: 2,
            };
            let json = letter.json("now");
            assert!(json.ends_with(&format!("\"line\":{want}}}")), "{json}");
            assert!(!json.contains('\n'));
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(value["tenant"], "t");
            assert_eq!(value["labels"], "{a=\"b\"}");
        }
    }

    #[test]
    fn what_finds_no_room_is_counted_and_room_comes_back() {
        let (registry, queue) = (Registry::default(), Arc::new(DeadQueue::default()));
        let dead = Dead::new("o", Some(Arc::clone(&queue)), &registry);
        let put = || dead.put(None, ("r", &"w".into()), line(&[b'x'; 1 << 20]), 3);
        (0..4).for_each(|_| put());
        assert_eq!(dead.lost.get(), 3, "the fourth passes the bytes");
        assert!(queue.take().is_some());
        put();
        assert_eq!(dead.lost.get(), 3);
        while queue.take().is_some() {}
        assert_eq!(queue.bytes.load(Ordering::SeqCst), 0);
        let off = Dead::new("off", None, &registry);
        off.put(None, ("r", &"w".into()), line(b"x"), 1);
        assert_eq!(off.lost.get(), 0);
    }
}
