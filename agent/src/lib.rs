//! Tailwake: a node log collector that is woken by the kernel, reads with io_uring, and proves per
//! container that what was written was delivered.
//!
//! ARCHITECTURE.md draws the rooms and says who may import whom.

pub mod account;
pub mod admin;
pub mod base;
pub mod cli;
pub mod config;
pub mod deliver;
pub mod discover;
pub mod encode;
pub mod guard;
pub mod kube;
pub mod ledger;
pub mod line;
pub mod machine;
pub mod plan;
pub mod roster;
pub mod run;
pub mod spool;
pub mod stage;
pub mod tail;
pub mod ticket;
pub mod wake;
