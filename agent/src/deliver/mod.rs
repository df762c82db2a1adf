//! Request bodies -> acknowledged.
//!
//! ```text
//! Outlet::take -> Lane (output, tenant, encoder): one request in flight, retry in order
//!   -> Transport::send -> answer -> judge (per sink) -> fate: each item Delivered | Rejected | Retry
//!                                   Loki's words -> said -> sort: which entries they speak of
//!   a limited stream -> its own slow way in the lane         rejected -> counted -> dead letters
//! ```
//!
//! 1. A lane is a synchronous state machine; only the transport knows of sockets.
//! 2. A ticket is settled when all items that name it were delivered or counted as rejected.
//! 3. A request that is dropped with items outstanding drops its tickets: nothing advances.

pub mod dead;
pub mod deliverer;
mod fate;
pub mod http;
pub mod judge;
mod lane;
mod load;
mod redact;
mod refusal;
mod setup;
mod sort;
mod tally;
mod track;
pub mod transport;

pub use dead::{DeadQueue, Letter};
pub use deliverer::{Deliverer, OutputStatus, Turn};
pub use http::{HttpTransport, further_ports, port};
pub use load::{Bodies, Lines, Look, Plain, Recompose};
pub use transport::{Answer, Call, CallId, Failure, Transport};
