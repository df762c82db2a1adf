//! Chunks -> lines.
//!
//! A line that goes on in the next chunk waits here with a claim on each chunk that it has bytes
//! of.

use std::borrow::Cow;
use std::sync::Arc;

use memchr::{memchr, memchr_iter};
use smallvec::SmallVec;

use crate::base::outputs::{OUTPUTS_MAX, OutputSet};
use crate::ticket::{Chunk, FileId, LineFate, Source, Ticket};

/// Claims on chunks, oldest first, one a chunk.
pub type Claims = SmallVec<[Ticket; 2]>;

/// One line without its newline.
#[derive(Debug)]
pub struct Line<'c> {
    /// Its bytes.
    pub text: Cow<'c, [u8]>,
    /// Offset in the file of the first.
    pub offset: u64,
    /// It was cut at the limit.
    pub cut: bool,
    /// Claims on earlier chunks that it has bytes of.
    pub claims: Claims,
}

/// The beginning of a line that goes on in the next chunk.
#[derive(Debug)]
pub struct Tail {
    /// Whose line it is.
    pub source: Arc<Source>,
    /// The file that it began in.
    pub file: Option<FileId>,
    /// Offset in the file of the first byte.
    pub offset: u64,
    /// Its bytes so far.
    pub text: Vec<u8>,
    /// Claims on every chunk that it has bytes of.
    pub claims: Claims,
}

/// What framing counts, added up over a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounts {
    /// Lines handed on.
    pub lines: u64,
    /// Lines cut.
    pub cut: u64,
    /// Bytes past the limit.
    pub bytes_cut: u64,
}

/// What one pass has framed so far.
#[derive(Debug, Default)]
pub struct Frame {
    /// A line that goes on.
    pub tail: Option<Tail>,
    /// A line was cut and handed on; what comes up to its newline is left out.
    skip: bool,
}

impl Frame {
    /// Whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.tail.is_none() && !self.skip
    }

    /// Hands each line of `chunk` to `take`; lines are cut at `max` bytes.
    pub fn lines<'c>(
        &mut self,
        chunk: &'c Chunk,
        max: usize,
        counts: &mut FrameCounts,
        mut take: impl FnMut(Line<'c>),
    ) {
        let bytes = chunk.bytes();
        let mut start = self.finish(chunk, max, counts, &mut take);
        // Fast path: lines that lie in the chunk.
        for end in memchr_iter(b'\n', &bytes[start..]).map({
            let from = start;
            move |at| from + at
        }) {
            take(whole(chunk, start, &bytes[start..end], max, counts));
            start = end + 1;
        }
        let rest = &bytes[start..];
        if rest.is_empty() {
            return;
        }
        if !chunk.open_tail {
            take(whole(chunk, start, rest, max, counts));
        } else if rest.len() > max {
            take(whole(chunk, start, rest, max, counts));
            self.skip = true;
        } else {
            self.tail = Some(Tail {
                source: Arc::clone(&chunk.source),
                file: chunk.ticket.file(),
                offset: chunk.base + start as u64,
                text: rest.to_vec(),
                claims: std::iter::once(chunk.ticket.split(OutputSet::first(OUTPUTS_MAX)))
                    .collect(),
            });
        }
    }

    /// Ends the line that came over from the chunk before; says where the next one begins.
    fn finish<'c>(
        &mut self,
        chunk: &'c Chunk,
        max: usize,
        counts: &mut FrameCounts,
        take: &mut impl FnMut(Line<'c>),
    ) -> usize {
        if self.is_empty() {
            return 0;
        }
        let bytes = chunk.bytes();
        let end = memchr(b'\n', bytes);
        let piece = &bytes[..end.unwrap_or(bytes.len())];
        let goes_on = end.is_none() && chunk.open_tail;
        if let Some(mut tail) = self.tail.take() {
            let out = add_text(&mut tail.text, piece, max);
            let cut = out > 0;
            if goes_on && !cut {
                tail.claims
                    .push(chunk.ticket.split(OutputSet::first(OUTPUTS_MAX)));
                self.tail = Some(tail);
                return bytes.len();
            }
            counts.bytes_cut += out as u64;
            counts.cut += u64::from(cut);
            counts.lines += 1;
            take(Line {
                text: Cow::Owned(tail.text),
                offset: tail.offset,
                cut,
                claims: tail.claims,
            });
        } else {
            counts.bytes_cut += piece.len() as u64;
            if !goes_on {
                // The line ends here, and its record may have gone with another ticket.
                let outputs = chunk.ticket.outputs();
                chunk.ticket.note(LineFate::Withheld, outputs, 1);
            }
        }
        self.skip = goes_on;
        end.map_or(bytes.len(), |end| end + 1)
    }
}

fn whole<'c>(
    chunk: &Chunk,
    start: usize,
    text: &'c [u8],
    max: usize,
    counts: &mut FrameCounts,
) -> Line<'c> {
    counts.lines += 1;
    let cut = text.len() > max;
    let kept = if cut {
        counts.cut += 1;
        counts.bytes_cut += (text.len() - max) as u64;
        whole_characters(&text[..max])
    } else {
        text.len()
    };
    Line {
        text: Cow::Borrowed(&text[..kept]),
        offset: chunk.base + start as u64,
        cut,
        claims: Claims::new(),
    }
}

/// Appends as much as there is room for up to `max` bytes; says how many bytes were left out.
pub fn add_text(text: &mut Vec<u8>, more: &[u8], max: usize) -> usize {
    let room = max.saturating_sub(text.len());
    let taken = more.len().min(room);
    if text.capacity() < text.len() + taken {
        // A vector that grew by itself could take twice what it may hold.
        let whole = (text.capacity() * 2).clamp(text.len() + taken, max);
        text.reserve_exact(whole - text.len());
    }
    text.extend_from_slice(&more[..taken]);
    if taken == more.len() {
        return 0;
    }
    let kept = whole_characters(text);
    text.truncate(kept);
    more.len() - room
}

/// The length of `text` without the UTF-8 character that its end cuts in two, if any.
#[must_use]
pub fn whole_characters(text: &[u8]) -> usize {
    let tail = text.iter().rev().take(4);
    for (back, byte) in tail.enumerate() {
        let wanted = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        let whole = back + 1 >= wanted;
        return if whole {
            text.len()
        } else {
            text.len() - back - 1
        };
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_leaves_no_half_character() {
        for (text, want) in [
            (&b""[..], 0),
            (b"abc", 3),
            ("aü".as_bytes(), 3),
            (&"aü".as_bytes()[..2], 1),
            ("a\u{1f600}".as_bytes(), 5),
            (&"a\u{1f600}".as_bytes()[..4], 1),
            (&"a\u{1f600}".as_bytes()[..3], 1),
            (&"a\u{1f600}".as_bytes()[..2], 1),
            (b"\x80\x80\x80\x80\x80", 5),
            (b"a\xff", 2),
        ] {
            assert_eq!(whole_characters(text), want, "{text:?}");
        }
    }
}
