//! What `/status`, `/ready` and `/healthz` say.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::health::Health;
use super::threads::Threads;
use crate::admin::StatusSource;
use crate::base::count::Registry;
use crate::base::time::{Clock as _, MachineClock};
use crate::deliver::Deliverer;
use crate::encode::Outlet;
use crate::guard::{self, Standing};
use crate::ledger::{Ledger, LogAccount};
use crate::tail::Roll;
use crate::tail::roll::Entry;
use crate::wake::{Meter, Report, Rung};

/// What the admin listener tells of the agent.
#[derive(Debug)]
pub struct Status {
    ledger: Arc<Ledger>,
    outlets: Vec<Arc<Outlet>>,
    report: Report,
    guard: guard::Report,
    io: &'static str,
    readers: usize,
    roll: Arc<Roll>,
    meter: Meter,
    registry: Arc<Registry>,
    found: AtomicBool,
    deliverer: Arc<Mutex<Deliverer>>,
    health: Arc<Health>,
    clock: MachineClock,
}

impl Status {
    pub(super) fn new(
        threads: &Threads,
        deliverer: &Arc<Mutex<Deliverer>>,
        guard: guard::Report,
        registry: Arc<Registry>,
    ) -> Self {
        Self {
            ledger: Arc::clone(&threads.ledger),
            outlets: threads.outlets.clone(),
            report: threads.report.clone(),
            guard,
            io: threads.io,
            readers: threads.news.len(),
            roll: Arc::clone(&threads.roll),
            meter: threads.meter.clone(),
            registry,
            found: AtomicBool::new(false),
            deliverer: Arc::clone(deliverer),
            health: Arc::clone(&threads.health),
            clock: threads.clock,
        }
    }

    /// The first listing is done.
    pub(super) fn found(&self) {
        self.found.store(true, Ordering::Release);
    }

    fn container(&self, log: &LogAccount) -> Value {
        let outputs: serde_json::Map<String, Value> = (self.ledger.outputs().iter())
            .zip(log.settled.iter().zip(&log.lost_bytes))
            .map(|(name, (settled, lost))| {
                let said =
                    json!({"lines": settled.lines, "bytes": settled.bytes, "lost_bytes": lost});
                (name.clone(), said)
            })
            .collect();
        let meta = &log.source.meta;
        let roll = self.roll.of(log.source.log).unwrap_or_default();
        json!({
            "namespace": &*meta.namespace, "pod": &*meta.pod, "container": &*meta.container,
            "uid": &*meta.uid, "read_lines": log.read.lines, "read_bytes": log.read.bytes,
            "reread_bytes": log.reread_bytes, "outputs": outputs,
            "rung": roll.rung().map(Rung::name), "wakes": by_rung(&roll.wakes()),
            "files": roll.files.iter().map(|entry| file(entry)).collect::<Vec<_>>(),
        })
    }
}

fn privileges(guard: &guard::Report) -> Value {
    let one = |mechanism: &guard::Mechanism| {
        let said = json!({
            "holds": mechanism.standing == Standing::Holds, "said": mechanism.said,
        });
        (mechanism.name.to_owned(), said)
    };
    let all = guard.mechanisms.iter().map(one);
    all.collect::<serde_json::Map<String, Value>>().into()
}

fn by_rung(wakes: &[(Rung, u64)]) -> Value {
    let some = wakes.iter().filter(|(_, count)| *count > 0);
    some.map(|(rung, count)| (rung.name().to_owned(), Value::from(*count)))
        .collect::<serde_json::Map<String, Value>>()
        .into()
}

fn file(entry: &Entry) -> Value {
    json!({
        "inode": entry.inode, "rung": entry.rung.name(), "asleep": entry.is_asleep(),
        "wakes": entry.wakes.get(), "roused": entry.roused.get(), "late_finds": entry.late.get(),
        "overlooked": entry.is_overlooked(),
    })
}

impl StatusSource for Status {
    fn status(&self) -> Value {
        let accounts = self.ledger.accounts();
        let read = |of: fn(&LogAccount) -> u64| accounts.iter().map(of).sum::<u64>();
        let deliverer = self.deliverer.lock();
        let outputs = deliverer
            .unwrap_or_else(PoisonError::into_inner)
            .status(self.clock.mono());
        let outputs: serde_json::Map<String, Value> = (outputs.iter())
            .map(|output| {
                let outlet = &self.outlets[output.output.index()];
                let said = json!({
                    "lines_acknowledged": output.acknowledged_lines,
                    "bytes_acknowledged": output.acknowledged_bytes,
                    "lines_rejected": output.rejected_lines,
                    "retries": output.retries,
                    "in_flight": output.in_flight,
                    "window_bytes": outlet.window(),
                    "detached": outlet.is_detached(),
                    "last_error": output.last_error,
                    "failing_secs": output.failing_secs,
                    "latency_p99_ms": output.latency_p99_ms,
                });
                (output.name.clone(), said)
            })
            .collect();
        let skipped = self.report.skipped.iter();
        let counters = self.roll.counters();
        let probes =
            self.meter.times().into_iter().map(
                |probe| json!({"name": probe.name, "run_ns": probe.run_ns, "runs": probe.runs}),
            );
        let sweeps = self.registry.value("tailwake_sweeps_total");
        let (sweeps_of_files, rounds) = (self.roll.sweeps.get(), self.roll.rounds.get());
        let (files_open, files_asleep) = self.roll.asleep();
        let given_up = self.meter.is_given_up().then_some(self.report.rung);
        let rung = given_up.map_or(self.report.rung, |_| Rung::Inotify);
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "rung": rung.name(),
            "rung_given_up": given_up.map(Rung::name),
            "rungs_skipped": skipped
                .map(|skipped| json!({"rung": skipped.rung.name(), "why": skipped.why}))
                .collect::<Vec<_>>(),
            "io": self.io,
            "privileges": privileges(&self.guard),
            "readers": self.readers,
            "files_open": files_open,
            "files_asleep": files_asleep,
            "lines_read": read(|log| log.read.lines),
            "bytes_read": read(|log| log.read.bytes),
            "wakes": self.registry.value("tailwake_wakes_total"),
            "roused": self.roll.roused.get(),
            "wakes_by_rung": by_rung(&self.roll.wakes()),
            "wake_source": {
                "events": counters.events, "stale": counters.stale,
                "overflows": counters.overflows, "refused": self.meter.refused(),
            },
            "probes": probes.collect::<Vec<_>>(),
            "sweeps": {
                "files": sweeps_of_files, "rungs": rounds,
                "names": sweeps - sweeps_of_files - rounds,
            },
            "late_finds": self.registry.value("tailwake_sweep_late_finds_total"),
            "outputs": outputs,
            "containers": accounts.iter().map(|log| self.container(log)).collect::<Vec<_>>(),
        })
    }

    fn ready(&self) -> Result<(), String> {
        if self.found.load(Ordering::Acquire) {
            return Ok(());
        }
        Err("the first listing is under way".to_owned())
    }

    fn healthy(&self) -> Result<(), String> {
        // The answer comes from the control thread: giving it is the proof that that one turns.
        self.health.check(self.clock.mono())
    }
}
