//! A durable queue of encoded requests, for an output that is down for longer than files last.
//!
//! ```text
//! append(group) -> frames at the end of the newest segment -> one fdatasync -> their tickets settle
//! lend() -> the oldest frame that nobody has -> a lane -> settle(id) | give_back(id)
//! all frames of a segment settled -> the file goes
//! ```
//!
//! 1. What was appended is lent until it is settled, through any crash: a state byte in its frame says
//!    which it is. A settled frame may be lent once more after a crash; no other is ever lent twice.
//! 2. No state but the segments themselves. A start reads frames' headers alone, and always succeeds;
//!    what cannot be read is set aside (`*.damaged`), counted, and all else is lent.
//! 3. Memory does not grow with what is spooled: a segment has a few words, those that are being lent
//!    out have a word a frame.
//! 4. No clock, thread or socket: the disk thread calls (`run/disk`), over the [`Store`] seam.
//!
//! [`Store`]: crate::base::store::Store

pub mod entry;
mod frame;
pub mod keeper;
pub mod queue;
mod segment;
mod tally;
#[cfg(test)]
mod tests;
mod walk;

pub use entry::Entry;
pub use keeper::{Keeper, kind_of};
pub use queue::{Backlog, Damage, Spool};
pub use segment::{name_of as segment_name, number_of as segment_number};
pub use walk::is_of_kind;
