//! The memory ceiling as a formula: pool, windows, batches and joins.
//!
//! ```text
//! pool     max(limits.memory / 4 / buffer_bytes, 8 a reader) buffers of buffer_bytes
//! windows  the sum of window_bytes of all outputs: compressed bodies, their tables, their claims;
//!          with a spool in memory, its bytes; with one on the disk, 4 MiB on the way there and back
//! batches  2 * batch_bytes an output and encoder: one that fills, one that is sealed
//! joins    permits * 2 * record_bytes_max, a record of each stream: lines and parts over a chunk's end
//!          permits = max(limits.memory / 8 / (2 * record_bytes_max), 2 a reader)
//!          with multiline stages, also max(limits.memory / 8 / encoders, record_bytes_max) an encoder
//! ```
//!
//! 1. A plan whose sum passes `limits.memory` does not start.
//!
//! Beside the sum stand code and what is kept of each file and container: `cargo xtask bench memory`
//! prints both.

use std::fmt;

use super::{Output, Plan};
use crate::base::size::ByteSize;

/// The pool has at least this many buffers a reader: fewer, and one slow encoder starves it.
const BUFFERS_MIN: u64 = 8;

/// Each reader has at least this many permits: one for a record that lies still, one for those whose
/// end is there.
const PERMITS_MIN: u64 = 2;

/// What each part of the agent may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Read buffers.
    pub pool_buffers: usize,
    /// Bytes of all read buffers.
    pub pool_bytes: u64,
    /// Bytes of sealed requests that outputs may hold, in all.
    pub windows_bytes: u64,
    /// Bytes of batches that encoders fill and compress, in all.
    pub batches_bytes: u64,
    /// Passes that may have a record open over a chunk's end at once, in all.
    pub permits: usize,
    /// Bytes of multiline blocks that one encoder may hold; 0 without multiline stages.
    pub blocks_bytes: u64,
    /// Bytes of partial lines and multiline blocks, in all.
    pub joins_bytes: u64,
    /// The sum.
    pub total: u64,
    /// `limits.memory`, which the sum does not pass.
    pub limit: u64,
}

/// How many threads a plan gets, and the memory that goes with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads {
    /// Reader threads.
    pub readers: usize,
    /// Encoder threads.
    pub encoders: usize,
    /// Their memory.
    pub memory: Memory,
}

impl Memory {
    /// The memory of a plan with this many threads.
    ///
    /// # Errors
    /// The sum passes `limits.memory`; the text says by how much, and after `; ` the cure.
    pub fn of(plan: &Plan, encoders: usize, readers: usize) -> Result<Self, String> {
        let memory = Self::sum(plan, plan.limits.memory.0, encoders, readers);
        if memory.total <= memory.limit {
            return Ok(memory);
        }
        let need = memory.need(plan, encoders, readers).div_ceil(1 << 20);
        Err(format!(
            "`limits.memory` is too small with {encoders} encoder(s) and {readers} reader(s): \
             {memory}; set `limits.memory: {need}MiB` or more, or lower `window_bytes` or \
             `batch_bytes` of an output, or `limits.encoders` or `limits.record_bytes_max`"
        ))
    }

    /// Threads for a machine with `cpus` processors. What the plan leaves open is
    /// `clamp(cpus / 8, 1, 4)` readers and `clamp(cpus - readers, 1, 16)` encoders, fewer where
    /// memory is short.
    ///
    /// # Errors
    /// As [`Memory::of`].
    pub fn threads(plan: &Plan, cpus: usize) -> Result<Threads, String> {
        let readers = plan.limits.readers.unwrap_or((cpus / 8).clamp(1, 4));
        let most = cpus.saturating_sub(readers).clamp(1, 16);
        let mut encoders = plan.limits.encoders.unwrap_or(most);
        loop {
            match Self::of(plan, encoders, readers) {
                Ok(memory) => {
                    return Ok(Threads {
                        readers,
                        encoders,
                        memory,
                    });
                }
                Err(cause) if plan.limits.encoders.is_some() || encoders == 1 => return Err(cause),
                Err(_) => encoders -= 1,
            }
        }
    }

    /// The least `limits.memory` that this would fit: pool and joins grow with it, by less than it.
    fn need(&self, plan: &Plan, encoders: usize, readers: usize) -> u64 {
        let mut need = *self;
        while need.total > need.limit && need.total < u64::MAX {
            need = Self::sum(plan, need.total, encoders, readers);
        }
        need.limit
    }

    fn sum(plan: &Plan, limit: u64, encoders: usize, readers: usize) -> Self {
        let buffer = plan.limits.buffer_bytes.0.max(1);
        let buffers = (limit / 4 / buffer).max(BUFFERS_MIN.saturating_mul(readers.max(1) as u64));
        let outputs = || plan.outputs.iter();
        let windows = sum(outputs().map(Output::memory_bytes));
        let batch = sum(outputs().map(|output| output.batch_bytes.0));
        let batches = batch.saturating_mul(2).saturating_mul(encoders as u64);
        let pool = buffers.saturating_mul(buffer);
        let record = plan.limits.record_bytes_max.0.max(1);
        let pair = record.saturating_mul(2);
        let permits = (limit / 8 / pair).max(PERMITS_MIN.saturating_mul(readers.max(1) as u64));
        let encoders = encoders.max(1) as u64;
        let blocks = if plan.has_blocks() {
            (limit / 8 / encoders).max(record)
        } else {
            0
        };
        let joins = permits
            .saturating_mul(pair)
            .saturating_add(blocks.saturating_mul(encoders));
        Self {
            pool_buffers: usize::try_from(buffers).unwrap_or(usize::MAX),
            pool_bytes: pool,
            windows_bytes: windows,
            batches_bytes: batches,
            permits: usize::try_from(permits).unwrap_or(usize::MAX),
            blocks_bytes: blocks,
            joins_bytes: joins,
            total: sum([pool, windows, batches, joins].into_iter()),
            limit,
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "pool {} + windows {} + batches {} + joins {} = {} of {}",
            ByteSize(self.pool_bytes),
            ByteSize(self.windows_bytes),
            ByteSize(self.batches_bytes),
            ByteSize(self.joins_bytes),
            ByteSize(self.total),
            ByteSize(self.limit),
        )
    }
}

fn sum(parts: impl Iterator<Item = u64>) -> u64 {
    parts.fold(0, u64::saturating_add)
}
