//! Whether a line of Docker's ends its record, told without parsing it: piece by piece, where it is
//! longer than a buffer.
//!
//! The text comes first, then the stream: `{"log":"text\n","stream":"stderr",...`. A text without a newline
//! at its end goes on in the stream's next line.

use memchr::memchr2;

use super::open::{Part, Whose};

/// Begins every line of Docker's.
pub(super) const HEAD: &[u8] = b"{\"log\":";

/// Follows the text of standard error.
const STDERR: &[u8] = b",\"stream\":\"stderr\"";

/// An escaped text is at most this many times as long as what it means: `\u0001`.
const ESCAPE_BYTES: u64 = 6;

/// How far a line was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DockerEnd {
    /// In its text: after a backslash, or after an escaped newline.
    Text { escaped: bool, newline: bool },
    /// After it, with so many bytes of [`STDERR`], if it is that at all.
    Keys { open: bool, matched: Option<u8> },
    /// It is no line of Docker's.
    Other,
}

impl DockerEnd {
    /// After the first piece of a line.
    pub(super) fn of(piece: &[u8]) -> Self {
        let text = piece.strip_prefix(HEAD).map(<[u8]>::trim_ascii_start);
        let Some(text) = text.and_then(|text| text.strip_prefix(b"\"")) else {
            return Self::Other;
        };
        let mut end = Self::Text {
            escaped: false,
            newline: false,
        };
        end.look(text);
        end
    }

    /// After a further piece.
    pub(super) fn look(&mut self, mut piece: &[u8]) {
        while let (Self::Text { escaped, newline }, Some(&first)) = (&mut *self, piece.first()) {
            if std::mem::take(escaped) {
                *newline = first == b'n';
                piece = &piece[1..];
                continue;
            }
            let Some(at) = memchr2(b'"', b'\\', piece) else {
                *newline = false;
                return;
            };
            *newline &= at == 0;
            if piece[at] == b'\\' {
                *escaped = true;
            } else {
                let open = !*newline;
                let matched = Some(0);
                *self = Self::Keys { open, matched };
            }
            piece = &piece[at + 1..];
        }
        if let Self::Keys { matched, .. } = self {
            *matched = matched.and_then(|matched| {
                let rest = &STDERR[usize::from(matched)..];
                let most = rest.len().min(piece.len());
                (rest[..most] == piece[..most]).then_some(matched + most as u8)
            });
        }
    }

    /// What the line means, now that all of it was looked at; `bytes` = its length.
    pub(super) fn part(self, bytes: u64) -> Part {
        let (whose, open) = match self {
            Self::Keys { open, matched } if matched == Some(STDERR.len() as u8) => {
                (Whose::Stderr, open)
            }
            Self::Keys { open, .. } => (Whose::Stdout, open),
            Self::Text { .. } | Self::Other => (Whose::Line, false),
        };
        Part {
            whose,
            open,
            text: bytes / ESCAPE_BYTES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_the_same_wherever_it_is_cut() {
        let labels = "l".repeat(5_000);
        for (line, stderr, open) in [
            (
                r#"{"log":"a\n","stream":"stdout","time":"x"}"#.into(),
                false,
                false,
            ),
            (
                r#"{"log":"a","stream":"stderr","time":"x"}"#.into(),
                true,
                true,
            ),
            (
                r#"{"log":"a\\n","stream":"stderr","time":"x"}"#.into(),
                true,
                true,
            ),
            (
                r#"{"log":"a\"\n","stream":"stderr","time":"x"}"#.into(),
                true,
                false,
            ),
            (
                r#"{"log":"\nb","stream":"stdout","time":"x"}"#.into(),
                false,
                true,
            ),
            (
                r#"{"log":"","stream":"stdout","time":"x"}"#.into(),
                false,
                true,
            ),
            (
                format!(
                    r#"{{"log":"a\n","stream":"stderr","attrs":{{"k":"{labels}\n","stream":"stdout"}}}}"#
                ),
                true,
                false,
            ),
            (
                format!(
                    r#"{{"log":"a","stream":"stdout","attrs":{{"k":"{labels}\n","stream":"stderr"}}}}"#
                ),
                false,
                true,
            ),
        ] {
            let line: String = line;
            for cut in [8, 9, 10, 11, 12, 14, 20, 27, 28, 29, 30, line.len()] {
                let (first, rest) = line.as_bytes().split_at(cut.min(line.len()));
                let mut end = DockerEnd::of(first);
                rest.chunks(3).for_each(|piece| end.look(piece));
                let part = end.part(0);
                let whose = if stderr { Whose::Stderr } else { Whose::Stdout };
                assert_eq!((part.whose, part.open), (whose, open), "{line} at {cut}");
            }
        }
        let none = DockerEnd::of(br#"{"log":"a"#).part(0);
        assert_eq!((none.whose, none.open), (Whose::Line, false));
    }
}
