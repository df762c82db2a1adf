//! Real servers on loopback, without a container engine.
//!
//! ```text
//! cargo xtask testbed up -> obtain -> start -> state/<server>/server.json
//!                     down  <- pid, checked against /proc <-'
//! ```
//!
//! 1. Every version is pinned under `tests/testbed`; nothing built is kept in the checkout.
//! 2. A server that cannot be had is named and skipped, and the others still start.
//! 3. Only a process whose command line names our folder is ever signalled.
//!
//! The end-to-end tests use [`Server`] directly; the commands serve people.

mod cache;
mod command;
mod launch;
mod obtain;
pub mod query;
#[cfg(test)]
mod roundtrip;
mod server;
mod step;
mod tools;

pub use cache::Cache;
pub use command::{Command, run};
pub(crate) use obtain::{node_programs, obtain};
pub use server::{Kind, Options, Server, free_port};
pub use step::Refused;
