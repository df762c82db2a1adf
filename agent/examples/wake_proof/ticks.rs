//! The finest clock there is, and what its tick is worth.
#![expect(unsafe_code, reason = "the instruction has no safe name")]

use std::time::{Duration, Instant};

/// Spun to learn how many ticks a nanosecond has.
const SPIN: Duration = Duration::from_millis(50);

/// Ticks so far.
#[cfg(target_arch = "x86_64")]
pub(crate) fn ticks() -> u64 {
    // SAFETY: every x86-64 has both instructions.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one clock")]
    unsafe {
        std::arch::x86_64::_mm_lfence();
        std::arch::x86_64::_rdtsc()
    }
}

/// Nanoseconds since the first call.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn ticks() -> u64 {
    static FIRST: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// What ticks are said in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    /// A tick is one: QEMU counts them.
    Instructions,
    /// So many ticks are one.
    Nanoseconds(f64),
}

impl Unit {
    /// Instructions where the caller says that those are counted: a guest cannot tell.
    pub(crate) fn find(counted: bool) -> Self {
        if counted {
            return Self::Instructions;
        }
        let (begun, first) = (Instant::now(), ticks());
        while begun.elapsed() < SPIN {
            std::hint::spin_loop();
        }
        Self::Nanoseconds((ticks() - first) as f64 / begun.elapsed().as_nanos() as f64)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Instructions => "instructions",
            Self::Nanoseconds(_) => "ns",
        }
    }

    pub(crate) fn of(self, ticks: i64) -> f64 {
        match self {
            Self::Instructions => ticks as f64,
            Self::Nanoseconds(each) => ticks as f64 / each,
        }
    }
}
