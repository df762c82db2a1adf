//! Where a chunk may end: after a line that leaves no record open.
//!
//! A watermark stands at chunk ends alone. A chunk that ended between a record's parts would let a
//! restart begin inside that record, so the reader asks here first.
//!
//! 1. Fast path: without ` P ` among CRI lines no record is open (one vectored search, no parse).
//! 2. What is no CRI and no docker line opens nothing.

use memchr::{memchr, memmem};

/// Which streams of a container have a record open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    stdout: bool,
    stderr: bool,
    /// The line that is longer than a buffer is docker's: its keys come at its end.
    docker: bool,
    /// Lines that left a record open, wrapping.
    parts: u32,
    /// Whole lines stand beside the open record.
    beside: bool,
}

impl Open {
    /// Whether no record is open.
    #[must_use]
    pub const fn is_none(self) -> bool {
        !self.stdout && !self.stderr
    }

    /// How many lines have left a record open: it changes when an open record grows.
    #[must_use]
    pub const fn parts(self) -> u32 {
        self.parts
    }

    /// Whether whole lines wait for the end of a record that is open.
    #[must_use]
    pub const fn is_beside(self) -> bool {
        self.beside
    }

    fn after(&mut self, part: Part) {
        let (was, other) = match part {
            Part::None => (false, self.stdout || self.stderr),
            Part::Stdout(_) => (self.stdout, self.stderr),
            Part::Stderr(_) => (self.stderr, self.stdout),
        };
        let open = matches!(part, Part::Stdout(true) | Part::Stderr(true));
        self.parts = self.parts.wrapping_add(u32::from(open));
        self.beside |= !was && !open && other;
        match part {
            Part::None => {}
            Part::Stdout(open) => self.stdout = open,
            Part::Stderr(open) => self.stderr = open,
        }
        if self.is_none() {
            (self.parts, self.beside) = (0, false);
        }
    }

    /// After the first piece of a line that is longer than a buffer.
    #[must_use]
    pub fn begun(mut self, piece: &[u8]) -> Self {
        self.docker = piece.starts_with(DOCKER_HEAD);
        if !self.docker {
            self.after(part_of(piece));
        }
        self
    }

    /// After the last piece of such a line.
    #[must_use]
    pub fn finished(mut self, piece: &[u8]) -> Self {
        if std::mem::take(&mut self.docker) && !piece.is_empty() {
            self.after(docker_part(piece));
        }
        self
    }
}

enum Part {
    None,
    Stdout(bool),
    Stderr(bool),
}

/// `<time> stdout P <text>`, or docker's `{"log":"text","stream":"stdout","time":"..."}`.
fn part_of(line: &[u8]) -> Part {
    if line.starts_with(DOCKER_HEAD) {
        return docker_part(line);
    }
    let Some(space) = memchr(b' ', &line[..line.len().min(CRI_TIME_BYTES)]) else {
        return Part::None;
    };
    let rest = &line[space + 1..];
    let tag = rest.get(7).copied();
    let open = tag == Some(b'P') && matches!(rest.get(8), None | Some(b' ' | b':'));
    if rest.starts_with(b"stdout ") {
        Part::Stdout(open)
    } else if rest.starts_with(b"stderr ") {
        Part::Stderr(open)
    } else {
        Part::None
    }
}

fn docker_part(line: &[u8]) -> Part {
    // The text of a whole record ends with an escaped newline; what follows it is short.
    let tail = &line[line.len().saturating_sub(DOCKER_TAIL_BYTES)..];
    let open = memmem::find(tail, b"\\n\",\"").is_none();
    match memmem::find(tail, b"\"stream\":\"stderr\"") {
        Some(_) => Part::Stderr(open),
        None => Part::Stdout(open),
    }
}

/// Looks at whole lines that begin with `open` records open: the length of the longest prefix that
/// leaves none open, and what all of them leave open.
#[must_use]
pub fn scan(lines: &[u8], open: Open) -> (usize, Open) {
    // Fast path: nothing open and no part in sight. Docker lines have no such mark.
    let docker = lines.starts_with(DOCKER_HEAD);
    if open.is_none() && !docker && memmem::find(lines, b" P").is_none() {
        return (lines.len(), open);
    }
    let (mut at, mut clean, mut open) = (0, 0, open);
    while at < lines.len() {
        let end = memchr(b'\n', &lines[at..]).map_or(lines.len(), |newline| at + newline + 1);
        open.after(part_of(lines[at..end].trim_ascii_end()));
        at = end;
        if open.is_none() {
            clean = at;
        }
    }
    (clean, open)
}

/// Longest time stamp before a CRI line's first space: RFC 3339 with nanoseconds and offset has 35.
const CRI_TIME_BYTES: usize = 40;

/// Begins every docker line.
const DOCKER_HEAD: &[u8] = b"{\"log\":";

/// Docker's keys after the text: stream, time, and attrs of a modest length.
const DOCKER_TAIL_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_ends_where_no_record_is_open() {
        let f = "2026-11-24T05:00:00.1Z stdout F whole\n";
        let p = "2026-11-24T05:00:00.1Z stdout P part\n";
        let e = "2026-11-24T05:00:00.1Z stderr F err\n";
        let ep = "2026-11-24T05:00:00.1Z stderr P err\n";
        let check = |parts: &[&str], want: usize, open: bool| {
            let text = parts.concat();
            let (clean, left) = scan(text.as_bytes(), Open::default());
            let want: usize = parts[..want].iter().map(|part| part.len()).sum();
            assert_eq!((clean, !left.is_none()), (want, open), "{parts:?}");
        };
        check(&[f, e, f], 3, false);
        check(&[f, p], 1, true);
        check(&[f, p, e], 1, true);
        check(&[p, e, f], 3, false);
        check(&[p, ep, f], 0, true);
        check(&[p, ep, f, e], 4, false);
        check(&["2026-11-24T05:00:00.1Z stdout P \n", f], 2, false);
        check(&[f, "2026-11-24T05:00:00.1Z stdout P \n"], 1, true);
        check(&["no cri line P at all\n", f], 2, false);
        check(
            &["{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"x\"}\n"],
            1,
            false,
        );
        check(
            &["{\"log\":\"a\",\"stream\":\"stdout\",\"time\":\"x\"}\n"],
            0,
            true,
        );
    }
}
