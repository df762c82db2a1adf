//! Jittered exponential backoff, from a seed.

/// How long to wait before the next try: doubles from `min_ms` to `max_ms`, each wait drawn
/// uniformly from its upper half, so that many agents do not come back in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    min_ms: u64,
    max_ms: u64,
    tries: u32,
    state: u64,
}

impl Backoff {
    /// A backoff from `min_ms` to `max_ms`; `seed` decides the jitter.
    #[must_use]
    pub const fn new(min_ms: u64, max_ms: u64, seed: u64) -> Self {
        Self {
            min_ms,
            max_ms,
            tries: 0,
            state: seed | 1,
        }
    }

    /// The next wait in milliseconds.
    pub fn next_ms(&mut self) -> u64 {
        let full = self
            .min_ms
            .saturating_mul(1 << self.tries.min(20))
            .clamp(1, self.max_ms.max(1));
        self.tries = self.tries.saturating_add(1);
        // xorshift64: jitter needs no better randomness.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        full - self.state % (full / 2 + 1)
    }

    /// How many waits were asked for since the last success.
    #[must_use]
    pub const fn tries(&self) -> u32 {
        self.tries
    }

    /// Begins again after a success.
    pub const fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum_and_stay_in_the_upper_half() {
        let mut backoff = Backoff::new(100, 1000, 7);
        for full in [100, 200, 400, 800, 1000, 1000] {
            let wait = backoff.next_ms();
            assert!((full / 2..=full).contains(&wait), "{wait} of {full}");
        }
        backoff.reset();
        assert!(backoff.next_ms() <= 100);
    }
}
