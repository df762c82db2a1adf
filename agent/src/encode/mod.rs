//! Records -> request bodies.
//!
//! ```text
//! Feed -> Worker -> stages -> Sink::emit -> batch (output, tenant) -> seal: size, linger, or lone
//!   -> Request -> Outlet -> lane
//! lane, to send some items again: recompose (inflate, take, wrap, compress); plain (as text)
//!   and to learn what was refused: look, lines
//! ```
//!
//! 1. Pure: no I/O, no clock; compression is the last step, at seal.
//! 2. A batch holds claims on each chunk that it has records of, for its output alone.
//! 3. A sealed request waits in the outlet's window; where that is full it goes to the output's spool, if
//!    there is one: else a full window is backpressure, never loss.

mod batch;
mod bulk;
mod compress;
#[cfg(test)]
mod fixture;
pub mod gate;
mod loki;
mod look;
pub mod outlet;
mod plain;
pub mod request;
mod seal;
mod subset;
mod text;
pub mod worker;

pub use compress::Error;
pub use gate::{Gate, Loan, Origin, SpoolId};
pub use look::{Entry, Line, Looked, lines, look};
pub use outlet::{Outlet, OutletCounters};
pub use plain::plain;
pub use request::{Encoding, Item, Request};
pub use subset::{Recomposed, Subset, recompose, subset};
pub use worker::{Process, Turn, Worker};
