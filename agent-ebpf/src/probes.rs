//! Tells a reader of the first write to a file since the reader armed it.
//!
//! ```text
//! hook -> inode number -> BLOOM byte -> WATCH -> [end] -> exchange flag -> EVENTSn
//! ```
//!
//! 1. The exchange is unconditional: a plain load before it loses wakes.
//! 2. The expected end is stored before the exchange, so that a reader who sees the event sees the end.
//! 3. When the ring refuses, the flag is taken back and the refusal counted.
//! 4. A file nobody watches costs one byte load (and a lookup when its number collides).

use agent_ebpf::{BLOOM_BYTES, Place, SLOTS_DEFAULT, Slot, Wrote};
use aya_ebpf::{
    helpers::bpf_probe_read_kernel,
    macros::{btf_tracepoint, fentry, fexit, map, raw_tracepoint},
    maps::{Array, HashMap, PerCpuArray, RingBuf},
    programs::{BtfTracePointContext, FEntryContext, FExitContext, RawTracePointContext},
};
use core::intrinsics::{AtomicOrdering::SeqCst, atomic_xchg};
use core::ptr::{read_volatile, write_volatile};

/// BPF_F_MMAPABLE.
const MAPPED: u32 = 1024;
/// The smallest ring: one page. The agent sizes those in use.
const RING_BYTES: u32 = 4096;

#[map]
static WATCH: HashMap<u64, u32> = HashMap::with_max_entries(SLOTS_DEFAULT, 0);
#[map]
static FLAGS: Array<Slot> = Array::with_max_entries(SLOTS_DEFAULT, MAPPED);
#[map]
static REFUSED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
#[map]
static EVENTS0: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);
#[map]
static EVENTS1: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);
#[map]
static EVENTS2: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);
#[map]
static EVENTS3: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// Stands alone in `.bss`: the agent writes the whole section.
#[unsafe(no_mangle)]
static mut BLOOM: [u8; BLOOM_BYTES] = [0; BLOOM_BYTES];

/// Field offsets in bytes, from the running kernel's BTF; the loader overrides them.
macro_rules! offsets {
    ($($name:ident)*) => { $( #[unsafe(no_mangle)] static $name: u64 = 0; )* };
}
offsets! { INODE_I_INO FILE_F_INODE KIOCB_KI_FILP KIOCB_KI_POS ITER_COUNT }

macro_rules! offset {
    // SAFETY: a plain static in frozen .rodata.
    ($name:ident) => {
        unsafe { read_volatile(&raw const $name) }
    };
}

type Pointer = *const u8;

/// Loads eight bytes at a constant offset of a BTF-typed pointer.
#[inline(always)]
fn load(base: Pointer, offset: u64) -> u64 {
    // SAFETY: the verifier admits only offsets inside the type; faults read as zero.
    unsafe { read_volatile(base.add(offset as usize).cast::<u64>()) }
}

/// The same for a pointer field: what it points to keeps its BTF type.
#[inline(always)]
fn follow(base: Pointer, offset: u64) -> Pointer {
    // SAFETY: as in `load`.
    unsafe { read_volatile(base.add(offset as usize).cast::<Pointer>()) }
}

/// The same for a pointer without a type (raw tracepoints).
#[inline(always)]
fn peek(base: u64, offset: u64) -> u64 {
    // SAFETY: the helper checks the address; an error reads as zero.
    unsafe { bpf_probe_read_kernel((base + offset) as *const u64).unwrap_or(0) }
}

#[inline(always)]
fn count_refused() {
    if let Some(cell) = REFUSED.get_ptr_mut(0) {
        // SAFETY: a per-CPU cell that only this program on this CPU writes.
        unsafe { *cell += 1 };
    }
}

/// Little is kept over the calls: each register that is costs every run of the program two
/// instructions, whatever file it runs for.
#[inline(always)]
fn send(place: Place, slot: *const Slot) -> bool {
    let ring = if place.0 < Place::SLOTS_MAX {
        &EVENTS0 // by far the most; told without a shift
    } else {
        match place.reader() {
            1 => &EVENTS1,
            2 => &EVENTS2,
            _ => &EVENTS3,
        }
    };
    // Cheaper than `output`, which is one helper and copies, by 26 instructions.
    let Some(mut entry) = ring.reserve::<Wrote>(0) else {
        return false;
    };
    // SAFETY: as in `wrote`.
    let generation = unsafe { read_volatile(&raw const (*slot).generation) };
    entry.write(Wrote { place, generation });
    entry.submit(0);
    true
}

/// `end` says where the file will end, or 0 when its size is final already. Only watched files ask.
#[inline(always)]
fn wrote(number: u64, end: impl FnOnce() -> u64) -> i32 {
    // SAFETY: the index is below BLOOM_BYTES.
    let maybe = unsafe {
        read_volatile(
            (&raw const BLOOM)
                .cast::<u8>()
                .add(number as usize & (BLOOM_BYTES - 1)),
        )
    };
    if maybe == 0 {
        return 0;
    }
    let Some(place) = WATCH.get_ptr(&number) else {
        return 0;
    };
    // SAFETY: a value of the map, alive while the program runs.
    let place = Place(unsafe { read_volatile(place) });
    let Some(slot) = FLAGS.get_ptr_mut(place.slot()) else {
        return 0;
    };
    let end = end();
    // SAFETY: an element of the mapped array; the writers of one file are ordered by its lock.
    unsafe {
        if end != 0 {
            write_volatile(&raw mut (*slot).end, end);
        }
        if atomic_xchg::<u32, { SeqCst }>(&raw mut (*slot).flag, 1) != 0 {
            return 0;
        }
        if !send(place, slot) {
            write_volatile(&raw mut (*slot).flag, 0);
            count_refused();
        }
    }
    0
}

#[inline(always)]
fn wrote_kiocb(kiocb: Pointer, end: impl FnOnce() -> u64) -> i32 {
    let file = follow(kiocb, offset!(KIOCB_KI_FILP));
    let inode = follow(file, offset!(FILE_F_INODE));
    wrote(load(inode, offset!(INODE_I_INO)), end)
}

/// Position + copied: `copied` is an unsigned int, its upper half is not defined.
#[inline(always)]
fn end_of(position: u64, copied: u64) -> u64 {
    position.wrapping_add(copied & 0xffff_ffff)
}

/// `generic_perform_write(kiocb, iter)`: ext4, tmpfs; after the size has moved.
#[fexit]
pub fn perform_write(context: FExitContext) -> i32 {
    wrote_kiocb(context.arg::<Pointer>(0), || 0)
}

/// `iomap_file_buffered_write(kiocb, ..)`: xfs; after the size has moved.
#[fexit]
pub fn iomap_write(context: FExitContext) -> i32 {
    wrote_kiocb(context.arg::<Pointer>(0), || 0)
}

/// `pagecache_isize_extended(inode, from, to)`: btrfs; the size has moved.
#[fentry]
pub fn isize_extended(context: FEntryContext) -> i32 {
    wrote(load(context.arg::<Pointer>(0), offset!(INODE_I_INO)), || 0)
}

/// The `*_write_end(inode, position, length, copied)` tracepoints of ext4: before the size moves.
macro_rules! ext4_write_end {
    ($($name:ident)*) => { $(
        #[btf_tracepoint]
        pub fn $name(context: BtfTracePointContext) -> i32 {
            let end = || end_of(context.arg::<u64>(1), context.arg::<u64>(3));
            wrote(load(context.arg::<Pointer>(0), offset!(INODE_I_INO)), end)
        }
    )* };
}
ext4_write_end! { ext4_da_write_end ext4_write_end ext4_journalled_write_end }

/// `xfs_file_buffered_write(kiocb, iter)`: before the copy, position checked.
#[btf_tracepoint]
pub fn xfs_buffered_write(context: BtfTracePointContext) -> i32 {
    let kiocb = context.arg::<Pointer>(0);
    let left = || load(context.arg::<Pointer>(1), offset!(ITER_COUNT));
    let end = || load(kiocb, offset!(KIOCB_KI_POS)).wrapping_add(left());
    wrote_kiocb(kiocb, end)
}

/// The same ext4 tracepoints where ext4 is a module or BTF arguments are refused.
#[raw_tracepoint]
pub fn ext4_raw(context: RawTracePointContext) -> i32 {
    let end = || end_of(context.arg::<u64>(1), context.arg::<u64>(3));
    wrote(peek(context.arg::<u64>(0), offset!(INODE_I_INO)), end)
}

/// The same xfs tracepoint without types.
#[raw_tracepoint]
pub fn xfs_raw(context: RawTracePointContext) -> i32 {
    let kiocb = context.arg::<u64>(0);
    let left = || peek(context.arg::<u64>(1), offset!(ITER_COUNT));
    let end = || peek(kiocb, offset!(KIOCB_KI_POS)).wrapping_add(left());
    let inode = peek(peek(kiocb, offset!(KIOCB_KI_FILP)), offset!(FILE_F_INODE));
    wrote(peek(inode, offset!(INODE_I_INO)), end)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
