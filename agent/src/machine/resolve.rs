//! Paths to log files, resolved by the agent itself and below the allowed roots alone.
//!
//! ```text
//! path -> the root that holds it -> openat2 beneath it, no link -> regular file
//!   ^                                   | a link on the way
//!   +------ target, if a root holds it -+      LINKS_MAX times at the most
//! ```
//!
//! 1. Below a root the kernel follows no link, magic links least of all; `..` is not walked.
//! 2. A link is followed by its text, and only to a path that an allowed root holds. Roots are the
//!    config's own and may be links themselves; both their spellings count.
//! 3. Only a regular file is opened for reading; what is something else is only looked at.
//! 4. Where openat2 is refused the same is done component by component, each relative to the
//!    descriptor of the one before, with the same answers.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::base::files::Refusal;

/// Links of one path that the agent follows: `/var/log/containers` leads to `/var/log/pods`, and
/// that to docker's directory.
const LINKS_MAX: usize = 2;

/// For a look without opening.
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// For reading: a FIFO or a terminal that took the file's place in between holds nobody up.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// The allowed roots.
#[derive(Debug, Default)]
pub(super) struct Roots {
    roots: Vec<Root>,
    /// openat2 was refused once: it is not asked again.
    walks: AtomicBool,
}

#[derive(Debug)]
struct Root {
    /// As the config spells it.
    path: PathBuf,
    open: Mutex<Option<Arc<Open>>>,
}

#[derive(Debug)]
struct Open {
    fd: OwnedFd,
    /// Without any link.
    real: PathBuf,
}

/// What a path below a root is.
enum Found {
    File(File),
    /// A link on the way leads on to this path.
    Link(PathBuf),
}

impl Roots {
    pub(super) fn new(roots: Vec<PathBuf>) -> Self {
        let root = |path| Root {
            path,
            open: Mutex::default(),
        };
        let roots: Vec<Root> = roots.into_iter().map(root).collect();
        // What is there is opened now; what comes later, when it is first needed.
        roots.iter().for_each(|root| drop(root.open()));
        Self {
            roots,
            walks: AtomicBool::new(false),
        }
    }

    /// Never asks for openat2.
    #[cfg(test)]
    pub(super) fn walking(roots: Vec<PathBuf>) -> Self {
        let roots = Self::new(roots);
        roots.walks.store(true, Ordering::Relaxed);
        roots
    }

    #[cfg(test)]
    pub(super) fn walks(&self) -> bool {
        self.walks.load(Ordering::Relaxed)
    }

    /// Opens the regular file at `path`. The paths that its links lead over go to `hops`, also
    /// where the last is not there.
    pub(super) fn open(&self, path: &Path, hops: &mut Vec<PathBuf>) -> io::Result<File> {
        let mut at = path.to_owned();
        loop {
            match self.open_beneath(&at)? {
                Found::File(file) => return Ok(file),
                Found::Link(_) if hops.len() == LINKS_MAX => {
                    return Err(Refusal::TooManyLinks.into());
                }
                Found::Link(to) => {
                    // A link out of the roots is refused here, before anything there is touched.
                    self.holding(&to)?;
                    hops.push(to.clone());
                    at = to;
                }
            }
        }
    }

    fn open_beneath(&self, path: &Path) -> io::Result<Found> {
        let (root, open, rest) = self.holding(path)?;
        let found = self.open_at(&open, &rest);
        match found {
            // The root itself may have been replaced since it was opened.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let again = root.open_again(&open)?;
                again.map_or(Err(error), |open| self.open_at(&open, &rest))
            }
            found => found,
        }
    }

    fn open_at(&self, open: &Open, rest: &Path) -> io::Result<Found> {
        if !self.walks.load(Ordering::Relaxed) {
            match beneath(open.fd.as_fd(), rest) {
                Ok(file) => return Ok(Found::File(file)),
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::NOSYS | Errno::PERM) => self.walks.store(true, Ordering::Relaxed),
                    // A link, and which one? Or a race that the kernel gave up on.
                    Some(Errno::LOOP | Errno::AGAIN) => {}
                    _ => return Err(error),
                },
            }
        }
        walk(open, rest)
    }

    /// The deepest root that holds `path`, and the path below it.
    fn holding(&self, path: &Path) -> io::Result<(&Root, Arc<Open>, PathBuf)> {
        let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        if !path.components().all(plain) {
            return Err(Refusal::OutOfRoots.into());
        }
        let mut best: Option<(&Root, PathBuf)> = None;
        let mut depth = 0;
        for root in &self.roots {
            let real = root.open().ok().map(|open| open.real.clone());
            for spelt in [Some(&root.path), real.as_ref()].into_iter().flatten() {
                let Ok(rest) = path.strip_prefix(spelt) else {
                    continue;
                };
                let deep = spelt.components().count();
                if deep > depth && !rest.as_os_str().is_empty() {
                    (best, depth) = (Some((root, rest.to_owned())), deep);
                }
            }
        }
        let (root, rest) = best.ok_or(Refusal::OutOfRoots)?;
        Ok((root, root.open()?, rest))
    }
}

impl Root {
    fn open(&self) -> io::Result<Arc<Open>> {
        let mut held = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*held {
            return Ok(Arc::clone(open));
        }
        let open = Arc::new(self.open_now()?);
        *held = Some(Arc::clone(&open));
        Ok(open)
    }

    /// What the root is now, if that is another directory than `was`.
    fn open_again(&self, was: &Open) -> io::Result<Option<Arc<Open>>> {
        let now = self.open_now()?;
        let (a, b) = (rustix::fs::fstat(&was.fd)?, rustix::fs::fstat(&now.fd)?);
        if same(&a, &b) {
            return Ok(None);
        }
        let now = Arc::new(now);
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&now));
        Ok(Some(now))
    }

    fn open_now(&self) -> io::Result<Open> {
        let real = std::fs::canonicalize(&self.path)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&real, flags, Mode::empty())?;
        Ok(Open { fd, real })
    }
}

/// By openat2; `ELOOP` where a link is on the way.
fn beneath(root: BorrowedFd<'_>, rest: &Path) -> io::Result<File> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let open = |flags| rustix::fs::openat2(root, rest, flags, Mode::empty(), resolve);
    // With NOFOLLOW a descriptor of the link itself would be the answer.
    let look = open(LOOK.difference(OFlags::NOFOLLOW))?;
    let seen = regular(&look)?;
    let file = open(READ)?;
    check(&seen, &file)?;
    Ok(File::from(file))
}

/// Component by component; stops at the first link.
fn walk(root: &Open, rest: &Path) -> io::Result<Found> {
    let parts: Vec<&OsStr> = rest.iter().collect();
    let mut dir: Option<OwnedFd> = None;
    for (depth, part) in parts.iter().enumerate() {
        let at = dir.as_ref().map_or(root.fd.as_fd(), AsFd::as_fd);
        let look = rustix::fs::openat(at, *part, LOOK, Mode::empty())?;
        let seen = rustix::fs::fstat(&look)?;
        if kind(&seen) == FileType::Symlink {
            let text = rustix::fs::readlinkat(&look, c"", Vec::new())?;
            let text = PathBuf::from(OsString::from_vec(text.into_bytes()));
            let here: PathBuf = parts[..depth].iter().collect();
            let below: PathBuf = parts[depth + 1..].iter().collect();
            return Ok(Found::Link(lead(&root.real.join(here), &text, &below)));
        }
        if depth + 1 < parts.len() {
            dir = Some(look);
            continue;
        }
        regular(&look)?;
        let file = match rustix::fs::openat(at, *part, READ, Mode::empty()) {
            // It became a link just now: discovery hears of that and says so.
            Err(Errno::LOOP) => return Err(Refusal::NotRegular.into()),
            file => file?,
        };
        check(&seen, &file)?;
        return Ok(Found::File(File::from(file)));
    }
    Err(Refusal::NotRegular.into())
}

/// Where a link in `dir` with this `text` leads, with what is `below` it. `dir` has no link in it,
/// so that its `..` may be taken by text; the kernel is never given one.
fn lead(dir: &Path, text: &Path, below: &Path) -> PathBuf {
    let mut path = PathBuf::new();
    for part in dir.join(text).join(below).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            Component::Normal(_) | Component::RootDir | Component::Prefix(_) => path.push(part),
        }
    }
    path
}

fn regular(look: &OwnedFd) -> io::Result<Stat> {
    let seen = rustix::fs::fstat(look)?;
    if kind(&seen) != FileType::RegularFile {
        return Err(Refusal::NotRegular.into());
    }
    Ok(seen)
}

/// What was opened is what was looked at.
fn check(seen: &Stat, file: &OwnedFd) -> io::Result<()> {
    let now = regular(file)?;
    // It was renamed and made anew in between: discovery hears of both.
    if !same(seen, &now) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(())
}

fn same(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}
