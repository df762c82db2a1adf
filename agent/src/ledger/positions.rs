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

use serde::{Deserialize, Serialize};

use super::Identity;

/// Begins every positions file, with the version of its format.
const HEADER: &str = "tailwake positions 1 crc32=";

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
    pub marks: BTreeMap<String, MarkPositions>,
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
    /// The file's bytes.
    ///
    /// # Errors
    /// When the text cannot be made, which no value of this type causes.
    pub fn write(&self) -> Result<Vec<u8>, Error> {
        let text = serde_json::to_string(self).map_err(|error| Error::Text(error.to_string()))?;
        let crc = crc32fast::hash(text.as_bytes());
        Ok(format!("{HEADER}{crc:08x}\n{text}\n").into_bytes())
    }

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
                marks: BTreeMap::from([("loki".to_owned(), mark)]),
            }],
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(Positions::read(&sample().write().unwrap()), Ok(sample()));
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_refused() {
        let good = sample().write().unwrap();
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
