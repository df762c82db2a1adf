//! The probes. On the host this is an empty program, so that plain cargo commands need no BPF chain.
#![cfg_attr(
    target_arch = "bpf",
    no_std,
    no_main,
    feature(core_intrinsics),
    allow(
        internal_features,
        reason = "the exchange of 32 bits exists only as an intrinsic"
    )
)]

#[cfg(target_arch = "bpf")]
mod probes;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
