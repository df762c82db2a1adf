//! What a spool counts and says.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::queue::{Backlog, Damage};
use crate::base::count::{Counter, Registry};
use crate::base::quiet::Quiet;
use crate::base::time::Mono;
use crate::encode::{Origin, Request};

/// Container logs whose drops are counted one by one; the others are counted together.
const LOGS_MAX: usize = 1_000;

#[derive(Debug)]
pub(super) struct Tally {
    output: String,
    registry: Arc<Registry>,
    requests: Arc<Counter>,
    lines: Arc<Counter>,
    bytes: Arc<Counter>,
    oldest: Arc<Counter>,
    spooled_lines: Arc<Counter>,
    spooled_bytes: Arc<Counter>,
    damaged_lines: Arc<Counter>,
    unreadable_bytes: Arc<Counter>,
    torn_bytes: Arc<Counter>,
    errors: Arc<Counter>,
    /// Lines and bytes given up, by policy and container log.
    drops: HashMap<(&'static str, Arc<str>), [Arc<Counter>; 2]>,
    quiet: Quiet,
}

impl Tally {
    pub(super) fn new(output: &str, registry: &Arc<Registry>) -> Self {
        let labels = [("output", output)];
        let counter = |name, help| registry.counter(name, help, &labels);
        let gauge = |name, help| registry.gauge(name, help, &labels);
        Self {
            output: output.to_owned(),
            registry: Arc::clone(registry),
            requests: gauge("tailwake_spool_requests", "Requests in the output's spool."),
            lines: gauge("tailwake_spool_lines", "Lines in the output's spool."),
            bytes: gauge(
                "tailwake_spool_bytes",
                "Bytes that the output's spool takes on the disk.",
            ),
            oldest: gauge(
                "tailwake_spool_oldest_timestamp_seconds",
                "When the oldest request in the spool was spooled, in Unix seconds; 0 = none.",
            ),
            spooled_lines: counter(
                "tailwake_spooled_lines_total",
                "Lines written to the output's spool.",
            ),
            spooled_bytes: counter(
                "tailwake_spooled_bytes_total",
                "Compressed body bytes written to the output's spool.",
            ),
            damaged_lines: counter(
                "tailwake_spool_damaged_lines_total",
                "Lines in spooled requests that are not what was written.",
            ),
            unreadable_bytes: counter(
                "tailwake_spool_unreadable_bytes_total",
                "Bytes between spooled requests that are none; the segment is set aside.",
            ),
            torn_bytes: counter(
                "tailwake_spool_torn_bytes_total",
                "Bytes of requests that a crash has torn before they counted as spooled.",
            ),
            errors: counter(
                "tailwake_spool_errors_total",
                "Writes, reads, marks and deletions of the spool that failed; tried again.",
            ),
            drops: HashMap::new(),
            quiet: Quiet::default(),
        }
    }

    /// What a start has found.
    pub(super) fn found(&mut self, backlog: &Backlog) {
        self.shows(backlog);
        if backlog.requests > 0 {
            tracing::info!(output = %self.output, requests = backlog.requests, lines = backlog.lines,
                bytes = backlog.bytes, "the spool holds what an earlier run could not deliver");
        }
    }

    pub(super) fn shows(&self, backlog: &Backlog) {
        self.requests.set(backlog.requests);
        self.lines.set(backlog.lines);
        self.bytes.set(backlog.bytes);
        self.oldest.set(backlog.oldest_secs.map_or(0, u64::from));
    }

    pub(super) fn spooled(&self, request: &Request) {
        self.spooled_lines.add(request.lines());
        self.spooled_bytes.add(request.body.len() as u64);
    }

    pub(super) fn damaged(&mut self, now: Mono, damage: &Damage) {
        self.damaged_lines.add(damage.lines);
        self.unreadable_bytes.add(damage.bytes);
        self.torn_bytes.add(damage.torn_bytes);
        self.errors.add(damage.errors);
        let output = self.output.as_str();
        if damage.requests + damage.bytes > 0
            && let Some(suppressed) = self.quiet.allow(now, "damage")
        {
            tracing::error!(
                output,
                lines = damage.lines,
                bytes = damage.bytes,
                suppressed,
                "a part of the spool is not what was written, and is given up; all else is delivered, and \
                 the segment is then set aside as `*.damaged`: see what writes below `state`, or how its \
                 disk fails"
            );
        }
        if damage.foreign_files > 0
            && let Some(suppressed) = self.quiet.allow(now, "foreign")
        {
            tracing::warn!(
                output,
                files = damage.foreign_files,
                suppressed,
                "there are files in the spool's directory that are not this output's; they stay where \
                 they are: move them out of it"
            );
        }
    }

    pub(super) fn failed(&mut self, now: Mono, error: &io::Error) {
        self.errors.add(1);
        if let Some(suppressed) = self.quiet.allow(now, error.raw_os_error()) {
            let (output, cure) = (self.output.as_str(), super::keeper::words(error));
            tracing::error!(output, %error, suppressed,
                "cannot write the spool; tried again every second, the output does without it meanwhile: \
                 {cure}");
        }
    }

    pub(super) fn dropped(&mut self, now: Mono, policy: &'static str, origins: &[Origin]) {
        let mut lines = 0;
        for origin in origins {
            lines += u64::from(origin.lines);
            let [of_lines, of_bytes] = self.drop_of(policy, &origin.log);
            of_lines.add(origin.lines.into());
            of_bytes.add(origin.bytes);
        }
        if lines > 0
            && let Some(suppressed) = self.quiet.allow(now, "dropped")
        {
            let output = self.output.as_str();
            tracing::error!(
                output,
                lines,
                policy,
                suppressed,
                "the spool is full, and lines are given up as `spool.at_cap` says: give it more room, or \
                 see why the output does not take them"
            );
        }
    }

    fn drop_of(&mut self, policy: &'static str, log: &Arc<str>) -> &[Arc<Counter>; 2] {
        let known = self.drops.contains_key(&(policy, Arc::clone(log)));
        let log = if known || self.drops.len() < LOGS_MAX {
            Arc::clone(log)
        } else {
            Arc::from("(others)")
        };
        let (registry, output) = (&self.registry, self.output.as_str());
        self.drops
            .entry((policy, Arc::clone(&log)))
            .or_insert_with(|| {
                let labels = [("output", output), ("policy", policy), ("log", &*log)];
                [
                    registry.counter(
                        "tailwake_spool_dropped_lines_total",
                        "Lines given up because the spool was full, by container log.",
                        &labels,
                    ),
                    registry.counter(
                        "tailwake_spool_dropped_bytes_total",
                        "Bytes before compression given up because the spool was full, by container log.",
                        &labels,
                    ),
                ]
            })
    }
}
