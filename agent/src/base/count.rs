//! Counters and gauges, and the registry that `/metrics` prints.
//!
//! 1. A room makes its counters once and keeps the handle; adding is one relaxed atomic.
//! 2. Counters are added to once a chunk, request or event, never once a line.
//! 3. A counter that a room counts is computed from no other counter.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A number that others may read: a counter when only added to, a gauge when set.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Takes `n` away (gauges).
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// Sets the value (gauges).
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a metric is, in Prometheus' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// May fall.
    Gauge,
}

#[derive(Debug)]
struct Series {
    labels: Vec<(String, String)>,
    value: Arc<Counter>,
}

#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    series: Vec<Series>,
}

/// Every metric of the process, in order of first use.
#[derive(Debug, Default)]
pub struct Registry {
    families: Mutex<Vec<Family>>,
}

impl Registry {
    /// The counter `name` with these labels; the same call gives the same counter.
    pub fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
    ) -> Arc<Counter> {
        self.series(name, help, Kind::Counter, labels)
    }

    /// The gauge `name` with these labels; the same call gives the same gauge.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
    ) -> Arc<Counter> {
        self.series(name, help, Kind::Gauge, labels)
    }

    fn series(
        &self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        labels: &[(&str, &str)],
    ) -> Arc<Counter> {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let place = match families.iter().position(|family| family.name == name) {
            Some(place) => place,
            None => {
                families.push(Family {
                    name,
                    help,
                    kind,
                    series: Vec::new(),
                });
                families.len() - 1
            }
        };
        let series = &mut families[place].series;
        let same = |have: &Series| {
            have.labels.len() == labels.len()
                && have
                    .labels
                    .iter()
                    .zip(labels)
                    .all(|(a, b)| a.0 == b.0 && a.1 == b.1)
        };
        if let Some(have) = series.iter().find(|have| same(have)) {
            return Arc::clone(&have.value);
        }
        let value = Arc::new(Counter::default());
        let labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        series.push(Series {
            labels,
            value: Arc::clone(&value),
        });
        value
    }

    /// Forgets every series that bears all of these labels (a pod that is gone).
    pub fn forget(&self, labels: &[(&str, &str)]) {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        for family in families.iter_mut() {
            family.series.retain(|series| {
                !labels.iter().all(|want| {
                    series
                        .labels
                        .iter()
                        .any(|have| have.0 == want.0 && have.1 == want.1)
                })
            });
        }
    }

    /// The sum of a metric's series; 0 where there is none.
    #[must_use]
    pub fn value(&self, name: &str) -> u64 {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.iter().find(|family| family.name == name);
        family.map_or(0, |family| {
            family.series.iter().map(|series| series.value.get()).sum()
        })
    }

    /// The sum of a metric's series that bear all of these labels; 0 where there is none.
    #[must_use]
    pub fn value_of(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let series = families.iter().filter(|family| family.name == name);
        let series = series.flat_map(|family| &family.series).filter(|series| {
            labels.iter().all(|(name, value)| {
                let mut have = series.labels.iter();
                have.any(|label| label.0 == *name && label.1 == *value)
            })
        });
        series.map(|series| series.value.get()).sum()
    }

    /// All metrics in the text exposition format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for family in families.iter() {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            let _ = writeln!(
                text,
                "# HELP {} {}\n# TYPE {} {kind}",
                family.name, family.help, family.name
            );
            for series in &family.series {
                text.push_str(family.name);
                for (i, (name, value)) in series.labels.iter().enumerate() {
                    let value = value
                        .replace('\\', "\\\\")
                        .replace('"', "\\\"")
                        .replace('\n', "\\n");
                    let _ = write!(text, "{}{name}=\"{value}\"", if i == 0 { '{' } else { ',' });
                }
                if !series.labels.is_empty() {
                    text.push('}');
                }
                let _ = writeln!(text, " {}", series.value.get());
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exposition_names_each_family_once_and_escapes_values() {
        let registry = Registry::default();
        registry.counter("a_total", "A.", &[("x", "q\"\n")]).add(2);
        registry.gauge("b", "B.", &[]).set(7);
        registry.counter("a_total", "A.", &[("x", "q\"\n")]).add(1);
        let want = "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"q\\\"\\n\"} 3\n\
                    # HELP b B.\n# TYPE b gauge\nb 7\n";
        assert_eq!(registry.render(), want);
        registry.forget(&[("x", "q\"\n")]);
        assert!(!registry.render().contains("a_total{"));
    }
}
