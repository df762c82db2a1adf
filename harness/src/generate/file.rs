//! One container's log in kubelet's layout, with rotation by rename.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::journal::{Container, Stream};
use crate::text::{hash, rfc3339_nano, rotation_stamp};

/// A log that is appended to and renamed when it is full.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    rotate_bytes: u64,
    /// Lines that still go to the renamed file before the new one is opened.
    late_lines: u32,
}

impl LogFile {
    /// Makes the directories, the log and its symlink.
    pub fn lay_out(
        root: &Path,
        container: &Container,
        number: u32,
        rotate_bytes: u64,
    ) -> Result<Self> {
        let directory = pod_directory(root, container, number).join(&container.name);
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("create {}", directory.display()))?;
        let path = directory.join("0.log");
        let file = open(&path)?;
        let size = file.metadata()?.len();
        let link = containers_link(root, container, number);
        if std::fs::symlink_metadata(&link).is_err() {
            symlink(&path, &link).with_context(|| format!("link {}", link.display()))?;
        }
        Ok(Self {
            path,
            file,
            size,
            rotate_bytes,
            late_lines: 0,
        })
    }

    /// Writes one whole line by one `write`; says whether the file was renamed after it.
    pub fn append(&mut self, line: &[u8], time_ns: u64) -> Result<bool> {
        self.file.write_all(line).context("append to a log")?;
        self.size += line.len() as u64;
        if self.late_lines > 0 {
            self.late_lines -= 1;
            if self.late_lines == 0 {
                self.file = open(&self.path)?;
                self.size = 0;
            }
            return Ok(false);
        }
        if self.rotate_bytes == 0 || self.size < self.rotate_bytes {
            return Ok(false);
        }
        let renamed = self
            .path
            .with_file_name(format!("0.log.{}", rotation_stamp(time_ns)));
        if renamed.exists() {
            return Ok(false);
        }
        std::fs::rename(&self.path, &renamed).context("rename a full log")?;
        self.late_lines = LATE_LINES;
        Ok(true)
    }
}

/// The directory of a pod: `pods/<namespace>_<pod>_<uid>`.
#[must_use]
pub fn pod_directory(root: &Path, container: &Container, number: u32) -> PathBuf {
    let Container { namespace, pod, .. } = container;
    let uid = format!("{number:08x}-0000-4000-8000-{number:012x}");
    root.join("pods").join(format!("{namespace}_{pod}_{uid}"))
}

/// The symlink of a container: `containers/<pod>_<namespace>_<container>-<64 hex>.log`.
#[must_use]
pub fn containers_link(root: &Path, container: &Container, number: u32) -> PathBuf {
    let Container {
        namespace,
        pod,
        name,
    } = container;
    let id: String = (0..4u8)
        .map(|part| format!("{:016x}", hash(format!("{number}{part}").as_bytes())))
        .collect();
    root.join("containers")
        .join(format!("{pod}_{namespace}_{name}-{id}.log"))
}

/// Appends a CRI line.
pub(super) fn push_cri(out: &mut Vec<u8>, time_ns: u64, stream: Stream, full: bool, text: &[u8]) {
    out.extend_from_slice(rfc3339_nano(time_ns).as_bytes());
    out.push(b' ');
    out.extend_from_slice(stream.word().as_bytes());
    out.extend_from_slice(if full { b" F " } else { b" P " });
    out.extend_from_slice(text);
    out.push(b'\n');
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}

/// Lines that reach the renamed file before containerd closes its descriptor.
const LATE_LINES: u32 = 3;
