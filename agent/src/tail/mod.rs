//! Bytes off disk: the only room that opens log files.
//!
//! ```text
//! discover::Event -> Reader: register, watch      ring: Woken(token)
//!   -> read at the pass's offset -> whole lines, no record open -> Chunk { ticket } -> Feeds
//!   -> end of file: arm, read once more, sleep
//! ```
//!
//! 1. No free buffer, no read: not reading loses nothing until rotation deletes the file.
//! 2. A pass walks the files of one container log, oldest first, for a set of outputs; it goes on to
//!    the next file only when the one before is past, read to its end and quiet.
//! 3. An output is in at most one pass of a log. It joins at its own watermark, when nothing of the
//!    log is owed to it any more: so nothing is sent twice but after a crash.
//! 4. A file sleeps only after a read that began after `arm` found nothing.
//! 5. An unfinished last line is read again from its start; no buffer waits for its end.
//! 6. A record lies over a chunk's end only by a permit, of which there are few: what encoders hold of
//!    such records is bounded, and a log without a permit waits on disk.

mod age;
mod changed;
mod ends;
pub mod eventfd;
mod fair;
mod fall;
pub mod file;
mod found;
mod gzip;
pub mod identity;
mod landed;
pub mod log;
pub mod machine;
mod measure;
mod open;
mod opened;
mod overlooked;
mod passes;
pub mod pread;
pub mod rates;
pub mod reader;
pub mod ring;
pub mod roll;
mod serve;
#[cfg(test)]
mod tests;
pub mod uring;

pub use machine::MachineRing;
pub use rates::Rates;
pub use reader::{Reader, Settings, Turn};
pub use ring::{Event, Ring, Token};
pub use roll::Roll;
