//! Request bodies -> acknowledged.
//!
//! ```text
//! Outlet::take -> Lane (output, tenant, encoder): one request in flight, retry in order
//!   -> Transport::send -> answer -> judge (per sink) -> each item Delivered | Rejected | Retry
//! ```
//!
//! 1. A lane is a synchronous state machine; only the transport knows of sockets.
//! 2. A ticket is settled when all items that name it were delivered or counted as rejected.
//! 3. A request that is dropped with items outstanding drops its tickets: nothing advances.

pub mod deliverer;
pub mod http;
pub mod judge;
mod lane;
mod load;
mod redact;
mod setup;
mod tally;
pub mod transport;

pub use deliverer::{Deliverer, OutputStatus, Turn};
pub use http::{HttpTransport, further_ports, port};
pub use load::{Recompose, Recomposed};
pub use transport::{Answer, Call, CallId, Failure, Transport};
