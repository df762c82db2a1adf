//! Loki's push: snappy over protobuf (`logproto.PushRequest`), or JSON.

use anyhow::{Context, Result, bail};
use prost::Message;
use serde_json::Value;

use super::Arrived;
use crate::journal::{Container, Stream};
use crate::text::hash;

/// The body of a push.
#[derive(Clone, PartialEq, Message)]
pub struct Push {
    /// One per label set.
    #[prost(message, repeated, tag = "1")]
    pub streams: Vec<LabelledEntries>,
}

/// The entries of one label set.
#[derive(Clone, PartialEq, Message)]
pub struct LabelledEntries {
    /// `{name="value", ...}`.
    #[prost(string, tag = "1")]
    pub labels: String,
    /// Entries in order.
    #[prost(message, repeated, tag = "2")]
    pub entries: Vec<Line>,
}

/// One entry.
#[derive(Clone, PartialEq, Message)]
pub struct Line {
    /// Its time.
    #[prost(message, optional, tag = "1")]
    pub timestamp: Option<Timestamp>,
    /// Its text.
    #[prost(string, tag = "2")]
    pub line: String,
    /// Structured metadata.
    #[prost(message, repeated, tag = "3")]
    pub metadata: Vec<Pair>,
}

/// A pair of structured metadata.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Pair {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Timestamp {
    /// Seconds since 1970.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds within the second.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// The label sets of a push in protobuf, in order.
pub fn label_sets(body: &[u8]) -> Result<Vec<Vec<(String, String)>>> {
    let plain = snap::raw::Decoder::new().decompress_vec(body);
    let push = Push::decode(plain.context("snappy block")?.as_slice());
    let streams = push.context("logproto.PushRequest")?.streams;
    let sets = streams.iter().map(|stream| parse_labels(&stream.labels));
    sets.map(|set| Ok(set?.into_iter().collect())).collect()
}

/// Takes the records out of a push.
pub fn decode(content_type: &str, body: &[u8]) -> Result<Vec<Arrived>> {
    if content_type.starts_with("application/json") {
        return decode_json(body);
    }
    let plain = snap::raw::Decoder::new()
        .decompress_vec(body)
        .context("snappy block")?;
    let push = Push::decode(plain.as_slice()).context("logproto.PushRequest")?;
    let mut out = Vec::new();
    for stream in push.streams {
        let labels = parse_labels(&stream.labels)?;
        for entry in stream.entries {
            let time = entry.timestamp.context("an entry without a time")?;
            if !(0..1_000_000_000).contains(&time.nanos) || time.seconds <= 0 {
                bail!("impossible time {}s {}ns", time.seconds, time.nanos);
            }
            let time_ns =
                time.seconds.unsigned_abs() * 1_000_000_000 + u64::from(time.nanos.unsigned_abs());
            out.push(arrived(&labels, &stream.labels, time_ns, entry.line)?);
        }
    }
    Ok(out)
}

fn decode_json(body: &[u8]) -> Result<Vec<Arrived>> {
    let push: Value = serde_json::from_slice(body).context("JSON push")?;
    let mut out = Vec::new();
    for stream in push["streams"].as_array().context("no `streams`")? {
        let object = stream["stream"].as_object().context("no `stream`")?;
        let labels: Vec<(String, String)> = object
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect();
        let lane = stream["stream"].to_string();
        for value in stream["values"].as_array().context("no `values`")? {
            let time = value[0]
                .as_str()
                .and_then(|time| time.parse().ok())
                .context("no time")?;
            let line = value[1].as_str().context("no line")?.to_owned();
            out.push(arrived(&labels, &lane, time, line)?);
        }
    }
    Ok(out)
}

fn arrived(labels: &[(String, String)], lane: &str, time_ns: u64, text: String) -> Result<Arrived> {
    let of = |name: &str| {
        let found = labels.iter().find(|(label, _)| label == name);
        found
            .map(|(_, value)| value.clone())
            .with_context(|| format!("no label {name} in {lane}"))
    };
    let container = Container {
        namespace: of("namespace")?,
        pod: of("pod")?,
        name: of("container")?,
    };
    let stream = Stream::from_word(&of("stream")?).context("label stream")?;
    let lane = hash(lane.as_bytes());
    let time_ns = Some(time_ns);
    let sequence = None;
    Ok(Arrived {
        container,
        stream,
        lane,
        time_ns,
        text,
        merged: false,
        sequence,
    }
    .numbered())
}

/// Reads `{name="value", name2="value2"}`.
pub fn parse_labels(text: &str) -> Result<Vec<(String, String)>> {
    let inner = text
        .trim()
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'));
    let mut rest = inner
        .with_context(|| format!("labels without braces: {text}"))?
        .trim();
    let mut labels = Vec::new();
    while !rest.is_empty() {
        let (name, after) = rest
            .split_once("=\"")
            .with_context(|| format!("labels: {text}"))?;
        let name = name.trim();
        let valid = !name.is_empty()
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && name
                .chars()
                .all(|char| char.is_ascii_alphanumeric() || char == '_');
        if !valid {
            bail!("label name {name:?} in {text}");
        }
        let (value, after) = quoted(after).with_context(|| format!("label value in {text}"))?;
        labels.push((name.to_owned(), value));
        rest = after.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if rest.is_empty() => rest,
            None => bail!("labels: no comma in {text}"),
        };
    }
    Ok(labels)
}

/// Reads up to the closing quote of a Go string; gives the value and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::parse_labels;

    #[test]
    fn labels_are_read_as_loki_reads_them() {
        let labels = parse_labels(r#"{a="1", b_c="x\"y\\z, \n"}"#).unwrap();
        let want = [("a", "1"), ("b_c", "x\"y\\z, \n")];
        assert_eq!(
            labels
                .iter()
                .map(|(a, b)| (a.as_str(), b.as_str()))
                .collect::<Vec<_>>(),
            want
        );
        for bad in [
            "a=\"1\"",
            "{1a=\"1\"}",
            "{a.b=\"1\"}",
            "{a=\"1}",
            "{a=\"1\" b=\"2\"}",
        ] {
            assert!(parse_labels(bad).is_err(), "{bad}");
        }
    }
}
