//! Keeps what stood in kubelet's log files, beyond their deletion.
//!
//! ```text
//! pods/<ns>_<pod>_<uid>/<container>/<n>.log* --hard link--> kept/<device>.<inode>
//! ```
//!
//! 1. A linked file keeps its bytes and its inode's number, also after rotation and unlinking.
//! 2. Only pods of [`WATCHED`] namespaces are linked: a link keeps ext4 from giving the number to
//!    the next file, which rotation elsewhere is to show.
//! 3. A record counts as having stood in a file when its last part did.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::print::recognize;

use super::account::Numbers;

/// Whether the files of a namespace are kept.
pub(super) fn is_watched(namespace: &str) -> bool {
    WATCHED.contains(&namespace)
}

/// A thread that links new files.
#[derive(Debug)]
pub(super) struct Watch {
    kept: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts it on the `pods` folder below `log`.
    pub(super) fn start(log: &Path, kept: &Path) -> Result<Self> {
        fs::create_dir_all(kept)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (pods, into, ended) = (log.join("pods"), kept.to_owned(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                link_all(&pods, &into);
                std::thread::sleep(LINK_EVERY);
            }
        });
        Ok(Self {
            kept: kept.to_owned(),
            stop,
            thread: Some(thread),
        })
    }

    /// The records of all files that it kept so far.
    pub(super) fn numbers(&self) -> Result<Numbers> {
        let mut numbers = Numbers::new();
        for entry in fs::read_dir(&self.kept)? {
            let path = entry?.path();
            let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            take(&bytes, &mut numbers);
        }
        Ok(numbers)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The `.gz` files that there are now.
pub(super) fn compressed_files(pods: &Path) -> BTreeSet<PathBuf> {
    let folders = list(pods);
    let folders = folders.iter().flat_map(|pod| list(pod));
    let files = folders.flat_map(|folder| list(&folder));
    files
        .filter(|file| file.extension().is_some_and(|end| end == "gz"))
        .collect()
}

fn link_all(pods: &Path, kept: &Path) {
    // A folder or file that goes meanwhile is no error.
    for pod in list(pods) {
        let name = pod
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if !is_watched(name.split('_').next().unwrap_or_default()) {
            continue;
        }
        for file in list(&pod).iter().flat_map(|container| list(container)) {
            let name = file
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if name.ends_with(".gz") || name.ends_with(".tmp") {
                continue;
            }
            let Ok(facts) = fs::metadata(&file) else {
                continue;
            };
            let to = kept.join(format!("{}.{}", facts.dev(), facts.ino()));
            if !to.exists() {
                let _ = fs::hard_link(&file, &to);
            }
        }
    }
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Adds the records of a file of CRI lines.
pub(super) fn take(bytes: &[u8], numbers: &mut Numbers) {
    let mut open: BTreeMap<&str, String> = BTreeMap::new();
    for line in String::from_utf8_lossy(bytes).lines() {
        let mut words = line.splitn(4, ' ');
        let (Some(_), Some(stream), Some(tag), Some(text)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let stream = if stream == "stderr" {
            "stderr"
        } else {
            "stdout"
        };
        let record = open.entry(stream).or_default();
        record.push_str(text);
        if tag != "F" {
            continue;
        }
        if let Some((run, number, true)) = recognize(record) {
            numbers.entry(run.to_owned()).or_default().insert(number);
        }
        record.clear();
    }
}

/// Namespaces of pods that are killed: what they printed and what stood in a file may differ.
const WATCHED: [&str; 2] = ["kept", "power"];

/// Kubelet unlinks 0.4 s after a container's end at the earliest.
const LINK_EVERY: Duration = Duration::from_millis(30);

#[cfg(test)]
mod tests {
    use harness::print::text;

    use super::*;

    #[test]
    fn records_of_two_parts_count_when_their_end_stands() {
        let (whole, cut) = (text("u/c/0", 499, 40), text("u/c/0", 999, 40));
        let file = format!(
            "t stdout P {}\nt stderr F run=u/c/0 seq=1 end=1\nt stdout F {}\nt stdout P {}\n",
            &whole[..16384],
            &whole[16384..],
            &cut[..16384],
        );
        let mut numbers = Numbers::new();
        take(file.as_bytes(), &mut numbers);
        assert_eq!(
            numbers["u/c/0"].iter().copied().collect::<Vec<_>>(),
            [1, 499]
        );
    }
}
