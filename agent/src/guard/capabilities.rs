//! Capabilities: all are given up but those that the running agent uses.
//!
//! 1. CAP_DAC_READ_SEARCH is kept where it is held: logs belong to other users.
//! 2. Two more are kept only where a trial without them fails. CAP_BPF: before Linux 5.19
//!    `kernel.unprivileged_bpf_disabled` bars the map calls too
//!    (<https://git.kernel.org/torvalds/c/c8644cd0efe7>). CAP_DAC_OVERRIDE: the state directory
//!    belongs to another user.
//! 3. The bounding set is emptied where CAP_SETPCAP allows it. Where it does not, no_new_privs
//!    keeps it from mattering.

use std::fmt;
use std::path::Path;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use super::Mechanism;

const NAME: &str = "capabilities";

/// Numbers that the kernel may have; it has 41 in 2026 and refuses the others.
const NUMBERS: u32 = 64;

/// Capabilities by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names(CapabilitySet);

impl Names {
    /// Whether this one is among them.
    #[must_use]
    pub fn has(self, name: &str) -> bool {
        CapabilitySet::from_name(name).is_some_and(|one| self.0.contains(one))
    }

    /// How many.
    #[must_use]
    pub fn count(self) -> usize {
        self.0.iter_names().count()
    }
}

impl fmt::Display for Names {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return out.write_str("none");
        }
        for (place, (name, _)) in self.0.iter_names().enumerate() {
            let space = if place == 0 { "" } else { " " };
            write!(out, "{space}CAP_{name}")?;
        }
        Ok(())
    }
}

/// What this thread holds in effect.
#[must_use]
pub fn held() -> Names {
    Names(capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective))
}

/// Gives up what is not used.
pub(super) fn shrink(state: &Path, maps_answer: &dyn Fn() -> bool) -> Mechanism {
    match try_shrink(state, maps_answer) {
        Ok(kept) => Mechanism::holds(NAME, format!("kept {}", Names(kept))),
        Err(error) => Mechanism::refused(
            NAME,
            format!("{error}; those held at start are kept: {}", held()),
        ),
    }
}

fn try_shrink(state: &Path, maps_answer: &dyn Fn() -> bool) -> Result<CapabilitySet, Errno> {
    let held = capabilities(None)?.permitted;
    for number in 0..NUMBERS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        // EPERM: no CAP_SETPCAP. EINVAL: past the last number.
        if remove_capability_from_bounding_set(one).is_err() {
            break;
        }
    }
    let _ = clear_ambient_capability_set();
    let mut kept = held & CapabilitySet::DAC_READ_SEARCH;
    set(kept, held)?;
    if !maps_answer() {
        kept |= held & CapabilitySet::BPF;
    }
    if !can_write(state) {
        kept |= held & CapabilitySet::DAC_OVERRIDE;
    }
    set(kept, kept)?;
    Ok(kept)
}

fn set(effective: CapabilitySet, permitted: CapabilitySet) -> Result<(), Errno> {
    let sets = CapabilitySets {
        effective,
        permitted,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets)
}

/// Only a refusal counts: a full disk says nothing of rights.
fn can_write(state: &Path) -> bool {
    let trial = state.join("trial");
    let made = std::fs::File::create(&trial);
    let _ = std::fs::remove_file(&trial);
    !made.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}
