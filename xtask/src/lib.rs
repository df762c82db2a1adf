//! What `cargo xtask` does, and what the end-to-end tests share with it: the real servers.

pub mod build;
pub mod kernels;
pub mod packages;
pub mod testbed;
