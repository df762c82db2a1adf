//! Elasticsearch's bulk: pairs of an action line and a document line.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::Arrived;
use crate::journal::{Container, Stream};
use crate::text::parse_rfc3339;

/// Takes the records out of a bulk body; `path` tells whether an index stands in the address.
pub fn decode(path: &str, body: &[u8]) -> Result<Vec<Arrived>> {
    if body.last() != Some(&b'\n') {
        bail!("a bulk body must end with a newline");
    }
    let mut lines = body[..body.len() - 1].split(|byte| *byte == b'\n');
    let mut out = Vec::new();
    while let Some(action) = lines.next() {
        let action: Value = serde_json::from_slice(action).context("bulk action")?;
        let what = action
            .get("index")
            .or_else(|| action.get("create"))
            .context("bulk action")?;
        if path == "/_bulk" && what.get("_index").and_then(Value::as_str).is_none() {
            bail!("a bulk action without an index");
        }
        let document = lines.next().context("a bulk action without its document")?;
        let document: Value = serde_json::from_slice(document).context("bulk document")?;
        let Value::Object(document) = document else {
            bail!("a document that is no object")
        };
        out.push(arrived(document)?);
    }
    Ok(out)
}

fn arrived(mut document: Map<String, Value>) -> Result<Arrived> {
    let of = |name: &str| {
        let nested = document.get("kubernetes").and_then(|inner| inner.get(name));
        let value = nested.or_else(|| document.get(&format!("kubernetes.{name}")));
        value
            .and_then(Value::as_str)
            .map(str::to_owned)
            .with_context(|| format!("no {name}"))
    };
    let container = Container {
        namespace: of("namespace")?,
        pod: of("pod")?,
        name: of("container")?,
    };
    let word = document
        .get("stream")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let stream = Stream::from_word(word).context("no `stream`")?;
    let time = document
        .get("@timestamp")
        .and_then(Value::as_str)
        .context("no `@timestamp`")?;
    let time_ns = Some(parse_rfc3339(time).with_context(|| format!("@timestamp {time}"))?);
    let message = document
        .get("message")
        .and_then(Value::as_str)
        .map(str::to_owned);
    let (text, merged) = match message {
        Some(text) => (text, false),
        None => {
            document.retain(|key, _| !is_ours(key));
            (Value::Object(document).to_string(), true)
        }
    };
    Ok(Arrived {
        container,
        stream,
        lane: 0,
        time_ns,
        text,
        merged,
        sequence: None,
    }
    .numbered())
}

/// Keys that the agent adds to a merged JSON body.
fn is_ours(key: &str) -> bool {
    let first = key.split('.').next().unwrap_or(key);
    matches!(
        first,
        "@timestamp" | "stream" | "kubernetes" | "log" | "labels" | "tailwake"
    )
}
