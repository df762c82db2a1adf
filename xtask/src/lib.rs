//! What the end-to-end tests share with `cargo xtask`: the real servers.

pub mod testbed;
