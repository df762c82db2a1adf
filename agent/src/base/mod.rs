//! Words that every room uses: time, sizes, output ids, buffers, backoff, counters, seams.
//!
//! 1. Nothing here knows a room above it; only std and small pure crates are used.
//! 2. The clock is read in `time.rs` alone; everybody else is handed a value.

pub mod backoff;
pub mod beat;
pub mod bell;
pub mod belled;
pub mod count;
pub mod files;
pub mod outputs;
pub mod pool;
pub mod quiet;
pub mod share;
pub mod size;
pub mod store;
pub mod sync;
pub mod time;
