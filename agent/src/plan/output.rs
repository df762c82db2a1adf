//! Where records go.

use std::sync::Arc;

use crate::base::size::ByteSize;

/// One output.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its name: stable across restarts, since positions bear it.
    pub name: String,
    /// Its kind and what only this kind has.
    pub kind: OutputKind,
    /// A batch is sealed at this many body bytes before compression.
    pub batch_bytes: ByteSize,
    /// A batch is sealed this many milliseconds after its first line.
    pub linger_ms: u64,
    /// Bytes that what is sealed but not settled may hold; full = backpressure.
    pub window_bytes: ByteSize,
    /// How failures are retried.
    pub retry: Retry,
    /// A whole request may take this many milliseconds.
    pub timeout_ms: u64,
}

/// How failures are retried: without end, from `min_ms` to `max_ms` apart, jittered.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// First wait in milliseconds.
    pub min_ms: u64,
    /// Longest wait in milliseconds.
    pub max_ms: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            min_ms: 250,
            max_ms: 30_000,
        }
    }
}

/// The kinds of output.
#[derive(Clone, Debug)]
pub enum OutputKind {
    /// Loki's push API.
    Loki(LokiOutput),
    /// Elasticsearch's or OpenSearch's `_bulk`.
    Elasticsearch(ElasticsearchOutput),
}

/// Loki: protobuf and snappy.
#[derive(Clone, Debug)]
pub struct LokiOutput {
    /// The whole URL of the push endpoint.
    pub url: String,
    /// `X-Scope-OrgID`, where records do not bear their own.
    pub tenant: Option<String>,
    /// Labels made from metadata: `job: "{namespace}/{container}"`. Labels of the source and of
    /// the record are added to them and win.
    pub labels: Vec<(Arc<str>, Template)>,
}

/// Elasticsearch: NDJSON and gzip.
#[derive(Clone, Debug)]
pub struct ElasticsearchOutput {
    /// Base URLs, spread over.
    pub urls: Vec<String>,
    /// The index or data stream that records go to.
    pub index: String,
    /// `create` (data streams) instead of `index`.
    pub data_stream: bool,
    /// gzip level 0 to 9; 0 sends plain bodies.
    pub gzip_level: u32,
}

/// A text with `{field}` places, filled once a source and stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(pub Vec<TemplatePart>);

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePart {
    /// Text as it is.
    Text(Arc<str>),
    /// A metadata field: `namespace`, `pod`, `uid`, `container`, `node`, `owner`, `owner_kind`,
    /// `filename`, `stream`, or `labels.NAME` and `annotations.NAME` of the pod.
    Field(Arc<str>),
}
