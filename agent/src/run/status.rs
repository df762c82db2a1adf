//! What `/status`, `/ready` and `/healthz` say.

use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::health::Health;
use super::threads::{NotifyBell, Threads};
use crate::account::series::Series;
use crate::account::{Beyond, Paces, Rotation, Row};
use crate::admin::StatusSource;
use crate::base::bell::Bell;
use crate::base::count::Registry;
use crate::base::time::{Clock as _, MachineClock};
use crate::deliver::Deliverer;
use crate::encode::Outlet;
use crate::guard::{self, Standing};
use crate::kube::Board;
use crate::ledger::{Ledger, LogAccount};
use crate::tail::Roll;
use crate::tail::roll::Entry;
use crate::wake::{Meter, Report, Rung};

/// How long an answer waits for the readers' looks at their files, in milliseconds: one that is kept
/// by a sick disk tells what it knew before.
const LOOK_MS: u64 = 200;

/// A piece of the answer is sent when it has passed this.
const PIECE_BYTES: usize = 64 << 10;

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
    rotation: Rotation,
    paces: Mutex<Paces>,
    reader_bells: Vec<Bell>,
    looked: Arc<Notify>,
    pods: Option<Board>,
}

impl Status {
    pub(super) fn new(
        threads: &Threads,
        deliverer: &Arc<Mutex<Deliverer>>,
        guard: guard::Report,
        registry: Arc<Registry>,
        rotation: Rotation,
        pods: Option<Board>,
    ) -> Self {
        let looked = Arc::new(Notify::new());
        let bell = NotifyBell(Arc::clone(&looked));
        threads.roll.tell(Bell::new(Arc::new(bell)));
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
            rotation,
            paces: Mutex::default(),
            reader_bells: threads.reader_bells(),
            looked,
            pods,
        }
    }

    /// The first listing is done.
    pub(super) fn found(&self) {
        self.found.store(true, Ordering::Release);
    }

    /// Asks the readers to look at the sizes of their files; gives the question's number.
    pub(super) fn ask(&self) -> u64 {
        let question = self.roll.ask();
        self.reader_bells.iter().for_each(Bell::ring);
        question
    }

    /// Whether all readers have looked.
    pub(super) fn is_answered(&self, question: u64) -> bool {
        self.roll.is_answered(question, self.readers)
    }

    /// Every container's row.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        self.each(|_, row| rows.push(row));
        rows
    }

    /// Hands on one row after the other: ten thousand at once are more than a small agent holds.
    fn each(&self, mut take: impl FnMut(&LogAccount, Row)) {
        let now = self.clock.mono();
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        paces.begin();
        self.ledger.each_account(|account| {
            let pace = paces.look(&account, now, self.rotation);
            take(&account, Row::new(&account, self.ledger.outputs(), pace));
        });
    }

    /// What `/status` says of each container, in pieces, and lines and bytes read of all.
    fn containers(&self) -> (Vec<String>, u64, u64) {
        let (mut pieces, mut lines, mut bytes) = (vec![String::new()], 0, 0);
        let mut between = "";
        self.each(|log, row| {
            (lines, bytes) = (lines + log.read.lines, bytes + log.read.bytes);
            if pieces.last().is_none_or(|piece| piece.len() > PIECE_BYTES) {
                pieces.push(String::with_capacity(2 * PIECE_BYTES));
            }
            if let Some(piece) = pieces.last_mut() {
                let _ = write!(piece, "{between}{}", self.container(log, &row));
            }
            between = ",";
        });
        (pieces, lines, bytes)
    }

    /// What belongs to no container.
    pub(super) fn beyond(&self) -> Beyond {
        let by_output = |name| {
            let of = |output: &String| {
                let labels = [("output", output.as_str())];
                (output.clone(), self.registry.value_of(name, &labels))
            };
            self.ledger.outputs().iter().map(of).collect()
        };
        Beyond {
            containers_missed: self.registry.value("tailwake_containers_missed_total"),
            files_unopened: self.registry.value("tailwake_files_unopened"),
            unread_bytes: by_output("tailwake_unread_bytes_total"),
            unread_files: by_output("tailwake_unread_files_total"),
        }
    }

    /// What is said of the watch of pods.
    fn kubernetes(&self) -> Option<Value> {
        let pods = self.pods.as_ref()?;
        let (trouble, value) = (pods.trouble(), |name| self.registry.value(name));
        Some(json!({
            "node": pods.node(), "heard": trouble.is_none(), "trouble": trouble,
            "pods": value("tailwake_kubernetes_pods"),
            "pods_held": value("tailwake_pods_held"),
            "pods_opted_out": value("tailwake_pods_opted_out"),
            "pods_without_metadata": value("tailwake_pods_without_metadata_total"),
            "lines_without_metadata": value("tailwake_lines_without_metadata_total"),
            "opted_out_bytes": value("tailwake_opted_out_bytes_total"),
        }))
    }

    fn container(&self, log: &LogAccount, row: &Row) -> Value {
        let roll = self.roll.of(log.source.log).unwrap_or_default();
        let mut said = serde_json::to_value(row).unwrap_or_default();
        said["rung"] = roll.rung().map(Rung::name).into();
        said["wakes"] = by_rung(&roll.wakes());
        said["files"] = roll.files.iter().map(|entry| file(entry)).collect();
        said
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
    fn look(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            let question = self.ask();
            let answered = async {
                loop {
                    // Made before it is looked, so that no answer in between is missed.
                    let looked = self.looked.notified();
                    if self.is_answered(question) {
                        return;
                    }
                    looked.await;
                }
            };
            let most = std::time::Duration::from_millis(LOOK_MS);
            let _ = tokio::time::timeout(most, answered).await;
        })
    }

    fn series(&self) -> Vec<String> {
        let mut series = Series::default();
        self.each(|_, row| series.add(&row));
        series.pieces()
    }

    fn status(&self) -> Vec<String> {
        let (containers, lines_read, bytes_read) = self.containers();
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
        let said = json!({
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
            "lines_read": lines_read,
            "bytes_read": bytes_read,
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
            "kubernetes": self.kubernetes(),
            "outputs": outputs,
            "beyond": self.beyond(),
        });
        let mut text = said.to_string();
        // The containers follow as its last member.
        text.truncate(text.len() - 1);
        text.push_str(",\"containers\":[");
        let mut pieces = vec![text];
        pieces.extend(containers);
        pieces.push("]}".to_owned());
        pieces
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
