//! Which file systems the log roots lie on: each hook sees only some.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{StatFs, fstatfs, statfs};

// linux/magic.h; read back as the signed or unsigned word of statfs.
const EXT4: u64 = 0xef53;
const TMPFS: u64 = 0x0102_1994;
const XFS: u64 = 0x5846_5342;
const BTRFS: u64 = 0x9123_683e;

/// A set of file systems. Overlays are in none of them: a file there bears another inode number in
/// the kernel than `stat` shows, so it is left to inotify.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kinds {
    pub(crate) ext4: bool,
    pub(crate) tmpfs: bool,
    pub(crate) xfs: bool,
    pub(crate) btrfs: bool,
}

impl Kinds {
    /// The kinds under these roots; a root that is not there yet counts as its nearest parent.
    pub(crate) fn of<P: AsRef<Path>>(roots: &[P]) -> Self {
        let mut kinds = Self::default();
        for root in roots {
            if let Some(found) = root.as_ref().ancestors().find_map(|at| {
                let at = if at.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    at
                };
                statfs(at).ok()
            }) {
                match magic(&found) {
                    EXT4 => kinds.ext4 = true,
                    TMPFS => kinds.tmpfs = true,
                    XFS => kinds.xfs = true,
                    BTRFS => kinds.btrfs = true,
                    _ => {}
                }
            }
        }
        kinds
    }

    /// Whether the file lies on one of these.
    pub(crate) fn holds(self, file: BorrowedFd<'_>) -> bool {
        let Ok(found) = fstatfs(file) else {
            return false;
        };
        match magic(&found) {
            EXT4 => self.ext4,
            TMPFS => self.tmpfs,
            XFS => self.xfs,
            BTRFS => self.btrfs,
            _ => false,
        }
    }
}

/// The file system's name, or its magic number.
pub(crate) fn name(found: &StatFs) -> String {
    // linux/magic.h, but for the first four.
    const OTHERS: [(u64, &str); 8] = [
        (0x794c_7630, "overlay"),
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
