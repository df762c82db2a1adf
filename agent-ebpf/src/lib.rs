//! The ABI shared by the probes and the agent: what stands in the maps and in the rings.
//!
//! ```text
//! WATCH  inode number -> place        hash; who is watched
//! FLAGS  slot number  -> Slot         array mapped into the agent; flag, generation, expected end
//! BLOOM  number & 65535 -> byte       keeps the hash lookup away from files nobody watches
//! EVENTS0..3  Wrote                   one ring per reader
//! REFUSED  count                      events that a ring refused; the flag was taken back
//! ```
//!
//! 1. Both sides are compiled from this file; the sizes below are asserted on both.
//! 2. A slot's flag is only ever exchanged by a probe and only ever cleared by its reader.
//! 3. A probe reads the generation after the exchange, so that an event it sends for a slot that was
//!    given away meanwhile wakes the new owner instead of leaving its flag set and unannounced.
#![no_std]

/// Readers that can have a ring of their own.
pub const READERS_MAX: usize = 4;

/// Bytes in the filter before the hash lookup; a power of two. With 10,000 watched files one other
/// file in seven falls on a byte that is set. Bits in place of bytes would cost every write 8
/// instructions more.
pub const BLOOM_BYTES: usize = 65_536;

/// Slots the maps are built with; the agent overrides it with its own limit.
pub const SLOTS_DEFAULT: u32 = 1024;

/// What a probe tells a reader: this slot was written to for the first time since it was armed.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrote {
    /// Where it was written to; as it stands in WATCH, for taking it apart would cost the probe.
    pub place: Place,
    /// The slot's generation when the event was sent.
    pub generation: u32,
}

/// One element of FLAGS.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// 1: an event is on its way or being served. 0: armed.
    pub flag: u32,
    /// Rises each time the slot is given away.
    pub generation: u32,
    /// Where the file will end once the write that fired is done; 0 when the hook fires after it.
    pub end: u64,
}

const _: () = assert!(size_of::<Wrote>() == 8);
const _: () = assert!(size_of::<Slot>() == 16);
const _: () = assert!(core::mem::offset_of!(Slot, generation) == 4);
const _: () = assert!(core::mem::offset_of!(Slot, end) == 8);

/// The value in WATCH: a slot (an index into FLAGS) and the reader whose ring it uses.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(
    /// Reader in the two highest bits, slot below.
    pub u32,
);

impl Place {
    /// Slots that the encoding can name.
    pub const SLOTS_MAX: u32 = 1 << 30;

    /// Packs a slot and a reader (below [`READERS_MAX`]).
    #[must_use]
    pub const fn new(slot: u32, reader: u32) -> Self {
        Self(reader << 30 | slot)
    }

    /// The slot.
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.0 & (Self::SLOTS_MAX - 1)
    }

    /// The reader.
    #[must_use]
    pub const fn reader(self) -> u32 {
        self.0 >> 30
    }
}
