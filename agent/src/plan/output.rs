//! Where records go.

use std::fmt;
use std::sync::Arc;

use super::bulk::{Compression, IndexTemplate, Pattern, Shape};
use super::http::HttpSettings;
use super::secret;
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
    /// Where requests wait that the window has no room for.
    pub spool: Spool,
    /// How failures are retried.
    pub retry: Retry,
    /// A whole request may take this many milliseconds.
    pub timeout_ms: u64,
    /// How its servers are spoken to.
    pub http: HttpSettings,
    /// What is kept of lines that it has refused for good; `None` = nothing.
    pub dead_letters: Option<DeadLetters>,
}

impl Output {
    /// The URLs that it sends to, as they were written; each may hold a user name and password.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        match &self.kind {
            OutputKind::Loki(loki) => std::slice::from_ref(&loki.url),
            OutputKind::Elasticsearch(search) => &search.urls,
        }
    }
}

/// Where requests wait that an output's window has no room for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Spool {
    /// Nowhere: readers wait, or the output is detached and catches up from the files.
    #[default]
    Off,
    /// So many bytes of memory more, beside the window.
    Memory(ByteSize),
    /// On the disk, below the state directory.
    Disk(DiskSpool),
}

/// Bytes of requests under way to a spool on the disk and, as many again, back from it.
pub const SPOOL_WAY_BYTES: u64 = 2 << 20;

/// A spool on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSpool {
    /// Bytes that it may take there.
    pub bytes_max: ByteSize,
    /// What is done when it has them.
    pub at_cap: AtCap,
    /// Percent of the output's bytes that live requests have while a backlog is sent; 0 = in order.
    pub live_share: u8,
    /// The spool of an output that is no more: its requests are this one's.
    pub adopt: Option<String>,
}

/// What is done when a spool is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtCap {
    /// The output is detached, and catches up from the files.
    #[default]
    Wait,
    /// The oldest requests are given up, counted.
    DropOldest,
    /// What comes is given up, counted.
    DropNewest,
}

impl Output {
    /// Bytes that its requests may hold in memory.
    #[must_use]
    pub const fn memory_bytes(&self) -> u64 {
        match self.spool {
            Spool::Disk(_) => self.window().saturating_add(2 * SPOOL_WAY_BYTES),
            Spool::Off | Spool::Memory(_) => self.window(),
        }
    }

    /// Bytes that its window may hold.
    #[must_use]
    pub const fn window(&self) -> u64 {
        match self.spool {
            Spool::Memory(more) => self.window_bytes.0.saturating_add(more.0),
            Spool::Off | Spool::Disk(_) => self.window_bytes.0,
        }
    }
}

/// How much of the refused lines is kept on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// A file of this size is followed by another.
    pub file_bytes: ByteSize,
    /// Files that are kept.
    pub files: u64,
}

impl Default for DeadLetters {
    fn default() -> Self {
        Self {
            file_bytes: ByteSize(8 << 20),
            files: 4,
        }
    }
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
#[derive(Clone)]
pub struct LokiOutput {
    /// The whole URL of the push endpoint.
    pub url: String,
    /// `X-Scope-OrgID`, where records do not bear their own.
    pub tenant: Option<String>,
    /// Labels made from metadata: `job: "{namespace}/{container}"`. Labels of the source and of
    /// the record are added to them and win.
    pub labels: Vec<(Arc<str>, Template)>,
}

impl fmt::Debug for LokiOutput {
    /// User name and password of the URL are not printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LokiOutput")
            .field("url", &secret::hide(&self.url))
            .field("tenant", &self.tenant)
            .field("labels", &self.labels)
            .finish()
    }
}

/// Elasticsearch: NDJSON and gzip.
#[derive(Clone)]
pub struct ElasticsearchOutput {
    /// Base URLs, spread over.
    pub urls: Vec<String>,
    /// The index or data stream that records go to.
    pub index: Pattern,
    /// Whether it is a data stream.
    pub data_stream: bool,
    /// What stands in bulk requests.
    pub shape: Shape,
    /// Whether servers are asked to answer with what is judged alone.
    pub filter_path: bool,
    /// The index template that is put at the start, if any.
    pub template: Option<IndexTemplate>,
    /// How bodies are compressed.
    pub compression: Compression,
    /// gzip level 0 to 9; 0 sends plain bodies.
    pub gzip_level: u32,
}

impl fmt::Debug for ElasticsearchOutput {
    /// User names and passwords of the URLs are not printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<String> = self.urls.iter().map(|url| secret::hide(url)).collect();
        f.debug_struct("ElasticsearchOutput")
            .field("urls", &urls)
            .field("index", &self.index)
            .field("data_stream", &self.data_stream)
            .field("gzip_level", &self.gzip_level)
            .finish()
    }
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
