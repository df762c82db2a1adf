//! Named scenarios: the faults that other collectors have met, one by one.
//!
//! ```text
//! Script: node, servers and agent, moved by name --by many seeds--> turns, sizes and gaps differ
//! ```
//!
//! 1. Each names its row of the list of faults; rows that no simulation can show (those of a disk
//!    queue) are not here.
//! 2. A scenario ends as [`Script::end`] demands; what it adds is said in its first lines.

mod content;
mod ends;
mod refused;
mod rotation;
mod script;
mod state;
mod watch;

use crate::run::Summary;
pub(crate) use script::{Script, Setting};

/// A fault with its script.
#[derive(Debug)]
pub struct Scenario {
    /// The row.
    pub name: &'static str,
    /// What happens, in a line.
    pub about: &'static str,
    setting: Setting,
    play: fn(&mut Script) -> Result<(), String>,
}

/// Seeds that each scenario is played with.
pub(crate) const SEEDS: u64 = 20;

/// All of them.
pub const ALL: &[Scenario] = &[
    usual(
        "R1",
        "renamed with bytes unread, and written to afterwards",
        rotation::renamed_unread,
    ),
    usual(
        "R2",
        "several rotations between two looks",
        rotation::in_a_blink,
    ),
    usual(
        "R3",
        "compressed while it is read: .tmp, .gz, both, then .gz alone",
        rotation::compressed,
    ),
    usual(
        "R4",
        "rotated late, at many times the limit; compressing fails",
        rotation::late_and_large,
    ),
    usual(
        "R5",
        "deleted before it was read: told to the byte",
        ends::deleted_unread,
    ),
    usual(
        "R6",
        "a pod deleted while its files are open; pods of some milliseconds",
        ends::deleted_open,
    ),
    usual(
        "R7",
        "a new pod is read from its first byte, at once",
        ends::found_at_once,
    ),
    usual(
        "R8",
        "a record that lies across a rotation",
        rotation::record_across,
    ),
    usual("R9", "parts of two streams, mixed", content::streams_mixed),
    usual(
        "R10",
        "torn lines, empty records, parts without end",
        content::torn_lines,
    ),
    usual(
        "R11",
        "truncated, and grown past the old place",
        content::truncated,
    ),
    usual(
        "R12",
        "a file's number goes to its successor",
        content::number_again,
    ),
    usual(
        "R13",
        "files that are alike: empty, tiny, with the same beginning",
        content::alike,
    ),
    usual("R14", "renamed in a circle", rotation::circle),
    usual(
        "R15",
        "links led elsewhere, removed first, or leading out",
        watch::links,
    ),
    usual(
        "R16",
        "positions full of NULs, cut, altered, missing",
        state::damaged_positions,
    ),
    usual(
        "R17",
        "killed while nothing is answered: no position came first",
        state::stored_too_early,
    ),
    usual("R20", "a start with a large backlog", state::backlog),
    usual(
        "R21",
        "a bulk of which some items are refused",
        refused::bulk_items,
    ),
    usual(
        "R22",
        "Loki's refusals: lines, streams, rates, and no answer",
        refused::push_limits,
    ),
    usual("R24", "pods come and go, names come again", ends::churn),
    swept(
        "R25",
        "one file's disk is sick, the others go on",
        watch::sick_disk,
    ),
    swept(
        "R26",
        "nothing announces itself: the sweep finds it",
        watch::unannounced,
    ),
    usual(
        "R27",
        "killed again and again, under a clock that jumps",
        state::killed,
    ),
    usual(
        "R27-end",
        "told to end: what was read is delivered, and never again",
        state::told_to_end,
    ),
];

const fn usual(
    name: &'static str,
    about: &'static str,
    play: fn(&mut Script) -> Result<(), String>,
) -> Scenario {
    Scenario {
        name,
        about,
        setting: Setting::USUAL,
        play,
    }
}

const fn swept(
    name: &'static str,
    about: &'static str,
    play: fn(&mut Script) -> Result<(), String>,
) -> Scenario {
    let setting = Setting {
        sweeps: true,
        ..Setting::USUAL
    };
    Scenario {
        setting,
        ..usual(name, about, play)
    }
}

impl Scenario {
    /// The scenario of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|scenario| scenario.name == name)
    }

    /// Plays one seed.
    ///
    /// # Errors
    /// What went wrong, after the trace if one was asked for.
    pub fn run(&self, seed: u64, trace: bool) -> Result<Summary, String> {
        let mut script = Script::new(self.setting, seed, trace)?;
        let done = (self.play)(&mut script).and_then(|()| script.end());
        script.sum_up(done)
    }
}
