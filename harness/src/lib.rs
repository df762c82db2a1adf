//! What stands around the agent in demo, tests and benches. It shares no code with the agent.
//!
//! ```text
//! generate -> kubelet's tree -> (the agent) -> receive | proxy -> tally
//!     |                                                             |
//!     +------------ journal -------------------> account <----------+
//! ```
//!
//! 1. Every record has an identity of its own, so that matching works on any output.
//! 2. The journal is written by the generator alone, the tally by the receiver alone.
//! 3. The account compares the two, and nothing else decides whether a run was clean.

pub mod account;
pub mod fault;
pub mod generate;
pub mod journal;
pub mod limits;
pub mod load;
pub mod path;
pub mod print;
pub mod process;
pub mod proxy;
pub mod receive;
pub mod serve;
pub mod sink;
pub mod tally;
pub mod text;
pub mod twice;
pub mod wire;
