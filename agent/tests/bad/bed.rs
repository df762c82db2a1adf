//! A node's directory: a tree of pods, a state directory, and what is written where.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use harness::text::{now_ns, rfc3339_nano};

/// A directory of one test, removed at its end.
pub(crate) struct Bed {
    dir: PathBuf,
}

impl Bed {
    pub(crate) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("tailwake-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("pods")).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The directory of a pod's one container, `app`; made where it is missing.
    pub(crate) fn container(&self, pod: &str) -> PathBuf {
        let dir = self.pod(pod).join("app");
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    pub(crate) fn pod(&self, pod: &str) -> PathBuf {
        self.path("pods").join(format!("ns_{pod}_{pod}-uid"))
    }

    /// The pod's log, open at its end.
    pub(crate) fn log(&self, pod: &str) -> Log {
        Log::open(&self.container(pod).join("0.log"))
    }

    /// Numbered lines `text 0`, `text 1`, .. in the pod's log; gives their texts.
    pub(crate) fn write(&self, pod: &str, text: &str, count: usize) -> Vec<String> {
        let texts: Vec<String> = (0..count)
            .map(|number| format!("{text} {number}"))
            .collect();
        let mut log = self.log(pod);
        texts.iter().for_each(|text| log.line(text));
        texts
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A log that is written to.
pub(crate) struct Log(File);

impl Log {
    pub(crate) fn open(path: &Path) -> Self {
        let file = OpenOptions::new().append(true).create(true).open(path);
        Self(file.unwrap())
    }

    /// A whole CRI line.
    pub(crate) fn line(&mut self, text: &str) {
        self.raw(format!("{}{text}\n", head()).as_bytes());
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }
}

/// What stands before the text of a CRI line.
pub(crate) fn head() -> String {
    format!("{} stdout F ", rfc3339_nano(now_ns()))
}
