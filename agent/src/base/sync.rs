//! What threads meet by: the machine's atomics and queue. `tests/loom` compiles the files that use
//! it over loom's, and tries every order of their steps.

pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

pub use crossbeam_queue::ArrayQueue;
