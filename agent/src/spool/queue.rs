//! The queue: segments in the order of their numbers, lent from at the oldest end.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;

use super::entry::{Entry, entry_of, head_of};
use super::frame::{FRAME_BYTES, Header, SETTLED, STATE_AT};
use super::segment::{ASIDE, Segment, Slot, State, aside_of, name_of, number_of};
use super::walk::{Found, PREFIX_BYTES, Whose, prefix, walk, whose};
use crate::base::store::Store;
use crate::encode::{Origin, SpoolId};

/// Segments that could not be read wholly are kept for a look, this many.
const ASIDE_MAX: usize = 8;

/// What waits in a spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Frames that are owed, lent ones among them.
    pub requests: u64,
    /// Their source lines.
    pub lines: u64,
    /// What all segments take on the disk.
    pub bytes: u64,
    /// When the first of them was spooled, in Unix seconds.
    pub oldest_secs: Option<u32>,
}

/// What could not be read or written, since it was last asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Frames whose content is not what was written.
    pub requests: u64,
    /// Their source lines.
    pub lines: u64,
    /// Bytes between frames that are none.
    pub bytes: u64,
    /// Bytes at the end of the newest segment: what a crash has torn was never taken for spooled.
    pub torn_bytes: u64,
    /// Files that are no segments of this output's; they are left where they are.
    pub foreign_files: u64,
    /// Reads, deletions and marks that failed; they are tried again.
    pub errors: u64,
}

/// A durable queue in one directory.
#[derive(Debug)]
pub struct Spool<S: Store> {
    store: S,
    kind: [u8; 4],
    segment_bytes: u64,
    segments: BTreeMap<u64, Segment<S::File>>,
    /// The one that is appended to.
    newest: Option<u64>,
    next: u64,
    /// What is there is not known yet: the directory could not be listed.
    unlisted: bool,
    /// The newest that was there at the start: what a crash has torn stands at its end.
    last: Option<u64>,
    damage: Damage,
}

impl<S: Store> Spool<S> {
    /// Takes up what is in the directory; `kind` tells outputs apart whose requests are no others', a
    /// segment is closed at `segment_bytes`. Always succeeds: see [`Self::take_damage`].
    pub fn open(store: S, kind: [u8; 4], segment_bytes: u64) -> Self {
        let mut spool = Self {
            store,
            kind,
            segment_bytes,
            segments: BTreeMap::new(),
            newest: None,
            next: 1,
            unlisted: true,
            last: None,
            damage: Damage::default(),
        };
        spool.list();
        spool
    }

    /// Takes up what is in the directory, if it can be listed.
    fn list(&mut self) {
        let Ok(listed) = self.store.list() else {
            self.damage.errors += 1;
            return;
        };
        self.unlisted = false;
        let mut numbers: Vec<(u64, u64)> = Vec::new();
        for (name, size) in listed {
            match number_of(&name) {
                Some(number) => numbers.push((number, size)),
                None if name.ends_with(ASIDE) => {}
                None => self.damage.foreign_files += 1,
            }
        }
        numbers.sort_unstable();
        self.next = numbers.last().map_or(1, |(number, _)| number + 1);
        self.last = numbers.last().map(|(number, _)| *number);
        for (number, size) in numbers {
            self.take_up(number, size);
        }
    }

    /// Whether what was there at the start is known: until then nothing is appended.
    #[must_use]
    pub const fn is_listed(&self) -> bool {
        !self.unlisted
    }

    fn take_up(&mut self, number: u64, size: u64) {
        let newest = Some(number) == self.last;
        let mut segment = Segment::new(size);
        match self.look(number, &mut segment, newest) {
            Ok(Whose::Ours) => {
                self.segments.insert(number, segment);
                self.leave_if_done(number);
            }
            Ok(Whose::Nobodys) => {
                self.damage.torn_bytes += size;
                let _ = self.store.remove(&name_of(number));
            }
            Ok(Whose::Others | Whose::Unknown) => self.damage.foreign_files += 1,
            Err(_) => {
                self.damage.errors += 1;
                let mut segment = Segment::new(size);
                (segment.sick, segment.unknown) = (true, true);
                self.segments.insert(number, segment);
            }
        }
    }

    /// Counts what a segment has; says whose it is. One with frames of ours is ours.
    fn look(
        &mut self,
        number: u64,
        segment: &mut Segment<S::File>,
        newest: bool,
    ) -> io::Result<Whose> {
        let file = self.store.open(&name_of(number))?;
        let mut whose = whose(&self.store, &file, self.kind)?;
        let (mut damage, mut tail) = (0, 0);
        if whose == Whose::Others {
            return Ok(whose);
        }
        let size = segment.size;
        walk(&self.store, &file, size, |found| match found {
            Found::Frame { at, header } => {
                damage += std::mem::take(&mut tail);
                segment.add(at, &header);
            }
            Found::Damage(bytes) => tail += bytes,
        })?;
        if whose != Whose::Ours && segment.secs > 0 {
            damage += PREFIX_BYTES;
            whose = Whose::Ours;
        }
        if whose != Whose::Ours {
            return Ok(whose);
        }
        if newest {
            self.damage.torn_bytes += tail;
            segment.size -= tail;
        } else {
            damage += tail;
        }
        segment.damaged = damage > 0;
        self.damage.bytes += damage;
        Ok(whose)
    }

    /// What waits.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        let mut all = Backlog::default();
        for segment in self.segments.values() {
            all.requests += u64::from(segment.owed);
            all.lines += segment.owed_lines;
            all.bytes += segment.size;
            if segment.owed > 0 && all.oldest_secs.is_none() {
                all.oldest_secs = Some(segment.secs);
            }
        }
        all
    }

    /// Whether some frame could be lent.
    #[must_use]
    pub fn has_more(&self) -> bool {
        let mut segments = self.segments.values();
        segments.any(|segment| segment.owed > segment.lent && !segment.sick)
    }

    /// What went wrong since the last call.
    pub fn take_damage(&mut self) -> Damage {
        std::mem::take(&mut self.damage)
    }

    /// Appends entries: all of them are on the disk when it returns, or none is taken for spooled.
    ///
    /// # Errors
    /// The system's. What of the entries is on the disk nevertheless may be lent after a restart.
    pub fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        let number = match self.newest {
            Some(number) => number,
            None => self.begin()?,
        };
        let Some(segment) = self.segments.get_mut(&number) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let Some(file) = &segment.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let (mut at, mut written) = (segment.size, Vec::with_capacity(entries.len()));
        let mut wrote = Ok(());
        for entry in entries {
            match write(&self.store, file, at, entry) {
                Ok(header) => {
                    written.push((at, header));
                    at += header.frame_bytes();
                }
                Err(error) => {
                    wrote = Err(error);
                    break;
                }
            }
        }
        if let Err(error) = wrote.and_then(|()| self.store.sync(file)) {
            // After a failed sync nobody knows what is on the disk: nothing is appended behind it.
            let _ = self.store.cut(file, segment.size);
            self.close(number);
            return Err(error);
        }
        for (at, header) in written {
            segment.add(at, &header);
        }
        segment.size = at;
        if at >= self.segment_bytes {
            self.close(number);
        }
        Ok(())
    }

    /// Makes a segment.
    fn begin(&mut self) -> io::Result<u64> {
        if self.unlisted {
            return Err(io::Error::other(
                "the spool's directory could not be listed",
            ));
        }
        let number = self.next;
        self.next += 1;
        let name = name_of(number);
        let file = self.store.create(&name)?;
        if let Err(error) = self.store.write_at(&file, 0, &prefix(self.kind)) {
            let _ = self.store.remove(&name);
            return Err(error);
        }
        let mut segment = Segment::new(PREFIX_BYTES);
        segment.file = Some(file);
        self.segments.insert(number, segment);
        self.newest = Some(number);
        Ok(number)
    }

    /// Nothing is appended to it any more.
    fn close(&mut self, number: u64) {
        self.newest = self.newest.filter(|newest| *newest != number);
        if let Some(segment) = self.segments.get_mut(&number)
            && segment.slots.is_none()
        {
            segment.file = None;
        }
        self.leave_if_done(number);
    }

    /// The oldest entry that nobody has. What is damaged on the way is counted.
    pub fn lend(&mut self) -> Option<(SpoolId, Entry)> {
        loop {
            let mut segments = self.segments.iter();
            let waits = |segment: &Segment<S::File>| segment.owed > segment.lent && !segment.sick;
            let (&number, _) = segments.find(|(_, segment)| waits(segment))?;
            match self.lend_of(number) {
                Ok(Some(lent)) => return Some(lent),
                Ok(None) => self.leave_if_done(number),
                Err(_) => {
                    self.damage.errors += 1;
                    if let Some(segment) = self.segments.get_mut(&number) {
                        segment.sick = true;
                    }
                }
            }
        }
    }

    /// The first entry of a segment that nobody has; none where what is owed cannot be read.
    fn lend_of(&mut self, number: u64) -> io::Result<Option<(SpoolId, Entry)>> {
        self.index(number)?;
        let Some(segment) = self.segments.get_mut(&number) else {
            return Ok(None);
        };
        let (Some(file), Some(slots)) = (&segment.file, &mut segment.slots) else {
            return Ok(None);
        };
        let owed = |slot: &Slot| slot.state == State::Owed;
        let Some(place) = slots[segment.from..].iter().position(owed) else {
            // More is owed than stands there: the file has changed.
            let lent = slots.iter().filter(|slot| slot.state == State::Lent);
            let lines = lent.map(|slot| u64::from(slot.lines)).sum();
            self.damage.requests += u64::from(segment.owed - segment.lent);
            self.damage.lines += segment.owed_lines.saturating_sub(lines);
            (segment.owed, segment.owed_lines) = (segment.lent, lines);
            segment.damaged = true;
            return Ok(None);
        };
        let place = segment.from + place;
        let slot = &mut slots[place];
        let read = read(&self.store, file, slot.at)?;
        segment.from = place + 1;
        let Some(entry) = read else {
            slot.state = State::Settled;
            let lines = slot.lines;
            segment.ended(lines);
            segment.damaged = true;
            self.damage.requests += 1;
            self.damage.lines += u64::from(lines);
            return Ok(None);
        };
        slot.state = State::Lent;
        segment.lent += 1;
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        let segment = number;
        Ok(Some((SpoolId { segment, place }, entry)))
    }

    /// Has a segment's slots at hand.
    fn index(&mut self, number: u64) -> io::Result<()> {
        let Some(segment) = self.segments.get_mut(&number) else {
            return Ok(());
        };
        if segment.slots.is_some() {
            return Ok(());
        }
        if segment.file.is_none() {
            segment.file = Some(self.store.open(&name_of(number))?);
        }
        let Some(file) = &segment.file else {
            return Ok(());
        };
        let mut slots = Vec::new();
        walk(&self.store, file, segment.size, |found| {
            if let Found::Frame { at, header } = found {
                slots.push(Slot::of(at, &header));
            }
        })?;
        segment.slots = Some(slots);
        Ok(())
    }

    /// A lent entry was delivered, or rejected and counted.
    pub fn settle(&mut self, id: SpoolId) {
        let Some(slot) = self.end_loan(id, State::Settled) else {
            return;
        };
        let Some(segment) = self.segments.get_mut(&id.segment) else {
            return;
        };
        segment.ended(slot.lines);
        let file = segment.file.as_ref();
        let marked = file.map(|file| self.store.write_at(file, slot.at + STATE_AT, &[SETTLED]));
        if !matches!(marked, Some(Ok(()))) {
            self.damage.errors += 1;
        }
        self.leave_if_done(id.segment);
    }

    /// A lent entry was not delivered: it is lent again.
    pub fn give_back(&mut self, id: SpoolId) {
        if self.end_loan(id, State::Owed).is_some()
            && let Some(segment) = self.segments.get_mut(&id.segment)
        {
            segment.from = segment.from.min(id.place as usize);
        }
    }

    /// Gives the slot of what was lent, as it is now; none for what was not.
    fn end_loan(&mut self, id: SpoolId, state: State) -> Option<Slot> {
        let segment = self.segments.get_mut(&id.segment)?;
        let slot = segment.slots.as_mut()?.get_mut(id.place as usize)?;
        if slot.state != State::Lent {
            return None;
        }
        slot.state = state;
        segment.lent -= 1;
        Some(*slot)
    }

    /// Gives up the oldest segment's entries that nobody has, to make room; says whose they were. Empty
    /// where there is no such segment.
    pub fn drop_oldest(&mut self) -> Vec<Origin> {
        let waits = |segment: &Segment<S::File>| segment.owed > segment.lent;
        let mut segments = self.segments.iter();
        let Some((&number, _)) = segments.find(|(_, segment)| waits(segment)) else {
            return Vec::new();
        };
        self.close(number);
        let mut dropped = Vec::new();
        while self.segments.get(&number).is_some_and(waits) {
            match self.lend_of(number) {
                Ok(Some((id, entry))) => {
                    dropped.extend(entry.origins);
                    self.settle(id);
                }
                Ok(None) => self.leave_if_done(number),
                Err(_) => {
                    self.damage.errors += 1;
                    break;
                }
            }
        }
        dropped
    }

    /// Tries again what failed: the listing, reads of sick segments, and deletions.
    pub fn retry(&mut self) {
        if self.unlisted {
            self.list();
        }
        let numbers: Vec<u64> = self.segments.keys().copied().collect();
        for number in numbers {
            let Some(segment) = self.segments.get_mut(&number) else {
                continue;
            };
            segment.sick = false;
            if segment.unknown {
                let size = segment.size;
                self.segments.remove(&number);
                self.take_up(number, size);
            }
            self.leave_if_done(number);
        }
    }

    /// Waits until the marks of what was settled are on the disk.
    ///
    /// # Errors
    /// The system's: what was settled may be lent again after a restart.
    pub fn sync(&self) -> io::Result<()> {
        let files = self.segments.values().filter_map(|it| it.file.as_ref());
        { files }.try_for_each(|file| self.store.sync(file))
    }

    /// Deletes a segment of which nothing is owed, or sets it aside where some of it was not to be read.
    fn leave_if_done(&mut self, number: u64) {
        let Some(segment) = self.segments.get(&number) else {
            return;
        };
        if segment.owed > 0 || segment.sick {
            return;
        }
        let name = name_of(number);
        let left = if segment.damaged {
            self.store
                .rename(&name, &aside_of(number))
                .map(|()| self.tidy())
        } else {
            self.store.remove(&name)
        };
        match left {
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.damage.errors += 1,
            _ => {
                self.segments.remove(&number);
                self.newest = self.newest.filter(|newest| *newest != number);
            }
        }
    }

    /// Of what was set aside, the oldest go.
    fn tidy(&self) {
        let listed = self.store.list().unwrap_or_default();
        let mut aside: Vec<String> = listed.into_iter().map(|(name, _)| name).collect();
        aside.retain(|name| name.ends_with(ASIDE));
        aside.sort_unstable();
        let many = aside.len().saturating_sub(ASIDE_MAX);
        for name in &aside[..many] {
            let _ = self.store.remove(name);
        }
    }
}

fn write<S: Store>(store: &S, file: &S::File, at: u64, entry: &Entry) -> io::Result<Header> {
    let head = head_of(entry).map_err(io::Error::other)?;
    let bytes = |length: usize| u32::try_from(length).map_err(io::Error::other);
    let header = Header {
        settled: false,
        head_bytes: bytes(head.len())?,
        body_bytes: bytes(entry.body.len())?,
        lines: entry.lines(),
        secs: entry.secs,
        crc: crc32c::crc32c_append(crc32c::crc32c(&head), &entry.body),
    };
    let front = [&header.to_bytes()[..], &head].concat();
    store.write_at(file, at, &front)?;
    store.write_at(file, at + front.len() as u64, &entry.body)?;
    Ok(header)
}

/// The entry of the frame at `at`; none where it is not what was written.
fn read<S: Store>(store: &S, file: &S::File, at: u64) -> io::Result<Option<Entry>> {
    let mut front = [0; FRAME_BYTES];
    if store.read_at(file, at, &mut front)? < front.len() {
        return Ok(None);
    }
    let Some(header) = Header::from_bytes(&front) else {
        return Ok(None);
    };
    let mut bytes = vec![0; header.frame_bytes() as usize - FRAME_BYTES];
    let got = store.read_at(file, at + FRAME_BYTES as u64, &mut bytes)?;
    if got < bytes.len() || crc32c::crc32c(&bytes) != header.crc {
        return Ok(None);
    }
    let mut bytes = Bytes::from(bytes);
    let head = bytes.split_to(header.head_bytes as usize);
    Ok(entry_of(&head, bytes, header.secs))
}
