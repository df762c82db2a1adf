//! The positions file: what of which file was delivered to which output.
//!
//! ```text
//! tailwake positions 1 crc32=89abcdef\n
//! {"files":[{"log":"default_web-1_0a1b/app","identity":{...},"marks":{"loki":{"at":512,"beyond":[[600,700]]}}}]}
//! ```
//!
//! 1. A file whose header, checksum or text does not hold is refused whole; the caller keeps it aside.
//! 2. Marks bear output names, not numbers: a plan may change its outputs between two starts.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::sync::Arc;

use serde::ser::{SerializeSeq as _, SerializeStruct as _};
use serde::{Deserialize, Serialize, Serializer};
use smallvec::SmallVec;

use super::{Identity, Mark};

/// Begins every positions file, with the version of its format.
const HEADER: &str = "tailwake positions 1 crc32=";

/// So much of the text is held at once.
const PIECE_BYTES: usize = 64 << 10;

/// Takes the checksum of what goes through.
struct Summed<'f, F> {
    file: &'f mut F,
    crc: crc32fast::Hasher,
}

impl<F: Write> Write for Summed<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.crc.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a positions file whose text is `positions`; the header's checksum when the text is known. A
/// node's text has some megabytes: no more than a piece of it is held.
fn write_text(file: &mut (impl Write + Seek), positions: &impl Serialize) -> io::Result<()> {
    file.write_all(HEADER.as_bytes())?;
    file.write_all(b"00000000\n")?;
    let summed = Summed {
        file: &mut *file,
        crc: crc32fast::Hasher::new(),
    };
    let mut text = BufWriter::with_capacity(PIECE_BYTES, summed);
    serde_json::to_writer(&mut text, positions)?;
    let summed = text.into_inner().map_err(io::IntoInnerError::into_error)?;
    let crc = format!("{:08x}", summed.crc.finalize());
    file.write_all(b"\n")?;
    file.seek(SeekFrom::Start(HEADER.len() as u64))?;
    file.write_all(crc.as_bytes())
}

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    /// A generation of a file each.
    pub files: Vec<FilePositions>,
}

/// One generation of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePositions {
    /// The container log's stable name.
    pub log: String,
    /// Which file it is.
    pub identity: Identity,
    /// Its size, when nothing will be appended to it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<u64>,
    /// The largest size that it was known to have.
    #[serde(default)]
    pub seen: u64,
    /// By output name.
    pub marks: Marks,
}

/// Progress by output name: a short list, since a node has thousands of files and a tree takes some
/// 700 bytes for its first entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "BTreeMap<String, MarkPositions>")]
pub struct Marks(Vec<(Arc<str>, MarkPositions)>);

impl Marks {
    /// The output's, if the file has one.
    #[must_use]
    pub fn get(&self, output: &str) -> Option<&MarkPositions> {
        let mut all = self.0.iter();
        all.find(|(name, _)| **name == *output)
            .map(|(_, mark)| mark)
    }

    /// All of them.
    pub fn values(&self) -> impl Iterator<Item = &MarkPositions> {
        self.0.iter().map(|(_, mark)| mark)
    }
}

impl FromIterator<(Arc<str>, MarkPositions)> for Marks {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, MarkPositions)>>(marks: I) -> Self {
        let mut marks: Vec<_> = marks.into_iter().collect();
        marks.sort_by(|a, b| a.0.cmp(&b.0));
        marks.shrink_to_fit();
        Self(marks)
    }
}

impl From<BTreeMap<String, MarkPositions>> for Marks {
    fn from(marks: BTreeMap<String, MarkPositions>) -> Self {
        let named = |(name, mark): (String, MarkPositions)| (Arc::from(name), mark);
        marks.into_iter().map(named).collect()
    }
}

impl Serialize for Marks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, mark)| (&**name, mark)))
    }
}

/// One output's progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkPositions {
    /// The watermark.
    pub at: u64,
    /// Acknowledged ranges beyond it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beyond: Vec<(u64, u64)>,
}

/// The positions of one moment, in as little memory as they can be: a node has 10,000 files, and each
/// second there may be another.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(super) outputs: Vec<Arc<str>>,
    /// Of files that have not been found.
    pub(super) remembered: Vec<FilePositions>,
    pub(super) rows: Vec<Row>,
}

/// One file's.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) log: Arc<str>,
    pub(super) identity: Identity,
    pub(super) end: Option<u64>,
    pub(super) seen: u64,
    /// By output.
    pub(super) marks: SmallVec<[Mark; 2]>,
}

impl Snapshot {
    /// Writes the positions file.
    ///
    /// # Errors
    /// What `file` says.
    pub fn write_to(&self, file: &mut (impl Write + Seek)) -> io::Result<()> {
        write_text(file, self)
    }

    /// The positions file's bytes.
    ///
    /// # Errors
    /// When the text cannot be made, which no value of this type causes.
    pub fn write(&self) -> io::Result<Vec<u8>> {
        let mut bytes = io::Cursor::new(Vec::new());
        self.write_to(&mut bytes)?;
        Ok(bytes.into_inner())
    }

    /// The same as it is read.
    #[must_use]
    pub fn positions(&self) -> Positions {
        let rows = self.rows.iter().map(|row| self.positions_of(row));
        Positions {
            files: self.remembered.iter().cloned().chain(rows).collect(),
        }
    }

    fn positions_of(&self, row: &Row) -> FilePositions {
        let marks = self.outputs.iter().zip(&row.marks).map(|(name, mark)| {
            let said = MarkPositions {
                at: mark.watermark(),
                beyond: mark.beyond().to_vec(),
            };
            (Arc::clone(name), said)
        });
        FilePositions {
            log: row.log.to_string(),
            identity: row.identity,
            end: row.end,
            seen: row.seen,
            marks: marks.collect(),
        }
    }
}

impl Serialize for Snapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut positions = serializer.serialize_struct("Positions", 1)?;
        positions.serialize_field("files", &Files(self))?;
        positions.end()
    }
}

struct Files<'s>(&'s Snapshot);

impl Serialize for Files<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(snapshot) = self;
        let mut files = serializer.serialize_seq(None)?;
        for file in &snapshot.remembered {
            files.serialize_element(file)?;
        }
        // One after the other: all of them at once are what this type is there to avoid.
        for row in &snapshot.rows {
            files.serialize_element(&snapshot.positions_of(row))?;
        }
        files.end()
    }
}

/// Why a positions file was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// No header of a version that this agent knows.
    #[error("it does not begin with `{HEADER}`: another program's file, or a torn write")]
    Header,
    /// The text is not what was written.
    #[error("its checksum is {found:08x}, its header says {said:08x}: the text was altered or cut")]
    Checksum {
        /// What the header says.
        said: u32,
        /// What the text has.
        found: u32,
    },
    /// The text is no positions file.
    #[error("its text cannot be read: {0}")]
    Text(String),
}

impl Positions {
    /// Reads a file's bytes.
    ///
    /// # Errors
    /// Says what is wrong with them.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let rest = bytes.strip_prefix(HEADER.as_bytes()).ok_or(Error::Header)?;
        let (said, text) = rest.split_at_checked(8).ok_or(Error::Header)?;
        let said = std::str::from_utf8(said)
            .ok()
            .and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let (Some(said), Some(text)) = (said, text.strip_prefix(b"\n")) else {
            return Err(Error::Header);
        };
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let found = crc32fast::hash(text);
        if found != said {
            return Err(Error::Checksum { said, found });
        }
        serde_json::from_slice(text).map_err(|error| Error::Text(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn sample() -> Positions {
        let mark = MarkPositions {
            at: 512,
            beyond: vec![(600, 700)],
        };
        Positions {
            files: vec![FilePositions {
                log: "ns_pod_uid/app".into(),
                identity: Identity {
                    device: 1,
                    inode: 2,
                    born_ns: Some(3),
                    head_len: 4,
                    head: 5,
                    ..Identity::default()
                },
                end: None,
                seen: 700,
                marks: [(Arc::from("loki"), mark)].into_iter().collect(),
            }],
        }
    }

    fn written(positions: &Positions) -> Vec<u8> {
        let mut bytes = io::Cursor::new(Vec::new());
        write_text(&mut bytes, positions).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(Positions::read(&written(&sample())), Ok(sample()));
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_refused() {
        let good = written(&sample());
        for place in 0..good.len() - 1 {
            let mut bad = good.clone();
            bad[place] ^= 1;
            assert!(Positions::read(&bad).is_err(), "flipped byte {place}");
            // The newline at the end is all that may be missing.
            assert!(Positions::read(&good[..place]).is_err() || place == good.len() - 1);
        }
        assert_eq!(Positions::read(&[0; 100]), Err(Error::Header));
    }
}
