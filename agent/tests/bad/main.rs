//! Bad input, end to end: the real binary, a tree of logs, and servers that behave or do not.
//!
//! Each row proves four things: its counter moves by the right number, one message says cause,
//! consequence and cure however much is bad, a good neighbour's lines all arrive meanwhile, and
//! nothing is lost that was not counted.
#![expect(clippy::unwrap_used, reason = "tests")]

mod account;
mod agent;
mod bed;
mod credentials;
mod faults;
mod files;
mod lines;
mod own_log;
mod proxies;
mod secrets;
mod servers;
mod sink;
mod state;
mod tls;
