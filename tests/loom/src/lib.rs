//! Where threads of the agent meet, in every order of their steps: its own source, compiled over
//! loom's atomics in the place of the machine's (`base::sync`).
//!
//! 1. A reader that found the pool empty is rung when a buffer comes home, or finds it.
//! 2. A reader that armed its file and then read nothing is woken by the write, or has seen it.
//! 3. Who sleeps over an empty queue is rung for what was put into it, or finds it.

/// The agent's room `base`, as far as threads meet in it.
pub mod base {
    #[path = "../../../../agent/src/base/bell.rs"]
    pub mod bell;
    #[path = "../../../../agent/src/base/belled.rs"]
    pub mod belled;
    #[path = "../../../../agent/src/base/pool.rs"]
    pub mod pool;
    pub mod sync;
}

/// The agent's room `wake`: the slot that a probe and a reader share.
#[path = "."]
pub mod wake {
    #[path = "../../../agent/src/wake/shared.rs"]
    pub mod shared;
}
