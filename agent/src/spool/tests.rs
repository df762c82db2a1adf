//! A spool against a simple model, over a directory that tears, fails, forgets and flips.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::base::store::Store;
use crate::encode::{Encoding, Item, Origin, SpoolId};

const KIND: [u8; 4] = *b"test";

/// So small that most runs have several.
const SEGMENT_BYTES: u64 = 700;

#[derive(Clone, Debug, Default)]
struct Disk(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Content>,
    /// Taken out, and perhaps there again after a crash.
    removed: BTreeMap<String, Content>,
    ills: Ills,
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Ills {
    /// Bytes that may still be written.
    room: Option<usize>,
    sync: bool,
    read: bool,
    remove: bool,
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl Store for Disk {
    type File = String;

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let state = self.0.borrow();
        let files = state.files.iter();
        Ok(files
            .map(|(name, it)| (name.clone(), it.now.len() as u64))
            .collect())
    }

    fn create(&self, name: &str) -> io::Result<String> {
        let mut state = self.0.borrow_mut();
        if state.ills.room == Some(0) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if state.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.files.insert(name.to_owned(), Content::default());
        Ok(name.to_owned())
    }

    fn open(&self, name: &str) -> io::Result<String> {
        let state = self.0.borrow();
        if state.ills.read {
            return Err(eio());
        }
        let there = state.files.contains_key(name);
        there
            .then(|| name.to_owned())
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn read_at(&self, file: &String, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let state = self.0.borrow();
        if state.ills.read {
            return Err(eio());
        }
        let bytes = state.files.get(file).map_or(&[][..], |it| &it.now);
        let from = bytes.get(at as usize..).unwrap_or_default();
        let take = from.len().min(into.len());
        into[..take].copy_from_slice(&from[..take]);
        Ok(take)
    }

    fn write_at(&self, file: &String, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        let room = state.ills.room.unwrap_or(usize::MAX);
        let take = bytes.len().min(room);
        if let Some(left) = &mut state.ills.room {
            *left -= take;
        }
        let now = &mut state.files.get_mut(file).ok_or_else(eio)?.now;
        let (at, end) = (at as usize, at as usize + take);
        if now.len() < end {
            now.resize(end, 0);
        }
        now[at..end].copy_from_slice(&bytes[..take]);
        if take < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn cut(&self, file: &String, size: u64) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        let it = state.files.get_mut(file).ok_or_else(eio)?;
        it.now.truncate(size as usize);
        Ok(())
    }

    fn sync(&self, file: &String) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        if state.ills.sync {
            return Err(eio());
        }
        let it = state.files.get_mut(file).ok_or_else(eio)?;
        it.synced = it.now.clone();
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        if state.ills.remove {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let gone = state.files.remove(name).ok_or(io::ErrorKind::NotFound)?;
        state.removed.insert(name.to_owned(), gone);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        if state.ills.remove {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let moved = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.files.insert(to.to_owned(), moved);
        Ok(())
    }
}

impl Disk {
    /// Power goes: of what was not synced, any part may be there, the end first to be missing.
    fn crash(&self, luck: u64) {
        let mut state = self.0.borrow_mut();
        let state = &mut *state;
        for (place, (name, it)) in (0u32..).zip(std::mem::take(&mut state.removed)) {
            if luck.rotate_left(place) & 1 == 1 {
                state.files.entry(name).or_insert(it);
            }
        }
        for (place, it) in (0u32..).zip(state.files.values_mut()) {
            let luck = luck.rotate_right(7 * place + 3);
            let (old, new) = (it.synced.len(), it.now.len());
            match luck % 4 {
                0 => it.now = it.synced.clone(),
                1 => {}
                // Torn: the marks in old frames are as they were, the end is cut.
                2 => {
                    it.now
                        .truncate(old + (new.saturating_sub(old)) * (luck as usize % 97) / 97);
                    let keep = old.min(it.now.len());
                    it.now[..keep].copy_from_slice(&it.synced[..keep]);
                }
                // The size is there, the bytes are not.
                _ => {
                    let from = old.min(new) + new.saturating_sub(old) * (luck as usize % 89) / 89;
                    it.now[from..].fill(0);
                }
            }
            it.synced = it.now.clone();
        }
    }

    fn ills(&self, change: impl FnOnce(&mut Ills)) {
        change(&mut self.0.borrow_mut().ills);
    }
}

fn entry(number: u64) -> Entry {
    let length = 1 + (number * 37 % 200) as usize;
    let mut body = number.to_le_bytes().to_vec();
    body.resize(8 + length, number as u8);
    let lines = 1 + (number % 5) as u32;
    Entry {
        tenant: number.is_multiple_of(3).then(|| Arc::from("team")),
        encoder: number as u16 % 4,
        body: Bytes::from(body),
        encoding: [Encoding::Snappy, Encoding::Gzip(1), Encoding::Plain][number as usize % 3],
        inflated: 1000 + number,
        items: vec![Item {
            range: 3..900,
            group: 0,
            ticket: 0,
            held: 0,
            lines,
        }],
        groups: vec![0..3, 3..9],
        origins: vec![Origin {
            log: Arc::from(format!("log-{number}")),
            lines,
            bytes: 897,
        }],
        secs: 1_000 + number as u32,
    }
}

fn number_of(entry: &Entry) -> u64 {
    u64::from_le_bytes(entry.body[..8].try_into().unwrap())
}

#[derive(Clone, Debug)]
enum Op {
    Append(u8),
    Lend,
    Settle(u8),
    GiveBack(u8),
    Crash(u64),
    Restart,
    Room(Option<u16>),
    Sync(bool),
    Read(bool),
    Remove(bool),
    Flip(u16, u16),
    Lose(u8),
    DropOldest,
    Retry,
}

fn ops(spoiling: bool) -> impl Strategy<Value = Vec<Op>> {
    let often = prop_oneof![
        (1u8..6).prop_map(Op::Append),
        Just(Op::Lend),
        any::<u8>().prop_map(Op::Settle),
    ];
    let faults = prop_oneof![
        any::<u8>().prop_map(Op::GiveBack),
        any::<u64>().prop_map(Op::Crash),
        Just(Op::Restart),
        prop::option::of(0u16..900).prop_map(Op::Room),
        any::<bool>().prop_map(Op::Sync),
        any::<bool>().prop_map(Op::Read),
        any::<bool>().prop_map(Op::Remove),
        Just(Op::DropOldest),
        Just(Op::Retry),
    ];
    let spoils = prop_oneof![
        (any::<u16>(), any::<u16>()).prop_map(|(file, at)| Op::Flip(file, at)),
        any::<u8>().prop_map(Op::Lose),
    ];
    let one = prop_oneof![
        5 => often,
        2 => faults,
        u32::from(spoiling) => spoils,
    ];
    prop::collection::vec(one, 1..80)
}

/// What the spool must do.
struct Model {
    disk: Disk,
    spool: Spool<Disk>,
    next: u64,
    /// Appended, not settled, and not dropped.
    owed: BTreeSet<u64>,
    /// Those that may come without being owed: settled before a crash, or of an append that failed.
    may_come: BTreeSet<u64>,
    lent: Vec<(SpoolId, u64)>,
    damage: Damage,
    /// Bytes were flipped or files lost.
    spoiled: bool,
}

impl Model {
    fn new() -> Self {
        let disk = Disk::default();
        Self {
            spool: Spool::open(disk.clone(), KIND, SEGMENT_BYTES),
            disk,
            next: 1,
            owed: BTreeSet::new(),
            may_come: BTreeSet::new(),
            lent: Vec::new(),
            damage: Damage::default(),
            spoiled: false,
        }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Append(many) => {
                let numbers = self.next..self.next + u64::from(many);
                self.next = numbers.end;
                let entries: Vec<Entry> = numbers.clone().map(entry).collect();
                match self.spool.append(&entries) {
                    Ok(()) => self.owed.extend(numbers),
                    Err(_) => self.may_come.extend(numbers),
                }
            }
            Op::Lend => self.lend(),
            Op::Settle(which) => {
                if !self.lent.is_empty() {
                    let (id, number) = self.lent.swap_remove(which as usize % self.lent.len());
                    self.spool.settle(id);
                    self.owed.remove(&number);
                    self.may_come.insert(number);
                }
            }
            Op::GiveBack(which) => {
                if !self.lent.is_empty() {
                    let (id, _) = self.lent.swap_remove(which as usize % self.lent.len());
                    self.spool.give_back(id);
                }
            }
            Op::Crash(luck) => {
                self.disk.crash(luck);
                self.reopen();
            }
            Op::Restart => self.reopen(),
            Op::Room(room) => self.disk.ills(|ills| ills.room = room.map(usize::from)),
            Op::Sync(ill) => self.disk.ills(|ills| ills.sync = ill),
            Op::Read(ill) => self.disk.ills(|ills| ills.read = ill),
            Op::Remove(ill) => self.disk.ills(|ills| ills.remove = ill),
            Op::Flip(file, at) => self.flip(file, at),
            Op::Lose(file) => {
                let mut state = self.disk.0.borrow_mut();
                let names: Vec<String> = state.files.keys().cloned().collect();
                if !names.is_empty() {
                    state.files.remove(&names[file as usize % names.len()]);
                    self.spoiled = true;
                }
            }
            Op::DropOldest => {
                for dropped in self.spool.drop_oldest() {
                    let number = dropped.log.strip_prefix("log-").unwrap().parse().unwrap();
                    assert!(!self.lent.iter().any(|(_, lent)| *lent == number));
                    self.owed.remove(&number);
                    self.may_come.insert(number);
                }
            }
            Op::Retry => self.spool.retry(),
        }
        self.note();
    }

    fn flip(&mut self, file: u16, at: u16) {
        let mut state = self.disk.0.borrow_mut();
        let names: Vec<String> = state.files.keys().cloned().collect();
        let Some(name) = names.get(file as usize % names.len().max(1)) else {
            return;
        };
        let it = state.files.get_mut(name).unwrap();
        if !it.now.is_empty() {
            let at = at as usize % it.now.len();
            it.now[at] ^= 0x41;
            it.synced = it.now.clone();
            self.spoiled = true;
        }
    }

    fn reopen(&mut self) {
        self.lent.clear();
        self.spool = Spool::open(self.disk.clone(), KIND, SEGMENT_BYTES);
    }

    fn note(&mut self) {
        let new = self.spool.take_damage();
        self.damage.requests += new.requests;
        self.damage.bytes += new.bytes;
        self.damage.torn_bytes += new.torn_bytes;
        self.damage.foreign_files += new.foreign_files;
    }

    fn lend(&mut self) {
        if let Some((id, lent)) = self.spool.lend() {
            let number = number_of(&lent);
            assert_eq!(lent, entry(number), "it is what was appended");
            assert!(
                self.owed.contains(&number) || self.may_come.contains(&number),
                "{number} was never appended"
            );
            assert!(
                !self.lent.iter().any(|(_, other)| *other == number)
                    || self.may_come.contains(&number),
                "{number} is lent twice"
            );
            self.lent.push((id, number));
        }
    }

    /// The disk is well again: everything that is owed comes, oldest first, and the directory is empty.
    fn end(&mut self) {
        self.disk.ills(|ills| *ills = Ills::default());
        self.spool.retry();
        self.note();
        for (id, number) in std::mem::take(&mut self.lent) {
            self.spool.settle(id);
            self.owed.remove(&number);
        }
        let mut before = 0;
        for _ in 0..self.next * 2 {
            let Some((id, lent)) = self.spool.lend() else {
                break;
            };
            let number = number_of(&lent);
            // What had been settled before a crash may come anywhere.
            if self.owed.remove(&number) {
                assert!(self.spoiled || number > before, "in the order of appending");
                before = number;
            }
            self.spool.settle(id);
        }
        self.note();
        if !self.spoiled {
            assert!(self.owed.is_empty(), "{:?} did not come", self.owed);
            assert_eq!((self.damage.requests, self.damage.foreign_files), (0, 0));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever fails and wherever a crash comes: nothing that was spooled is missing, nothing is altered.
    #[test]
    fn what_is_spooled_is_lent_until_it_is_settled(ops in ops(false)) {
        let mut model = Model::new();
        ops.iter().for_each(|op| model.run(op));
        model.end();
        let left = model.spool.backlog();
        prop_assert_eq!((left.requests, left.lines), (0, 0));
        prop_assert!(!model.spool.has_more());
    }

    /// With flipped bytes and lost files a start succeeds, nothing altered is lent, and what is missing
    /// was counted.
    #[test]
    fn what_is_damaged_is_counted_and_all_else_is_lent(ops in ops(true)) {
        let mut model = Model::new();
        let mut lost = false;
        for op in &ops {
            lost |= matches!(op, Op::Lose(_));
            model.run(op);
        }
        model.end();
        let Damage { requests, bytes, torn_bytes, foreign_files, .. } = model.damage;
        let told = requests + bytes + torn_bytes + foreign_files > 0;
        prop_assert!(model.owed.is_empty() || told || lost, "{:?} did not come", model.owed);
    }
}

#[test]
fn a_settled_segment_leaves_no_file_behind() {
    let mut model = Model::new();
    for _ in 0..6 {
        model.run(&Op::Append(5));
    }
    let bytes = model.spool.backlog().bytes;
    assert!(bytes > 3 * SEGMENT_BYTES);
    assert_eq!(model.spool.backlog().oldest_secs, Some(1_001));
    model.end();
    assert!(model.disk.0.borrow().files.is_empty());
    assert_eq!(model.spool.backlog(), Backlog::default());
}

#[test]
fn a_segment_that_could_not_be_read_wholly_is_set_aside() {
    let mut model = Model::new();
    model.run(&Op::Append(4));
    model.run(&Op::Flip(0, 60));
    model.run(&Op::Restart);
    model.end();
    assert_eq!(model.owed.len(), 1, "the one that was flipped");
    assert!(model.damage.requests + model.damage.bytes > 0);
    let names: Vec<String> = model.disk.0.borrow().files.keys().cloned().collect();
    assert_eq!(names, ["0000000000000001.damaged"]);
    // It is in nobody's way.
    model.run(&Op::Append(4));
    model.run(&Op::Restart);
    assert_eq!(model.spool.backlog().requests, 4);
}

#[test]
fn files_of_others_are_left_where_they_are() {
    let disk = Disk::default();
    let write = |name: &str, bytes: &[u8]| {
        let file = disk.create(name).unwrap();
        disk.write_at(&file, 0, bytes).unwrap();
    };
    write("README", b"do not touch");
    write("0000000000000009.seg", b"something else, of some length");
    let mut spool = Spool::open(disk.clone(), KIND, SEGMENT_BYTES);
    assert_eq!(spool.take_damage().foreign_files, 2);
    spool.append(&[entry(1)]).unwrap();
    let (id, _) = spool.lend().unwrap();
    spool.settle(id);
    assert_eq!(disk.0.borrow().files.len(), 2);
}

#[test]
fn the_spool_of_another_kind_is_not_taken_up() {
    let disk = Disk::default();
    Spool::open(disk.clone(), KIND, SEGMENT_BYTES)
        .append(&[entry(1)])
        .unwrap();
    let mut other = Spool::open(disk, *b"else", SEGMENT_BYTES);
    assert_eq!(other.take_damage().foreign_files, 1);
    assert!(other.lend().is_none());
}
