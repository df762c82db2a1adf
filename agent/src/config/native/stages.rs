//! Stages of the native config.

use std::sync::Arc;

use super::graph::Graph;
use super::keys;
use super::names;
use super::selector;
use crate::config::diagnostics::{Report, Span};
use crate::config::fields::{self, Fields};
use crate::config::suggest;
use crate::config::tree::{Node, Value};
use crate::plan::{
    DropStage, JsonField, JsonStage, LabelField, MultilineStage, Stage, Step, TimestampFormat,
    TimestampStage,
};

const FORMATS: [(&str, TimestampFormat); 5] = [
    ("rfc3339", TimestampFormat::Rfc3339),
    ("unix", TimestampFormat::Unix),
    ("unix_ms", TimestampFormat::UnixMs),
    ("unix_us", TimestampFormat::UnixUs),
    ("unix_ns", TimestampFormat::UnixNs),
];

/// Reads a list of stages. `head`: the first of them is the first of its pipeline.
pub(super) fn steps(
    nodes: &[Node],
    head: bool,
    graph: &mut Graph,
    report: &mut Report<'_>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for (place, node) in nodes.iter().enumerate() {
        let read = step(node, head && place == 0, graph, report);
        if let (Some(step), Some(next)) = (&read, nodes.get(place + 1))
            && let Some(name) = ends(step)
        {
            report.error(
                next.span,
                format!("no record reaches this stage: nothing comes out of `{name}`"),
                format!("move it before `{name}`, or remove it"),
            );
        }
        steps.extend(read);
    }
    steps
}

/// The name of a step that nothing comes out of.
pub(super) const fn ends(step: &Step) -> Option<&'static str> {
    match step {
        Step::Copy(_) => Some("copy"),
        Step::Goto(_) => Some("goto"),
        Step::Drop { .. } => Some("drop_all"),
        Step::Stage(_) | Step::Match { .. } | Step::Output(_) => None,
    }
}

fn step(node: &Node, head: bool, graph: &mut Graph, report: &mut Report<'_>) -> Option<Step> {
    let (name, span, body) = stage(node, report)?;
    let step = match name {
        "cri" | "docker" => {
            let empty = match &body.value {
                Value::Null => true,
                Value::Map(entries) => entries.is_empty(),
                Value::Text { .. } | Value::List(_) => false,
            };
            if !empty {
                report.error(
                    body.span,
                    format!("`{name}` takes nothing"),
                    format!("write `{name}: {{}}`"),
                );
            }
            if !head {
                report.error(
                    span,
                    format!("`{name}` is not the first stage of its pipeline"),
                    format!("move `{name}` to the front of the pipeline's `stages`"),
                );
            }
            Step::Stage(if name == "cri" {
                Stage::Cri
            } else {
                Stage::Docker
            })
        }
        "json" => Step::Stage(Stage::Json(json(body, report))),
        "labels" => Step::Stage(Stage::Labels(labels(body, report))),
        "drop" => Step::Stage(Stage::Drop(drop(body, report))),
        "timestamp" => Step::Stage(Stage::Timestamp(timestamp(body, report)?)),
        "multiline" => Step::Stage(Stage::Multiline(multiline(body, report)?)),
        "match" => matching(body, graph, report)?,
        "copy" => copy(body, graph, report),
        "goto" => {
            let target = graph.entry(fields::text(body, name, report)?, body, report)?;
            Step::Goto(target)
        }
        "output" => Step::Output(graph.output(fields::text(body, name, report)?, body, report)?),
        _ => {
            let map = Fields::open(body, &keys::DROP_ALL, report);
            let reason = map.text("reason", report).unwrap_or("drop_all");
            Step::Drop {
                reason: reason.to_owned(),
            }
        }
    };
    Some(step)
}

/// A stage's name, where it stands, and what is below it.
fn stage<'n>(node: &'n Node, report: &mut Report<'_>) -> Option<(&'n str, Span, &'n Node)> {
    if let Value::Text { text, .. } = &node.value {
        let example = if keys::STAGE.names().any(|name| name == text) {
            format!("write `- {text}: {{}}` with its keys between the braces")
        } else {
            suggest::cure("stages", text, keys::STAGE.names())
        };
        let cause = format!("a stage is a map of one key, not `{}`", node.shown());
        report.error(node.span, cause, example);
        return None;
    }
    let before = report.count();
    let map = Fields::open(node, &keys::STAGE, report);
    let mut known = map.known();
    let first = known.next();
    if let Some((second, _)) = known.next() {
        report.error(
            second.span,
            format!("a second stage, `{}`, stands in one list item", second.text),
            "begin each stage with `- ` on a line of its own",
        );
    }
    if first.is_none() && report.count() == before {
        report.error(
            node.span,
            "a list item holds no stage",
            suggest::cure("stages", "", keys::STAGE.names()),
        );
    }
    first.map(|(key, body)| (key.text.as_str(), key.span, body))
}

fn json(node: &Node, report: &mut Report<'_>) -> JsonStage {
    let map = Fields::open(node, &keys::JSON, report);
    let mut stage = JsonStage { fields: Vec::new() };
    let Some(node) = map.need("fields", "{level: level}", report) else {
        return stage;
    };
    for (key, node) in fields::map(node, "fields", report) {
        let path: Vec<Arc<str>> = match &node.value {
            Value::Null => vec![Arc::from(key.text.as_str())],
            Value::List(items) => items
                .iter()
                .filter_map(|item| fields::text(item, &key.text, report))
                .map(Arc::from)
                .collect(),
            Value::Text { text, .. } => text.split('.').map(Arc::from).collect(),
            Value::Map(_) => {
                fields::text(node, &key.text, report);
                continue;
            }
        };
        if path.is_empty() || path.iter().any(|part| part.is_empty()) {
            report.error(
                node.span,
                format!("the path of `{}` has an empty part", key.text),
                "write keys with one dot between them: `http.status`, or a list of keys",
            );
            continue;
        }
        let name = Arc::from(key.text.as_str());
        stage.fields.push(JsonField { name, path });
    }
    stage
}

fn labels(node: &Node, report: &mut Report<'_>) -> Vec<LabelField> {
    let mut out = Vec::new();
    let mut add = |label: &str, from: &str, span: Span, report: &mut Report<'_>| {
        if names::label(label, span, report) {
            let (label, from) = (Arc::from(label), Arc::from(from));
            out.push(LabelField { label, from });
        }
    };
    match &node.value {
        Value::Map(entries) => {
            for (key, node) in entries {
                let from = match &node.value {
                    Value::Null => key.text.as_str(),
                    Value::Text { .. } | Value::List(_) | Value::Map(_) => {
                        fields::text(node, &key.text, report).unwrap_or_default()
                    }
                };
                add(&key.text, from, key.span, report);
            }
        }
        Value::List(_) | Value::Text { .. } => {
            for item in fields::list(node, "labels", report) {
                if let Some(name) = fields::text(item, "labels", report) {
                    add(name, name, item.span, report);
                }
            }
        }
        Value::Null => report.error(
            node.span,
            "`labels` names no label",
            "write for example `labels: [level]`",
        ),
    }
    out
}

fn drop(node: &Node, report: &mut Report<'_>) -> DropStage {
    let map = Fields::open(node, &keys::DROP, report);
    let source = map.text("source", report).map(Arc::from);
    let expression = map.regex("expression", report);
    let value = map
        .get("value")
        .and_then(|node| fields::text(node, "value", report))
        .map(Arc::from);
    let longer_than = map
        .get("longer_than")
        .and_then(|node| fields::size(node, "longer_than", report))
        .map(|size| size.0);
    let older_than = map
        .get("older_than")
        .map(|_| map.duration("older_than", 1_000, 1_000, report));
    let looks = map.get("expression").is_some() || map.get("value").is_some();
    if !looks && longer_than.is_none() && older_than.is_none() {
        report.error(
            map.span,
            "`drop` has no condition",
            "add `expression`, `value`, `longer_than` or `older_than`; `drop_all` drops everything",
        );
    } else if let (Some(node), false) = (map.get("source"), looks) {
        report.error(
            node.span,
            "`source` stands without `expression` or `value`",
            "say what the source must match with `expression`, or equal with `value`",
        );
    }
    DropStage {
        source,
        expression,
        value,
        longer_than,
        older_than_secs: older_than.map(|ms| ms / 1_000),
        reason: Arc::from(map.text("reason", report).unwrap_or("drop_stage")),
    }
}

fn timestamp(node: &Node, report: &mut Report<'_>) -> Option<TimestampStage> {
    let map = Fields::open(node, &keys::TIMESTAMP, report);
    let format = map.choice("format", &FORMATS, TimestampFormat::Rfc3339, report);
    map.need("source", "time", report)?;
    let source = Arc::from(map.text("source", report)?);
    Some(TimestampStage { source, format })
}

fn multiline(node: &Node, report: &mut Report<'_>) -> Option<MultilineStage> {
    let map = Fields::open(node, &keys::MULTILINE, report);
    let wait_ms = map.duration("wait", 3_000, 1, report);
    let lines_max = map.number("lines_max", 1..=100_000, report).unwrap_or(128);
    map.need("first_line", "'^\\d{4}-'", report)?;
    Some(MultilineStage {
        first_line: map.regex("first_line", report)?,
        wait_ms,
        lines_max: usize::try_from(lines_max).unwrap_or(usize::MAX),
    })
}

fn matching(node: &Node, graph: &mut Graph, report: &mut Report<'_>) -> Option<Step> {
    let map = Fields::open(node, &keys::MATCH, report);
    let nested = match map.need("stages", "[...]", report) {
        Some(node) => steps(fields::list(node, "stages", report), false, graph, report),
        None => Vec::new(),
    };
    let node = map.need("selector", "'{namespace=\"shop\"}'", report)?;
    let text = fields::text(node, "selector", report)?;
    match selector::read(text) {
        Ok(selector) => Some(Step::Match {
            selector,
            steps: nested,
        }),
        Err(cause) => {
            report.error(
                node.span,
                format!("`selector` cannot be read: {cause}"),
                "write for example `'{namespace=\"shop\", container!~\"istio.*\"}'`",
            );
            None
        }
    }
}

fn copy(node: &Node, graph: &mut Graph, report: &mut Report<'_>) -> Step {
    let branches = fields::list(node, "copy", report);
    if branches.is_empty() {
        report.error(
            node.span,
            "`copy` has no branch",
            "write a list of lists of stages: `copy: [[{output: a}], [{output: b}]]`",
        );
    }
    let read = |branch: &Node, report: &mut Report<'_>, graph: &mut Graph| {
        if !matches!(branch.value, Value::List(_)) {
            report.error(
                branch.span,
                format!("a branch of `copy` is {}", branch.kind()),
                "put each branch in brackets: `copy: [[{output: a}], [{output: b}]]`",
            );
            return Vec::new();
        }
        steps(fields::list(branch, "copy", report), false, graph, report)
    };
    Step::Copy(
        branches
            .iter()
            .map(|branch| read(branch, report, graph))
            .collect(),
    )
}
