//! Bytes -> text that a destination takes: JSON escapes, label quotes, times.
//!
//! 1. What is not UTF-8 becomes U+FFFD; nothing else of the text is changed.
//! 2. Plain runs are copied whole; only the bytes that need it are looked at one by one.

use std::borrow::Cow;

use crate::base::time::Timestamp;

/// The text of `bytes`, with U+FFFD where it is not UTF-8.
pub(crate) fn utf8(bytes: &[u8]) -> Cow<'_, str> {
    // Fast path: `from_utf8` strides over ASCII; the lossy walk looks at every byte.
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(String::from_utf8_lossy(bytes).into_owned()),
    }
}

/// Writes `bytes` as a JSON string with its quotes.
pub(crate) fn push_json(out: &mut Vec<u8>, bytes: &[u8]) {
    let text = utf8(bytes);
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let run = plain_run(rest);
        out.extend_from_slice(&rest[..run]);
        let Some(&byte) = rest.get(run) else { break };
        push_escape(out, byte);
        rest = &rest[run + 1..];
    }
    out.push(b'"');
}

/// How many bytes from the start need no escape in JSON.
fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let mut at = 0;
    // The lowest flagged byte is exact; a borrow can only flag bytes above a true hit.
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ (ONES * u64::from(b'"'));
        let slash = word ^ (ONES * u64::from(b'\\'));
        let hit = (word.wrapping_sub(ONES * 0x20) & !word)
            | (quote.wrapping_sub(ONES) & !quote)
            | (slash.wrapping_sub(ONES) & !slash);
        if hit & HIGH != 0 {
            return at + (hit & HIGH).trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let needs = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    bytes[at..]
        .iter()
        .position(needs)
        .map_or(bytes.len(), |hit| at + hit)
}

#[cold]
fn push_control(out: &mut Vec<u8>, prefix: &[u8], byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(prefix);
    out.push(DIGITS[usize::from(byte >> 4)]);
    out.push(DIGITS[usize::from(byte & 15)]);
}

fn push_escape(out: &mut Vec<u8>, byte: u8) {
    let short: &[u8] = match byte {
        b'"' => b"\\\"",
        b'\\' => b"\\\\",
        b'\n' => b"\\n",
        b'\r' => b"\\r",
        b'\t' => b"\\t",
        0x08 => b"\\b",
        0x0c => b"\\f",
        _ => return push_control(out, b"\\u00", byte),
    };
    out.extend_from_slice(short);
}

/// Writes a label value with its quotes, as Go's `strconv.Unquote` reads it.
pub(crate) fn push_quoted(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    for &byte in value.as_bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 | 0x7f => push_control(out, b"\\x", byte),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// A label name that Loki takes: `[a-zA-Z_][a-zA-Z0-9_]*`, other characters become `_`.
pub(crate) fn label_name(name: &str) -> Cow<'_, str> {
    let fits = |(at, c): (usize, char)| {
        c == '_' || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit())
    };
    if name.is_empty() {
        return Cow::Borrowed("_");
    }
    if name.chars().enumerate().all(fits) {
        return Cow::Borrowed(name);
    }
    let fixed = name
        .chars()
        .enumerate()
        .map(|(at, c)| if fits((at, c)) { c } else { '_' });
    Cow::Owned(fixed.collect())
}

/// Writes a whole number.
pub(crate) fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes times as RFC 3339 with nine digits; the second is formatted once while it stays.
#[derive(Debug)]
pub(crate) struct TimeText {
    secs: i64,
    /// `2026-11-24T05:00:00.`
    head: [u8; 20],
}

impl TimeText {
    pub(crate) const fn new() -> Self {
        Self {
            secs: 0,
            head: *b"1970-01-01T00:00:00.",
        }
    }

    /// Writes `time` without quotes.
    pub(crate) fn push(&mut self, out: &mut Vec<u8>, time: Timestamp) {
        if time.secs != self.secs {
            self.turn_slow(time.secs);
        }
        let mut tail = *b"000000000Z";
        let mut nanos = time.nanos.min(999_999_999);
        for digit in tail[..9].iter_mut().rev() {
            *digit = b'0' + (nanos % 10) as u8;
            nanos /= 10;
        }
        out.extend_from_slice(&self.head);
        out.extend_from_slice(&tail);
    }

    #[cold]
    fn turn_slow(&mut self, secs: i64) {
        // Four-digit years alone have this length; a time beyond them is written as the epoch.
        let text = jiff::Timestamp::from_second(secs).map(|time| time.to_string());
        let text = text.ok().filter(|text| text.len() == 20);
        let text = text.as_deref().unwrap_or("1970-01-01T00:00:00Z");
        self.head.copy_from_slice(text.as_bytes());
        self.head[19] = b'.';
        self.secs = secs;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn json(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        push_json(&mut out, bytes);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_text_is_escaped_where_it_must_be() {
        let table: [(&[u8], &str); 9] = [
            (b"", r#""""#),
            (
                b"plain text of more than eight",
                r#""plain text of more than eight""#,
            ),
            (b"say \"hi\" \\ there", r#""say \"hi\" \\ there""#),
            (
                b"\x00\x01\x08\x0c\n\r\t\x1f\x7f",
                "\"\\u0000\\u0001\\b\\f\\n\\r\\t\\u001f\x7f\"",
            ),
            (b"\xff", "\"\u{fffd}\""),
            (b"a\xf0\x9f\x98", "\"a\u{fffd}\""),
            (
                "\u{2028}\u{e9}\u{1f600}".as_bytes(),
                "\"\u{2028}\u{e9}\u{1f600}\"",
            ),
            (b"12345678\n", r#""12345678\n""#),
            (b"1234567\"8", r#""1234567\"8""#),
        ];
        for (bytes, want) in table {
            assert_eq!(json(bytes), want);
        }
    }

    #[test]
    fn label_values_are_quoted_as_go_reads_them() {
        let table = [
            ("plain", r#""plain""#),
            ("a\"b\\c\n\r\t\u{1}\u{7f}", r#""a\"b\\c\n\r\t\x01\x7f""#),
            ("\u{e9}\u{2028}", "\"\u{e9}\u{2028}\""),
        ];
        for (value, want) in table {
            let mut out = Vec::new();
            push_quoted(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }

    #[test]
    fn label_names_are_made_to_fit() {
        let table = [
            ("app", "app"),
            ("app.kubernetes.io/name", "app_kubernetes_io_name"),
            ("9lives", "_lives"),
            ("", "_"),
            ("\u{e9}t\u{e9}", "_t_"),
        ];
        for (name, want) in table {
            assert_eq!(label_name(name), want);
        }
    }

    #[test]
    fn times_are_written_with_nine_digits() {
        let table = [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (1_795_496_400, 123_456_789, "2026-11-24T05:00:00.123456789Z"),
            (1_795_496_400, 7, "2026-11-24T05:00:00.000000007Z"),
            (-1, 999_999_999, "1969-12-31T23:59:59.999999999Z"),
            (i64::MAX, 1, "1970-01-01T00:00:00.000000001Z"),
        ];
        let mut text = TimeText::new();
        for (secs, nanos, want) in table {
            let mut out = Vec::new();
            text.push(&mut out, Timestamp { secs, nanos });
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }

    proptest! {
        /// Whatever the bytes, the JSON string reads back as their lossy text.
        #[test]
        fn json_text_reads_back(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let back: String = serde_json::from_str(&json(&bytes)).unwrap();
            prop_assert_eq!(back, String::from_utf8_lossy(&bytes));
        }

        /// Numbers are written as the standard library writes them.
        #[test]
        fn numbers_are_decimal(number in any::<u64>()) {
            let mut out = Vec::new();
            push_number(&mut out, number);
            prop_assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
