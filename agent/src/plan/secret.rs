//! Hides the user names and passwords of URLs, and what stands after `password:` and its kin.
//!
//! 1. What stands between `://` (or, without a scheme, the start of the word) and the last `@` of
//!    a word is hidden, and so is all that follows a key such as `token:` or `secret=`. Hiding too
//!    much is fine; hiding too little is not.
//! 2. Hiding twice is hiding once.

use std::fmt;
use std::sync::Arc;

/// What stands in the place of a secret.
pub const HIDDEN: &str = "***";

/// Keys with one of these in their name have secret values.
const KEYS: [&str; 7] = [
    "password",
    "passwd",
    "token",
    "secret",
    "credential",
    "api_key",
    "authorization",
];

/// Keys with this at their end name where a secret is, or is got from.
const PLACES: [&str; 2] = ["_file", "_url"];

/// A text that is never printed: neither by `Debug` nor by the plan's printer.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The text itself, for whoever sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// `text` with every user name and password hidden.
#[must_use]
pub fn hide(text: &str) -> String {
    hide_range(text, 0, 0, &[]).0
}

/// `text` with secrets hidden, those in the byte ranges `known` too, and the byte range `from..to`
/// as characters of the new text.
#[must_use]
pub fn hide_range(
    text: &str,
    from: usize,
    to: usize,
    known: &[(usize, usize)],
) -> (String, usize, usize) {
    let secrets = joined(secrets(text), known);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for (start, end) in &secrets {
        out.push_str(&text[at..*start]);
        out.push_str(HIDDEN);
        at = *end;
    }
    out.push_str(&text[at..]);
    let moved = |place: usize| {
        let mut chars = text[..place].chars().count();
        for (start, end) in &secrets {
            let stop = place.min(*end);
            if stop > *start {
                let shown = if place < *end { 0 } else { HIDDEN.len() };
                chars = chars - text[*start..stop].chars().count() + shown;
            }
        }
        chars
    };
    (out, moved(from), moved(to))
}

/// Both, in order, those that touch as one.
fn joined(mut ranges: Vec<(usize, usize)>, known: &[(usize, usize)]) -> Vec<(usize, usize)> {
    ranges.extend(known.iter().filter(|(start, end)| start < end));
    ranges.sort_unstable();
    let mut out: Vec<(usize, usize)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match out.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => out.push((start, end)),
        }
    }
    out
}

/// Byte ranges of `text` to hide, in order.
fn secrets(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    for word in text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`')) {
        if let Some(range) = secret(word) {
            found.push((at + range.0, at + range.1));
        }
        at += word.len();
        at += text[at..].chars().next().map_or(0, char::len_utf8);
    }
    if let Some(mut start) = KEYS.iter().filter_map(|key| value_of(text, key)).min() {
        if let Some((before, _)) = found.iter().find(|(_, end)| *end > start) {
            start = start.min(*before);
        }
        found.retain(|(_, end)| *end <= start);
        found.push((start, text.len()));
    }
    found
}

/// Where the value of the first key with `key` in its name begins.
fn value_of(text: &str, key: &str) -> Option<usize> {
    let lower = text.to_ascii_lowercase();
    let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    lower.match_indices(key).find_map(|(at, _)| {
        let rest = text[at + key.len()..].trim_start_matches(word);
        let name = &lower[at..text.len() - rest.len()];
        if PLACES.iter().any(|place| name.ends_with(place)) {
            return None;
        }
        let rest = rest.trim_start_matches(['"', '\'']).trim_start();
        let value = rest.strip_prefix([':', '='])?.trim_start();
        (!value.is_empty()).then_some(text.len() - value.len())
    })
}

fn secret(word: &str) -> Option<(usize, usize)> {
    let end = word.rfind('@')?;
    let start = match word.find("://") {
        Some(scheme) => scheme + 3,
        None if word[..end].contains(':') => 0,
        None => return None,
    };
    (start < end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_ranges_are_hidden_and_join_with_others() {
        let hidden = |known: &[(usize, usize)]| hide_range("a: bcd x", 7, 8, known);
        assert_eq!(hidden(&[(3, 6)]), ("a: *** x".to_owned(), 7, 8));
        assert_eq!(hidden(&[(4, 6), (3, 5)]), ("a: *** x".to_owned(), 7, 8));
        assert_eq!(hidden(&[(3, 4)]), ("a: ***cd x".to_owned(), 9, 10));
        assert_eq!(format!("{:?}", Secret::new("abc")), "***");
    }

    #[test]
    fn userinfo_is_hidden() {
        for (text, want) in [
            ("http://u:p@h/x", "http://***@h/x"),
            ("url: \"https://u:p@ss@h\"", "url: \"https://***@h\""),
            ("u:p@h", "***@h"),
            ("me@home", "me@home"),
            ("http://h:3100/x", "http://h:3100/x"),
            ("http://***@h", "http://***@h"),
            ("token: abc, x", "token: ***"),
            ("a: {\"Password\" : \"x y\"}", "a: {\"Password\" : ***"),
            ("http://u:secret=x@h/", "http://***"),
            ("http://h/?api_key=x", "http://h/?api_key=***"),
            ("secret", "secret"),
            ("token_file: /run/token", "token_file: /run/token"),
            ("token_file: /t, token: abc", "token_file: /t, token: ***"),
            (
                "a http://u:é@h b http://x:y@z",
                "a http://***@h b http://***@z",
            ),
        ] {
            assert_eq!(hide(text), want, "{text}");
            assert_eq!(hide(want), want, "{text}");
        }
    }
}
