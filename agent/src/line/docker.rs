//! One line of Docker's json-file driver: `{"log":"text\n","stream":"stdout","time":"..."}`.

use std::borrow::Cow;

use memchr::memchr2;
use serde::Deserialize;

use super::{SecondCache, Stream};
use crate::base::time::Timestamp;

/// What a line of Docker's says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerLine<'a> {
    /// When the daemon read it.
    pub time: Timestamp,
    /// Which stream wrote it.
    pub stream: Stream,
    /// It goes on in the next line of the stream: its text has no newline.
    pub partial: bool,
    /// The text without its newline.
    pub text: Cow<'a, [u8]>,
}

/// Reads a line; none when it is no line of Docker's.
#[must_use]
pub fn parse<'a>(line: &'a [u8], cache: &mut SecondCache) -> Option<DockerLine<'a>> {
    parse_plain(line, cache).or_else(|| parse_slow(line, cache))
}

/// Fast path: the daemon's own layout, and no escape but the newline at the end of the text.
fn parse_plain<'a>(line: &'a [u8], cache: &mut SecondCache) -> Option<DockerLine<'a>> {
    let rest = line.strip_prefix(br#"{"log":""#)?;
    let (text, rest) = rest.split_at(memchr2(b'"', b'\\', rest)?);
    let (partial, rest) = match rest.strip_prefix(br#"\n"#) {
        Some(rest) => (false, rest),
        None => (true, rest),
    };
    let rest = rest.strip_prefix(br#"","stream":"std"#)?;
    let (stream, rest) = match rest.split_first_chunk::<3>()? {
        (b"out", rest) => (Stream::Stdout, rest),
        (b"err", rest) => (Stream::Stderr, rest),
        _ => return None,
    };
    let time = rest
        .strip_prefix(br#"","time":""#)?
        .strip_suffix(br#""}"#)?;
    Some(DockerLine {
        time: cache.parse(time)?,
        stream,
        partial,
        text: Cow::Borrowed(text),
    })
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

fn parse_slow<'a>(line: &'a [u8], cache: &mut SecondCache) -> Option<DockerLine<'a>> {
    if line.first() != Some(&b'{') {
        return None;
    }
    let fields: Fields<'a> = serde_json::from_slice(line).ok()?;
    let mut text = fields.log.into_owned().into_bytes();
    let whole = text.pop_if(|last| *last == b'\n').is_some();
    Some(DockerLine {
        time: cache.parse(fields.time.as_bytes())?,
        stream: match &*fields.stream {
            "stdout" => Stream::Stdout,
            "stderr" => Stream::Stderr,
            _ => Stream::Unknown,
        },
        partial: !whole,
        text: Cow::Owned(text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_paths_read_the_same() {
        let tail = r#","stream":"stderr","time":"2026-11-24T05:15:01.5Z"}"#;
        for (log, want) in [
            (r#""text\n""#, Some((false, "text"))),
            (r#""text""#, Some((true, "text"))),
            (r#""\n""#, Some((false, ""))),
            (r#""""#, Some((true, ""))),
            (r#""a\tb\n""#, Some((false, "a\tb"))),
            (r#""a\nb""#, Some((true, "a\nb"))),
            (r#""a\n\n""#, Some((false, "a\n"))),
            (
                r#""\u003cb\u003e \ud83d\ude00 ü\n""#,
                Some((false, "<b> \u{1f600} ü")),
            ),
            (r#""torn"#, None),
            ("7", None),
        ] {
            let line = format!("{{\"log\":{log}{tail}");
            let got = parse(line.as_bytes(), &mut SecondCache::default());
            let got = got.map(|line| (line.stream, line.partial, line.text.into_owned()));
            let want =
                want.map(|(partial, text)| (Stream::Stderr, partial, text.as_bytes().to_vec()));
            assert_eq!(got, want, "{log}");
        }
        let attrs =
            br#"{"log":"x\n","stream":"stdout","attrs":{"a":"b"},"time":"2026-11-24T05:15:01Z"}"#;
        let got = parse(attrs, &mut SecondCache::default());
        assert!(got.is_some_and(|line| &*line.text == b"x" && !line.partial));
        assert_eq!(parse(b"plain", &mut SecondCache::default()), None);
    }
}
