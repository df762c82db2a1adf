//! Which file systems the log roots lie on: each hook sees only some.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, StatFs, fstatfs, openat, statfs};

use super::overlay::{OVERLAY, Overlay};

// linux/magic.h; read back as the signed or unsigned word of statfs.
const EXT4: u64 = 0xef53;
const TMPFS: u64 = 0x0102_1994;
const XFS: u64 = 0x5846_5342;
const BTRFS: u64 = 0x9123_683e;

/// A set of file systems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kinds {
    pub(crate) ext4: bool,
    pub(crate) tmpfs: bool,
    pub(crate) xfs: bool,
    pub(crate) btrfs: bool,
}

impl Kinds {
    fn has(self, magic: u64) -> bool {
        match magic {
            EXT4 => self.ext4,
            TMPFS => self.tmpfs,
            XFS => self.xfs,
            BTRFS => self.btrfs,
            _ => false,
        }
    }

    fn add(&mut self, magic: u64) {
        match magic {
            EXT4 => self.ext4 = true,
            TMPFS => self.tmpfs = true,
            XFS => self.xfs = true,
            BTRFS => self.btrfs = true,
            _ => {}
        }
    }
}

/// The file systems under the roots; an overlay stands for the one that it writes to.
#[derive(Debug, Default)]
pub(crate) struct FileSystems {
    pub(crate) kinds: Kinds,
    overlays: Vec<Overlay>,
}

impl FileSystems {
    /// Those of these roots; a root that is not there yet counts as its nearest parent.
    pub(crate) fn under<P: AsRef<Path>>(roots: &[P]) -> Self {
        let mut found = Self::default();
        for root in roots {
            // A relative path ends in an empty one, which is here.
            let here = |at| {
                if at == Path::new("") {
                    Path::new(".")
                } else {
                    at
                }
            };
            let seen = |at: &Path| Some((at.to_owned(), statfs(at).ok()?));
            if let Some((at, stat)) = root.as_ref().ancestors().map(here).find_map(seen) {
                found.add(&at, magic(&stat));
            }
        }
        found
    }

    fn add(&mut self, root: &Path, magic: u64) {
        if magic != OVERLAY {
            self.kinds.add(magic);
        } else if let Ok(overlay) = Overlay::of(root)
            && let Ok(upper) = fstatfs(overlay.upper())
        {
            self.kinds.add(self::magic(&upper));
            self.overlays.push(overlay);
        }
    }

    /// A file without a name, written where the directory's files are written.
    pub(crate) fn nameless(&self, directory: &Path) -> io::Result<File> {
        let place = File::open(directory)?;
        let mut overlays = self.overlays.iter();
        let overlay = overlays.find(|overlay| overlay.holds(place.as_fd()));
        let place = overlay.map_or(place.as_fd(), Overlay::upper);
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        Ok(openat(place, c".", flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    /// Whether writes to the file, or to files that are made in the directory, are seen by hooks for
    /// `self.kinds`.
    pub(crate) fn holds(&self, file: BorrowedFd<'_>) -> bool {
        let Ok(found) = fstatfs(file) else {
            return false;
        };
        let magic = magic(&found);
        if magic != OVERLAY {
            return self.kinds.has(magic);
        }
        let written = |overlay: &Overlay| fstatfs(overlay.upper()).map(|found| self::magic(&found));
        let mut overlays = self.overlays.iter();
        overlays.any(|overlay| {
            written(overlay).is_ok_and(|magic| self.kinds.has(magic)) && overlay.holds(file)
        })
    }
}

/// The file system's name, or its magic number.
pub(crate) fn name(found: &StatFs) -> String {
    // linux/magic.h, but for the first four.
    const OTHERS: [(u64, &str); 8] = [
        (OVERLAY, "overlay"),
        (0x6969, "nfs"),
        (0x6573_5546, "fuse"),
        (0xf2f5_2010, "f2fs"),
        (0x2fc1_2fc1, "zfs"),
        (0x9fa0, "proc"),
        (0xca45_1a4e, "bcachefs"),
        (0x0102_1997, "9p"),
    ];
    let magic = magic(found);
    let probed = [
        (EXT4, "ext4"),
        (TMPFS, "tmpfs"),
        (XFS, "xfs"),
        (BTRFS, "btrfs"),
    ];
    let mut all = probed.iter().chain(&OTHERS);
    let known = all.find(|(number, _)| *number == magic);
    known.map_or_else(|| format!("{magic:#x}"), |(_, name)| (*name).to_owned())
}

/// The magic number, without the sign that some architectures give it.
#[expect(clippy::cast_sign_loss, reason = "a bit pattern, not a number")]
fn magic(found: &StatFs) -> u64 {
    found.f_type as u64 & 0xffff_ffff
}
