//! Where lines come from.

use std::path::PathBuf;

/// One input.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// What kind of input it is.
    pub kind: InputKind,
    /// Where a file that was there before the first start is begun.
    pub start_at: StartAt,
}

/// The kinds of input.
#[derive(Clone, Debug)]
pub enum InputKind {
    /// Kubelet's tree: `<root>/<namespace>_<pod>_<uid>/<container>/<attempt>.log`.
    Pods {
        /// Usually `/var/log/pods`.
        root: PathBuf,
    },
}

/// Where a file that was there before the first start is begun. Files that come later are always
/// read from their first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// At the first byte of the oldest plain file.
    #[default]
    Beginning,
    /// At the end of the newest file.
    End,
    /// Files last written no longer ago than this many seconds are begun at their first byte,
    /// others at their end.
    Age {
        /// Seconds.
        secs: u64,
    },
}
