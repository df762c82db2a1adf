//! What `cargo xtask` does, one folder per command.

pub mod bench;
pub mod run;
