//! Byte rates of pods and namespaces: whose second is spent is read later, or dropped where the config
//! says so.
//!
//! 1. A bucket holds one second's bytes; it is shared by all readers and is one atomic number.
//! 2. Nobody is counted who was never held up: a pod has series only then, and they go with it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::reader::Reader;
use super::ring::Ring;
use crate::base::count::{Counter, Registry};
use crate::base::files::Files;
use crate::base::time::Mono;
use crate::plan::{Limits, OverRate};
use crate::ticket::{LogId, Source, Span};

/// What may be read at once after a rest, in nanoseconds of the rate.
const BURST_NS: u64 = 1_000_000_000;

/// The rates of a plan, and the pods that they are held for.
#[derive(Debug, Default)]
pub struct Rates {
    pod: Option<u64>,
    namespace: Option<u64>,
    drops: bool,
    registry: Arc<Registry>,
    pods: Mutex<HashMap<(String, String), Weak<Pod>>>,
    namespaces: Mutex<HashMap<String, Weak<Bucket>>>,
}

/// What one log may read; its pod's and its namespace's.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    pod: Arc<Pod>,
    namespace: Option<Arc<Bucket>>,
    /// It is held up, and was counted so.
    deferred: bool,
}

#[derive(Debug)]
struct Pod {
    names: [(&'static str, String); 2],
    bucket: Option<Bucket>,
    counts: OnceLock<Counts>,
    registry: Arc<Registry>,
}

#[derive(Debug)]
struct Counts {
    deferrals: Arc<Counter>,
    dropped_bytes: Arc<Counter>,
    dropped_lines: Arc<Counter>,
}

/// A rate and the time until which it is spent.
#[derive(Debug)]
struct Bucket {
    bytes_per_s: u64,
    spent_until: AtomicU64,
}

impl Bucket {
    fn new(bytes_per_s: u64) -> Self {
        Self {
            bytes_per_s: bytes_per_s.max(1),
            spent_until: AtomicU64::new(0),
        }
    }

    /// When more may be read, if not now.
    fn due(&self, now: Mono) -> Option<Mono> {
        let ends = self.spent_until.load(Ordering::Relaxed);
        let due = ends.saturating_sub(BURST_NS);
        (due > now.0).then_some(Mono(due))
    }

    fn spend(&self, bytes: u64, now: Mono) {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_s);
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        let later = |ends: u64| Some(ends.max(now.0).saturating_add(nanos));
        let _ = (self.spent_until).fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }
}

impl Pod {
    fn counts(&self) -> &Counts {
        self.counts.get_or_init(|| {
            let labels = self.names.each_ref().map(|(name, value)| (*name, value.as_str()));
            let count = |name, help| self.registry.counter(name, help, &labels);
            Counts {
                deferrals: count(
                    "tailwake_rate_deferrals_total",
                    "Times a pod's log was read later because its pod's or namespace's rate was spent.",
                ),
                dropped_bytes: count(
                    "tailwake_rate_dropped_bytes_total",
                    "Bytes of a pod that were dropped on purpose because a rate was spent.",
                ),
                dropped_lines: count(
                    "tailwake_rate_dropped_lines_total",
                    "Lines of a pod that were dropped on purpose because a rate was spent.",
                ),
            }
        })
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if self.counts.get().is_some() {
            let labels = self
                .names
                .each_ref()
                .map(|(name, value)| (*name, value.as_str()));
            self.registry.forget(&labels);
        }
    }
}

impl Rates {
    /// The rates of `limits`; pods are counted in `registry`.
    #[must_use]
    pub fn new(limits: &Limits, registry: &Arc<Registry>) -> Arc<Self> {
        Arc::new(Self {
            pod: limits.pod_rate.map(|rate| rate.0),
            namespace: limits.namespace_rate.map(|rate| rate.0),
            drops: limits.over_rate == OverRate::Drop,
            registry: Arc::clone(registry),
            ..Self::default()
        })
    }

    /// What a log may read; `None` without rates. A log of no pod stands for a pod of its own.
    pub(super) fn allow(&self, source: &Source) -> Option<Allowance> {
        if self.pod.is_none() && self.namespace.is_none() {
            return None;
        }
        let meta = &source.meta;
        let pod = if meta.pod.is_empty() {
            &source.key
        } else {
            &meta.pod
        };
        let (namespace, pod) = (meta.namespace.to_string(), pod.to_string());
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.retain(|_, pod| pod.strong_count() > 0);
        let place = pods.entry((namespace.clone(), pod.clone())).or_default();
        let pod = place.upgrade().unwrap_or_else(|| {
            let fresh = Arc::new(Pod {
                names: [("namespace", namespace.clone()), ("pod", pod)],
                bucket: self.pod.map(Bucket::new),
                counts: OnceLock::new(),
                registry: Arc::clone(&self.registry),
            });
            *place = Arc::downgrade(&fresh);
            fresh
        });
        drop(pods);
        let namespace = self
            .namespace
            .filter(|_| !namespace.is_empty())
            .map(|rate| {
                let mut all = self
                    .namespaces
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                all.retain(|_, bucket| bucket.strong_count() > 0);
                let place = all.entry(namespace).or_default();
                place.upgrade().unwrap_or_else(|| {
                    let fresh = Arc::new(Bucket::new(rate));
                    *place = Arc::downgrade(&fresh);
                    fresh
                })
            });
        Some(Allowance {
            pod,
            namespace,
            deferred: false,
        })
    }
}

impl Allowance {
    fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.pod.bucket.iter().chain(self.namespace.as_deref())
    }

    fn due(&self, now: Mono) -> Option<Mono> {
        self.buckets().filter_map(|bucket| bucket.due(now)).max()
    }
}

impl<R: Ring, F: Files<File = R::File>> Reader<R, F> {
    /// When a log may be read on whose rate is spent.
    pub(super) fn is_deferred(&mut self, id: LogId, now: Mono) -> Option<Mono> {
        let allowance = self.logs.get_mut(&id)?.allowance.as_mut()?;
        if self.settings.rates.drops {
            return None;
        }
        let due = allowance.due(now);
        if due.is_some() && !allowance.deferred {
            allowance.pod.counts().deferrals.add(1);
        }
        allowance.deferred = due.is_some();
        due
    }

    /// Whether whole records that a pass has read are dropped instead of sent: their rate is spent.
    pub(super) fn is_dropped(&self, id: LogId, at: usize, now: Mono) -> bool {
        let Some(log) = self.logs.get(&id).filter(|_| self.settings.rates.drops) else {
            return false;
        };
        let spent = |allowance: &Allowance| allowance.due(now).is_some();
        log.passes[at].is_clean() && log.allowance.as_ref().is_some_and(spent)
    }

    /// Counts lines that were dropped.
    pub(super) fn count_dropped(&mut self, id: LogId, span: Span, now: Mono) {
        let Some(log) = self.logs.get(&id) else {
            return;
        };
        let Some(allowance) = &log.allowance else {
            return;
        };
        let counts = allowance.pod.counts();
        counts.dropped_bytes.add(span.end - span.start);
        counts.dropped_lines.add(u64::from(span.lines));
        if let Some(suppressed) = self.quiet.allow(now, "rate") {
            tracing::warn!(log = %log.source.key, lines = span.lines, suppressed,
                "lines were dropped, as their pod or namespace writes more than `limits.pod_rate` or \
                 `limits.namespace_rate`: raise it, or set `limits.over_rate: defer`");
        }
    }

    /// Takes what goes to an encoder off the log's rates.
    pub(super) fn spend(&self, id: LogId, bytes: u64, now: Mono) {
        let allowance = self.logs.get(&id).and_then(|log| log.allowance.as_ref());
        let buckets = allowance.into_iter().flat_map(Allowance::buckets);
        buckets.for_each(|bucket| bucket.spend(bytes, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_one_second_through_at_once_and_its_rate_from_then_on() {
        let bucket = Bucket::new(1_000);
        let at = |ms: u64| Mono(ms * 1_000_000);
        let mut read = 0;
        for ms in 0..5_000 {
            if bucket.due(at(10_000 + ms)).is_none() {
                bucket.spend(100, at(10_000 + ms));
                read += 100;
            }
        }
        // A second's bytes, five seconds' more, and one read beyond.
        assert!((6_000..=6_100).contains(&read), "{read}");
    }
}
