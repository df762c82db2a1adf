//! The probe rungs: loads the embedded object, attaches it, and serves one ring per reader.
//!
//! ```text
//! object + offsets from BTF -> maps -> programs of one rung -> attached
//! watch: slot, FLAGS[slot], filter byte, WATCH[number]      (lock, seldom)
//! arm:   FLAGS[slot].flag = 0, fence                        (no lock, no system call)
//! drain: EVENTSn -> slot, generation -> tokens              (no lock, no system call)
//! ```
//!
//! 1. An event is consumed (the ring advanced) before its tokens are handed out, hence before any
//!    of them is armed again.
//! 2. A ring holds two events of every file: one per arm, and one more for an `arm` that came
//!    before the last event was drained. It cannot fill; a refusal is counted as an alarm.
//! 3. Events of an earlier generation of a slot wake nobody, and are counted.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_ebpf::{BLOOM_BYTES, Place, READERS_MAX};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::{BtfTracePoint, FEntry, FExit, RawTracePoint};
use aya::{Btf, Ebpf, EbpfLoader};
use smallvec::SmallVec;

use super::btf::Types;
use super::flags::Flags;
use super::kind::{FileSystems, Kinds};
use super::slots::{Refusal, Slots};
use super::{Rung, WakeCounters};

/// Empty unless the build was given an object.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/probes.o"));

const RINGS: [&str; READERS_MAX] = ["EVENTS0", "EVENTS1", "EVENTS2", "EVENTS3"];

/// Ring bytes per event: eight of header, eight of data.
const EVENT_BYTES: u32 = 16;

/// The ext4 tracepoints by which a write ends; the programs bear the same names.
const EXT4_ENDS: [&str; 3] = [
    "ext4_da_write_end",
    "ext4_write_end",
    "ext4_journalled_write_end",
];

/// Whether this binary carries the probes.
pub(crate) fn is_embedded() -> bool {
    !OBJECT.is_empty()
}

/// How a probe has run so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeTime {
    /// The program's name.
    pub name: String,
    /// Its run time; 0 unless kernel.bpf_stats_enabled is on.
    pub run_ns: u64,
    /// How often it ran; 0 unless kernel.bpf_stats_enabled is on.
    pub runs: u64,
}

/// What all readers share.
#[derive(Debug)]
pub(crate) struct Probes {
    rung: Rung,
    pub(super) systems: FileSystems,
    pub(super) flags: Flags,
    given_up: AtomicBool,
    tables: Mutex<Tables>,
    /// Holds the programs' attachments; they end with it.
    ebpf: Mutex<Ebpf>,
    books: Vec<Book>,
}

struct Tables {
    slots: Slots,
    watch: HashMap<MapData, u64, u32>,
    bloom: Array<MapData, [u8; BLOOM_BYTES]>,
}

impl fmt::Debug for Tables {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tables")
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

/// One reader's side.
pub(crate) struct Ear {
    probes: Arc<Probes>,
    reader: u32,
    ring: RingBuf<MapData>,
    /// By slot: generation and tokens.
    held: Vec<Option<Held>>,
    pub(crate) counters: WakeCounters,
}

impl fmt::Debug for Ear {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Ear")
            .field("rung", &self.probes.rung)
            .field("reader", &self.reader)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Held {
    generation: u32,
    number: u64,
    tokens: SmallVec<[u32; 2]>,
}

/// Loads and attaches one rung; an ear per reader, or why not.
pub(crate) fn load(
    rung: Rung,
    mut systems: FileSystems,
    (readers, files_max): (u32, u32),
    btf: &Btf,
    types: &Types,
) -> anyhow::Result<Vec<Ear>> {
    let slots = files_max.clamp(1, Place::SLOTS_MAX);
    let ring_bytes = slots
        .saturating_mul(2 * EVENT_BYTES)
        .next_power_of_two()
        .max(4096);
    let mut ebpf = open(readers, slots, ring_bytes, btf, types)?;
    systems.kinds = attach(&mut ebpf, rung, systems.kinds, btf, types)?;
    let flags = match ebpf.map("FLAGS") {
        Some(Map::Array(map)) => Flags::map(map.fd().as_fd(), slots)?,
        _ => anyhow::bail!("the embedded object has no array FLAGS"),
    };
    let tables = Tables {
        slots: Slots::new(slots),
        watch: HashMap::try_from(take(&mut ebpf, "WATCH")?)?,
        bloom: Array::try_from(take(&mut ebpf, ".bss")?)?,
    };
    let mut rings = Vec::new();
    for name in RINGS.iter().take(readers as usize) {
        rings.push(RingBuf::try_from(take(&mut ebpf, name)?)?);
    }
    let probes = Arc::new(Probes {
        rung,
        systems,
        flags,
        given_up: AtomicBool::new(false),
        tables: Mutex::new(tables),
        books: Book::of_loaded(&ebpf),
        ebpf: Mutex::new(ebpf),
    });
    let ear = |(reader, ring)| Ear {
        probes: Arc::clone(&probes),
        reader,
        ring,
        held: Vec::new(),
        counters: WakeCounters::default(),
    };
    Ok((0..).zip(rings).map(ear).collect())
}

/// Gives freed memory back to the system: reading the kernel's types takes some 20 MiB once, and
/// what is allocated meanwhile keeps the C library from doing so by itself.
pub(crate) fn give_back() {
    // SAFETY: the call takes no address and may be made at any time.
    #[cfg(target_env = "gnu")]
    let _ = unsafe { libc::malloc_trim(0) };
}

fn take(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<Map> {
    ebpf.take_map(name)
        .ok_or_else(|| anyhow::anyhow!("the embedded object has no map {name}"))
}

/// Creates the maps; the programs are not in the kernel yet.
fn open(
    readers: u32,
    slots: u32,
    ring_bytes: u32,
    btf: &Btf,
    types: &Types,
) -> anyhow::Result<Ebpf> {
    let offsets = [
        ("INODE_I_INO", types.offset("inode", "i_ino")?),
        ("FILE_F_INODE", types.offset("file", "f_inode")?),
        ("KIOCB_KI_FILP", types.offset("kiocb", "ki_filp")?),
        ("KIOCB_KI_POS", types.offset("kiocb", "ki_pos")?),
        ("ITER_COUNT", types.offset("iov_iter", "count")?),
    ];
    let mut loader = EbpfLoader::new();
    loader.btf(Some(btf));
    for (name, offset) in &offsets {
        loader.override_global(name, offset, true);
    }
    loader
        .map_max_entries("WATCH", slots)
        .map_max_entries("FLAGS", slots);
    for name in RINGS.iter().take(readers as usize) {
        loader.map_max_entries(name, ring_bytes);
    }
    Ok(loader.load(OBJECT)?)
}

/// Attaches what the rung has for these file systems; returns those it covers.
fn attach(
    ebpf: &mut Ebpf,
    rung: Rung,
    kinds: Kinds,
    btf: &Btf,
    types: &Types,
) -> anyhow::Result<Kinds> {
    let mut covered = Kinds::default();
    match rung {
        Rung::FexitPerformWrite => {
            if kinds.ext4 || kinds.tmpfs {
                types.takes("generic_perform_write", "kiocb")?;
                fexit(ebpf, "perform_write", "generic_perform_write", btf)?;
                (covered.ext4, covered.tmpfs) = (true, true);
            }
            if kinds.xfs {
                types.takes("iomap_file_buffered_write", "kiocb")?;
                fexit(ebpf, "iomap_write", "iomap_file_buffered_write", btf)?;
                covered.xfs = true;
            }
            if kinds.btrfs {
                types.takes("pagecache_isize_extended", "inode")?;
                let program: &mut FEntry = program(ebpf, "isize_extended")?;
                program.load("pagecache_isize_extended", btf)?;
                program.attach()?;
                covered.btrfs = true;
            }
        }
        Rung::TracepointBtf => {
            if kinds.ext4 {
                for name in EXT4_ENDS {
                    tracepoint(ebpf, name, name, btf)?;
                }
                covered.ext4 = true;
            }
            if kinds.xfs {
                tracepoint(ebpf, "xfs_buffered_write", "xfs_file_buffered_write", btf)?;
                covered.xfs = true;
            }
        }
        Rung::RawTracepoint => {
            if kinds.ext4 {
                let program: &mut RawTracePoint = program(ebpf, "ext4_raw")?;
                program.load()?;
                for name in EXT4_ENDS {
                    program.attach(name)?;
                }
                covered.ext4 = true;
            }
            if kinds.xfs {
                let program: &mut RawTracePoint = program(ebpf, "xfs_raw")?;
                program.load()?;
                program.attach("xfs_file_buffered_write")?;
                covered.xfs = true;
            }
        }
        Rung::Inotify | Rung::SweepOnly => {}
    }
    if covered == Kinds::default() {
        anyhow::bail!("it has no hook for the file systems under the roots");
    }
    Ok(covered)
}

fn program<'e, P>(ebpf: &'e mut Ebpf, name: &str) -> anyhow::Result<&'e mut P>
where
    &'e mut P: TryFrom<&'e mut aya::programs::Program, Error = aya::programs::ProgramError>,
{
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| anyhow::anyhow!("the embedded object has no program {name}"))?;
    Ok(program.try_into()?)
}

fn fexit(ebpf: &mut Ebpf, name: &str, function: &str, btf: &Btf) -> anyhow::Result<()> {
    let program: &mut FExit = program(ebpf, name)?;
    program.load(function, btf)?;
    program.attach()?;
    Ok(())
}

fn tracepoint(ebpf: &mut Ebpf, name: &str, point: &str, btf: &Btf) -> anyhow::Result<()> {
    let program: &mut BtfTracePoint = program(ebpf, name)?;
    program.load(point, btf)?;
    program.attach()?;
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Probes {
    /// Events that the rings refused, as the probes counted them; `None` where the kernel does not let
    /// the calling thread look.
    pub(crate) fn refused(&self) -> Option<u64> {
        let ebpf = lock(&self.ebpf);
        let map = ebpf.map("REFUSED").map(PerCpuArray::<_, u64>::try_from)?;
        let cells = map.ok()?.get(&0, 0).ok()?;
        Some(cells.iter().sum())
    }

    /// Runs that the kernel left out since another of the same program had not ended: each may have
    /// been a write that nobody was told of.
    pub(super) fn left_out(&self) -> u64 {
        let of = |book: &Book| number(&book.text()?, "recursion_misses:");
        self.books.iter().filter_map(of).sum()
    }

    /// Gives the rung up, for all readers; true for the first who does.
    pub(super) fn give_up(&self) -> bool {
        !self.given_up.swap(true, Ordering::SeqCst)
    }

    /// Whether it was given up.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::SeqCst)
    }

    /// How the attached programs have run.
    pub(crate) fn times(&self) -> Vec<ProbeTime> {
        self.books.iter().filter_map(Book::read).collect()
    }
}

/// The kernel's page on one loaded program. It is opened when the program is loaded: later the
/// guard leaves neither bpf(2)'s question nor /proc.
#[derive(Debug)]
struct Book {
    name: String,
    page: File,
}

impl Book {
    /// Of all programs that are loaded; one whose page cannot be opened has none.
    fn of_loaded(ebpf: &Ebpf) -> Vec<Self> {
        let book = |(name, program): (&str, &aya::programs::Program)| {
            let number = program.fd().ok()?.as_fd().as_raw_fd();
            Some(Self {
                name: name.to_owned(),
                page: File::open(format!("/proc/self/fdinfo/{number}")).ok()?,
            })
        };
        ebpf.programs().filter_map(book).collect()
    }

    /// Each read from the start shows the counts as they are by then.
    fn text(&self) -> Option<String> {
        let mut bytes = [0; 1024];
        let length = self.page.read_at(&mut bytes, 0).ok()?;
        std::str::from_utf8(bytes.get(..length)?)
            .ok()
            .map(str::to_owned)
    }

    fn read(&self) -> Option<ProbeTime> {
        let text = self.text()?;
        Some(ProbeTime {
            name: self.name.clone(),
            run_ns: number(&text, "run_time_ns:")?,
            runs: number(&text, "run_cnt:")?,
        })
    }
}

/// The number behind the key that begins a line.
fn number(page: &str, key: &str) -> Option<u64> {
    let line = page.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().parse().ok()
}

impl Ear {
    pub(crate) fn rung(&self) -> Rung {
        self.probes.rung
    }

    pub(crate) fn probes(&self) -> Arc<Probes> {
        Arc::clone(&self.probes)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }

    /// Whether the hooks see writes to this file, or to files made in this directory.
    pub(crate) fn covers(&self, file: BorrowedFd<'_>) -> bool {
        !self.is_given_up() && self.probes.systems.holds(file)
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.probes.is_given_up()
    }

    /// The slot that now stands for the file, or why there is none.
    pub(crate) fn watch(&mut self, token: u32, number: u64) -> io::Result<Result<u32, Refusal>> {
        let slot = match self.hold(number)? {
            Ok(slot) => slot,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Some(Some(held)) = self.held.get_mut(slot as usize) {
            held.tokens.push(token);
        }
        Ok(Ok(slot))
    }

    /// The same with nobody to wake.
    pub(super) fn hold(&mut self, number: u64) -> io::Result<Result<u32, Refusal>> {
        let mut tables = lock(&self.probes.tables);
        let given = match tables.slots.take(number, self.reader) {
            Ok(given) => given,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if given.fresh {
            let generation = self.probes.flags.claim(given.slot);
            if let Err(error) = tables.enter(number, Place::new(given.slot, self.reader)) {
                tables.slots.give_back(number);
                return Err(error);
            }
            let index = given.slot as usize;
            if self.held.len() <= index {
                self.held.resize_with(index + 1, || None);
            }
            self.held[index] = Some(Held {
                generation,
                number,
                tokens: SmallVec::new(),
            });
        }
        Ok(Ok(given.slot))
    }

    pub(crate) fn unwatch(&mut self, token: u32, slot: u32) {
        let Some(place) = self.held.get_mut(slot as usize) else {
            return;
        };
        let Some(held) = place else { return };
        held.tokens.retain(|other| *other != token);
        let mut tables = lock(&self.probes.tables);
        if tables.slots.give_back(held.number) {
            tables.leave(held.number);
            *place = None;
        }
    }

    pub(crate) fn arm(&self, slot: u32) {
        self.probes.flags.arm(slot);
    }

    /// `None` for hooks that fire when the size is final, and before the first event.
    pub(crate) fn expected_end(&self, slot: u32) -> Option<u64> {
        Some(self.probes.flags.end(slot)).filter(|end| *end > 0)
    }

    /// Appends the tokens of all pending events; returns how many.
    pub(crate) fn drain(&mut self, woken: &mut Vec<u32>) -> usize {
        let before = woken.len();
        while let Some(event) = self.ring.next().and_then(|item| decode(&item)) {
            // The item is dropped, hence consumed, before its tokens are known to anybody.
            match self.held.get(event.0.slot() as usize) {
                Some(Some(held)) if held.generation == event.1 => {
                    // A canary's wakes nobody.
                    self.counters.events += u64::from(!held.tokens.is_empty());
                    woken.extend_from_slice(&held.tokens);
                }
                Some(_) | None => self.counters.stale += 1,
            }
        }
        woken.len() - before
    }
}

/// Place and generation; `None` would be an event of another ABI.
fn decode(bytes: &[u8]) -> Option<(Place, u32)> {
    let (place, generation) = bytes.split_first_chunk::<4>()?;
    let generation = generation.first_chunk::<4>()?;
    let place = Place(u32::from_ne_bytes(*place));
    Some((place, u32::from_ne_bytes(*generation)))
}

impl Tables {
    /// Filter first: once the number is in WATCH every write must pass the filter.
    fn enter(&mut self, number: u64, place: Place) -> io::Result<()> {
        if self.slots.crowd(number) == 1 {
            self.bloom
                .set(0, self.slots.bloom(), 0)
                .map_err(io::Error::other)?;
        }
        self.watch
            .insert(number, place.0, 0)
            .map_err(io::Error::other)
    }

    /// Fails only when the number is not there, which is what was wanted.
    fn leave(&mut self, number: u64) {
        let _ = self.watch.remove(&number);
        if self.slots.crowd(number) == 0 {
            let _ = self.bloom.set(0, self.slots.bloom(), 0);
        }
    }
}
