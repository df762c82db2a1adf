//! Which inode number has which slot, over all readers. Pure.
//!
//! 1. One slot per inode number; it belongs to one reader, and counts that reader's tokens.
//! 2. A number that another reader holds is refused: that file takes inotify.
//! 3. A slot that became free is given away last, so that late events find it empty.
//! 4. A filter byte is set while any watched number falls on it.

use std::collections::{HashMap, VecDeque};

use agent_ebpf::BLOOM_BYTES;

/// Why a number got no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// All slots are taken.
    Full,
    /// Another reader watches a file of this number (on another file system).
    Elsewhere,
}

/// What the caller must now do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) slot: u32,
    /// The number had no slot before: claim it, set the filter byte, enter it into WATCH.
    pub(crate) fresh: bool,
}

#[derive(Debug)]
struct Holder {
    slot: u32,
    reader: u32,
    tokens: u32,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Slots {
    by_number: HashMap<u64, Holder>,
    free: VecDeque<u32>,
    /// Watched numbers per filter byte; memory that no number fell on stays untouched.
    crowd: Vec<u32>,
    /// The filter as the probes want it.
    bloom: Box<[u8; BLOOM_BYTES]>,
}

impl Slots {
    pub(crate) fn new(slots: u32) -> Self {
        Self {
            by_number: HashMap::new(),
            free: (0..slots).collect(),
            crowd: vec![0; BLOOM_BYTES],
            bloom: Box::new([0; BLOOM_BYTES]),
        }
    }

    pub(crate) fn take(&mut self, number: u64, reader: u32) -> Result<Given, Refusal> {
        if let Some(holder) = self.by_number.get_mut(&number) {
            if holder.reader != reader {
                return Err(Refusal::Elsewhere);
            }
            holder.tokens += 1;
            return Ok(Given {
                slot: holder.slot,
                fresh: false,
            });
        }
        let slot = self.free.pop_front().ok_or(Refusal::Full)?;
        self.by_number.insert(
            number,
            Holder {
                slot,
                reader,
                tokens: 1,
            },
        );
        self.crowd[index(number)] += 1;
        self.bloom[index(number)] = 1;
        Ok(Given { slot, fresh: true })
    }

    /// Ends one token's hold; true when the number has no holder left: remove it from WATCH.
    pub(crate) fn give_back(&mut self, number: u64) -> bool {
        let Some(holder) = self.by_number.get_mut(&number) else {
            return false;
        };
        holder.tokens -= 1;
        if holder.tokens > 0 {
            return false;
        }
        self.free.push_back(holder.slot);
        self.by_number.remove(&number);
        self.crowd[index(number)] -= 1;
        self.bloom[index(number)] = u8::from(self.crowd(number) > 0);
        true
    }

    /// The filter as the probes want it.
    pub(crate) fn bloom(&self) -> &[u8; BLOOM_BYTES] {
        &self.bloom
    }

    /// How many watched numbers fall on this one's filter byte: with the first and the last of them
    /// the filter changes.
    pub(crate) fn crowd(&self, number: u64) -> u32 {
        self.crowd[index(number)]
    }
}

/// The low bits: the same as in the probe.
fn index(number: u64) -> usize {
    usize::from((number & (BLOOM_BYTES as u64 - 1)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slot_per_number_and_reader() {
        let mut slots = Slots::new(2);
        assert_eq!(
            slots.take(7, 0),
            Ok(Given {
                slot: 0,
                fresh: true
            })
        );
        assert_eq!(
            slots.take(7, 0),
            Ok(Given {
                slot: 0,
                fresh: false
            })
        );
        assert_eq!(slots.take(7, 1), Err(Refusal::Elsewhere));
        assert_eq!(
            slots.take(7 + 65_536, 1),
            Ok(Given {
                slot: 1,
                fresh: true
            })
        );
        assert_eq!(slots.take(9, 1), Err(Refusal::Full));
        assert_eq!(
            (slots.crowd(7), slots.bloom()[7], slots.bloom()[8]),
            (2, 1, 0)
        );
        assert!(!slots.give_back(7));
        assert!(slots.give_back(7));
        assert!(!slots.give_back(7));
        assert_eq!(slots.bloom()[7], 1);
        assert!(slots.give_back(7 + 65_536));
        assert_eq!(slots.bloom()[7], 0);
        assert_eq!(
            slots.take(9, 1),
            Ok(Given {
                slot: 0,
                fresh: true
            })
        );
    }
}
