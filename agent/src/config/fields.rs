//! Reads maps with fixed keys and the types that stand in them.
//!
//! 1. A key that the section does not have is an error, with the nearest one as its cure.
//! 2. A value that cannot be read is an error that names its key; the default then stands in, so
//!    that reading goes on and finds the rest.

use std::ops::RangeInclusive;

use regex::bytes::Regex;

use super::diagnostics::{Report, Span};
use super::native::keys::Section;
use super::suggest;
use super::tree::{Key, Node, Value};
use crate::base::size::ByteSize;
use crate::plan::secret;

/// A map with fixed keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'n> {
    section: &'static Section,
    /// Where the map stands.
    pub(super) span: Span,
    /// Whether it is a map at all, or nothing; else that was reported.
    pub(super) is_map: bool,
    entries: &'n [(Key, Node)],
}

impl<'n> Fields<'n> {
    /// Opens `node` as `section`; nothing at all is an empty map.
    pub(super) fn open(node: &'n Node, section: &'static Section, report: &mut Report<'_>) -> Self {
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            Value::Text { .. } | Value::List(_) => {
                let example = section.keys.first().map_or("key", |key| key.name);
                report.error(
                    node.span,
                    format!("`{}` takes a map, not {}", section.name, node.kind()),
                    format!("write keys below it, for example `{example}: ...`"),
                );
                &[]
            }
        };
        for (key, _) in entries {
            if !section.names().any(|name| name == key.text) {
                report.error(
                    key.span,
                    format!(
                        "unknown key `{}` in `{}`",
                        secret::hide(&key.text),
                        section.name
                    ),
                    suggest::cure("keys", &key.text, section.names()),
                );
            }
        }
        Self {
            section,
            span: node.span,
            is_map: matches!(node.value, Value::Map(_) | Value::Null),
            entries,
        }
    }

    /// The value of a key, unless it is missing or null.
    #[must_use]
    pub(super) fn get(&self, name: &str) -> Option<&'n Node> {
        self.given(name)
            .filter(|node| !matches!(node.value, Value::Null))
    }

    /// The value of a key, null or not.
    #[must_use]
    pub(super) fn given(&self, name: &str) -> Option<&'n Node> {
        debug_assert!(
            self.section.names().any(|known| known == name),
            "`{name}` stands in keys.rs"
        );
        let entry = self.entries.iter().find(|(key, _)| key.text == name);
        entry.map(|(_, node)| node)
    }

    /// The keys and values that are there and known.
    pub(super) fn known(&self) -> impl Iterator<Item = (&'n Key, &'n Node)> + use<'n> {
        let section = self.section;
        self.entries
            .iter()
            .filter(move |(key, _)| section.names().any(|name| name == key.text))
            .map(|(key, node)| (key, node))
    }

    /// The value of a key that must be there.
    pub(super) fn need(
        &self,
        name: &str,
        example: &str,
        report: &mut Report<'_>,
    ) -> Option<&'n Node> {
        let node = self.get(name);
        if node.is_none() {
            let span = self.given(name).map_or(self.span, |node| node.span);
            report.error(
                span,
                format!("`{}` needs the key `{name}`", self.section.name),
                format!("add for example `{name}: {example}`"),
            );
        }
        node
    }

    /// A size in a range, or the default.
    pub(super) fn size(
        &self,
        name: &str,
        default: ByteSize,
        range: RangeInclusive<u64>,
        report: &mut Report<'_>,
    ) -> ByteSize {
        let read = self.get(name).and_then(|node| size(node, name, report));
        match (read, self.get(name)) {
            (Some(size), Some(node)) if !range.contains(&size.0) => {
                out_of_range(
                    node,
                    name,
                    ByteSize(*range.start()),
                    ByteSize(*range.end()),
                    report,
                );
                default
            }
            (Some(size), _) => size,
            (None, _) => default,
        }
    }

    /// A number in a range, if there is one. `auto` counts as none.
    pub(super) fn number(
        &self,
        name: &str,
        range: RangeInclusive<u64>,
        report: &mut Report<'_>,
    ) -> Option<u64> {
        let node = self.get(name)?;
        let text = text(node, name, report)?;
        match text.parse::<u64>() {
            Ok(number) if range.contains(&number) => Some(number),
            Ok(_) => {
                out_of_range(node, name, range.start(), range.end(), report);
                None
            }
            Err(_) => {
                report.error(
                    node.span,
                    format!("`{name}` is no whole number: `{}`", node.shown()),
                    format!("write a number from {} to {}", range.start(), range.end()),
                );
                None
            }
        }
    }

    /// A duration in milliseconds, or the default.
    pub(super) fn duration(
        &self,
        name: &str,
        default_ms: u64,
        least_ms: u64,
        report: &mut Report<'_>,
    ) -> u64 {
        let Some(node) = self.get(name) else {
            return default_ms;
        };
        match duration(node, name, report) {
            Some(ms) if ms < least_ms => {
                out_of_range(node, name, format!("{least_ms}ms"), "365d", report);
                default_ms
            }
            Some(ms) => ms,
            None => default_ms,
        }
    }

    /// One of some words, or the default.
    pub(super) fn choice<T: Copy>(
        &self,
        name: &str,
        choices: &[(&'static str, T)],
        default: T,
        report: &mut Report<'_>,
    ) -> T {
        let Some(node) = self.get(name) else {
            return default;
        };
        let Some(text) = text(node, name, report) else {
            return default;
        };
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text) {
            return *choice;
        }
        report.error(
            node.span,
            format!("`{name}` does not know `{}`", node.shown()),
            suggest::cure("choices", text, choices.iter().map(|(word, _)| *word)),
        );
        default
    }

    /// A text that is not empty, if there is one.
    pub(super) fn text(&self, name: &str, report: &mut Report<'_>) -> Option<&'n str> {
        let node = self.get(name)?;
        let text = text(node, name, report)?;
        if text.is_empty() {
            report.error(
                node.span,
                format!("`{name}` is empty"),
                "write something, or leave the key out",
            );
            return None;
        }
        Some(text)
    }

    /// A regular expression, if there is one.
    pub(super) fn regex(&self, name: &str, report: &mut Report<'_>) -> Option<Regex> {
        let node = self.get(name)?;
        let text = text(node, name, report)?;
        match Regex::new(text) {
            Ok(regex) => Some(regex),
            Err(error) => {
                report.error(
                    node.span,
                    format!("`{name}` is no regular expression: {}", regex_cause(&error)),
                    "the syntax is that of RE2: no look-around and no back references; in double \
                     quotes write `\\\\` for a backslash, or use single quotes",
                );
                None
            }
        }
    }
}

/// A regular expression error in one line.
#[must_use]
pub(super) fn regex_cause(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or("it does not compile");
    last.trim_start_matches("error: ").to_owned()
}

/// A scalar's text.
pub(super) fn text<'n>(node: &'n Node, name: &str, report: &mut Report<'_>) -> Option<&'n str> {
    if let Value::Text { text, .. } = &node.value {
        return Some(text);
    }
    report.error(
        node.span,
        format!("`{name}` takes a plain value, not {}", node.kind()),
        format!("write `{name}: value` on one line"),
    );
    None
}

/// A list's items; a lone scalar is a list of one.
pub(super) fn list<'n>(node: &'n Node, name: &str, report: &mut Report<'_>) -> &'n [Node] {
    match &node.value {
        Value::List(items) => items,
        Value::Text { .. } => std::slice::from_ref(node),
        Value::Null => &[],
        Value::Map(_) => {
            report.error(
                node.span,
                format!("`{name}` takes a list, not a map"),
                "write each item on a line of its own after `- `",
            );
            &[]
        }
    }
}

/// A map with free keys.
pub(super) fn map<'n>(node: &'n Node, name: &str, report: &mut Report<'_>) -> &'n [(Key, Node)] {
    match &node.value {
        Value::Map(entries) => entries,
        Value::Null => &[],
        Value::Text { .. } | Value::List(_) => {
            report.error(
                node.span,
                format!("`{name}` takes a map by name, not {}", node.kind()),
                format!("write `{name}: {{a-name: ...}}`"),
            );
            &[]
        }
    }
}

/// A size.
pub(super) fn size(node: &Node, name: &str, report: &mut Report<'_>) -> Option<ByteSize> {
    let text = text(node, name, report)?;
    let size = ByteSize::parse(text).ok();
    if size.is_none() {
        report.error(
            node.span,
            format!("`{name}` is no size: `{}`", node.shown()),
            "write a whole number with B, KiB, MiB, GiB, KB, MB or GB, for example `8MiB`",
        );
    }
    size
}

/// A duration in milliseconds.
pub(super) fn duration(node: &Node, name: &str, report: &mut Report<'_>) -> Option<u64> {
    let text = text(node, name, report)?;
    let duration = duration_ms(text);
    if duration.is_none() {
        report.error(
            node.span,
            format!("`{name}` is no duration: `{}`", node.shown()),
            "write a whole number with ms, s, m, h or d, for example `250ms`; at most 365d",
        );
    }
    duration
}

/// Reads `250ms`, `30s`, `5m`, `24h`, `7d`, `1h30m`; `0` needs no unit.
#[must_use]
pub(super) fn duration_ms(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(0);
    }
    let mut sum = 0u64;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_alphabetic()).len();
        let unit = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => DAY_MS,
            _ => return None,
        };
        rest = &rest[letters..];
        sum = sum.checked_add(number.checked_mul(unit)?)?;
    }
    (!text.trim().is_empty() && sum <= 365 * DAY_MS).then_some(sum)
}

const DAY_MS: u64 = 86_400_000;

fn out_of_range(
    node: &Node,
    name: &str,
    least: impl std::fmt::Display,
    most: impl std::fmt::Display,
    report: &mut Report<'_>,
) {
    report.error(
        node.span,
        format!("`{name}` is out of range: `{}`", node.shown()),
        format!("it may be from {least} to {most}"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, want) in [
            ("250ms", Some(250)),
            ("30s", Some(30_000)),
            ("5m", Some(300_000)),
            ("1h30m", Some(5_400_000)),
            ("7d", Some(604_800_000)),
            ("0", Some(0)),
            ("5", None),
            ("", None),
            ("s", None),
            ("1.5s", None),
            ("366d", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(duration_ms(text), want, "{text}");
        }
    }
}
