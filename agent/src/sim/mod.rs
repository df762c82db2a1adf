//! A simulator of the tail and ledger rooms: a node's files, kernel and outputs in memory, one seed
//! a run, so that any failure can be played again.
//!
//! ```text
//! seed -> World (files, wakes) -> Reader -> Feeds -> plain encoder -> two servers
//!                 crash, rotation, detach, lost requests          -> what arrived is checked
//! ```
//!
//! 1. A seed decides everything: time, order, delays and faults. No clock, no thread, no sleep.
//! 2. Every record written arrives whole at both servers, or the run fails with a reason.

mod agent;
#[cfg(test)]
mod alarm;
mod encoder;
mod rng;
mod run;
mod world;
mod writer;

pub use run::{Summary, run};

#[cfg(test)]
mod tests {
    use super::run;

    #[test]
    fn seeds_deliver_every_record_whole_and_in_order() {
        let failed: Vec<_> = (0..200)
            .filter_map(|seed| run(seed, false).err().map(|error| (seed, error)))
            .collect();
        assert!(failed.is_empty(), "{failed:?}");
    }
}
