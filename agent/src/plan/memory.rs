//! The memory ceiling as a formula: pool, windows, batches and joins.
//!
//! ```text
//! pool     max(limits.memory / 4 / buffer_bytes, 8 a reader) buffers of buffer_bytes
//! windows  the sum of window_bytes of all outputs
//! batches  2 * batch_bytes an output and encoder: one that fills, one that is sealed
//! joins    4 MiB for partial lines and multiline records
//! ```
//!
//! 1. A plan whose sum passes `limits.memory` does not start.

use std::fmt;

use super::Plan;
use crate::base::size::ByteSize;

/// The pool has at least this many buffers a reader: fewer, and one slow encoder starves it.
const BUFFERS_MIN: u64 = 8;

/// Bytes of partial lines and multiline records that encoders may hold.
pub const JOINS_BYTES: u64 = 4 << 20;

/// What each part of the agent may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Read buffers.
    pub pool_buffers: usize,
    /// Bytes of all read buffers.
    pub pool_bytes: u64,
    /// Compressed bytes that outputs may hold, in all.
    pub windows_bytes: u64,
    /// Bytes of batches that encoders fill and compress, in all.
    pub batches_bytes: u64,
    /// Bytes of partial lines and multiline records, in all.
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
        let memory = Self::sum(plan, encoders, readers);
        if memory.total <= memory.limit {
            return Ok(memory);
        }
        let need = memory.need(plan, readers).div_ceil(1 << 20);
        Err(format!(
            "`limits.memory` is too small with {encoders} encoder(s) and {readers} reader(s): \
             {memory}; set `limits.memory: {need}MiB` or more, or lower `window_bytes` or \
             `batch_bytes` of an output, or `limits.encoders`"
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

    /// The least `limits.memory` that this would fit: the pool grows with it.
    fn need(&self, plan: &Plan, readers: usize) -> u64 {
        let rest = sum([self.windows_bytes, self.batches_bytes, self.joins_bytes].into_iter());
        let least = buffers_min(readers).saturating_mul(plan.limits.buffer_bytes.0);
        rest.div_ceil(3)
            .saturating_mul(4)
            .max(rest.saturating_add(least))
    }

    fn sum(plan: &Plan, encoders: usize, readers: usize) -> Self {
        let limit = plan.limits.memory.0;
        let buffer = plan.limits.buffer_bytes.0.max(1);
        let buffers = (limit / 4 / buffer).max(buffers_min(readers));
        let outputs = || plan.outputs.iter();
        let windows = sum(outputs().map(|output| output.window_bytes.0));
        let batch = sum(outputs().map(|output| output.batch_bytes.0));
        let batches = batch.saturating_mul(2).saturating_mul(encoders as u64);
        let pool = buffers.saturating_mul(buffer);
        Self {
            pool_buffers: usize::try_from(buffers).unwrap_or(usize::MAX),
            pool_bytes: pool,
            windows_bytes: windows,
            batches_bytes: batches,
            joins_bytes: JOINS_BYTES,
            total: sum([pool, windows, batches, JOINS_BYTES].into_iter()),
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

fn buffers_min(readers: usize) -> u64 {
    BUFFERS_MIN.saturating_mul(readers.max(1) as u64)
}

fn sum(parts: impl Iterator<Item = u64>) -> u64 {
    parts.fold(0, u64::saturating_add)
}
