//! Outputs of the native config.

use std::sync::Arc;

use super::{bulk, http, keys, kubernetes, names};
use crate::base::size::ByteSize;
use crate::config::diagnostics::Report;
use crate::config::fields::{self, Fields};
use crate::config::suggest;
use crate::config::tree::{Key, Node, Value};
use crate::plan::{
    DeadLetters, ElasticsearchOutput, LokiOutput, Output, OutputKind, Retry, Spool, Template,
    TemplatePart,
};

/// Compressed bytes that an output may hold, unless it says otherwise.
const WINDOW_BYTES: ByteSize = ByteSize(6 << 20);
/// A Loki batch before compression; Loki's own default limit of a message is 4 MiB.
const LOKI_BATCH_BYTES: ByteSize = ByteSize(1 << 20);
/// A bulk body before compression.
const BULK_BATCH_BYTES: ByteSize = ByteSize(2 << 20);
const LINGER_MS: u64 = 100;
const TIMEOUT_MS: u64 = 30_000;
/// Labels of a Loki stream, unless the output has its own.
const LABELS: [&str; 4] = ["namespace", "pod", "container", "stream"];

/// Reads one output.
pub(super) fn output(key: &Key, node: &Node, report: &mut Report<'_>) -> Option<Output> {
    let map = Fields::open(node, &keys::OUTPUT, report);
    let kind = kind(&map, key, report);
    let batch = match &kind {
        Some(OutputKind::Elasticsearch(_)) => BULK_BATCH_BYTES,
        Some(OutputKind::Loki(_)) | None => LOKI_BATCH_BYTES,
    };
    let batch_bytes = map.size("batch_bytes", batch, 1 << 10..=64 << 20, report);
    let linger_ms = map.duration("linger", LINGER_MS, 0, report);
    let window_bytes = map.size("window_bytes", WINDOW_BYTES, 1 << 10..=16 << 30, report);
    let spool = match &kind {
        Some(kind) => super::spool::spool(map.get("spool"), kind, report),
        None => Spool::Off,
    };
    let timeout_ms = map.duration("timeout", TIMEOUT_MS, 1, report);
    let retry = match map.get("retry") {
        Some(node) => retry(node, report),
        None => Retry::default(),
    };
    let urls: &[String] = match &kind {
        Some(OutputKind::Loki(loki)) => std::slice::from_ref(&loki.url),
        Some(OutputKind::Elasticsearch(search)) => &search.urls,
        None => &[],
    };
    let http = http::settings(&map, urls, report);
    let dead_letters = dead_letters(&map, report);
    Some(Output {
        name: key.text.clone(),
        kind: kind?,
        batch_bytes,
        linger_ms,
        window_bytes,
        spool,
        retry,
        timeout_ms,
        http,
        dead_letters,
    })
}

fn kind(map: &Fields<'_>, key: &Key, report: &mut Report<'_>) -> Option<OutputKind> {
    match (map.given("loki"), map.given("elasticsearch")) {
        (Some(node), None) => loki(node, report).map(OutputKind::Loki),
        (None, Some(node)) => elasticsearch(node, report).map(OutputKind::Elasticsearch),
        (Some(_), Some(second)) => {
            report.error(
                second.span,
                format!("the output `{}` is of two kinds", key.text),
                "make two outputs, and name both in the pipeline's `to`",
            );
            None
        }
        (None, None) => {
            report.error(
                key.span,
                format!("the output `{}` has no kind", key.text),
                "add `loki: {url: ...}` or `elasticsearch: {urls: [...], data_stream: ...}`",
            );
            None
        }
    }
}

fn dead_letters(map: &Fields<'_>, report: &mut Report<'_>) -> Option<DeadLetters> {
    let default = DeadLetters::default();
    let Some(node) = map.get("dead_letters") else {
        return Some(default);
    };
    if let Value::Text { text, .. } = &node.value {
        if text == "off" {
            return None;
        }
        report.error(
            node.span,
            format!(
                "`dead_letters` takes a map or `off`, not `{}`",
                node.shown()
            ),
            "write `dead_letters: off`, or `dead_letters: {file_bytes: 8MiB, files: 4}`",
        );
        return Some(default);
    }
    let map = Fields::open(node, &keys::DEAD_LETTERS, report);
    let file_bytes = map.size("file_bytes", default.file_bytes, 4 << 10..=1 << 30, report);
    let files = map.number("files", 1..=1_000, report);
    Some(DeadLetters {
        file_bytes,
        files: files.unwrap_or(default.files),
    })
}

fn retry(node: &Node, report: &mut Report<'_>) -> Retry {
    let map = Fields::open(node, &keys::RETRY, report);
    let default = Retry::default();
    let min_ms = map.duration("min", default.min_ms, 1, report);
    let max_ms = map.duration("max", default.max_ms.max(min_ms), 1, report);
    if min_ms > max_ms {
        report.error(
            map.span,
            "`min` is longer than `max`",
            "swap them, or raise `max`",
        );
    }
    Retry { min_ms, max_ms }
}

fn loki(node: &Node, report: &mut Report<'_>) -> Option<LokiOutput> {
    let map = Fields::open(node, &keys::LOKI, report);
    let url_node = map.need("url", "\"http://loki:3100/loki/api/v1/push\"", report);
    let url = url_node.and_then(|node| url(node, "url", report));
    if let (Some(node), Some(url)) = (url_node, &url)
        && url.split_once("://").is_some_and(|(_, rest)| {
            let path = rest.find('/').map_or("", |at| &rest[at..]);
            path.is_empty() || path == "/"
        })
    {
        report.error(
            node.span,
            "`url` has no path",
            "write the whole push endpoint, for example `http://loki:3100/loki/api/v1/push`",
        );
    }
    let tenant = map.text("tenant", report).map(str::to_owned);
    if let (Some(node), Some(text)) = (map.get("tenant"), &tenant)
        && !text.chars().all(|c| c.is_ascii_graphic())
    {
        report.error(
            node.span,
            "`tenant` cannot stand in a header",
            "use letters, digits and punctuation of ASCII, without spaces",
        );
    }
    let labels = match map.get("labels") {
        None => LABELS
            .iter()
            .map(|name| {
                let field = TemplatePart::Field(Arc::from(*name));
                (Arc::from(*name), Template(vec![field]))
            })
            .collect(),
        Some(node) => labels(node, report),
    };
    Some(LokiOutput {
        url: url?,
        tenant,
        labels,
    })
}

fn labels(node: &Node, report: &mut Report<'_>) -> Vec<(Arc<str>, Template)> {
    let mut out = Vec::new();
    for (key, node) in fields::map(node, "labels", report) {
        names::label(&key.text, key.span, report);
        if let Some(text) = fields::text(node, &key.text, report)
            && let Some(template) = template(text, node, report)
        {
            out.push((Arc::from(key.text.as_str()), template));
        }
    }
    out
}

/// Reads `{namespace}/{container}`; `{{` and `}}` stand for one brace.
fn template(text: &str, node: &Node, report: &mut Report<'_>) -> Option<Template> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let twin = rest.starts_with("{{") || rest.starts_with("}}");
        if twin || !matches!(c, '{' | '}') {
            plain.push(c);
            rest = &rest[if twin { 2 } else { c.len_utf8() }..];
            continue;
        }
        let Some((name, after)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'))
        else {
            report.error(
                node.span,
                format!("a brace stands alone in `{}`", node.shown()),
                "write a field as `{namespace}`, and `{{` or `}}` for a brace itself",
            );
            return None;
        };
        if !names::FIELDS.contains(&name) && kubernetes::of_pod(name).is_none() {
            report.error(
                node.span,
                format!("the template `{}` names no known field", node.shown()),
                suggest::cure("fields", name, names::FIELDS.into_iter()),
            );
            return None;
        }
        if !plain.is_empty() {
            parts.push(TemplatePart::Text(Arc::from(std::mem::take(&mut plain))));
        }
        parts.push(TemplatePart::Field(Arc::from(name)));
        rest = after;
    }
    if !plain.is_empty() {
        parts.push(TemplatePart::Text(Arc::from(plain)));
    }
    Some(Template(parts))
}

fn elasticsearch(node: &Node, report: &mut Report<'_>) -> Option<ElasticsearchOutput> {
    let map = Fields::open(node, &keys::ELASTICSEARCH, report);
    let mut urls = Vec::new();
    if let Some(node) = map.need("urls", "[\"http://elasticsearch:9200\"]", report) {
        let items = fields::list(node, "urls", report);
        if items.is_empty() && matches!(node.value, Value::List(_)) {
            report.error(node.span, "`urls` is empty", "add at least one URL");
        }
        for item in items {
            urls.extend(url(item, "urls", report).map(|url| url.trim_end_matches('/').to_owned()));
        }
    }
    let (index, data_stream) = bulk::index(&map, report)?;
    let shape = bulk::shape(&map, &index, data_stream, report);
    let filter_path = map.choice("filter_path", &super::SWITCH, true, report);
    let template = bulk::template(&map, report);
    let gzip_level = map.number("gzip_level", 0..=9, report).unwrap_or(1);
    if urls.is_empty() {
        return None;
    }
    Some(ElasticsearchOutput {
        urls,
        index,
        data_stream,
        shape,
        filter_path,
        template,
        compression: bulk::compression(&map, report),
        gzip_level: u32::try_from(gzip_level).unwrap_or(1),
    })
}

/// A URL with scheme and host. Its text stands in no message but through `shown`.
fn url(node: &Node, name: &str, report: &mut Report<'_>) -> Option<String> {
    let text = fields::text(node, name, report)?;
    match names::url(text) {
        Ok(()) => Some(text.to_owned()),
        Err(cause) => {
            report.error(
                node.span,
                format!("`{name}` is no URL, {cause}: `{}`", node.shown()),
                "write scheme, host and port, for example `http://loki:3100/...`",
            );
            None
        }
    }
}
