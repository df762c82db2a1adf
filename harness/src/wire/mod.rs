//! What arrives: records taken out of Loki's push and Elasticsearch's bulk bodies.
//!
//! 1. Nothing here knows the agent's encoders; the formats are read from their public definitions.
//! 2. A body is taken whole or refused whole.

pub mod bulk;
pub mod loki;

use std::io::Read;

use anyhow::{Context, Result};

use crate::generate::sequence_of;
use crate::journal::{Container, Stream};

/// The protocol by which a record came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Output {
    /// Loki's push.
    Loki,
    /// Elasticsearch's bulk.
    Elasticsearch,
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Loki => "loki",
            Self::Elasticsearch => "elasticsearch",
        })
    }
}

/// A record as it came over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// Whose it is.
    pub container: Container,
    /// Its stream.
    pub stream: Stream,
    /// What order is kept within: a hash of all labels.
    pub lane: u64,
    /// Its time, when it bears one.
    pub time_ns: Option<u64>,
    /// Its text, or canonical JSON when the body was merged into a document.
    pub text: String,
    /// Whether `text` is canonical JSON instead of the text as written.
    pub merged: bool,
    /// Its number, `None` for an empty text.
    pub sequence: Option<u64>,
}

impl Arrived {
    /// Takes the sequence number out of the text.
    #[must_use]
    pub fn numbered(mut self) -> Self {
        self.sequence = if self.merged {
            serde_json::from_str::<serde_json::Value>(&self.text)
                .ok()
                .and_then(|fields| fields.get("seq")?.as_u64())
        } else {
            sequence_of(self.text.as_bytes())
        };
        self
    }
}

/// Undoes a `Content-Encoding` of gzip; other bodies pass as they are.
pub fn inflate(encoding: Option<&str>, body: &[u8]) -> Result<Vec<u8>> {
    if encoding != Some("gzip") {
        return Ok(body.to_vec());
    }
    let mut out = Vec::with_capacity(body.len() * 6);
    flate2::read::GzDecoder::new(body)
        .read_to_end(&mut out)
        .context("inflate a gzip body")?;
    Ok(out)
}
