//! What names, labels, indices and URLs may look like.

use crate::config::diagnostics::{Report, Span};
use crate::plan::secret;

/// Metadata fields that a template may name.
pub(super) const FIELDS: [&str; 9] = [
    "namespace",
    "pod",
    "uid",
    "container",
    "node",
    "owner",
    "owner_kind",
    "filename",
    "stream",
];

/// A name of an input, pipeline, entry or output: it stands in metrics and in positions.
pub(super) fn name(text: &str, span: Span, report: &mut Report<'_>) {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 63 || !text.chars().all(fits) {
        report.error(
            span,
            format!("`{}` cannot be a name", secret::hide(text)),
            "use 1 to 63 letters, digits, `-`, `_` or `.`",
        );
    }
}

/// A label's name.
pub(super) fn label(text: &str, span: Span, report: &mut Report<'_>) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let fits = text.starts_with(first) && text.chars().all(|c| first(c) || c.is_ascii_digit());
    if !fits {
        let better: String = text
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        let better = if better.starts_with(first) {
            better
        } else {
            format!("_{better}")
        };
        report.error(
            span,
            format!("`{}` cannot be a label's name", secret::hide(text)),
            format!("use letters, digits and `_`, not first a digit, for example `{better}`"),
        );
    }
    fits
}

/// An index or data stream, by Elasticsearch's rules.
pub(super) fn index(text: &str) -> Result<(), &'static str> {
    let bad = |c: char| c.is_whitespace() || "\\/*?\"<>|,#:".contains(c);
    if text.chars().any(char::is_uppercase) {
        Err("write it in lower case")
    } else if text.chars().any(bad) {
        Err("leave out spaces and `\\ / * ? \" < > | , # :`")
    } else if text.starts_with(['-', '_', '+', '.']) {
        Err("it may not begin with `-`, `_`, `+` or `.`")
    } else if text.len() > 255 {
        Err("use at most 255 bytes")
    } else {
        Ok(())
    }
}

/// Whether a text is a URL that can be sent to; the error never holds a part of it.
pub(super) fn url(text: &str) -> Result<(), &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or("it has no scheme")?;
    if !matches!(scheme, "http" | "https") {
        return Err("its scheme is neither http nor https");
    }
    let bad = |c: char| !c.is_ascii_graphic() || "\"<>\\^`{|}#".contains(c);
    if rest.contains(bad) {
        return Err("it holds a character that must be percent-encoded");
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host_port = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let (host, port) = if host_port.starts_with('[') {
        let (host, rest) = host_port.split_once(']').ok_or("its address has no `]`")?;
        (host, rest.strip_prefix(':'))
    } else {
        match host_port.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (host_port, None),
        }
    };
    if host.trim_start_matches('[').is_empty() {
        return Err("it has no host");
    }
    if port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
        return Err("its port is no number from 1 to 65535");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_scheme_and_host() {
        for (text, fits) in [
            ("http://loki:3100/push", true),
            ("https://u:p@loki/x?y=z", true),
            ("http://[::1]:80/", true),
            ("http://***@h/", true),
            ("loki:3100", false),
            ("ftp://x", false),
            ("http://", false),
            ("http:///x", false),
            ("http://:80", false),
            ("http://h:0", false),
            ("http://h:99999", false),
            ("http://h/a b", false),
            ("http://[::1", false),
        ] {
            assert_eq!(url(text).is_ok(), fits, "{text}");
        }
    }
}
