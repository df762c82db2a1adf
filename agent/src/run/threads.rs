//! The data threads: readers and encoders, and the disk thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use crossbeam_queue::ArrayQueue;
use crossbeam_utils::sync::{Parker, Unparker};

use super::Options;
use crate::base::bell::{Bell, Ring as Rings};
use crate::base::count::Registry;
use crate::base::outputs::OutputId;
use crate::base::pool::Pool;
use crate::base::time::{Clock, MachineClock, Mono};
use crate::discover::Event;
use crate::encode::{Outlet, Worker};
use crate::ledger::Ledger;
use crate::ledger::positions::Positions;
use crate::machine::MachineFiles;
use crate::plan::Plan;
use crate::plan::memory::Memory;
use crate::stage::Program;
use crate::tail::eventfd::EventFd;
use crate::tail::{MachineRing, Reader, Ring, Roll, Settings};
use crate::ticket::Feeds;
use crate::wake::{Ladder, Meter, Report, Wake};

/// Feeds that may wait for one encoder; chunks are bounded by the pool long before.
const FEEDS_MAX: usize = 4096;

/// A drain that waits for a window looks again this soon.
const DRAIN_MS: u64 = 20;

/// News from discovery that may wait for one reader.
const NEWS_MAX: usize = 16_384;

/// A thread that can be rung.
struct ParkBell(Unparker);

impl Rings for ParkBell {
    fn ring(&self) {
        self.0.unpark();
    }
}

/// The way from discovery to one reader.
#[derive(Clone, Debug)]
pub(super) struct News {
    queue: Arc<ArrayQueue<Event>>,
    reader: Bell,
}

impl News {
    /// Tells the reader; gives the event back when it is behind.
    pub(super) fn tell(&self, event: Event) -> Result<(), Event> {
        self.queue.push(event)?;
        self.reader.ring();
        Ok(())
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
    /// The clock all turns are told the time by.
    pub(super) clock: MachineClock,
    stop_readers: Arc<AtomicBool>,
    stop_encoders: Arc<AtomicBool>,
    reader_bells: Vec<Bell>,
    encoder_bells: Vec<Bell>,
    readers: Vec<JoinHandle<()>>,
    encoders: Vec<JoinHandle<()>>,
}

pub(super) struct NotifyBell(pub(super) Arc<tokio::sync::Notify>);

impl Rings for NotifyBell {
    fn ring(&self) {
        self.0.notify_one();
    }
}

impl Threads {
    /// Starts them.
    ///
    /// # Errors
    /// What kept one from starting.
    pub(super) fn start(
        plan: &Plan,
        options: Options,
        positions: Positions,
        registry: &Arc<Registry>,
    ) -> anyhow::Result<Self> {
        let cpus = options
            .cpus
            .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
        let threads = Memory::threads(plan, cpus).map_err(anyhow::Error::msg)?;
        let (readers, encoders) = (threads.readers, threads.encoders);
        tracing::info!(readers, encoders, memory = %threads.memory, "memory ceiling");
        let clock = MachineClock::new();
        let control = Arc::new(tokio::sync::Notify::new());
        let parkers: Vec<Parker> = (0..encoders).map(|_| Parker::new()).collect();
        let encoder_bells: Vec<Bell> = parkers
            .iter()
            .map(|parker| Bell::new(Arc::new(ParkBell(parker.unparker().clone()))))
            .collect();
        let eventfds = (0..readers)
            .map(|_| EventFd::new())
            .collect::<std::io::Result<Vec<_>>>()
            .context("make the readers' event descriptors")?;
        let reader_bells: Vec<Bell> = eventfds.iter().map(EventFd::bell).collect();
        let lanes = Bell::new(Arc::new(NotifyBell(Arc::clone(&control))));
        let outlets: Vec<Arc<Outlet>> = (plan.outputs.iter().enumerate())
            .map(|(i, output)| {
                let bells = encoder_bells.iter().chain(&reader_bells).cloned().collect();
                let id = OutputId(i as u8);
                let window = output.window_bytes.0;
                Arc::new(Outlet::new(
                    id,
                    &output.name,
                    window,
                    lanes.clone(),
                    bells,
                    registry,
                ))
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
                outlets.clone(),
                registry,
            );
            let (feeds, stop) = (Arc::clone(&feeds[number]), Arc::clone(&stop_encoders));
            encoder_threads.push(
                thread::Builder::new()
                    .name(format!("encoder-{number}"))
                    .spawn(move || encode(worker, &feeds, &parker, &stop, clock))
                    .context("start an encoder thread")?,
            );
        }
        let roots = roots(plan);
        let (wakes, report) = Ladder::choose(plan.wake.rung, &roots, readers, FILES_MAX);
        let meter = wakes.first().map(Wake::meter).unwrap_or_default();
        let roll = Arc::new(Roll::new(registry));
        let buffers = (threads.memory.pool_buffers / readers).max(1);
        let buffer_bytes = plan.limits.buffer_bytes.0 as usize;
        let mut start = ReaderStart {
            plan,
            ledger: &ledger,
            feeds: &feeds,
            outlets: &outlets,
            registry,
            stop: &stop_readers,
            clock,
            pool: (buffers, buffer_bytes),
            roll: &roll,
            io: "",
        };
        let mut reader_threads = Vec::new();
        let mut news = Vec::new();
        for (number, (wake, eventfd)) in wakes.into_iter().zip(eventfds).enumerate() {
            let queue = Arc::new(ArrayQueue::new(NEWS_MAX));
            news.push(News {
                queue: Arc::clone(&queue),
                reader: eventfd.bell(),
            });
            reader_threads.push(start.reader(number, wake, eventfd, queue)?);
        }
        let io = start.io;
        Ok(Self {
            roll,
            meter,
            ledger,
            outlets,
            news,
            control,
            report,
            io,
            clock,
            stop_readers,
            stop_encoders,
            reader_bells,
            encoder_bells,
            readers: reader_threads,
            encoders: encoder_threads,
        })
    }

    /// Ends the readers, then the encoders once they have sealed all they were fed.
    pub(super) fn stop(&mut self) {
        self.stop_readers.store(true, Ordering::SeqCst);
        self.reader_bells.iter().for_each(Bell::ring);
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        self.stop_encoders.store(true, Ordering::SeqCst);
        self.encoder_bells.iter().for_each(Bell::ring);
    }

    /// Whether the encoders have ended.
    #[must_use]
    pub(super) fn encoders_ended(&self) -> bool {
        self.encoders.iter().all(JoinHandle::is_finished)
    }
}

/// Files that one agent may watch at once.
const FILES_MAX: u32 = 16_384;

fn roots(plan: &Plan) -> Vec<std::path::PathBuf> {
    let kinds = plan.inputs.iter().map(|input| &input.kind);
    kinds.flat_map(crate::plan::InputKind::roots).collect()
}

struct ReaderStart<'a> {
    plan: &'a Plan,
    ledger: &'a Arc<Ledger>,
    feeds: &'a [Arc<Feeds>],
    outlets: &'a [Arc<Outlet>],
    registry: &'a Arc<Registry>,
    stop: &'a Arc<AtomicBool>,
    clock: MachineClock,
    pool: (usize, usize),
    roll: &'a Arc<Roll>,
    io: &'static str,
}

impl ReaderStart<'_> {
    fn reader(
        &mut self,
        number: usize,
        wake: Wake,
        eventfd: EventFd,
        news: Arc<ArrayQueue<Event>>,
    ) -> anyhow::Result<JoinHandle<()>> {
        let plan = self.plan;
        let pool = Pool::new(self.pool.0, self.pool.1, eventfd.bell());
        let ring = MachineRing::new(plan.wake.io, wake, eventfd)
            .context("start a reader: io_uring was demanded by `wake.io: uring`")?;
        self.io = ring.name();
        let settings = Settings {
            number,
            pace_ms: plan.wake.pace_ms,
            sweep_ms: plan.wake.sweep_ms,
            start_at: plan.inputs.iter().map(|input| input.start_at).collect(),
            roll: Arc::clone(self.roll),
        };
        let reader = Reader::new(
            settings,
            ring,
            MachineFiles::new(plan.allowed_roots()),
            Arc::clone(self.ledger),
            pool,
            self.feeds.to_vec(),
            self.outlets.to_vec(),
            self.registry,
        );
        let (stop, clock) = (Arc::clone(self.stop), self.clock);
        thread::Builder::new()
            .name(format!("reader-{number}"))
            .spawn(move || read(reader, &news, &stop, clock))
            .context("start a reader thread")
    }
}

fn read(
    mut reader: Reader<MachineRing, MachineFiles>,
    news: &ArrayQueue<Event>,
    stop: &AtomicBool,
    clock: MachineClock,
) {
    while !stop.load(Ordering::SeqCst) {
        let now = clock.mono();
        let done = reader
            .turn(now, clock.wall(), &mut || news.pop())
            .and_then(|turn| {
                if turn.progress {
                    return Ok(());
                }
                reader.ring().park(clock.mono(), turn.deadline)
            });
        if let Err(error) = done {
            tracing::error!(%error, "the reader's ring has failed; it is tried again");
            thread::park_timeout(std::time::Duration::from_millis(100));
        }
    }
}

fn encode(
    mut worker: Worker,
    feeds: &Feeds,
    parker: &Parker,
    stop: &AtomicBool,
    clock: MachineClock,
) {
    loop {
        let stopping = stop.load(Ordering::SeqCst);
        let now = clock.mono();
        let turn = worker.turn(now, clock.wall(), &mut || feeds.take());
        if stopping && feeds.is_empty() && !turn.blocked {
            if worker.drain(clock.mono(), clock.wall()) {
                return;
            }
            park(parker, clock.mono(), Some(clock.mono().plus_ms(DRAIN_MS)));
            continue;
        }
        if !turn.progress {
            park(parker, clock.mono(), turn.deadline);
        }
    }
}

fn park(parker: &Parker, now: Mono, until: Option<Mono>) {
    match until {
        None => parker.park(),
        Some(until) => {
            let nanos = until.0.saturating_sub(now.0);
            parker.park_timeout(std::time::Duration::from_nanos(nanos));
        }
    }
}

/// What the disk thread is told.
#[derive(Debug)]
pub(super) enum Disk {
    /// Write this as the positions file.
    Positions(Positions),
}

/// The one thread that waits for fsync. A sick disk stops nothing but itself.
pub(super) fn start_disk(
    path: std::path::PathBuf,
    ledger: Arc<Ledger>,
    registry: &Registry,
) -> anyhow::Result<(mpsc::SyncSender<Disk>, JoinHandle<()>)> {
    let (sender, jobs) = mpsc::sync_channel(1);
    let failed = registry.counter(
        "tailwake_positions_write_errors_total",
        "Positions writes that failed; tried again within a second.",
        &[],
    );
    let files = MachineFiles::default();
    let thread = thread::Builder::new().name("disk".to_owned()).spawn(move || {
        use crate::base::files::Files as _;
        while let Ok(Disk::Positions(positions)) = jobs.recv() {
            let written = positions
                .write()
                .map_err(std::io::Error::other)
                .and_then(|bytes| files.replace(&path, &bytes));
            if let Err(error) = written {
                failed.add(1);
                ledger.snapshot_failed();
                tracing::warn!(path = %path.display(), %error, "cannot write positions; a restart now would send lines again");
            }
        }
    });
    Ok((sender, thread.context("start the disk thread")?))
}
