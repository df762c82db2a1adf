//! The journal: what the generator wrote, one file per container, 40 bytes a record.
//!
//! 1. An entry is written right after its record's last byte was written to the log.
//! 2. Entries stand in the order of writing.
//! 3. Texts are kept as hash and length only, so that a long run stays small.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Whose line it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Container {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container.
    pub name: String,
}

impl std::fmt::Display for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.pod, self.name)
    }
}

/// The stream of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The word that stands in a CRI line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// Reads the word of a CRI line.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "stdout" => Some(Self::Stdout),
            "stderr" => Some(Self::Stderr),
            _ => None,
        }
    }
}

/// One written record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its stream.
    pub stream: Stream,
    /// Number within container and stream; `None` for an empty message, known by its time.
    pub sequence: Option<u64>,
    /// Whether it was cut into several CRI lines; its time is then not compared.
    pub cut: bool,
    /// Time in its first CRI line.
    pub time_ns: u64,
    /// Length of its text after U+FFFD replacement.
    pub length: u32,
    /// Hash of its text after U+FFFD replacement.
    pub hash: u64,
    /// Hash of its canonical JSON, 0 for a text that is not a JSON object.
    pub fields_hash: u64,
}

/// Appends entries to a container's journal.
#[derive(Debug)]
pub struct Writer(BufWriter<File>);

impl Writer {
    /// Creates the journal of a container in a directory.
    pub fn create(directory: &Path, container: &Container) -> Result<Self> {
        let path = path_of(directory, container);
        let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(BufWriter::new(file)))
    }

    /// Appends one entry.
    pub fn append(&mut self, entry: &Entry) -> Result<()> {
        let mut bytes = [0u8; ENTRY_BYTES];
        bytes[0] = u8::from(entry.stream == Stream::Stderr);
        bytes[1] = u8::from(entry.cut) | u8::from(entry.sequence.is_none()) << 1;
        bytes[4..8].copy_from_slice(&entry.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&entry.sequence.unwrap_or(0).to_le_bytes());
        bytes[16..24].copy_from_slice(&entry.time_ns.to_le_bytes());
        bytes[24..32].copy_from_slice(&entry.hash.to_le_bytes());
        bytes[32..40].copy_from_slice(&entry.fields_hash.to_le_bytes());
        self.0.write_all(&bytes).context("append to the journal")
    }

    /// Hands buffered entries to the file.
    pub fn flush(&mut self) -> Result<()> {
        self.0.flush().context("flush the journal")
    }
}

/// Reads all journals of a directory, ordered by container.
pub fn read_all(directory: &Path) -> Result<Vec<(Container, Vec<Entry>)>> {
    let mut all = Vec::new();
    let listed =
        std::fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    for found in listed {
        let path = found?.path();
        let Some(container) = container_of(&path) else {
            continue;
        };
        let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        all.push((
            container,
            bytes.chunks_exact(ENTRY_BYTES).map(entry_of).collect(),
        ));
    }
    all.sort_by(|a: &(Container, Vec<Entry>), b| a.0.cmp(&b.0));
    Ok(all)
}

fn path_of(directory: &Path, container: &Container) -> PathBuf {
    let Container {
        namespace,
        pod,
        name,
    } = container;
    directory.join(format!("{namespace}_{pod}_{name}.journal"))
}

fn container_of(path: &Path) -> Option<Container> {
    let name = path.file_name()?.to_str()?.strip_suffix(".journal")?;
    let mut parts = name.split('_').map(str::to_owned);
    Some(Container {
        namespace: parts.next()?,
        pod: parts.next()?,
        name: parts.next()?,
    })
}

fn entry_of(bytes: &[u8]) -> Entry {
    let word = |at: usize| {
        let mut eight = [0u8; 8];
        eight.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(eight)
    };
    Entry {
        stream: if bytes[0] == 1 {
            Stream::Stderr
        } else {
            Stream::Stdout
        },
        cut: bytes[1] & 1 != 0,
        sequence: (bytes[1] & 2 == 0).then(|| word(8)),
        length: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        time_ns: word(16),
        hash: word(24),
        fields_hash: word(32),
    }
}

const ENTRY_BYTES: usize = 40;
