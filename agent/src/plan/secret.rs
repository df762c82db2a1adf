//! Hides the user names and passwords of URLs, and what stands after `password:` and its kin.
//!
//! 1. What stands between `://` (or, without a scheme, the start of the word) and the last `@` of
//!    a word is hidden, and so is all that follows a key such as `token:` or `secret=`. Hiding too
//!    much is fine; hiding too little is not.
//! 2. Hiding twice is hiding once.

/// What stands in the place of a secret.
const HIDDEN: &str = "***";

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

/// `text` with every user name and password hidden.
#[must_use]
pub fn hide(text: &str) -> String {
    hide_range(text, 0, 0).0
}

/// `text` with secrets hidden, and the byte range `from..to` as characters of the new text.
#[must_use]
pub fn hide_range(text: &str, from: usize, to: usize) -> (String, usize, usize) {
    let secrets = secrets(text);
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
