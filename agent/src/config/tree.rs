//! YAML text to a tree that knows where each part stands.
//!
//! ```text
//! text -> parser events -> ${VAR} expanded in values -> Node
//! ```
//!
//! 1. Every node and key bears the bytes of the text it was read from.
//! 2. A scalar stays text: the schema, not YAML, says what type it is.
//! 3. A key stands once in its map; the second is an error.
//!
//! Absent on purpose: anchors, aliases, tags and several documents. A config is short.

use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle, Span as YamlSpan};

use super::diagnostics::{Report, Span};
use crate::plan::secret;

/// Maps and lists may stand in each other this deep.
const DEPTH_MAX: usize = 48;

/// The environment that `${VAR}` is looked up in.
pub(super) type Env<'e> = &'e dyn Fn(&str) -> Option<String>;

/// One value.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Where it stands.
    pub(super) span: Span,
    /// What it is.
    pub(super) value: Value,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A scalar, expanded. `shown` is what a message may print of it.
    Text {
        /// Its text with variables filled in.
        text: String,
        /// Its text with variables as they were written, secrets hidden.
        shown: String,
    },
    /// A list.
    List(Vec<Node>),
    /// A map in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// Where it stands.
    pub(super) span: Span,
    /// Its text as it is.
    pub(super) text: String,
}

impl Node {
    /// What a message may print of a scalar.
    #[must_use]
    pub(super) fn shown(&self) -> &str {
        match &self.value {
            Value::Text { shown, .. } => shown,
            Value::Null => "null",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// What the node is, in words.
    #[must_use]
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Text { .. } => "a plain value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// Reads the one document in the report's text; what is wrong goes to `report`. `None` when there
/// is nothing to go on with.
pub(super) fn read(env: Env<'_>, report: &mut Report<'_>) -> Option<Node> {
    let mut builder = Builder {
        env,
        open: Vec::new(),
        root: None,
        documents: 0,
    };
    let text = report.text();
    for next in Parser::new_from_str(text) {
        match next {
            Ok((event, span)) => {
                if !builder.take(event, span_of(&span, text), report) {
                    return None;
                }
            }
            Err(error) => {
                let start = offset(error.marker(), text);
                report.error(
                    Span { start, end: start },
                    format!("this is no YAML: {}", error.kind()),
                    "look at the indentation, colons, brackets and quotes here and on the line \
                     before; quote texts that hold `: `, ` #`, `{` or `[`",
                );
                return None;
            }
        }
    }
    builder.root
}

fn span_of(span: &YamlSpan, text: &str) -> Span {
    Span {
        start: offset(&span.start, text),
        end: offset(&span.end, text),
    }
}

fn offset(marker: &Marker, text: &str) -> usize {
    marker.byte_offset().unwrap_or_else(|| {
        text.char_indices()
            .nth(marker.index())
            .map_or(text.len(), |(at, _)| at)
    })
}

struct Builder<'e> {
    env: Env<'e>,
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
}

/// A map or list that has begun and not ended.
enum Open {
    List(Span, Vec<Node>),
    Map(Span, Vec<(Key, Node)>, Option<Key>),
}

impl Builder<'_> {
    /// Takes one event; false ends the reading.
    fn take(&mut self, event: Event<'_>, span: Span, report: &mut Report<'_>) -> bool {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    report.error(
                        span,
                        "a second YAML document begins here",
                        "a config is one document: remove the `---` or move it to another file",
                    );
                    return false;
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                refuse_extras(anchor != 0, tag.is_some(), span, report);
                self.scalar(&text, style, span, report);
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_extras(anchor != 0, tag.is_some(), span, report);
                self.open.push(Open::List(span, Vec::new()));
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_extras(anchor != 0, tag.is_some(), span, report);
                self.open.push(Open::Map(span, Vec::new(), None));
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span, report),
            Event::Alias(_) => {
                refuse_extras(true, false, span, report);
                self.put(null(span), report);
            }
            // Comments and the stream's marks; the parser's enum is open.
            _ => {}
        }
        if self.open.len() > DEPTH_MAX {
            report.error(
                span,
                format!("maps and lists stand more than {DEPTH_MAX} deep here"),
                "move nested stages into a named entry and lead there with `goto`",
            );
            return false;
        }
        true
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, span: Span, report: &mut Report<'_>) {
        if let Some(Open::Map(_, _, key @ None)) = self.open.last_mut() {
            *key = Some(Key {
                span,
                text: text.to_owned(),
            });
            return;
        }
        let plain = style == ScalarStyle::Plain;
        if plain && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
            self.put(null(span), report);
            return;
        }
        let expanded = expand(text, self.env).unwrap_or_else(|(cause, cure)| {
            report.error(span, cause, cure);
            // Empty text would be judged a second time; the variable's own text is better.
            text.to_owned()
        });
        let value = Value::Text {
            text: expanded,
            shown: secret::hide(text),
        };
        self.put(Node { span, value }, report);
    }

    fn close(&mut self, span: Span, report: &mut Report<'_>) {
        let node = match self.open.pop() {
            Some(Open::List(start, items)) => Node {
                span: join(start, span),
                value: Value::List(items),
            },
            Some(Open::Map(start, entries, _)) => Node {
                span: join(start, span),
                value: Value::Map(entries),
            },
            None => return,
        };
        self.put(node, report);
    }

    fn put(&mut self, node: Node, report: &mut Report<'_>) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map(_, entries, key)) => match key.take() {
                None => report.error(
                    node.span,
                    "a map's key is a map or a list",
                    "write a plain word as key",
                ),
                Some(key) => put_once(entries, key, node, report),
            },
        }
    }
}

fn put_once(entries: &mut Vec<(Key, Node)>, key: Key, node: Node, report: &mut Report<'_>) {
    match entries.iter().find(|(other, _)| other.text == key.text) {
        None => entries.push((key, node)),
        Some((first, _)) => {
            let before = &report.text()[..first.span.start];
            let line = before.matches('\n').count() + 1;
            report.error(
                key.span,
                format!("the key `{}` stands twice", secret::hide(&key.text)),
                format!("keep one of the two; the first is on line {line}"),
            );
        }
    }
}

const fn null(span: Span) -> Node {
    Node {
        span,
        value: Value::Null,
    }
}

const fn join(start: Span, end: Span) -> Span {
    Span {
        start: start.start,
        end: end.end,
    }
}

fn refuse_extras(anchor: bool, tag: bool, span: Span, report: &mut Report<'_>) {
    if anchor {
        report.error(
            span,
            "YAML anchors and aliases are not read",
            "write the value out; stages that are used twice go into `entries`, with `goto`",
        );
    }
    if tag {
        report.error(
            span,
            "YAML tags (`!name`) are not read",
            "remove the tag: each key has its type",
        );
    }
}

/// Fills in `${VAR}` and `${VAR:-default}`; `$${` stands for `${`.
fn expand(text: &str, env: Env<'_>) -> Result<String, (String, String)> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$${") {
            out.push_str("${");
            rest = after;
        } else if let Some(inner) = rest.strip_prefix("${") {
            let (body, after) = inner.split_once('}').ok_or_else(|| {
                (
                    "`${` without a closing `}`".to_owned(),
                    "close it, or write `$${` for the two characters".to_owned(),
                )
            })?;
            out.push_str(&variable(body, env)?);
            rest = after;
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn variable(body: &str, env: Env<'_>) -> Result<String, (String, String)> {
    let (name, default) = match body.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (body, None),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(word) {
        return Err((
            "`${...}` does not hold the name of a variable".to_owned(),
            "write `${NAME}` or `${NAME:-default}`, or `$${` for the two characters".to_owned(),
        ));
    }
    // As in a shell, `:-` is for variables that are empty too.
    match (env(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err((
            format!("the environment has no variable `{name}`"),
            format!("set it, or write `${{{name}:-default}}`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in() {
        let env = |name: &str| match name {
            "A" => Some("x".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, want) in [
            ("${A}-${A}", Some("x-x")),
            ("${B:-b}", Some("b")),
            ("${EMPTY:-b}${EMPTY}", Some("b")),
            ("$${A}", Some("${A}")),
            ("$$${A}", Some("$${A}")),
            ("^a$", Some("^a$")),
            ("$1 $", Some("$1 $")),
            ("${B}", None),
            ("${A", None),
            ("${a b}", None),
        ] {
            assert_eq!(expand(text, &env).ok().as_deref(), want, "{text}");
        }
    }
}
