//! The machine's file system: the real `Files`.
//!
//! 1. A log is opened without following a link anywhere below its directory, without blocking, and
//!    only if it is a regular file.
//! 2. Directories are watched for names that come and leave, never for writes; only who watches has
//!    an inotify instance, since a user has 128 of them by default.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::inotify::{self, ReadFlags, WatchFlags};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use crate::base::files::{DirEvent, Entry, EntryKind, Files, Stat, WatchId};
use crate::base::time::Timestamp;

/// The machine's file system.
#[derive(Debug, Default)]
pub struct MachineFiles {
    /// Of who watches directories.
    inotify: Option<OwnedFd>,
}

impl MachineFiles {
    /// Files alone: no directory can be watched.
    #[must_use]
    pub const fn new() -> Self {
        Self { inotify: None }
    }

    /// With an inotify instance, nothing watched yet.
    ///
    /// # Errors
    /// `EMFILE` at `fs.inotify.max_user_instances`.
    pub fn watching() -> io::Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        Ok(Self {
            inotify: Some(inotify::init(flags)?),
        })
    }

    /// A second descriptor of the inotify instance, to wait for.
    ///
    /// # Errors
    /// The system's: no descriptor is free. `Unsupported` without an instance.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.instance()?.try_clone()
    }

    fn instance(&self) -> io::Result<&OwnedFd> {
        let none = || io::Error::from(io::ErrorKind::Unsupported);
        self.inotify.as_ref().ok_or_else(none)
    }
}

impl Files for MachineFiles {
    type File = File;

    fn open_log(&self, path: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::NO_MAGICLINKS;
        let fd = match rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve) {
            // Kernels and policies without openat2: the last component is still not followed.
            Err(Errno::NOSYS | Errno::PERM) => rustix::fs::open(path, flags, Mode::empty())?,
            Err(Errno::LOOP) => return Err(not_a_log("a symbolic link")),
            other => other?,
        };
        let file = File::from(fd);
        if !file.metadata()?.is_file() {
            return Err(not_a_log("no regular file"));
        }
        Ok(file)
    }

    fn stat(&self, file: &File) -> io::Result<Stat> {
        let want = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let stat = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, want)?;
        let born = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        Ok(Stat {
            device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            born_ns: born.then(|| {
                let time = stat.stx_btime;
                time.tv_sec
                    .saturating_mul(1_000_000_000)
                    .saturating_add(i64::from(time.tv_nsec))
            }),
            size: stat.stx_size,
            links: u64::from(stat.stx_nlink),
            modified: Timestamp {
                secs: stat.stx_mtime.tv_sec,
                nanos: stat.stx_mtime.tv_nsec,
            },
        })
    }

    fn read_at(&self, file: &File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::pread(file, into, offset)?)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let kind = match entry.file_type() {
                Ok(kind) if kind.is_file() => EntryKind::File,
                Ok(kind) if kind.is_dir() => EntryKind::Directory,
                _ => EntryKind::Other,
            };
            entries.push(Entry {
                name: entry.file_name(),
                kind,
            });
        }
        Ok(entries)
    }

    fn watch(&self, dir: &Path) -> io::Result<WatchId> {
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR
            | WatchFlags::EXCL_UNLINK;
        Ok(WatchId(inotify::add_watch(self.instance()?, dir, flags)?))
    }

    fn unwatch(&self, watch: WatchId) {
        if let Some(inotify) = &self.inotify {
            // EINVAL: the kernel has ended it already.
            let _ = inotify::remove_watch(inotify, watch.0);
        }
    }

    fn events(&self, events: &mut Vec<DirEvent>) -> io::Result<()> {
        let mut buf = [MaybeUninit::<u8>::uninit(); 16 << 10];
        let mut reader = inotify::Reader::new(self.instance()?, &mut buf);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let (id, flags) = (WatchId(event.wd()), event.events());
            let name = event
                .file_name()
                .map(|name| OsStr::from_bytes(name.to_bytes()).to_owned());
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                events.push(DirEvent::Overflow);
            } else if flags.contains(ReadFlags::IGNORED) {
                events.push(DirEvent::Ended(id));
            } else if let Some(name) = name {
                let came = flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
                events.push(if came {
                    DirEvent::Came(id, name)
                } else {
                    DirEvent::Left(id, name)
                });
            }
        }
    }

    fn load(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        use std::io::Write as _;
        let temporary = path.with_extension("tmp");
        let write = || {
            let mut file = File::create(&temporary)?;
            file.write_all(bytes)?;
            file.sync_data()?;
            std::fs::rename(&temporary, path)
        };
        if let Err(error) = write() {
            // On a full disk a half-written copy would keep others from being written.
            let _ = std::fs::remove_file(&temporary);
            return Err(error);
        }
        match path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }
}

fn not_a_log(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("{what}: only regular files are read"),
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::path::PathBuf;

    use super::*;

    fn dir(name: &str) -> PathBuf {
        let dir =
            std::env::temp_dir().join(format!("tailwake-machine-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn links_directories_and_fifos_are_no_logs() {
        let (files, dir) = (MachineFiles::new(), dir("kinds"));
        std::fs::write(dir.join("0.log"), b"x").unwrap();
        std::os::unix::fs::symlink(dir.join("0.log"), dir.join("link.log")).unwrap();
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(
            CWD,
            dir.join("fifo.log"),
            rustix::fs::FileType::Fifo,
            mode,
            0,
        )
        .unwrap();
        assert!(files.open_log(&dir.join("0.log")).is_ok());
        for bad in ["link.log", "fifo.log", "."] {
            let error = files.open_log(&dir.join(bad)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{bad}: {error}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_watched_directory_tells_what_came_and_left() {
        let (files, dir) = (MachineFiles::watching().unwrap(), dir("watch"));
        let id = files.watch(&dir).unwrap();
        std::fs::write(dir.join("a"), b"").unwrap();
        std::fs::rename(dir.join("a"), dir.join("b")).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        let mut events = Vec::new();
        files.events(&mut events).unwrap();
        let (came, left) = (
            |name: &str| DirEvent::Came(id, name.into()),
            |name: &str| DirEvent::Left(id, name.into()),
        );
        assert_eq!(
            events,
            [
                came("a"),
                left("a"),
                came("b"),
                left("b"),
                DirEvent::Ended(id)
            ]
        );
    }

    #[test]
    fn state_is_replaced_whole() {
        let (files, dir) = (MachineFiles::new(), dir("state"));
        let path = dir.join("positions");
        files.replace(&path, b"one").unwrap();
        files.replace(&path, b"two").unwrap();
        assert_eq!(files.load(&path).unwrap(), b"two");
        assert_eq!(files.list(&dir).unwrap().len(), 1);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
