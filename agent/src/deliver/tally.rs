//! What an output's lanes count and say.
//!
//! 1. Counters are added to once an answer.
//! 2. A message of one output and reason is printed at most once in ten seconds.

use std::sync::Arc;

use super::judge::Reason;
use crate::base::count::{Counter, Registry};
use crate::base::quiet::Quiet;
use crate::base::time::Mono;

/// Status labels of failed requests: these, else the class.
const STATUSES: [u16; 10] = [400, 401, 403, 404, 413, 422, 429, 500, 502, 503];
const CLASSES: [&str; 4] = ["3xx", "4xx", "5xx", "other"];
const LATENCY_BUCKETS: usize = 160;

/// Counters, histogram and messages of one output.
#[derive(Debug)]
pub(crate) struct Tally {
    output: String,
    pub(crate) acknowledged_lines: Arc<Counter>,
    pub(crate) acknowledged_bytes: Arc<Counter>,
    pub(crate) in_flight: Arc<Counter>,
    pub(crate) slow_streams: Arc<Counter>,
    /// Lines stored without the fields that the server had refused.
    pub(crate) plain_lines: Arc<Counter>,
    rejected: Vec<Arc<Counter>>,
    rejected_bytes: Vec<Arc<Counter>>,
    retries: Vec<Arc<Counter>>,
    errors: Vec<Arc<Counter>>,
    latency_count: Arc<Counter>,
    latency_sum: Arc<Counter>,
    latency: Vec<u64>,
    quiet: Quiet,
    pub(crate) last_error: Option<String>,
}

impl Tally {
    pub(crate) fn new(output: &str, registry: &Registry) -> Self {
        let labels = [("output", output)];
        let counter = |name, help| registry.counter(name, help, &labels);
        let by_reason = |name, help| {
            let one = |reason: &Reason| {
                registry.counter(
                    name,
                    help,
                    &[("output", output), ("reason", reason.label())],
                )
            };
            Reason::ALL.iter().map(one).collect()
        };
        let error = |status: &str| {
            let help = "Answers other than 2xx.";
            let labels = [("output", output), ("status", status)];
            registry.counter("tailwake_request_errors_total", help, &labels)
        };
        let statuses = STATUSES.iter().map(|status| error(&status.to_string()));
        let errors = statuses
            .chain(CLASSES.iter().map(|class| error(class)))
            .collect();
        Self {
            output: output.to_owned(),
            acknowledged_lines: counter(
                "tailwake_acknowledged_lines_total",
                "Lines that the output has stored.",
            ),
            acknowledged_bytes: counter(
                "tailwake_acknowledged_bytes_total",
                "Body bytes before compression that the output has stored.",
            ),
            in_flight: registry.gauge(
                "tailwake_in_flight_requests",
                "Requests sent and not answered.",
                &labels,
            ),
            slow_streams: registry.gauge(
                "tailwake_slow_streams",
                "Loki streams that wait for their own limit, apart from all others.",
                &labels,
            ),
            rejected: by_reason(
                "tailwake_rejected_lines_total",
                "Lines given up because the output will never store them.",
            ),
            rejected_bytes: by_reason(
                "tailwake_rejected_bytes_total",
                "Body bytes before compression of lines given up.",
            ),
            plain_lines: counter(
                "tailwake_plain_lines_total",
                "Lines stored as plain text, because the server had refused their fields.",
            ),
            retries: by_reason("tailwake_request_retries_total", "Requests sent again."),
            errors,
            latency_count: counter("tailwake_acknowledge_latency_ms_count", "Requests settled."),
            latency_sum: counter(
                "tailwake_acknowledge_latency_ms_sum",
                "Milliseconds from a request's first record to its end, all requests together.",
            ),
            latency: vec![0; LATENCY_BUCKETS],
            quiet: Quiet::default(),
            last_error: None,
        }
    }

    pub(crate) fn count_error(&self, status: u16) {
        let place = STATUSES
            .iter()
            .position(|known| *known == status)
            .unwrap_or_else(|| {
                STATUSES.len()
                    + match status {
                        300..=399 => 0,
                        400..=499 => 1,
                        500..=599 => 2,
                        _ => 3,
                    }
            });
        self.errors[place].add(1);
    }

    /// Remembers the words; a thousand items that say the same cost one text.
    fn note(&mut self, text: &str) {
        if self.last_error.as_deref() != Some(text) {
            self.last_error = Some(text.to_owned());
        }
    }

    pub(crate) fn retried(&mut self, now: Mono, reason: Reason, wait_ms: u64, text: &str) {
        self.retries[reason as usize].add(1);
        self.note(text);
        let Some(suppressed) = self.quiet.allow(now, ("retry", reason)) else {
            return;
        };
        let output = self.output.as_str();
        if reason.needs_a_person() {
            tracing::error!(
                output,
                reason = reason.label(),
                wait_ms,
                suppressed,
                "{text}; nothing is lost while files last, but nothing is delivered either: \
                 check the output's address, credentials and permissions"
            );
        } else {
            let reason = reason.label();
            tracing::warn!(
                output,
                reason,
                wait_ms,
                suppressed,
                "{text}; sent again until it is stored, other outputs do not wait: if this goes \
                 on, see what answers at the output's address"
            );
        }
    }

    pub(crate) fn rejected(
        &mut self,
        now: Mono,
        reason: Reason,
        (lines, bytes): (u64, u64),
        text: &str,
    ) {
        self.rejected[reason as usize].add(lines);
        self.rejected_bytes[reason as usize].add(bytes);
        self.note(text);
        if let Some(suppressed) = self.quiet.allow(now, ("reject", reason)) {
            let (output, reason) = (self.output.as_str(), reason.label());
            tracing::error!(
                output,
                reason,
                lines,
                suppressed,
                "{text}; lines are given up and counted, this output will never have them: see \
                 what its server refuses"
            );
        }
    }

    pub(crate) fn dropped(&mut self, now: Mono, lines: u64, text: &str) {
        self.note(text);
        if let Some(suppressed) = self.quiet.allow(now, "drop") {
            let output = self.output.as_str();
            tracing::error!(
                output,
                lines,
                suppressed,
                "take a request apart: {text}; read again"
            );
        }
    }

    pub(crate) fn settled(&mut self, latency_ms: u64) {
        self.latency_count.add(1);
        self.latency_sum.add(latency_ms);
        self.latency[bucket(latency_ms)] += 1;
    }

    /// Lines given up so far.
    pub(crate) fn rejected_lines(&self) -> u64 {
        self.rejected.iter().map(|counter| counter.get()).sum()
    }

    /// Requests sent again so far.
    pub(crate) fn retried_requests(&self) -> u64 {
        self.retries.iter().map(|counter| counter.get()).sum()
    }

    /// The 99th percentile in milliseconds, not more than a quarter above the true one.
    pub(crate) fn latency_p99_ms(&self) -> Option<u64> {
        let all: u64 = self.latency.iter().sum();
        let mut left = all.div_ceil(100);
        if all == 0 {
            return None;
        }
        for (place, count) in self.latency.iter().enumerate().rev() {
            if *count >= left {
                return Some(bucket_end(place));
            }
            left -= count;
        }
        None
    }
}

/// Four buckets a power of two; the first four are 0 to 3 ms.
fn bucket(ms: u64) -> usize {
    if ms < 4 {
        return ms as usize;
    }
    let power = ms.ilog2();
    let quarter = (ms >> (power - 2)) & 3;
    (((power - 1) * 4) as usize + quarter as usize).min(LATENCY_BUCKETS - 1)
}

fn bucket_end(place: usize) -> u64 {
    if place < 4 {
        return place as u64;
    }
    let (power, quarter) = (place as u32 / 4 + 1, place as u64 % 4);
    (1 << power) + ((quarter + 1) << (power - 2)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_and_p99_is_near() {
        for ms in 0..100_000u64 {
            let end = bucket_end(bucket(ms));
            assert!(end >= ms && end <= ms + ms / 4, "{ms} ends {end}");
        }
        let mut tally = Tally::new("x", &Registry::default());
        assert_eq!(tally.latency_p99_ms(), None);
        (1..=1000).for_each(|ms| tally.settled(ms));
        let p99 = tally.latency_p99_ms().unwrap_or_default();
        assert!((990..=1240).contains(&p99), "{p99}");
        tally.settled(u64::MAX);
    }

    #[test]
    fn reasons_stand_at_their_numbers() {
        for (place, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
        }
    }
}
