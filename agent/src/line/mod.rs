//! Bytes -> lines.

pub mod boundary;
