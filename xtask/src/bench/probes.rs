//! What the probes themselves cost: their run time, which is spent in the writers' system calls.
//!
//! The kernel measures it only while somebody holds the descriptor of `BPF_ENABLE_STATS`, and stops
//! when the holder ends. Reading its clock twice a run is part of what it measures.

use std::fmt;
use std::os::fd::OwnedFd;

use aya::sys::{Stats, enable_stats};
use serde_json::Value;

/// The kernel measures while this lives.
#[derive(Debug)]
pub(super) struct Meter(Result<OwnedFd, String>);

impl Meter {
    pub(super) fn start() -> Self {
        Self(enable_stats(Stats::RunTime).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let cause = cause.unwrap_or_else(|| error.to_string());
            format!("the kernel refuses BPF_ENABLE_STATS: {cause}")
        }))
    }

    /// What the agent's probes have cost by its `/status`.
    pub(super) fn read(&self, status: &Value) -> Cost {
        if let Err(why) = &self.0 {
            return Cost::Unmeasured(why.clone());
        }
        let probes = match status["probes"].as_array() {
            Some(probes) if !probes.is_empty() => probes,
            _ => {
                let rung = status["rung"].as_str().unwrap_or("an unknown rung");
                return Cost::Unmeasured(format!("there are none, the agent stands on {rung}"));
            }
        };
        let sum = |key: &str| probes.iter().filter_map(|probe| probe[key].as_u64()).sum();
        Cost::Measured {
            run_ns: sum("run_ns"),
            runs: sum("runs"),
        }
    }
}

/// What the probes cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cost {
    /// By the kernel's account.
    Measured {
        /// Nanoseconds in all.
        run_ns: u64,
        /// How often they ran, for unwatched files too.
        runs: u64,
    },
    /// Why not.
    Unmeasured(String),
}

impl Cost {
    /// CPU seconds; 0 where they are not known.
    pub(super) fn cpu_s(&self) -> f64 {
        match self {
            Self::Measured { run_ns, .. } => *run_ns as f64 / 1e9,
            Self::Unmeasured(_) => 0.0,
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unmeasured(why) => write!(f, "not measured: {why}"),
            Self::Measured { run_ns, runs } => {
                let each = *run_ns as f64 / (*runs).max(1) as f64;
                write!(
                    f,
                    "{runs} runs of {each:.0} ns in the writers' system calls"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_probes_there_is_a_reason_in_place_of_a_figure() {
        let meter = Meter(Err("the kernel refuses".to_owned()));
        let probes = serde_json::json!({"probes": [{"run_ns": 5, "runs": 1}]});
        let said = |cost: Cost| (cost.to_string(), cost.cpu_s());
        let want = ("not measured: the kernel refuses".to_owned(), 0.0);
        assert_eq!(said(meter.read(&probes)), want);
        let cost = Cost::Measured {
            run_ns: 3_000,
            runs: 20,
        };
        assert!(said(cost).0.starts_with("20 runs of 150 ns"));
    }
}
