//! One CRI line: `2026-11-24T05:15:01.1Z stdout F text`.

use memchr::memchr;

use super::{SecondCache, Stream};
use crate::base::time::Timestamp;

/// What a CRI line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CriLine<'a> {
    /// When the runtime read it.
    pub time: Timestamp,
    /// Which stream wrote it.
    pub stream: Stream,
    /// It goes on in the next line of the stream.
    pub partial: bool,
    /// The text; always the end of the line.
    pub text: &'a [u8],
}

/// Reads a line without its newline; none when it is no CRI line.
///
/// Tags are parted by colons and the first decides, as in kubelet: `P`, `P:x` are partial. A line
/// that ends with its tags was torn.
#[must_use]
pub fn parse<'a>(line: &'a [u8], cache: &mut SecondCache) -> Option<CriLine<'a>> {
    let (time, rest) =
        line.split_at_checked(memchr(b' ', line.get(..TIME_BYTES_MAX.min(line.len()))?)?)?;
    let (stream, rest) = match rest.split_first_chunk::<8>()? {
        (b" stdout ", rest) => (Stream::Stdout, rest),
        (b" stderr ", rest) => (Stream::Stderr, rest),
        _ => return None,
    };
    let (partial, text) = match rest {
        // Fast path: what runtimes write.
        [b'F', b' ', text @ ..] => (false, text),
        [b'P', b' ', text @ ..] => (true, text),
        _ => {
            let end = memchr(b' ', rest).filter(|end| *end > 0)?;
            let partial = rest[0] == b'P' && rest[1] == b':';
            (partial, &rest[end + 1..])
        }
    };
    Some(CriLine {
        time: cache.parse(time)?,
        stream,
        partial,
        text,
    })
}

/// No time is written longer; bounds the search in lines that are not CRI.
const TIME_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_from_torn_ones() {
        let time = "2026-11-24T05:15:01.5Z";
        for (rest, want) in [
            (" stdout F text", Some((Stream::Stdout, false, "text"))),
            (" stderr P text ", Some((Stream::Stderr, true, "text "))),
            (" stdout F ", Some((Stream::Stdout, false, ""))),
            (" stdout F  a b", Some((Stream::Stdout, false, " a b"))),
            (" stdout P:x:y text", Some((Stream::Stdout, true, "text"))),
            (" stdout F:x text", Some((Stream::Stdout, false, "text"))),
            (" stdout PX text", Some((Stream::Stdout, false, "text"))),
            (" stdout F", None),
            (" stdout P:x", None),
            (" stdout  text", None),
            (" stdout ", None),
            (" stdout", None),
            (" stdin F text", None),
            ("", None),
        ] {
            let line = format!("{time}{rest}");
            let got = parse(line.as_bytes(), &mut SecondCache::default());
            let got = got.map(|cri| (cri.stream, cri.partial, cri.text));
            let want = want.map(|(stream, partial, text)| (stream, partial, text.as_bytes()));
            assert_eq!(got, want, "{rest:?}");
        }
        for line in ["", "plain text", "x stdout F text", "{\"log\":\"x\"}"] {
            assert_eq!(parse(line.as_bytes(), &mut SecondCache::default()), None);
        }
    }
}
