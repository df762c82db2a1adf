//! The data threads: readers and encoders.
//!
//! Hooks and rings are made first, while there is one thread; the guard stands between them and the
//! first thread that is started.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use crossbeam_queue::ArrayQueue;
use crossbeam_utils::sync::{Parker, Unparker};

use super::Options;
use super::canary::Asker;
use super::health::{Beating, Health};
use crate::base::bell::{Bell, Ring as Rings};
use crate::base::count::Registry;
use crate::base::outputs::OutputId;
use crate::base::pool::{Permits, Pool};
use crate::base::time::{Clock, MachineClock, Mono};
use crate::discover::Event;
use crate::encode::{Gate, Outlet, Worker};
use crate::ledger::Ledger;
use crate::ledger::positions::Positions;
use crate::machine::MachineFiles;
use crate::plan::Plan;
use crate::plan::memory::{self, Memory};
use crate::stage::Program;
use crate::tail::eventfd::EventFd;
use crate::tail::{MachineRing, Rates, Reader, Ring, Roll, Settings};
use crate::ticket::Feeds;
use crate::wake::{Canaries, Ladder, Meter, Report, Wake};

/// Feeds that may wait for one encoder; chunks are bounded by the pool long before, and of what else
/// there is a reader keeps what finds no room.
const FEEDS_MAX: usize = 1_024;

/// A drain that waits for a window looks again this soon.
const DRAIN_MS: u64 = 20;

/// News from discovery that may wait for one reader.
const NEWS_MAX: usize = 1_024;

/// A thread that can be rung.
struct ParkBell(Unparker);

impl Rings for ParkBell {
    fn ring(&self) {
        self.0.unpark();
    }
}

/// The way from discovery to one reader.
#[derive(Debug)]
pub(super) struct News {
    queue: Arc<ArrayQueue<Event>>,
    reader: Bell,
    told: u64,
    /// How many events the reader has acted on.
    heard: Arc<AtomicU64>,
}

impl News {
    /// Tells the reader; gives the event back when it is behind.
    pub(super) fn tell(&mut self, event: Event) -> Result<(), Event> {
        self.queue.push(event)?;
        self.told += 1;
        self.reader.ring();
        Ok(())
    }

    /// Whether the reader has acted on all that it was told.
    #[must_use]
    pub(super) fn is_heard(&self) -> bool {
        self.heard.load(Ordering::Acquire) == self.told
    }
}

/// All data threads.
#[derive(Debug)]
pub(super) struct Threads {
    /// Positions.
    pub(super) ledger: Arc<Ledger>,
    /// One an output.
    pub(super) outlets: Vec<Arc<Outlet>>,
    /// One a reader.
    pub(super) news: Vec<News>,
    /// Wakes the control thread.
    pub(super) control: Arc<tokio::sync::Notify>,
    /// Which rung the readers stand on, and why not a higher one.
    pub(super) report: Report,
    /// `io_uring` or `pread`.
    pub(super) io: &'static str,
    /// How each file is watched.
    pub(super) roll: Arc<Roll>,
    /// The probes' own account.
    pub(super) meter: Meter,
    /// Whether they turn.
    pub(super) health: Arc<Health>,
    /// The clock all turns are told the time by.
    pub(super) clock: MachineClock,
    stop_readers: Arc<AtomicBool>,
    stop_encoders: Arc<AtomicBool>,
    reader_bells: Vec<Bell>,
    encoder_bells: Vec<Bell>,
    /// The disk thread waits with it, once it is there.
    disk: Option<Parker>,
    disk_bell: Bell,
    readers: Vec<JoinHandle<()>>,
    asker: Asker,
    encoders: Vec<JoinHandle<()>>,
}

pub(super) struct NotifyBell(pub(super) Arc<tokio::sync::Notify>);

impl Rings for NotifyBell {
    fn ring(&self) {
        self.0.notify_one();
    }
}

/// What needs privileges: the ladder's hooks, and the rings. No thread yet.
#[derive(Debug)]
pub(super) struct Attached {
    memory: memory::Threads,
    rings: Vec<(MachineRing, EventFd)>,
    report: Report,
    meter: Meter,
    canaries: Canaries,
}

impl Attached {
    /// Attaches and makes them.
    ///
    /// # Errors
    /// What kept one from being made.
    pub(super) fn new(plan: &Plan, options: Options) -> anyhow::Result<Self> {
        let cpus = options
            .cpus
            .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
        let memory = Memory::threads(plan, cpus).map_err(anyhow::Error::msg)?;
        let readers = memory.readers;
        tracing::info!(readers, encoders = memory.encoders, memory = %memory.memory, "memory ceiling");
        let mut roots = roots(plan);
        let (mut wakes, report) = Ladder::choose(plan.wake.rung, &roots, readers, FILES_MAX);
        // The roots may be read-only here; the state directory often lies on their file system.
        roots.push(plan.state.clone());
        let first = wakes.first_mut();
        let canaries = first.map(|wake| wake.canaries(&roots)).unwrap_or_default();
        let meter = wakes.first().map(Wake::meter).unwrap_or_default();
        let mut rings = Vec::new();
        for wake in wakes {
            let eventfd = EventFd::new().context("make a reader's event descriptor")?;
            let ring = MachineRing::new(plan.wake.io, wake, eventfd.clone())
                .context("start a reader: io_uring was demanded by `wake.io: uring`")?;
            rings.push((ring, eventfd));
        }
        Ok(Self {
            memory,
            rings,
            report,
            meter,
            canaries,
        })
    }

    /// Whether the probes' maps answer this thread; true where there are none.
    pub(super) fn maps_answer(&self) -> bool {
        self.meter.answers()
    }
}

impl Threads {
    /// Starts them; they inherit what the calling thread may do.
    ///
    /// # Errors
    /// What kept one from starting.
    pub(super) fn start(
        plan: &Plan,
        attached: Attached,
        positions: Positions,
        registry: &Arc<Registry>,
    ) -> anyhow::Result<Self> {
        let Attached {
            memory: threads,
            rings,
            report,
            meter,
            canaries,
        } = attached;
        let (readers, encoders) = (threads.readers, threads.encoders);
        let clock = MachineClock::new();
        let health = Arc::new(Health::default());
        let control = Arc::new(tokio::sync::Notify::new());
        let parkers: Vec<Parker> = (0..encoders).map(|_| Parker::new()).collect();
        let encoder_bells: Vec<Bell> = parkers
            .iter()
            .map(|parker| Bell::new(Arc::new(ParkBell(parker.unparker().clone()))))
            .collect();
        let reader_bells: Vec<Bell> = rings.iter().map(|(_, bell)| bell.bell()).collect();
        let lanes = Bell::new(Arc::new(NotifyBell(Arc::clone(&control))));
        let disk = Parker::new();
        let disk_bell = Bell::new(Arc::new(ParkBell(disk.unparker().clone())));
        let outlets: Vec<Arc<Outlet>> = (plan.outputs.iter().enumerate())
            .map(|(i, output)| {
                let bells = encoder_bells.iter().chain(&reader_bells).cloned().collect();
                let id = OutputId(i as u8);
                let window = output.window();
                let (name, lanes) = (&output.name, lanes.clone());
                let outlet = Outlet::new(id, name, window, lanes, bells, registry);
                Arc::new(outlet.with_gate(Gate::of(&output.spool, &disk_bell)))
            })
            .collect();
        let names = plan
            .outputs
            .iter()
            .map(|output| output.name.clone())
            .collect();
        let ledger = Ledger::new(names, reader_bells.clone(), positions);
        let feeds: Vec<Arc<Feeds>> = encoder_bells
            .iter()
            .map(|bell| Arc::new(Feeds::new(FEEDS_MAX, bell.clone())))
            .collect();
        let program = Program::compile(plan);
        let stop_encoders = Arc::new(AtomicBool::new(false));
        let stop_readers = Arc::new(AtomicBool::new(false));
        let mut encoder_threads = Vec::new();
        for (number, parker) in parkers.into_iter().enumerate() {
            let worker = Worker::new(
                number as u16,
                plan,
                Arc::clone(&program),
                threads.memory.blocks_bytes,
                outlets.clone(),
                registry,
            );
            let (feeds, stop) = (Arc::clone(&feeds[number]), Arc::clone(&stop_encoders));
            let name = format!("encoder-{number}");
            let waiting = Arc::clone(&feeds);
            let beat = health.member(&name, move || !waiting.is_empty());
            encoder_threads.push(
                thread::Builder::new()
                    .name(name)
                    .spawn(move || encode(worker, &feeds, &parker, &beat, &stop, clock))
                    .context("start an encoder thread")?,
            );
        }
        let roll = Arc::new(Roll::new(registry));
        let buffers = (threads.memory.pool_buffers / readers).max(1);
        let buffer_bytes = plan.limits.buffer_bytes.0 as usize;
        let start = ReaderStart {
            plan,
            ledger: &ledger,
            feeds: &feeds,
            outlets: &outlets,
            registry,
            stop: &stop_readers,
            health: &health,
            clock,
            pool: (buffers, buffer_bytes),
            permits: (threads.memory.permits / readers).max(1),
            roll: &roll,
            rates: &Rates::new(&plan.limits, registry),
        };
        let io = rings.first().map_or("", |(ring, _)| ring.name());
        let mut reader_threads = Vec::new();
        let mut news = Vec::new();
        for (number, (ring, eventfd)) in rings.into_iter().enumerate() {
            let queue = Arc::new(ArrayQueue::new(NEWS_MAX));
            let heard = Arc::new(AtomicU64::new(0));
            news.push(News {
                queue: Arc::clone(&queue),
                reader: eventfd.bell(),
                told: 0,
                heard: Arc::clone(&heard),
            });
            reader_threads.push(start.reader(number, ring, &eventfd, (queue, heard))?);
        }
        let (rung, bells) = (report.rung, reader_bells.clone());
        let asker = Asker::start(canaries, rung, plan.wake.sweep_ms, &roll, bells)?;
        Ok(Self {
            roll,
            meter,
            ledger,
            outlets,
            news,
            control,
            report,
            io,
            health,
            clock,
            stop_readers,
            stop_encoders,
            reader_bells,
            encoder_bells,
            disk: Some(disk),
            disk_bell,
            readers: reader_threads,
            asker,
            encoders: encoder_threads,
        })
    }

    /// What the disk thread waits with, and what rings it; once.
    pub(super) fn disk(&mut self) -> (Parker, Bell) {
        (self.disk.take().unwrap_or_default(), self.disk_bell.clone())
    }

    /// Rings each reader.
    #[must_use]
    pub(super) fn reader_bells(&self) -> Vec<Bell> {
        self.reader_bells.clone()
    }

    /// Tells the readers to end.
    pub(super) fn stop(&mut self) {
        self.health.ending();
        self.asker.stop();
        self.stop_readers.store(true, Ordering::SeqCst);
        self.reader_bells.iter().for_each(Bell::ring);
    }

    /// Whether all have ended. Once the readers have, the encoders are told to end when they have
    /// sealed all they were fed. Nobody is waited for: a disk that hangs holds a reader.
    #[must_use]
    pub(super) fn have_ended(&self) -> bool {
        if !self.readers.iter().all(JoinHandle::is_finished) {
            return false;
        }
        if !self.stop_encoders.swap(true, Ordering::SeqCst) {
            self.encoder_bells.iter().for_each(Bell::ring);
        }
        self.encoders.iter().all(JoinHandle::is_finished)
    }
}

/// Files that one agent may watch at once.
const FILES_MAX: u32 = 16_384;

/// Directories whose file systems the probes must see: the inputs', and those that links lead to
/// where this node has them.
pub(super) fn roots(plan: &Plan) -> Vec<std::path::PathBuf> {
    let kinds = plan.inputs.iter().map(|input| &input.kind);
    let linked = kinds.clone().flat_map(|kind| kind.link_roots().to_vec());
    let linked = linked.filter(|root| root.is_dir());
    kinds
        .flat_map(crate::plan::InputKind::roots)
        .chain(linked)
        .collect()
}

struct ReaderStart<'a> {
    plan: &'a Plan,
    ledger: &'a Arc<Ledger>,
    feeds: &'a [Arc<Feeds>],
    outlets: &'a [Arc<Outlet>],
    registry: &'a Arc<Registry>,
    stop: &'a Arc<AtomicBool>,
    health: &'a Health,
    clock: MachineClock,
    pool: (usize, usize),
    permits: usize,
    roll: &'a Arc<Roll>,
    rates: &'a Arc<Rates>,
}

impl ReaderStart<'_> {
    fn reader(
        &self,
        number: usize,
        ring: MachineRing,
        eventfd: &EventFd,
        (news, heard): (Arc<ArrayQueue<Event>>, Arc<AtomicU64>),
    ) -> anyhow::Result<JoinHandle<()>> {
        let plan = self.plan;
        let pool = Pool::new(self.pool.0, self.pool.1, eventfd.bell());
        let settings = Settings::of(plan, number, self.roll, self.rates);
        let reader = Reader::new(
            settings,
            ring,
            MachineFiles::new(plan.allowed_roots()),
            Arc::clone(self.ledger),
            pool,
            Permits::new(self.permits, eventfd.bell()),
            eventfd.bell(),
            self.feeds.to_vec(),
            self.outlets.to_vec(),
            self.registry,
        );
        let (stop, clock) = (Arc::clone(self.stop), self.clock);
        let name = format!("reader-{number}");
        let waiting = Arc::clone(&news);
        let beat = self.health.member(&name, move || !waiting.is_empty());
        thread::Builder::new()
            .name(name)
            .spawn(move || read(reader, (&news, &heard), &beat, &stop, clock))
            .context("start a reader thread")
    }
}

fn read(
    mut reader: Reader<MachineRing, MachineFiles>,
    (news, heard): (&ArrayQueue<Event>, &AtomicU64),
    beat: &Beating,
    stop: &AtomicBool,
    clock: MachineClock,
) {
    while !stop.load(Ordering::SeqCst) {
        beat.turn();
        let now = clock.mono();
        let mut taken = 0;
        let mut next = || news.pop().inspect(|_| taken += 1);
        let turn = reader.turn(now, clock.wall(), &mut next);
        if taken > 0 {
            heard.fetch_add(taken, Ordering::AcqRel);
        }
        let done = turn.and_then(|turn| {
            if turn.progress {
                return Ok(());
            }
            // News is taken without room; what waits for buffers is rung by the pool.
            beat.park(true);
            reader.ring().park(clock.mono(), turn.deadline)
        });
        if let Err(error) = done {
            tracing::error!(%error, "the reader's ring has failed; it is tried again");
            thread::park_timeout(std::time::Duration::from_millis(100));
        }
    }
    reader.end(clock.mono());
}

fn encode(
    mut worker: Worker,
    feeds: &Feeds,
    parker: &Parker,
    beat: &Beating,
    stop: &AtomicBool,
    clock: MachineClock,
) {
    loop {
        beat.turn();
        let stopping = stop.load(Ordering::SeqCst);
        let now = clock.mono();
        let turn = worker.turn(now, clock.wall(), &mut || feeds.take());
        if stopping && feeds.is_empty() && !turn.blocked {
            if worker.drain(clock.mono(), clock.wall()) {
                return;
            }
            beat.park(false);
            park(parker, clock.mono(), Some(clock.mono().plus_ms(DRAIN_MS)));
            continue;
        }
        if !turn.progress {
            beat.park(!turn.blocked);
            park(parker, clock.mono(), turn.deadline);
        }
    }
}

/// Waits for the parker's bell, or until then.
pub(super) fn park(parker: &Parker, now: Mono, until: Option<Mono>) {
    match until {
        None => parker.park(),
        Some(until) => {
            let nanos = until.0.saturating_sub(now.0);
            parker.park_timeout(std::time::Duration::from_nanos(nanos));
        }
    }
}
