//! What `cargo xtask` does, as a library, so that tests of any crate can use the testbed.

pub mod bench;
pub mod build;
pub mod e2e;
pub mod kernels;
pub mod node;
mod packages;
pub mod path;
pub mod refusals;
pub mod run;
pub mod shapes;
pub mod sim;
pub mod testbed;
pub mod tests;
pub mod tidy;
