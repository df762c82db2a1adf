//! What is kept in memory of a segment: a few words, and a slot a frame while it is lent from.

use super::frame::Header;

/// Names of segments end so, and of those set aside.
const SEGMENT: &str = ".seg";
pub(super) const ASIDE: &str = ".damaged";

#[derive(Debug)]
pub(super) struct Segment<F> {
    /// Bytes up to the last whole frame.
    pub(super) size: u64,
    pub(super) owed: u32,
    pub(super) lent: u32,
    pub(super) owed_lines: u64,
    /// Of its first frame.
    pub(super) secs: u32,
    pub(super) damaged: bool,
    /// It was not gone through yet, since it could not be read.
    pub(super) unknown: bool,
    /// It could not be read: not before [`Spool::retry`].
    pub(super) sick: bool,
    /// Of those that are lent from or appended to.
    pub(super) file: Option<F>,
    /// Its frames, once it is lent from.
    pub(super) slots: Option<Vec<Slot>>,
    /// No slot before this one can be lent.
    pub(super) from: usize,
}

impl<F> Segment<F> {
    pub(super) const fn new(size: u64) -> Self {
        Self {
            size,
            owed: 0,
            lent: 0,
            owed_lines: 0,
            secs: 0,
            damaged: false,
            unknown: false,
            sick: false,
            file: None,
            slots: None,
            from: 0,
        }
    }

    pub(super) fn add(&mut self, at: u64, header: &Header) {
        if self.secs == 0 {
            self.secs = header.secs;
        }
        if let Some(slots) = &mut self.slots {
            slots.push(Slot::of(at, header));
        }
        if !header.settled {
            self.owed += 1;
            self.owed_lines += u64::from(header.lines);
        }
    }

    pub(super) fn ended(&mut self, lines: u32) {
        self.owed = self.owed.saturating_sub(1);
        self.owed_lines = self.owed_lines.saturating_sub(u64::from(lines));
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) at: u64,
    pub(super) lines: u32,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Owed,
    Lent,
    Settled,
}

impl Slot {
    pub(super) const fn of(at: u64, header: &Header) -> Self {
        let state = if header.settled {
            State::Settled
        } else {
            State::Owed
        };
        let lines = header.lines;
        Self { at, lines, state }
    }
}

/// The name of a segment's file.
#[must_use]
pub fn name_of(number: u64) -> String {
    format!("{number:016x}{SEGMENT}")
}

pub(super) fn aside_of(number: u64) -> String {
    format!("{number:016x}{ASIDE}")
}

/// The number of a segment, by its file's name.
#[must_use]
pub fn number_of(name: &str) -> Option<u64> {
    let number = u64::from_str_radix(name.strip_suffix(SEGMENT)?, 16).ok()?;
    (name_of(number) == name).then_some(number)
}
