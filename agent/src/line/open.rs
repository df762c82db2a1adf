//! What a container has open after some of its lines: a record of each stream, and a line.
//!
//! 1. Each stream is looked at by itself: one that stays open says nothing about the other.
//! 2. Text is counted as the encoder counts it or lower, so that what is taken as longer than a record may
//!    be has left the encoder.

use super::docker_end::DockerEnd;

/// Whose record is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Standard output's.
    Stdout,
    /// Standard error's.
    Stderr,
    /// A line's that is longer than a buffer, and no stream's as far as one knows.
    Line,
}

impl Whose {
    /// All of them, in the order of their places.
    pub const ALL: [Self; 3] = [Self::Stdout, Self::Stderr, Self::Line];
}

/// What a whole line, or the beginning of one, means.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) whose: Whose,
    /// Its record goes on in the next line.
    pub(super) open: bool,
    /// Bytes of its text, at the least.
    pub(super) text: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    open: bool,
    /// Pieces that have left it open since nothing was, wrapping.
    seen: u32,
    /// Bytes of the open record's text, at the least; no more than fit.
    bytes: u32,
}

/// A line that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mid {
    whose: Whose,
    /// Whether its record goes on after it.
    open: bool,
    /// Docker's keys, which say both, come at its end.
    docker: Option<DockerEnd>,
    bytes: u32,
}

/// What is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    slots: [Slot; 3],
    line: Option<Mid>,
    beside: bool,
}

impl Open {
    /// Whether nothing is.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.slots.iter().all(|slot| !slot.open)
    }

    /// Whether a record of theirs is.
    #[must_use]
    pub const fn has(&self, whose: Whose) -> bool {
        self.slots[whose as usize].open
    }

    /// Whether an encoder keeps text of a record of theirs: one that is longer than `most` bytes has
    /// left it, and so has a line, and their rest is left out.
    #[must_use]
    pub fn keeps(&self, whose: Whose, most: u64) -> bool {
        let slot = &self.slots[whose as usize];
        let line = self.line.filter(|line| line.whose == whose);
        slot.open && u64::from(line.map_or(slot.bytes, |line| line.bytes)) <= most
    }

    /// Whether an encoder keeps anything.
    #[must_use]
    pub fn keeps_any(&self, most: u64) -> bool {
        Whose::ALL.iter().any(|whose| self.keeps(*whose, most))
    }

    /// How many pieces have left a record of theirs open: it changes when that grows.
    #[must_use]
    pub const fn seen(&self, whose: Whose) -> u32 {
        self.slots[whose as usize].seen
    }

    /// Whether whole lines wait for the end of a record that is open.
    #[must_use]
    pub const fn is_beside(&self) -> bool {
        self.beside
    }

    /// Whether it stands inside a line that goes on.
    #[must_use]
    pub const fn in_line(&self) -> bool {
        self.line.is_some()
    }

    /// Whether it stands inside a line of theirs.
    #[must_use]
    pub fn in_line_of(&self, whose: Whose) -> bool {
        self.line.is_some_and(|line| line.whose == whose)
    }

    /// A record is waited for no longer.
    pub fn end(&mut self, whose: Whose) {
        self.close(whose);
        if self.in_line_of(whose) {
            self.line = None;
        }
        self.tidy();
    }

    /// After a whole line.
    pub(super) fn after(&mut self, part: Part) {
        let was = self.has(part.whose);
        if part.open {
            self.grow(part.whose, part.text);
        } else {
            self.close(part.whose);
            self.beside |= !was;
        }
        self.tidy();
    }

    /// After the first piece of a line that is longer than a buffer; without its end, it is `part`.
    pub(super) fn begun(&mut self, part: Part) {
        self.grow(part.whose, 0);
        self.line = Some(Mid {
            whose: part.whose,
            open: part.open,
            docker: None,
            bytes: fit(part.text),
        });
    }

    /// The same of a line of Docker's.
    pub(super) fn begun_docker(&mut self, piece: &[u8]) {
        self.grow(Whose::Line, 0);
        self.line = Some(Mid {
            whose: Whose::Line,
            open: false,
            docker: Some(DockerEnd::of(piece)),
            bytes: fit(piece.len() as u64),
        });
    }

    /// After a further piece of such a line.
    pub(super) fn goes_on(&mut self, piece: &[u8]) {
        let Some(line) = &mut self.line else { return };
        if let Some(end) = &mut line.docker {
            end.look(piece);
        }
        line.bytes = line.bytes.saturating_add(fit(piece.len() as u64));
        let whose = line.whose;
        self.grow(whose, 0);
    }

    /// Such a line has ended.
    pub(super) fn finished(&mut self) {
        let Some(line) = self.line.take() else { return };
        let part = match line.docker {
            None => Part {
                whose: line.whose,
                open: line.open,
                text: u64::from(line.bytes),
            },
            Some(end) => {
                self.close(line.whose);
                end.part(u64::from(line.bytes))
            }
        };
        self.after(part);
    }

    fn grow(&mut self, whose: Whose, text: u64) {
        let slot = &mut self.slots[whose as usize];
        (slot.open, slot.seen) = (true, slot.seen.wrapping_add(1));
        slot.bytes = slot.bytes.saturating_add(fit(text));
    }

    fn close(&mut self, whose: Whose) {
        let slot = &mut self.slots[whose as usize];
        (slot.open, slot.bytes) = (false, 0);
    }

    fn tidy(&mut self) {
        if self.is_none() {
            *self = Self::default();
        }
    }
}

/// As much of it as a pass has room to count: one of each log is there at all times.
fn fit(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
