//! Where a chunk may end: after a line that leaves no record open.
//!
//! A watermark stands at chunk ends alone. A chunk that ended between a record's parts would let a
//! restart begin inside that record, so the reader asks here first.
//!
//! 1. Fast path: without ` P ` among CRI lines no record is open (one vectored search, no parse).
//! 2. What is no CRI and no docker line opens nothing.

use memchr::{memchr, memmem};

use super::docker_end::{self, DockerEnd};
use super::open::{Open, Part, Whose};

/// `<time> stdout P <text>`, or docker's `{"log":"text","stream":"stdout","time":"..."}`.
fn part_of(line: &[u8]) -> Part {
    if line.starts_with(docker_end::HEAD) {
        return DockerEnd::of(line).part(line.len() as u64);
    }
    cri_part(line).unwrap_or(Part {
        whose: Whose::Line,
        open: false,
        text: 0,
    })
}

fn cri_part(line: &[u8]) -> Option<Part> {
    let space = memchr(b' ', &line[..line.len().min(CRI_TIME_BYTES)])?;
    let rest = &line[space + 1..];
    let whose = match rest.first_chunk()? {
        b"stdout " => Whose::Stdout,
        b"stderr " => Whose::Stderr,
        _ => return None,
    };
    let tag = rest.get(7) == Some(&b'P');
    Some(Part {
        whose,
        open: tag && matches!(rest.get(8), None | Some(b' ' | b':')),
        text: rest.len().saturating_sub(9) as u64,
    })
}

/// Looks at whole lines that begin with `open` records open: the length of the longest prefix that
/// leaves none open, and what all of them leave open.
#[must_use]
pub fn scan(lines: &[u8], mut open: Open) -> (usize, Open) {
    // Fast path: nothing open and no part in sight. Docker lines have no such mark.
    let docker = lines.starts_with(docker_end::HEAD);
    if open.is_none() && !docker && memmem::find(lines, b" P").is_none() {
        return (lines.len(), open);
    }
    let (mut at, mut clean) = (0, 0);
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

/// What is open after a piece of a line that is longer than a buffer: its first, or with `open` inside
/// it, a further one.
#[must_use]
pub fn within(piece: &[u8], mut open: Open) -> Open {
    if open.in_line() {
        open.goes_on(piece);
    } else if piece.starts_with(docker_end::HEAD) {
        open.begun_docker(piece);
    } else {
        open.begun(part_of(piece));
    }
    open
}

/// What is open after the last piece of such a line.
#[must_use]
pub fn finish(piece: &[u8], mut open: Open) -> Open {
    open.goes_on(piece);
    open.finished();
    open
}

/// Longest time stamp before a CRI line's first space: RFC 3339 with nanoseconds and offset has 35.
const CRI_TIME_BYTES: usize = 40;

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
