//! Records -> request bodies.
//!
//! ```text
//! Sink::emit -> Batch (output, tenant) -> seal: linger or size -> Request -> Outlet -> lane
//! ```
//!
//! 1. Pure: no I/O, no clock; compression is the last step, at seal.
//! 2. A batch holds one claim on each chunk that it has records of, for its output alone.
//! 3. A sealed request waits in the outlet's window; a full window is backpressure, never loss.

pub mod outlet;
pub mod request;

pub use outlet::{Outlet, OutletCounters};
pub use request::{Encoding, Item, Request};
