//! The roster on disk, for the next start: pods that are gone from the API, or an API that is silent
//! then, leave files that still have their metadata.
//!
//! ```text
//! tailwake pods 1 crc32=89abcdef\n
//! {"taken":"app;;","pods":[{"uid":"0a1b","labels":{"app":"web"},"owner":["Deployment","web"]}]}\n
//! ```
//!
//! 1. A file whose header, checksum or text does not hold is refused whole.
//! 2. What was taken by other lists than today's is refused too: labels would be missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Pod, Roster};
use crate::ticket::Facts;

/// Begins every such file, with the version of its format.
const HEADER: &str = "tailwake pods 1 crc32=";

/// Why a snapshot is not used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is none, or of another version.
    #[error("it does not begin with `{HEADER}`")]
    Header,
    /// It was changed or cut.
    #[error("its checksum does not hold")]
    Checksum,
    /// Its text cannot be read.
    #[error("its text cannot be read: {0}")]
    Text(String),
    /// The config takes other labels by now.
    #[error("other labels or annotations were taken then")]
    Taken,
}

#[derive(Serialize, Deserialize)]
struct Page<'p> {
    taken: String,
    #[serde(borrow)]
    pods: Vec<Entry<'p>>,
}

#[derive(Serialize, Deserialize)]
struct Entry<'p> {
    uid: std::borrow::Cow<'p, str>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shut: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    owner: [String; 2],
}

impl Roster {
    /// Whether something has changed since the last snapshot.
    #[must_use]
    pub const fn is_unwritten(&self) -> bool {
        self.unwritten
    }

    /// The last snapshot could not be written.
    pub const fn write_again(&mut self) {
        self.unwritten = true;
    }

    /// The whole roster as a file.
    #[must_use]
    pub fn snapshot(&mut self) -> Vec<u8> {
        self.unwritten = false;
        let map = |list: &[(Arc<str>, Arc<str>)]| {
            let pairs = list.iter();
            pairs
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect()
        };
        let entry = |(uid, pod): (&Arc<str>, &Pod)| Entry {
            uid: uid.to_string().into(),
            shut: pod.shut,
            labels: map(&pod.facts.labels),
            annotations: map(&pod.facts.annotations),
            owner: [
                pod.facts.owner_kind.to_string(),
                pod.facts.owner.to_string(),
            ],
        };
        let page = Page {
            taken: self.taken.taken(),
            pods: self.pods.iter().map(entry).collect(),
        };
        // Texts and maps of texts: nothing in it can fail to become JSON.
        let text = serde_json::to_string(&page).unwrap_or_default();
        let crc = crc32fast::hash(text.as_bytes());
        format!("{HEADER}{crc:08x}\n{text}\n").into_bytes()
    }

    /// Takes up what a snapshot says of pods that are not known yet.
    ///
    /// # Errors
    /// Why it says nothing.
    pub fn recall(&mut self, file: &[u8]) -> Result<(), Error> {
        let text = std::str::from_utf8(file).map_err(|_| Error::Checksum)?;
        let rest = text.strip_prefix(HEADER).ok_or(Error::Header)?;
        let (crc, text) = rest.split_once('\n').ok_or(Error::Header)?;
        let text = text.strip_suffix('\n').ok_or(Error::Checksum)?;
        if crc != format!("{:08x}", crc32fast::hash(text.as_bytes())) {
            return Err(Error::Checksum);
        }
        let page: Page<'_> =
            serde_json::from_str(text).map_err(|error| Error::Text(error.to_string()))?;
        if page.taken != self.taken.taken() {
            return Err(Error::Taken);
        }
        for entry in page.pods {
            let uid = self.word_of(&entry.uid);
            let mut list = |map: BTreeMap<String, String>| -> Vec<_> {
                let pairs = map.iter();
                pairs
                    .map(|(name, value)| (self.word_of(name), self.word_of(value)))
                    .collect()
            };
            let (labels, annotations) = (list(entry.labels), list(entry.annotations));
            let facts = Facts {
                labels,
                annotations,
                owner_kind: self.word_of(&entry.owner[0]),
                owner: self.word_of(&entry.owner[1]),
            };
            self.pods.entry(uid).or_insert(Pod {
                facts: Arc::new(facts),
                shut: entry.shut,
                api: None,
            });
        }
        Ok(())
    }
}
