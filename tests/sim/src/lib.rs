//! The simulator: the whole agent on one thread, by seed, on a node, a network and servers in memory.
//!
//! ```text
//!        node (kubelet, runtime) --> world: files, directory events, wakes, the state file
//!                |                      |  seams: Files, Ring
//!        books <-+     life: Tree -> Reader -> Worker (stage::Machine) -> Deliverer -> Ledger
//!                |                      |  seams: Clock, Transport
//!        servers (Loki, bulk) <------- net: delays, lost answers, refused connections
//! ```
//!
//! A scenario (`scenario`) is a fault that another collector has met, by its row's name: a script moves
//! node, servers and agent, and the seed draws turns, sizes and gaps alone.
//!
//! A seed without a scenario draws the plan's sizes, the number of readers and encoders, the faults, and every step. A
//! step lets the node act, time go on, and each seat that is due take its turn, in any order; a crash
//! may come after any turn. Then all is well and silent, and everything must arrive: first with the
//! pods still there, then after they have ended.
//!
//! 1. A seed decides everything. No clock, no thread, no sleep: `--seed N` plays the same run again,
//!    with its trace.
//! 2. Nothing is lost: each record that the plan does not drop arrives at each server with its text.
//! 3. Order is kept for each container, stream and output, by first arrivals.
//! 4. Nothing comes twice but after a crash, an answer that did not arrive, or a detach.
//! 5. Stored positions never pass a byte of a record that its server does not hold.
//! 6. Buffers, windows, batches and joins stay within the printed formula. A window is passed by one
//!    request at the most, batches by what one feed makes.
//! 7. A seat turns only when its thread would: a wake-up that is missing leaves the run stuck. In the
//!    end nothing is open, watched, held or known of pods that are gone.
//!
//! 8. Where the plan asks the Kubernetes API (each third seed), which is silent, late and forgetful at times
//!    (`api.rs`), nothing arrives without its own pod's label.
//!
//! What is excused, each counted: records that a server rejects; those of a deleted file that a crash
//! takes with it; bulk items that were refused alone (order). Where a file is renamed between its
//! listing and its opening, the reader meets its successor first and comes back: that container's
//! records may come late or again, and such a rename leaves no record open.
//!
//! Texts are compared by line, so that a block that `multiline` splits (its time runs out, the agent
//! starts in its midst, two passes meet in it) is right as long as each of its lines is.
//!
//! Absent: Docker's JSON lines, cuts at `record_bytes_max`. Only scenarios truncate, compress, lead links
//! elsewhere, end the agent cleanly, damage the state file, and set the clock.
//!
//! The dev profile is enough: two hundred seeds take half a minute of one processor, less than an
//! optimized build would.

mod alarm;
mod api;
mod books;
mod files;
mod hand;
mod life;
mod many;
mod net;
mod node;
mod plan;
mod ring;
mod rng;
mod run;
mod scenario;
mod servers;
mod trace;
mod world;
mod writer;

pub use books::Counts;
pub use many::{FAILED, Total, run_all, run_scenario};
pub use run::{Summary, run};
pub use scenario::{ALL, Scenario};

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::{ALL, run, run_all};

    #[test]
    fn a_few_seeds_deliver_every_record_whole_once_and_in_order() {
        let (_, failed) = run_all(16, false);
        assert!(failed.is_empty(), "{failed:?}");
    }

    #[test]
    fn each_scenario_goes_well() {
        for scenario in ALL {
            let done = (0..2).try_for_each(|seed| scenario.run(seed, false).map(drop));
            assert_eq!(done, Ok(()), "{}", scenario.name);
        }
    }

    #[test]
    fn a_seed_is_the_same_run_each_time() {
        // Seed 7 has every kind of fault.
        let (first, second) = (run(7, true).unwrap(), run(7, true).unwrap());
        let differ = first.trace.iter().zip(&second.trace);
        let differ = differ.enumerate().find(|(_, (one, other))| one != other);
        assert_eq!(differ, None);
    }
}
