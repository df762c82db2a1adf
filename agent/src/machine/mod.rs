//! The machine's file system: the real `Files`.
//!
//! 1. A log is opened as `resolve` says: below the allowed roots alone.
//! 2. Directories are watched for names that come and leave, never for writes; only who watches has
//!    an inotify instance, since a user has 128 of them by default.
//! 3. An instance that the system refuses is asked for again with each watch; who waits for events
//!    waits for the epoll instance that it is put into.

pub mod allocator;
mod resolve;
pub mod store;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::event::epoll;
use rustix::fs::inotify::{self, ReadFlags, WatchFlags};
use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;

use self::resolve::Roots;
use crate::base::files::{DirEvent, Entry, EntryKind, Files, Stat, WatchId};
use crate::base::time::Timestamp;

/// The machine's file system.
#[derive(Debug, Default)]
pub struct MachineFiles {
    roots: Roots,
    watching: Option<Watching>,
}

/// Of who watches directories.
#[derive(Debug)]
struct Watching {
    epoll: OwnedFd,
    inotify: OnceLock<OwnedFd>,
}

impl MachineFiles {
    /// Files alone: no directory can be watched. Logs are opened below `roots`.
    #[must_use]
    pub fn new(roots: Vec<PathBuf>) -> Self {
        Self {
            roots: Roots::new(roots),
            watching: None,
        }
    }

    /// With directories to watch, none watched yet.
    ///
    /// # Errors
    /// The system's: no descriptor is free.
    pub fn watching(roots: Vec<PathBuf>) -> io::Result<Self> {
        Ok(Self {
            roots: Roots::new(roots),
            watching: Some(Watching {
                epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
                inotify: OnceLock::new(),
            }),
        })
    }

    /// A descriptor that is readable when there are events.
    ///
    /// # Errors
    /// The system's: no descriptor is free. `Unsupported` where nothing is watched.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        let none = || io::Error::from(io::ErrorKind::Unsupported);
        self.watching.as_ref().ok_or_else(none)?.epoll.try_clone()
    }
}

impl MachineFiles {
    /// For tests that count its watches.
    #[cfg(test)]
    pub(crate) fn inotify_of_test(&self) -> Option<&OwnedFd> {
        self.inotify()
    }

    /// As [`Files::replace`], with what `write` writes.
    ///
    /// # Errors
    /// What `write` or the system says.
    pub fn replace_by(
        &self,
        path: &Path,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let temporary = path.with_extension("tmp");
        let written = File::create(&temporary).and_then(|mut file| {
            write(&mut file)?;
            file.sync_data()?;
            std::fs::rename(&temporary, path)
        });
        if let Err(error) = written {
            // On a full disk a half-written copy would keep others from being written.
            let _ = std::fs::remove_file(&temporary);
            return Err(error);
        }
        match path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    }

    fn inotify(&self) -> Option<&OwnedFd> {
        self.watching.as_ref()?.inotify.get()
    }
}

impl Watching {
    /// The inotify instance, made when it is first needed.
    fn instance(&self) -> io::Result<&OwnedFd> {
        if let Some(inotify) = self.inotify.get() {
            return Ok(inotify);
        }
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let made = inotify::init(flags)?;
        let data = epoll::EventData::new_u64(0);
        epoll::add(&self.epoll, &made, data, epoll::EventFlags::IN)?;
        Ok(self.inotify.get_or_init(|| made))
    }
}

impl Files for MachineFiles {
    type File = File;

    fn open_log(&self, path: &Path) -> io::Result<File> {
        self.roots.open(path, &mut Vec::new())
    }

    fn links(&self, path: &Path) -> Vec<PathBuf> {
        let mut hops = Vec::new();
        // The way counts, also where it ends at nothing; who opens the file hears why.
        let _ = self.roots.open(path, &mut hops);
        hops
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
                Ok(kind) if kind.is_symlink() => EntryKind::Link,
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
        let none = || io::Error::from(io::ErrorKind::Unsupported);
        let inotify = self.watching.as_ref().ok_or_else(none)?.instance()?;
        Ok(WatchId(inotify::add_watch(inotify, dir, flags)?))
    }

    fn unwatch(&self, watch: WatchId) {
        if let Some(inotify) = self.inotify() {
            // EINVAL: the kernel has ended it already.
            let _ = inotify::remove_watch(inotify, watch.0);
        }
    }

    fn events(&self, events: &mut Vec<DirEvent>) -> io::Result<()> {
        let mut buf = [MaybeUninit::<u8>::uninit(); 16 << 10];
        let Some(inotify) = self.inotify() else {
            return Ok(());
        };
        let mut reader = inotify::Reader::new(inotify, &mut buf);
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
        self.replace_by(path, |file| file.write_all(bytes))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }
}
