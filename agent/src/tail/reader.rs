//! A reader: the turn of one thread that reads its share of the container logs.
//!
//! ```text
//! turn: drain the ring -> news from discovery -> notices of the ledger -> the ring's events
//!       -> due logs -> serve
//! ```
//!
//! Ready logs take turns, one buffer each (`fair.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use hashbrown::HashMap;

use super::fair::{Rounds, is_urgent};
use super::file::{Tail, Watch};
use super::found::Unopened;
use super::log::{Due, Log};
use super::overlooked::{Overlooked, rouse};
use super::rates::Rates;
use super::ring::{Event, Ring, Token};
use super::roll::Roll;
use crate::base::bell::Bell;
use crate::base::count::{Counter, Registry};
use crate::base::files::Files;
use crate::base::outputs::OutputSet;
use crate::base::pool::{Permits, Pool};
use crate::base::quiet::Quiet;
use crate::base::time::{Mono, Timestamp};
use crate::discover;
use crate::encode::Outlet;
use crate::ledger::{Ledger, Notice, UnreadCount};
use crate::line::HEAD_BYTES;
use crate::plan::{Plan, StartAt};
use crate::ticket::{Feed, Feeds, LogId, PassId};
use crate::wake::WakeCounters;

/// Least milliseconds between two looks for refusals: each is a system call.
const LOOK_MS: u64 = 100;

/// Feeds that an encoder's queue had no room for are put again this soon: no bell tells of room.
const WAITING_MS: u64 = 5;

/// What a reader is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its number, from 0; it has the logs with `log % readers == number`.
    pub number: usize,
    /// The wait after a read that found bytes, in milliseconds.
    pub pace_ms: u64,
    /// Milliseconds between two sweeps; 0 = none.
    pub sweep_ms: u64,
    /// By input: where files that were there before the first start are begun.
    pub start_at: Vec<StartAt>,
    /// Unsettled bytes of one log that no output finds too many: a batch and a record with the
    /// buffers they lie in.
    pub log_bytes_min: u64,
    /// The longest record, in bytes of text.
    pub record_bytes_max: u64,
    /// What pods and namespaces may read.
    pub rates: Arc<Rates>,
    /// Where it writes down how its files are watched.
    pub roll: Arc<Roll>,
}

impl Settings {
    /// Those of reader `number` for a plan.
    #[must_use]
    pub fn of(plan: &Plan, number: usize, roll: &Arc<Roll>, rates: &Arc<Rates>) -> Self {
        let batch = plan.outputs.iter().map(|output| output.batch_bytes.0).max();
        let (record, buffer) = (plan.limits.record_bytes_max.0, plan.limits.buffer_bytes.0);
        Self {
            number,
            pace_ms: plan.wake.pace_ms,
            sweep_ms: plan.wake.sweep_ms,
            start_at: plan.inputs.iter().map(|input| input.start_at).collect(),
            log_bytes_min: batch.unwrap_or(0) + record + 2 * buffer,
            record_bytes_max: record,
            rates: Arc::clone(rates),
            roll: Arc::clone(roll),
        }
    }
}

impl Settings {
    /// An encoder keeps no more than this of a record, and has sent what is longer: bytes.
    pub(super) const fn kept_bytes_max(&self) -> u64 {
        self.record_bytes_max + HEAD_BYTES as u64
    }
}

/// What a reader counts.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    pub(super) reads: Arc<Counter>,
    pub(super) bytes: Arc<Counter>,
    pub(super) late: Arc<Counter>,
    pub(super) refused: Arc<Counter>,
    pub(super) missed: Arc<Counter>,
    pub(super) errors: Arc<Counter>,
    pub(super) open_errors: Arc<Counter>,
    pub(super) unopened: Arc<Counter>,
    pub(super) unfinished: Arc<Counter>,
    pub(super) lapsed: Arc<Counter>,
    pub(super) open_waits: Arc<Counter>,
    pub(super) truncated: Arc<Counter>,
    pub(super) copies: Arc<Counter>,
    pub(super) holes: Arc<Counter>,
    pub(super) bare: Arc<Counter>,
    pub(super) shut: Arc<Counter>,
    pub(super) rejoins: Arc<Counter>,
    pub(super) short: Arc<Counter>,
    pub(super) files: Arc<Counter>,
    /// By output.
    pub(super) unread: Vec<UnreadCount>,
}

impl Counters {
    fn new(registry: &Registry, outputs: &[String]) -> Self {
        let count = |name, help| registry.counter(name, help, &[]);
        Self {
            reads: count("tailwake_reads_total", "Reads that ended."),
            bytes: count("tailwake_read_bytes_total", "Bytes read off disk."),
            late: count(
                "tailwake_sweep_late_finds_total",
                "Bytes that only the sweep found.",
            ),
            refused: count(
                "tailwake_files_refused_total",
                "Paths that are no log file, or lead out of the allowed directories.",
            ),
            missed: count(
                "tailwake_containers_missed_total",
                "Containers that were gone before a file of them could be opened.",
            ),
            errors: count("tailwake_read_errors_total", "Reads that failed."),
            open_errors: count(
                "tailwake_open_errors_total",
                "Opens of log files that failed; they are tried again.",
            ),
            unopened: registry.gauge(
                "tailwake_files_unopened",
                "Log files that are there and could not be opened.",
                &[],
            ),
            unfinished: count(
                "tailwake_unfinished_lines_total",
                "Last lines without a newline, taken as they are when their file had ended.",
            ),
            lapsed: count(
                "tailwake_records_lapsed_total",
                "Records without an end, sent as they were when no more of them came.",
            ),
            open_waits: count(
                "tailwake_open_record_waits_total",
                "Times a log waited as too many others had a record open that is longer than a buffer.",
            ),
            truncated: count(
                "tailwake_truncations_total",
                "Files that shrank below our place.",
            ),
            copies: count(
                "tailwake_copies_total",
                "Files of a content that is known under another name.",
            ),
            bare: count(
                "tailwake_lines_without_metadata_total",
                "Lines read of pods whose metadata were awaited in vain.",
            ),
            shut: count(
                "tailwake_opted_out_bytes_total",
                "Bytes that were there unread when their pod opted out.",
            ),
            holes: count("tailwake_hole_bytes_total", "NULs that were passed over."),
            rejoins: count(
                "tailwake_output_rejoins_total",
                "Passes begun at a watermark.",
            ),
            short: count(
                "tailwake_short_reads_total",
                "Reads short of the announced end.",
            ),
            files: registry.gauge("tailwake_files_open", "Log files that are open.", &[]),
            unread: outputs
                .iter()
                .map(|output| UnreadCount::new(registry, output))
                .collect(),
        }
    }
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Something was done: take another turn at once.
    pub progress: bool,
    /// Otherwise: no later than this.
    pub deadline: Option<Mono>,
}

/// One reader.
#[derive(Debug)]
pub struct Reader<R: Ring, F> {
    pub(super) ring: R,
    pub(super) files: F,
    pub(super) ledger: Arc<Ledger>,
    pub(super) pool: Pool,
    pub(super) feeds: Vec<Arc<Feeds>>,
    pub(super) outlets: Vec<Arc<Outlet>>,
    pub(super) settings: Settings,
    pub(super) count: Counters,
    /// Boxed: a table has room for twice as many as there are.
    pub(super) logs: HashMap<LogId, Box<Log<R::File>>, foldhash::fast::FixedState>,
    pub(super) tokens: Vec<Option<LogId>>,
    pub(super) free_tokens: Vec<u32>,
    pub(super) rounds: Rounds,
    /// Logs that wait for buffers of theirs to come home.
    pub(super) crowded: Vec<LogId>,
    pub(super) bell: Bell,
    pub(super) due: BTreeSet<(Mono, LogId)>,
    /// Feeds that an encoder's queue had no room for, in order.
    pub(super) waiting: VecDeque<Feed>,
    /// Who has one may leave a record open over a chunk's end; and who waits for one, in order.
    pub(super) permits: Permits,
    pub(super) in_line: VecDeque<(LogId, PassId)>,
    /// The agent ends: records without an end are not waited for.
    pub(super) ending: bool,
    pub(super) next_pass: u32,
    next_sweep: Mono,
    pub(super) overlooked: Overlooked,
    /// Logs of which nothing could be opened, as it was gone already.
    pub(super) unseen: BTreeSet<LogId>,
    /// The last question for sizes that was answered.
    pub(super) measured: u64,
    /// What the wake source had counted at the last look, and the next look for refusals.
    counted: WakeCounters,
    events_refused: u64,
    next_look: Mono,
    pub(super) attached: OutputSet,
    events: Vec<Event>,
    pub(super) notices: Vec<Notice>,
    /// Files that could not be opened; as many as discovery finds at the most.
    pub(super) unopened: BTreeMap<PathBuf, Unopened>,
    /// When they are tried again, if before the sweep.
    pub(super) open_again_at: Option<Mono>,
    /// Names that are no log files, with their logs; as many as discovery finds at the most.
    pub(super) refused: BTreeMap<PathBuf, LogId>,
    pub(super) quiet: Quiet,
}

impl<R: Ring, F: Files<File = R::File>> Reader<R, F> {
    /// A reader with no files yet.
    #[expect(clippy::too_many_arguments, reason = "each is a room or a seam")]
    pub fn new(
        settings: Settings,
        ring: R,
        files: F,
        ledger: Arc<Ledger>,
        pool: Pool,
        permits: Permits,
        bell: Bell,
        feeds: Vec<Arc<Feeds>>,
        outlets: Vec<Arc<Outlet>>,
        registry: &Registry,
    ) -> Self {
        Self {
            ring,
            files,
            count: Counters::new(registry, ledger.outputs()),
            ledger,
            pool,
            feeds,
            attached: OutputSet::first(outlets.len()),
            outlets,
            logs: HashMap::default(),
            tokens: Vec::new(),
            free_tokens: Vec::new(),
            rounds: Rounds::default(),
            crowded: Vec::new(),
            bell,
            due: BTreeSet::new(),
            waiting: VecDeque::new(),
            permits,
            in_line: VecDeque::new(),
            ending: false,
            next_pass: (settings.number as u32) << 28,
            next_sweep: Mono(0).plus_ms(settings.sweep_ms),
            overlooked: Overlooked::default(),
            unseen: BTreeSet::new(),
            measured: 0,
            counted: WakeCounters::default(),
            events_refused: 0,
            next_look: Mono(0),
            events: Vec::new(),
            notices: Vec::new(),
            unopened: BTreeMap::new(),
            open_again_at: None,
            refused: BTreeMap::new(),
            quiet: Quiet::default(),
            settings,
        }
    }

    /// The ring, for its park.
    pub fn ring(&mut self) -> &mut R {
        &mut self.ring
    }

    /// One turn; `news` gives what discovery has to say, in order.
    ///
    /// # Errors
    /// The ring's, when it could not be drained; what it gave all the same is acted upon.
    pub fn turn(
        &mut self,
        now: Mono,
        wall: Timestamp,
        news: &mut dyn FnMut() -> Option<discover::Event>,
    ) -> io::Result<Turn> {
        let mut progress = false;
        // First of all: it takes back the bell's ringing, and whoever rings afterwards ends the next
        // park. What the bell was rung for is looked at below.
        let mut events = std::mem::take(&mut self.events);
        let drained = self.ring.drain(&mut events);
        while let Some(event) = news() {
            progress = true;
            self.hear(event, now, wall);
        }
        self.heed_outputs();
        for event in events.drain(..) {
            progress = true;
            match event {
                Event::Woken(token) => self.woken(token),
                Event::Read { token, buf, result } => self.read_ended(token, buf, result, now),
            }
        }
        self.events = events;
        self.measure();
        if self.ring.step_down() {
            self.watch_anew();
        }
        let alarm = self.heed_wake_source(now);
        if alarm || (self.settings.sweep_ms > 0 && now >= self.next_sweep) {
            self.sweep(now);
        }
        if self.open_again_at.is_some_and(|at| at <= now) {
            self.open_again(now);
        }
        self.look_again(now);
        while let Some(&(due, log)) = self.due.first()
            && due <= now
        {
            self.due.pop_first();
            if let Some(log) = self.logs.get_mut(&log) {
                log.due = None;
            }
            self.make_ready(log);
        }
        self.grant();
        self.heed_crowded();
        progress |= self.serve_ready(now);
        drained?;
        let due = self.due.first().map(|(due, _)| *due);
        let sweep = (self.settings.sweep_ms > 0).then_some(self.next_sweep);
        let waiting = (!self.waiting.is_empty()).then(|| now.plus_ms(WAITING_MS));
        Ok(Turn {
            progress,
            deadline: [
                due,
                sweep,
                waiting,
                self.open_again_at,
                self.overlooked.due(),
            ]
            .into_iter()
            .flatten()
            .min(),
        })
    }

    pub(super) fn woken(&mut self, token: Token) {
        let Some(id) = self.tokens.get(token.0 as usize).copied().flatten() else {
            return;
        };
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        // A closed file's token may be another's by now.
        let open = |tail: &&mut Tail<R::File>| tail.token == token && tail.handle.is_some();
        let mut reopened = None;
        if let Some(tail) = log.files.iter_mut().find(open) {
            let was_asleep = tail.watch == Watch::Asleep;
            self.settings.roll.woke(&tail.entry, was_asleep);
            tail.set_watch(Watch::Awake);
            (tail.short_reads, tail.proven) = (0, false);
            if let Some(end) = tail.end {
                // A write may have failed after it was announced: only bytes open the file again.
                let armed = self.ring.arm(token).is_ok();
                let size = tail.handle.as_ref().map(|handle| self.files.stat(handle));
                let size = size.and_then(Result::ok).map(|stat| stat.size);
                if size.max(self.ring.expected_end(token)) > Some(end) || !armed {
                    tail.end = None;
                    reopened = Some(tail.id);
                } else {
                    tail.set_watch(Watch::Asleep);
                }
            }
        }
        if let Some(file) = reopened {
            self.reopen(id, file);
        }
        self.make_ready(id);
    }

    /// The log of a token.
    pub(super) fn log_of(&self, token: Token) -> Option<LogId> {
        self.tokens.get(token.0 as usize).copied().flatten()
    }

    /// Serves the log next, unless it is to rest.
    pub(super) fn make_ready(&mut self, id: LogId) {
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        match log.due {
            Some(Due::NotBefore(_)) => return,
            _ if log.queued || log.reading.is_some() => return,
            Some(Due::AtLatest(at)) => {
                log.due = None;
                self.due.remove(&(at, id));
            }
            None => {}
        }
        log.queued = true;
        self.rounds.push(id, is_urgent(log));
    }

    /// Serves the log again then.
    pub(super) fn make_due(&mut self, id: LogId, due: Due) {
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        if let Some(old) = log.due.replace(due) {
            self.due.remove(&(old.at(), id));
        }
        self.due.insert((due.at(), id));
    }

    /// Writes down what the wake source has counted; says whether it lost an event, which calls
    /// for a sweep. It is asked only when there was news, so that an idle reader stays asleep: an
    /// event is lost where there are many, or else found by the next sweep.
    fn heed_wake_source(&mut self, now: Mono) -> bool {
        let counted = self.ring.wake_counters();
        if counted == self.counted {
            return false;
        }
        self.settings.roll.count(self.counted, counted);
        self.counted = counted;
        if now < self.next_look {
            return false;
        }
        self.next_look = now.plus_ms(LOOK_MS);
        let refused = self.ring.refused();
        let alarm = refused > self.events_refused;
        self.settings.roll.refused.set(refused);
        if alarm {
            self.settings.roll.alarms.add(1);
            tracing::error!(
                refused,
                "the probes' ring refused events; all files are looked at now"
            );
        }
        self.events_refused = refused;
        alarm
    }

    /// Looks at the size of every file that sleeps.
    fn sweep(&mut self, now: Mono) {
        self.settings.roll.sweeps.add(1);
        self.next_sweep = now.plus_ms(self.settings.sweep_ms);
        self.open_again(now);
        let mut found = Vec::new();
        for (id, log) in &mut self.logs {
            for tail in &mut log.files {
                let Some(handle) = &tail.handle else { continue };
                let Ok(stat) = self.files.stat(handle) else {
                    continue;
                };
                if tail.packed.is_none() {
                    self.ledger.saw(*id, tail.id, stat.size);
                }
                if rouse(tail, stat.size) {
                    found.push(((*id, tail.id), tail.watched));
                }
            }
        }
        for (file, watched) in found {
            self.found_late(file, watched, now);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::cell::RefCell;
    use std::fs::File;
    use std::rc::Rc;

    use super::*;
    use crate::base::pool::Buffer;
    use crate::ledger::positions::Positions;
    use crate::machine::MachineFiles;
    use crate::ticket::{Meta, Source, Standing};
    use crate::wake::Rung;

    /// Somebody rings just before the ring is drained, which takes the ringing back.
    struct Belated(
        Rc<RefCell<VecDeque<discover::Event>>>,
        Option<discover::Event>,
    );

    impl Ring for Belated {
        type File = File;

        fn read(&mut self, _: Token, _: &File, _: u64, _: Buffer, _: usize) {}
        fn watch(&mut self, _: Token, _: &File, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn unwatch(&mut self, _: Token) {}
        fn arm(&mut self, _: Token) -> io::Result<()> {
            Ok(())
        }
        fn expected_end(&self, _: Token) -> Option<u64> {
            None
        }
        fn rung_of(&self, _: Token) -> Rung {
            Rung::SweepOnly
        }
        fn wake_counters(&self) -> WakeCounters {
            WakeCounters::default()
        }
        fn refused(&self) -> u64 {
            0
        }
        fn drain(&mut self, _: &mut Vec<Event>) -> io::Result<()> {
            self.0.borrow_mut().extend(self.1.take());
            Ok(())
        }
        fn park(&mut self, _: Mono, _: Option<Mono>) -> io::Result<()> {
            Ok(())
        }
    }

    /// Such a file was read only when another came, or by the sweep.
    #[test]
    fn news_whose_ringing_a_turn_takes_back_is_heard_in_that_turn() {
        let source = Arc::new(Source {
            log: LogId(0),
            input: 0,
            key: "ns_pod_uid/app".into(),
            filename: "0.log".into(),
            meta: Meta::default(),
            labels: Vec::new(),
            tag: None,
            standing: Standing::Read,
        });
        let news = Rc::new(RefCell::new(VecDeque::new()));
        let ring = Belated(Rc::clone(&news), Some(discover::Event::Ended { source }));
        let settings = Settings {
            number: 0,
            pace_ms: 5,
            sweep_ms: 0,
            start_at: Vec::new(),
            log_bytes_min: 0,
            record_bytes_max: 1 << 20,
            rates: Arc::default(),
            roll: Arc::new(Roll::new(&Registry::default())),
        };
        let mut reader = Reader::new(
            settings,
            ring,
            MachineFiles::new(vec![std::env::temp_dir()]),
            Ledger::new(Vec::new(), vec![Bell::silent()], Positions::default()),
            Pool::new(1, 4096, Bell::silent()),
            Permits::new(1, Bell::silent()),
            Bell::silent(),
            vec![Arc::new(Feeds::new(1, Bell::silent()))],
            Vec::new(),
            &Registry::default(),
        );
        let mut next = || news.borrow_mut().pop_front();
        let turn = reader.turn(Mono(0), Timestamp::default(), &mut next);
        assert!(turn.unwrap().progress);
        assert!(news.borrow().is_empty());
    }
}
