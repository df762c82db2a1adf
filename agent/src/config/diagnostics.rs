//! What is wrong with a config, where, and what to do about it.
//!
//! ```text
//! tailwake.yaml:3:10: unknown key `memry` in `limits`
//!   3 | limits: {memry: 32MiB}
//!     |          ^^^^^
//!   cure: did you mean `memory`?
//! ```
//!
//! 1. All that is wrong is said at once, in the order of the file.
//! 2. User names and passwords of URLs never stand in a diagnostic, nor in its source line.

use std::fmt;

use crate::plan::secret;

/// A source line longer than this many characters is shown in part.
const SHOWN_CHARS_MAX: usize = 100;

/// A range of bytes of the config's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where, unless the file as a whole is meant.
    pub place: Option<Place>,
    /// What is wrong, naming the key.
    pub cause: String,
    /// What to do about it.
    pub cure: String,
}

/// A place in the text, with what stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The source line without secrets.
    source: String,
    /// Characters of `source` before the caret.
    indent: usize,
    /// Carets.
    carets: usize,
}

/// All that is wrong with one config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    name: String,
    found: Vec<Diagnostic>,
}

impl Diagnostics {
    /// What is wrong with a file that could not even be read.
    #[must_use]
    pub fn unreadable(name: &str, cause: String, cure: &str) -> Self {
        Self {
            name: name.to_owned(),
            found: vec![Diagnostic {
                place: None,
                cause,
                cure: cure.to_owned(),
            }],
        }
    }

    /// Each thing that is wrong, in the order of the file.
    #[must_use]
    pub fn all(&self) -> &[Diagnostic] {
        &self.found
    }

    /// The text for a terminal that shows colours.
    #[must_use]
    pub fn coloured(&self) -> String {
        self.render(&Paint {
            cause: "\x1b[1;31m",
            caret: "\x1b[1;33m",
            cure: "\x1b[1;32m",
            end: "\x1b[0m",
        })
    }

    fn render(&self, paint: &Paint) -> String {
        let mut out = String::new();
        for item in &self.found {
            item.render(&self.name, paint, &mut out);
        }
        let count = self.found.len();
        if count > 1 {
            out.push_str(&format!("{count} errors in {}\n", self.name));
        }
        out
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&Paint::default()))
    }
}

impl std::error::Error for Diagnostics {}

/// Escape sequences around parts of a diagnostic; empty ones are no colour.
#[derive(Default)]
struct Paint {
    cause: &'static str,
    caret: &'static str,
    cure: &'static str,
    end: &'static str,
}

impl Diagnostic {
    fn render(&self, name: &str, paint: &Paint, out: &mut String) {
        let Paint {
            cause,
            caret,
            cure,
            end,
        } = paint;
        match &self.place {
            None => out.push_str(&format!("{name}: {cause}{}{end}\n", self.cause)),
            Some(place) => {
                let (line, column) = (place.line, place.column);
                let gutter = " ".repeat(line.to_string().len());
                let blank = " ".repeat(place.indent);
                let carets = "^".repeat(place.carets);
                out.push_str(&format!(
                    "{name}:{line}:{column}: {cause}{}{end}\n  {line} | {}\n  {gutter} | {blank}\
                     {caret}{carets}{end}\n",
                    self.cause, place.source
                ));
            }
        }
        out.push_str(&format!("  {cure}cure:{end} {}\n", self.cure));
    }
}

/// Where errors are gathered while a config is read.
#[derive(Debug)]
pub struct Report<'t> {
    name: &'t str,
    text: &'t str,
    found: Vec<Found>,
    /// What is printed of no source line.
    secrets: Vec<Span>,
}

#[derive(Debug)]
struct Found {
    /// None when the file as a whole is meant.
    span: Option<Span>,
    cause: String,
    cure: String,
}

impl<'t> Report<'t> {
    /// Nothing wrong yet with `text`, which is called `name`.
    #[must_use]
    pub fn new(name: &'t str, text: &'t str) -> Self {
        Self {
            name,
            text,
            found: Vec::new(),
            secrets: Vec::new(),
        }
    }

    /// The config's text.
    #[must_use]
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// How many errors there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.found.len()
    }

    /// Adds an error at `span`. Values in `cause` and `cure` must come from `Node::shown`.
    pub fn error(&mut self, span: Span, cause: impl Into<String>, cure: impl Into<String>) {
        self.found.push(Found {
            span: Some(span),
            cause: cause.into(),
            cure: cure.into(),
        });
    }

    /// What stands at `span` is shown by no message, whichever it is about.
    pub fn hide(&mut self, span: Span) {
        self.secrets.push(span);
    }

    /// Adds an error about the file as a whole.
    pub fn error_of_file(&mut self, cause: impl Into<String>, cure: impl Into<String>) {
        self.found.push(Found {
            span: None,
            cause: cause.into(),
            cure: cure.into(),
        });
    }

    /// What was found, in the order of the file; `None` when nothing is wrong.
    #[must_use]
    pub fn finish(mut self) -> Option<Diagnostics> {
        if self.found.is_empty() {
            return None;
        }
        let end = self.text.len();
        let start = |found: &Found| found.span.map_or(end, |span| span.start);
        self.found.sort_by_key(start);
        let diagnostic = |found: Found| Diagnostic {
            place: found
                .span
                .map(|span| Place::of(self.text, span, &self.secrets)),
            cause: found.cause,
            cure: found.cure,
        };
        let mut found: Vec<Diagnostic> = self.found.into_iter().map(diagnostic).collect();
        found.dedup();
        Some(Diagnostics {
            name: self.name.to_owned(),
            found,
        })
    }
}

impl Place {
    fn of(text: &str, span: Span, secrets: &[Span]) -> Self {
        let start = floor_boundary(text, span.start);
        let end = floor_boundary(text, span.end.max(start));
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line = text[..start].matches('\n').count() + 1;
        let raw = text[line_start..line_end].trim_end_matches('\r');
        let from = (start - line_start).min(raw.len());
        let to = (end.min(line_end) - line_start).clamp(from, raw.len());
        let column = raw[..from].chars().count() + 1;
        let within = |at: usize| {
            let at = floor_boundary(text, at);
            at.clamp(line_start, line_start + raw.len()) - line_start
        };
        let known = secrets.iter();
        let known: Vec<_> = known.map(|it| (within(it.start), within(it.end))).collect();
        let (source, from, to) = secret::hide_range(raw, from, to, &known);
        let source: String = source
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        Self::clip(line, column, &source, from, to)
    }

    /// Shows at most [`SHOWN_CHARS_MAX`] characters around the caret; `from` and `to` are in
    /// characters.
    fn clip(line: usize, column: usize, source: &str, from: usize, to: usize) -> Self {
        let skip = if source.chars().count() <= SHOWN_CHARS_MAX {
            0
        } else {
            from.saturating_sub(SHOWN_CHARS_MAX / 3)
        };
        let shown: String = source.chars().skip(skip).take(SHOWN_CHARS_MAX).collect();
        let (indent, end) = (from - skip, (to - skip).min(SHOWN_CHARS_MAX));
        Self {
            line,
            column,
            source: shown.trim_end().to_owned(),
            indent,
            carets: end.saturating_sub(indent).max(1),
        }
    }
}

/// The last character boundary of `text` at or before `at`.
fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn errors_come_in_the_order_of_the_file_and_hide_userinfo() {
        let text = "a: 1\nurl: http://joe:pass@h bad\n";
        let mut report = Report::new("t.yaml", text);
        report.error(Span { start: 28, end: 31 }, "second", "two");
        report.error(Span { start: 0, end: 1 }, "first", "one");
        let found = report.finish().unwrap();
        assert_eq!(
            found.to_string(),
            "t.yaml:1:1: first\n  1 | a: 1\n    | ^\n  cure: one\n\
             t.yaml:2:24: second\n  2 | url: http://***@h bad\n    |                   ^^^\n  \
             cure: two\n2 errors in t.yaml\n"
        );
        assert!(found.coloured().contains("\x1b[1;31mfirst\x1b[0m"));
    }

    #[test]
    fn what_is_hidden_shows_in_no_line_whenever_it_was_told() {
        let text = "a: {x: tell, y: 1}\n";
        let mut report = Report::new("t.yaml", text);
        report.error(Span { start: 16, end: 17 }, "bad", "cure");
        report.hide(Span { start: 7, end: 11 });
        let found = report.finish().unwrap().to_string();
        assert!(found.contains("  1 | a: {x: ***, y: 1}\n"), "{found}");
        assert!(found.contains("t.yaml:1:17: bad"), "{found}");
        assert!(
            found.contains(&format!("    | {}^\n", " ".repeat(15))),
            "{found}"
        );
    }

    #[test]
    fn a_long_line_is_shown_around_the_caret() {
        let text = format!("{}X{}", "a".repeat(200), "b".repeat(200));
        let place = Place::of(
            &text,
            Span {
                start: 200,
                end: 400,
            },
            &[],
        );
        assert_eq!(place.column, 201);
        assert_eq!(place.source.chars().count(), SHOWN_CHARS_MAX);
        assert_eq!(place.source.chars().nth(place.indent), Some('X'));
    }
}
