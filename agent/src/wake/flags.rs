//! The probes' slots, mapped into this process: the only unsafe code of the room.
//!
//! 1. The mapping holds exactly `slots` elements and lives as long as this value.
//! 2. Both sides touch it only by atomic or single-word accesses.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::shared::Shared;
use crate::base::sync::Ordering;

const _: () = assert!(size_of::<Shared>() == size_of::<agent_ebpf::Slot>());
const _: () = assert!(align_of::<Shared>() <= 8);

/// The mapped array FLAGS.
#[derive(Debug)]
pub(crate) struct Flags {
    base: NonNull<Shared>,
    slots: u32,
}

#[expect(unsafe_code, reason = "the slots are shared with the kernel by mmap")]
// SAFETY: every access goes through atomics; the mapping has no thread of its own.
unsafe impl Send for Flags {}
#[expect(unsafe_code, reason = "the slots are shared with the kernel by mmap")]
// SAFETY: as above.
unsafe impl Sync for Flags {}

impl Flags {
    /// Maps the array behind `map`, which was created with `slots` elements.
    pub(crate) fn map(map: BorrowedFd<'_>, slots: u32) -> io::Result<Self> {
        let length = bytes(slots);
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        let none = std::ptr::null_mut();
        #[expect(unsafe_code, reason = "the slots are shared with the kernel by mmap")]
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe { mmap(none, length, rights, MapFlags::SHARED, map, 0) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { base, slots })
    }

    fn at(&self, slot: u32) -> Option<&Shared> {
        if slot >= self.slots {
            return None;
        }
        #[expect(unsafe_code, reason = "the slots are shared with the kernel by mmap")]
        // SAFETY: below `slots`, hence inside the mapping, page-aligned plus a multiple of 16;
        // all fields are atomics, so the kernel's writes are no data race.
        Some(unsafe { self.base.add(slot as usize).as_ref() })
    }

    /// Gives the slot to a new owner, not armed; returns its generation.
    pub(crate) fn claim(&self, slot: u32) -> u32 {
        let Some(shared) = self.at(slot) else {
            return 0;
        };
        shared.claim()
    }

    /// Clears the flag; what the caller reads afterwards includes every write that found it set.
    pub(crate) fn arm(&self, slot: u32) {
        if let Some(shared) = self.at(slot) {
            shared.arm();
        }
    }

    /// Whether a write was announced since the slot was armed.
    pub(crate) fn is_set(&self, slot: u32) -> bool {
        self.at(slot)
            .is_some_and(|shared| shared.flag.load(Ordering::SeqCst) != 0)
    }

    /// The end that the last writer announced; 0 when none has.
    pub(crate) fn end(&self, slot: u32) -> u64 {
        self.at(slot).map_or(0, Shared::announced)
    }
}

impl Drop for Flags {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "the slots are shared with the kernel by mmap")]
        // SAFETY: made by `map` with this length; no reference outlives `self`.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), bytes(self.slots)) };
    }
}

/// The kernel rounds it up to whole pages, as it has done for the array.
fn bytes(slots: u32) -> usize {
    slots as usize * size_of::<Shared>()
}
