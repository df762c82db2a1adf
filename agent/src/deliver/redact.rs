//! Secrets out of URLs, control characters out of what servers say.
//!
//! 1. A URL that has passed [`endpoint`] bears no user name and no password.
//! 2. Text of a server is printed through [`quote`] alone: short, on one line.

use std::sync::Arc;

/// More characters of a server's text than this are not printed.
const QUOTE_CHARS_MAX: usize = 300;

/// Takes the user name and password out of a URL: the clean URL, and the `Authorization` header.
#[must_use]
pub(crate) fn endpoint(url: &str) -> (String, Option<Arc<str>>) {
    let Some((scheme, rest)) = url.split_once("://") else {
        return (url.to_owned(), None);
    };
    let host_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some(at) = rest[..host_end].rfind('@') else {
        return (url.to_owned(), None);
    };
    let secret = base64(&percent_decoded(&rest[..at]));
    (
        format!("{scheme}://{}", &rest[at + 1..]),
        Some(format!("Basic {secret}").into()),
    )
}

/// The beginning of a server's text, on one line.
#[must_use]
pub(crate) fn quote(text: &[u8]) -> String {
    let head = &text[..text.len().min(QUOTE_CHARS_MAX * 4)];
    let lossy = String::from_utf8_lossy(head);
    let clean = lossy
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c });
    clean.take(QUOTE_CHARS_MAX).collect()
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |i: usize| bytes.get(i).and_then(|byte| char::from(*byte).to_digit(16));
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                plain.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, _, _) => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    plain
}

/// Base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4 {
            let six = (word >> (18 - 6 * i) & 63) as usize;
            text.push(if i <= three.len() {
                char::from(ALPHABET[six])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_become_a_header() {
        for (url, clean, header) in [
            ("http://h:1/x@y", "http://h:1/x@y", None),
            ("http://a:b@h:1/p", "http://h:1/p", Some("Basic YTpi")),
            ("https://a:p%40s@h", "https://h", Some("Basic YTpwQHM=")),
            ("http://ab:cd@h/", "http://h/", Some("Basic YWI6Y2Q=")),
            ("nonsense", "nonsense", None),
        ] {
            let (have, auth) = endpoint(url);
            assert_eq!((have.as_str(), auth.as_deref()), (clean, header), "{url}");
        }
    }

    #[test]
    fn server_text_is_short_and_on_one_line() {
        assert_eq!(quote(b"a\nb\x1b[31m\n"), "a b [31m");
        assert_eq!(quote(&[b'x'; 5000]).len(), QUOTE_CHARS_MAX);
    }
}
