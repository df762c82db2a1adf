//! What the bulk requests of an output look like: its index, and the keys that shape documents.

use std::sync::Arc;

use super::keys;
use super::names;
use crate::config::diagnostics::Report;
use crate::config::fields::Fields;
use crate::config::suggest;
use crate::config::tree::Node;
use crate::plan::{
    Compression, DatePart, FieldShape, Ids, IndexTemplate, JsonBody, OpType, Pattern, PatternPart,
    Shape, TemplateBody, TimestampKind,
};

/// Index names that records of one day may come to, unless the output says otherwise.
const INDEX_NAMES_MAX: u64 = 1_000;
/// Bytes of an index name, by Elasticsearch's rules.
const NAME_BYTES_MAX: usize = 255;
/// Bytes that must be left in an index name for each value.
const VALUE_BYTES_MIN: usize = 16;
/// Values that one pattern may name.
const VALUES_MAX: usize = 8;
/// The key that a nested JSON text stands under, unless the output says otherwise.
const JSON_KEY: &str = "parsed";
/// Keys of a document that no nested text may take.
const TAKEN: [&str; 7] = [
    "@timestamp",
    "ecs",
    "kubernetes",
    "labels",
    "log",
    "message",
    "stream",
];

const OP_TYPES: [(&str, OpType); 2] = [("create", OpType::Create), ("index", OpType::Index)];
const IDS: [(&str, Ids); 3] = [("off", Ids::Off), ("timed", Ids::Timed), ("on", Ids::On)];
const TIMESTAMPS: [(&str, TimestampKind); 2] = [
    ("date", TimestampKind::Date),
    ("date_nanos", TimestampKind::DateNanos),
];
const SHAPES: [(&str, FieldShape); 2] = [("flat", FieldShape::Flat), ("ecs", FieldShape::Ecs)];

const COMPRESSIONS: [(&str, Compression); 3] = [
    ("gzip", Compression::Gzip),
    ("zstd", Compression::Zstd),
    ("none", Compression::None),
];
/// Whether they take zstd.
const SERVERS: [(&str, bool); 2] = [("any", false), ("opensearch3", true)];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    Merge,
    Nest,
    Text,
}

const BODIES: [(&str, Body); 3] = [
    ("merge", Body::Merge),
    ("nest", Body::Nest),
    ("text", Body::Text),
];

/// Where records go, and whether it is a data stream.
pub(super) fn index(map: &Fields<'_>, report: &mut Report<'_>) -> Option<(Pattern, bool)> {
    let (name, node, data_stream) = match (map.get("index"), map.get("data_stream")) {
        (Some(node), None) => ("index", node, false),
        (None, Some(node)) => ("data_stream", node, true),
        (Some(_), Some(node)) => {
            report.error(
                node.span,
                "both `index` and `data_stream` are given",
                "keep `data_stream` for a data stream, `index` for a plain index",
            );
            return None;
        }
        (None, None) => {
            report.error(
                map.span,
                "`elasticsearch` needs `data_stream` or `index`",
                "add for example `data_stream: logs-kubernetes-default`",
            );
            return None;
        }
    };
    let pattern = pattern(map.text(name, report)?, node, report)?;
    if let Err(cure) = fits(&pattern) {
        let cause = format!("`{name}` is no name for an index: `{}`", node.shown());
        report.error(node.span, cause, cure);
    }
    Some((pattern, data_stream))
}

/// Whether a pattern makes names that Elasticsearch takes, whatever is filled in.
fn fits(pattern: &Pattern) -> Result<(), &'static str> {
    let filled = |part: &PatternPart| match part {
        PatternPart::Text(text) => text.to_string(),
        PatternPart::Field(_) | PatternPart::Label(_) => "x".to_owned(),
        PatternPart::Date(_) => "0".to_owned(),
    };
    let sample: String = pattern.0.iter().map(filled).collect();
    names::index(&sample)?;
    let values = pattern.values();
    if values > VALUES_MAX {
        Err("name at most 8 values")
    } else if pattern.fixed_bytes() + values * VALUE_BYTES_MIN > NAME_BYTES_MAX
        || pattern.fallback().len() > NAME_BYTES_MAX
    {
        Err("use at most 255 bytes, of which each value needs 16")
    } else {
        Ok(())
    }
}

/// The other keys of `elasticsearch` that shape its requests.
pub(super) fn shape(
    map: &Fields<'_>,
    index: &Pattern,
    data_stream: bool,
    report: &mut Report<'_>,
) -> Shape {
    let ids = if data_stream { Ids::Timed } else { Ids::Off };
    let ids = map.choice("ids", &IDS, ids, report);
    let op_type = match (data_stream, ids) {
        (false, Ids::Off) => OpType::Index,
        (true, _) | (_, Ids::Timed | Ids::On) => OpType::Create,
    };
    let op_type = map.choice("op_type", &OP_TYPES, op_type, report);
    if let (true, OpType::Index, Some(node)) = (data_stream, op_type, map.get("op_type")) {
        report.error(
            node.span,
            "a data stream takes no `op_type: index`: each document would be refused",
            "write `op_type: create`, or leave it out",
        );
    }
    let most = map.number("index_names_max", 1..=100_000, report);
    let routing = map.text("routing", report).zip(map.get("routing"));
    if let (true, Some((_, node))) = (data_stream, &routing) {
        report.error(
            node.span,
            "a data stream takes no `routing`: each document would be refused",
            "leave it out, or write to an `index`",
        );
    }
    Shape {
        op_type,
        fallback: fallback(map, index, report),
        index_names_max: usize::try_from(most.unwrap_or(INDEX_NAMES_MAX)).unwrap_or(usize::MAX),
        pipeline: map.text("pipeline", report).map(Arc::from),
        routing: routing.and_then(|(text, node)| pattern(text, node, report)),
        require_alias: map.choice("require_alias", &super::SWITCH, false, report),
        ids,
        cluster: map.text("cluster", report).unwrap_or_default().into(),
        timestamp: map.choice("timestamp", &TIMESTAMPS, TimestampKind::Date, report),
        fields: map.choice("kubernetes_fields", &SHAPES, FieldShape::Flat, report),
        json: json(map, report),
    }
}

/// How bodies are compressed: zstd only where the servers are said to take it.
pub(super) fn compression(map: &Fields<'_>, report: &mut Report<'_>) -> Compression {
    let takes_zstd = map.choice("server", &SERVERS, false, report);
    let compression = map.choice("compression", &COMPRESSIONS, Compression::Gzip, report);
    if let (Compression::Zstd, false, Some(node)) =
        (compression, takes_zstd, map.get("compression"))
    {
        report.error(
            node.span,
            "`compression: zstd` is not for every server: Elasticsearch answers it with 400, and \
             OpenSearch 2.19 dies of it",
            "write `gzip`, or add `server: opensearch3` where all of them are OpenSearch 3",
        );
    }
    compression
}

/// The index template that is put at the start.
pub(super) fn template(map: &Fields<'_>, report: &mut Report<'_>) -> Option<IndexTemplate> {
    let node = map.get("template")?;
    let map = Fields::open(node, &keys::TEMPLATE, report);
    let name_node = map.need("name", "tailwake", report);
    let name = map.text("name", report).filter(|_| name_node.is_some());
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if let (Some(node), Some(text)) = (name_node, name)
        && (!text.chars().all(fits) || text.starts_with('_') || text.len() > 255)
    {
        report.error(
            node.span,
            format!("`{}` cannot be a template's name", node.shown()),
            "use letters, digits, `_`, `-` and `.`, and do not begin with `_`",
        );
    }
    let built_in = map.choice("built_in", &super::SWITCH, false, report);
    let body = match (built_in, map.text("file", report)) {
        (true, None) => TemplateBody::BuiltIn,
        (false, Some(path)) => TemplateBody::File {
            path: path.to_owned(),
            text: "".into(),
        },
        (true, Some(_)) => {
            let cause = "the template is both `built_in` and of a `file`";
            report.error(map.span, cause, "keep one of the two");
            return None;
        }
        (false, None) => {
            let cause = "the template has neither `built_in` nor `file`";
            report.error(map.span, cause, "add `built_in: true`, or `file: PATH`");
            return None;
        }
    };
    Some(IndexTemplate {
        name: name?.to_owned(),
        body,
        overwrite: map.choice("overwrite", &super::SWITCH, false, report),
    })
}

/// The index for records whose own would be one too many. Unless it is given, it is one that the same
/// index templates match.
fn fallback(map: &Fields<'_>, index: &Pattern, report: &mut Report<'_>) -> Arc<str> {
    let Some((text, node)) = map.text("fallback", report).zip(map.get("fallback")) else {
        return index.fallback().into();
    };
    if let Err(cure) = names::index(text) {
        let cause = format!("`fallback` is no name for an index: `{}`", node.shown());
        report.error(node.span, cause, cure);
    }
    text.into()
}

fn json(map: &Fields<'_>, report: &mut Report<'_>) -> JsonBody {
    let body = map.choice("json", &BODIES, Body::Merge, report);
    let key = map.text("json_key", report).zip(map.get("json_key"));
    if let Some((text, node)) = key {
        if body != Body::Nest {
            report.error(
                node.span,
                "`json_key` says where a nested text stands, and none is nested",
                "add `json: nest`, or leave `json_key` out",
            );
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if TAKEN.contains(&text) || !text.chars().all(fits) {
            report.error(
                node.span,
                format!("`{}` cannot be the key of a nested text", node.shown()),
                "use letters, digits, `_` and `-`, and no key that documents have anyway",
            );
        }
    }
    match body {
        Body::Merge => JsonBody::Merge,
        Body::Nest => JsonBody::Nest(key.map_or(JSON_KEY, |(text, _)| text).into()),
        Body::Text => JsonBody::Text,
    }
}

/// Reads `logs-{namespace}-{labels.team}-%Y.%m.%d`; `{{`, `}}` and `%%` stand for one of them.
fn pattern(text: &str, node: &Node, report: &mut Report<'_>) -> Option<Pattern> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let twin = ["{{", "}}", "%%"].iter().any(|twin| rest.starts_with(twin));
        if twin || !matches!(c, '{' | '}' | '%') {
            plain.push(c);
            rest = &rest[if twin { 2 } else { c.len_utf8() }..];
            continue;
        }
        let (part, after) = match c {
            '%' => date(&rest[1..], node, report)?,
            _ => value(rest, node, report)?,
        };
        if !plain.is_empty() {
            parts.push(PatternPart::Text(std::mem::take(&mut plain).into()));
        }
        parts.push(part);
        rest = after;
    }
    if !plain.is_empty() {
        parts.push(PatternPart::Text(plain.into()));
    }
    Some(Pattern(parts))
}

fn date<'t>(rest: &'t str, node: &Node, report: &mut Report<'_>) -> Option<(PatternPart, &'t str)> {
    let known = DatePart::ALL
        .iter()
        .find(|(letter, ..)| rest.starts_with(*letter));
    if let Some((_, part, _)) = known {
        return Some((PatternPart::Date(*part), &rest[1..]));
    }
    let parts: Vec<String> = DatePart::ALL
        .map(|(letter, ..)| format!("`%{letter}`"))
        .into();
    report.error(
        node.span,
        format!("`{}` has a `%` that is no part of a date", node.shown()),
        format!("write {}, or `%%` for the sign itself", parts.join(", ")),
    );
    None
}

fn value<'t>(
    rest: &'t str,
    node: &Node,
    report: &mut Report<'_>,
) -> Option<(PatternPart, &'t str)> {
    let Some((name, after)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
        report.error(
            node.span,
            format!("a brace stands alone in `{}`", node.shown()),
            "write a value as `{namespace}`, and `{{` or `}}` for a brace itself",
        );
        return None;
    };
    if let Some(label) = name.strip_prefix("labels.") {
        return names::label(label, node.span, report)
            .then(|| (PatternPart::Label(label.into()), after));
    }
    if names::FIELDS.contains(&name) {
        return Some((PatternPart::Field(name.into()), after));
    }
    report.error(
        node.span,
        format!("`{}` names no known field", node.shown()),
        match suggest::cure("fields", name, names::FIELDS.into_iter()) {
            cure if cure.starts_with("did you mean") => cure,
            cure => format!("{cure}; a label is written as `{{labels.NAME}}`"),
        },
    );
    None
}
