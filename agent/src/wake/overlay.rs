//! Overlays among the roots: the kernel writes a file of theirs at an inode of the upper file system,
//! which is the one that hooks see.
//!
//! 1. They are found at start; files of an overlay that is mounted later take inotify.
//! 2. A file counts as seen when the upper directory has one of its number at its path. One that came
//!    up from a lower layer keeps showing the lower number, so it takes inotify, and so does one that
//!    is still below, or whose upper directory cannot be reached from here (inside a container).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};

/// What statfs says of them (linux/magic.h).
pub(crate) const OVERLAY: u64 = 0x794c_7630;

/// One mounted overlay.
#[derive(Debug)]
pub(crate) struct Overlay {
    mount: u64,
    /// Where it is mounted.
    point: PathBuf,
    /// The directory of the upper file system that stands for `point`.
    upper: File,
}

impl Overlay {
    /// The overlay that this directory lies on.
    pub(crate) fn of(directory: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path: &Path| rustix::fs::open(path, flags, Mode::empty());
        let mount = mount_of(open(directory)?.as_fd())?;
        let table = std::fs::read("/proc/self/mountinfo")?;
        let (point, upper) = table
            .split(|byte| *byte == b'\n')
            .find_map(|line| read_line(line, mount))
            .ok_or(io::ErrorKind::NotFound)?;
        Ok(Self {
            mount,
            point,
            upper: File::from(open(&upper)?),
        })
    }

    /// Where the files are really written.
    pub(crate) fn upper(&self) -> BorrowedFd<'_> {
        self.upper.as_fd()
    }

    /// Whether writes to this file, or to files that are made in this directory, are seen above.
    pub(crate) fn holds(&self, file: BorrowedFd<'_>) -> bool {
        self.look(file).unwrap_or(false)
    }

    fn look(&self, file: BorrowedFd<'_>) -> io::Result<bool> {
        if mount_of(file)? != self.mount {
            return Ok(false);
        }
        let here = rustix::fs::fstat(file)?;
        if FileType::from_raw_mode(here.st_mode) == FileType::Directory {
            return Ok(true);
        }
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let Ok(path) = path.strip_prefix(&self.point) else {
            return Ok(false);
        };
        let there = rustix::fs::statat(&self.upper, path, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(there.st_ino == here.st_ino)
    }
}

fn mount_of(file: BorrowedFd<'_>) -> io::Result<u64> {
    let found = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    Ok(found.stx_mnt_id)
}

/// Mount point and upper directory, from the line of /proc/self/mountinfo that has this number:
/// `36 35 0:30 /root /mnt rw shared:1 - overlay none rw,lowerdir=/l,upperdir=/u,workdir=/w`.
fn read_line(line: &[u8], mount: u64) -> Option<(PathBuf, PathBuf)> {
    let mut words = line.split(|byte| *byte == b' ');
    let number = std::str::from_utf8(words.next()?).ok()?;
    if number.parse() != Ok(mount) {
        return None;
    }
    let (root, point) = (plain(words.nth(2)?), plain(words.next()?));
    let options = words.skip_while(|word| *word != b"-").nth(3)?;
    let upper = options
        .split(|byte| *byte == b',')
        .find_map(|option| option.strip_prefix(b"upperdir="))?;
    let below = root.strip_prefix("/").ok()?;
    Some((point, plain(upper).join(below)))
}

/// The name with its `\040` taken back.
fn plain(word: &[u8]) -> PathBuf {
    let mut name = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'\\').then(|| after.get(..3)).flatten();
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                name.push(byte);
                rest = &after[3..];
            }
            None => {
                name.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(name))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_line_names_the_mount_point_and_the_upper_directory() {
        let line = br"36 35 0:30 /pods /var/log/a\040b rw shared:1 master:2 - overlay none rw,lowerdir=/l:/m,upperdir=/u\040p,workdir=/w";
        let want = (PathBuf::from("/var/log/a b"), PathBuf::from("/u p/pods"));
        assert_eq!(read_line(line, 36), Some(want));
        assert_eq!(read_line(line, 35), None);
        let read_only = b"36 35 0:30 / /mnt rw - overlay none ro,lowerdir=/l:/m";
        assert_eq!(read_line(read_only, 36), None);
        assert_eq!(plain(br"a\b\04"), Path::new(OsStr::from_bytes(br"a\b\04")));
    }
}
