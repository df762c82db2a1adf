//! The inotify rung: a one-shot watch per file, all in one instance per reader.
//!
//! ```text
//! arm -> add_watch(/proc/self/fd/N, MODIFY | ONESHOT) -> write -> MODIFY, IGNORED -> tokens
//! ```
//!
//! 1. After it has fired a watch costs the writer nothing until it is armed again.
//! 2. The kernel removes a fired watch after it has queued the event, so that an `arm` in between
//!    may land on the dying watch. The IGNORED that follows then carries a descriptor that counts
//!    as armed, and wakes: no arm is lost.
//! 3. When the queue overflows every token is woken, and this is counted.
//! 4. Several tokens of one inode share one kernel watch and are woken together.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use smallvec::SmallVec;

use super::WakeCounters;

/// Bytes of events taken by one read: 256 events.
const BATCH_BYTES: usize = 4096;

type Tokens = SmallVec<[u32; 2]>;

/// One watched file.
#[derive(Debug)]
struct Watched {
    /// Its descriptor under /proc, the only name that cannot be renamed away.
    path: CString,
    /// The kernel's watch, when armed.
    armed: Option<i32>,
}

/// One reader's watches.
#[derive(Debug)]
pub(crate) struct Inotify {
    fd: OwnedFd,
    /// By kernel watch: who waits for it.
    armed: HashMap<i32, Tokens>,
    watched: HashMap<u32, Watched>,
    pub(crate) counters: WakeCounters,
}

impl Inotify {
    pub(crate) fn new() -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self {
            fd,
            armed: HashMap::new(),
            watched: HashMap::new(),
            counters: WakeCounters::default(),
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Remembers the file; the caller keeps it open until `unwatch`.
    pub(crate) fn watch(&mut self, token: u32, file: BorrowedFd<'_>) -> io::Result<()> {
        let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        self.unwatch(token);
        self.watched.insert(token, Watched { path, armed: None });
        Ok(())
    }

    pub(crate) fn unwatch(&mut self, token: u32) {
        let Some(Watched {
            armed: Some(descriptor),
            ..
        }) = self.watched.remove(&token)
        else {
            return;
        };
        let Some(tokens) = self.armed.get_mut(&descriptor) else {
            return;
        };
        tokens.retain(|other| *other != token);
        if tokens.is_empty() {
            self.armed.remove(&descriptor);
            // It may have fired meanwhile: then it is gone already.
            let _ = inotify::remove_watch(&self.fd, descriptor);
        }
    }

    /// From here on the next write queues an event.
    pub(crate) fn arm(&mut self, token: u32) -> io::Result<()> {
        let watched = self
            .watched
            .get_mut(&token)
            .ok_or(io::ErrorKind::NotFound)?;
        let flags = WatchFlags::MODIFY | WatchFlags::ONESHOT;
        let descriptor = inotify::add_watch(&self.fd, watched.path.as_c_str(), flags)?;
        if let Some(old) = watched.armed.replace(descriptor)
            && old != descriptor
            && let Some(tokens) = self.armed.get_mut(&old)
        {
            tokens.retain(|other| *other != token);
        }
        let tokens = self.armed.entry(descriptor).or_default();
        if !tokens.contains(&token) {
            tokens.push(token);
        }
        Ok(())
    }

    /// Appends the woken tokens; returns how many.
    pub(crate) fn drain(&mut self, woken: &mut Vec<u32>) -> io::Result<usize> {
        let before = woken.len();
        let mut bytes = [MaybeUninit::uninit(); BATCH_BYTES];
        let mut reader = inotify::Reader::new(&self.fd, &mut bytes);
        loop {
            let (descriptor, what) = match reader.next() {
                Ok(event) => (event.wd(), event.events()),
                Err(Errno::AGAIN) => return Ok(woken.len() - before),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if what.contains(ReadFlags::QUEUE_OVERFLOW) {
                self.counters.overflows += 1;
                self.armed.clear();
                for (token, watched) in &mut self.watched {
                    watched.armed = None;
                    woken.push(*token);
                }
                continue;
            }
            let Some(tokens) = self.armed.remove(&descriptor) else {
                // The IGNORED after each shot, as a rule.
                self.counters.stale += u64::from(what.contains(ReadFlags::MODIFY));
                continue;
            };
            self.counters.events += 1;
            for token in tokens {
                if let Some(watched) = self.watched.get_mut(&token) {
                    watched.armed = None;
                    woken.push(token);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::fs::File;
    use std::io::Write;

    use super::*;

    fn woken(inotify: &mut Inotify) -> Vec<u32> {
        let mut woken = Vec::new();
        inotify.drain(&mut woken).unwrap();
        woken.sort_unstable();
        woken
    }

    #[test]
    fn wakes_once_per_arm_and_all_tokens_of_one_inode() {
        let path = std::env::temp_dir().join(format!("tailwake-inotify-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        let (one, two) = (File::open(&path).unwrap(), File::open(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        let mut inotify = Inotify::new().unwrap();
        inotify.watch(1, one.as_fd()).unwrap();
        inotify.watch(2, two.as_fd()).unwrap();
        file.write_all(b"not armed").unwrap();
        assert!(woken(&mut inotify).is_empty());
        inotify.arm(1).unwrap();
        inotify.arm(2).unwrap();
        file.write_all(b"a").unwrap();
        file.write_all(b"b").unwrap();
        assert_eq!(woken(&mut inotify), [1, 2]);
        inotify.arm(2).unwrap();
        inotify.unwatch(1);
        file.write_all(b"c").unwrap();
        assert_eq!(woken(&mut inotify), [2]);
        file.write_all(b"d").unwrap();
        assert!(woken(&mut inotify).is_empty());
        inotify.arm(2).unwrap();
        inotify.unwatch(2);
        file.write_all(b"e").unwrap();
        assert!(woken(&mut inotify).is_empty());
        assert_eq!(inotify.arm(2).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(inotify.counters.events, 2);
    }
}
