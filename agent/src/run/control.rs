//! The control thread: signals, discovery, delivery, admin, and the pace of positions.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::alarm::Alarm;
use super::disk::{Disk, Job, Work};
use super::letters::Letters;
use super::once::Once;
use super::pods::PodWatch;
use super::spools::Spools;
use super::state::State;
use super::status::Status;
use super::threads::{News, Threads};
use super::unread::Unread;
use crate::account::Rotation;
use crate::admin::StatusSource as _;
use crate::base::count::Registry;
use crate::base::time::{Clock, Mono};
use crate::deliver::{Bodies, DeadQueue, Deliverer, HttpTransport};
use crate::discover::{Event, Tree};
use crate::guard;
use crate::machine::MachineFiles;
use crate::plan::Plan;

/// Positions are written at most this often; after a crash, what was acknowledged since is sent again.
const POSITIONS_MS: u64 = 1_000;

/// Discovery looks again this soon when a reader's queue was full.
const BEHIND_MS: u64 = 20;

/// Room that is kept for events that wait for a reader; the first listing needs far more.
const NEWS_KEPT: usize = 256;

/// How long the last write of positions may take.
const POSITIONS_PATIENCE: Duration = Duration::from_secs(5);

struct Control {
    threads: Threads,
    tree: Tree,
    files: MachineFiles,
    /// Readable when there are directory events.
    inotify: AsyncFd<OwnedFd>,
    alarm: Alarm,
    /// Shared with `/status`, which runs on this thread too: the lock is never waited for.
    deliverer: Arc<Mutex<Deliverer>>,
    transport: HttpTransport,
    disk: Disk,
    dead: Arc<DeadQueue>,
    unread: Unread,
    /// Metadata of pods, where the plan asks for them.
    pods: Option<PodWatch>,
    /// Positions of files that are gone were dropped.
    forgotten: bool,
    status: Arc<Status>,
    positions_due: Option<Mono>,
    /// Set for a run that ends by itself.
    once: Option<Once>,
    news: std::collections::VecDeque<Event>,
}

/// What was made before the first turn.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) threads: Threads,
    /// The admin listener, bound.
    pub(super) listener: Option<TcpListener>,
    pub(super) guard: guard::Report,
    pub(super) state: State,
    pub(super) registry: Arc<Registry>,
}

/// Runs until a signal ends it, or what was there at the start is delivered. Says whether a run once
/// has proven that.
///
/// # Errors
/// What kept it from starting.
pub(super) async fn control(
    plan: &Plan,
    start: Start,
    once_ms: Option<u64>,
) -> anyhow::Result<bool> {
    let Start {
        mut threads,
        listener,
        guard,
        state,
        registry,
    } = start;
    let (stop, stopped) = watch::channel(false);
    let bell = crate::base::bell::Bell::new(Arc::new(super::threads::NotifyBell(Arc::clone(
        &threads.control,
    ))));
    threads.ledger.on_change(bell.clone());
    let dead = Arc::new(DeadQueue::default());
    let letters = Letters::new(plan, Arc::clone(&dead), threads.clock, &registry);
    let work = Work {
        positions: state.positions_path(),
        pods: state.pods_path(),
        letters,
        spools: Spools::of(plan, &threads.outlets, &threads.ledger, &registry),
    };
    let disk = Disk::start(work, &mut threads, bell.clone(), &registry)?;
    let node = match plan.kubernetes() {
        Some(asked) => crate::kube::node_name(asked),
        None => {
            let system = rustix::system::uname();
            system.nodename().to_string_lossy().into_owned()
        }
    };
    let mut tree = Tree::new(plan, &node, &registry);
    if let Some(roster) = tree.roster() {
        state.recall_pods(roster);
    }
    let pods = (plan.kubernetes())
        .map(|asked| PodWatch::start(asked, bell.clone(), threads.clock, &registry));
    let deliverer = Arc::new(Mutex::new(Deliverer::new(
        plan,
        threads.outlets.clone(),
        &registry,
        seed(&threads),
        Bodies::ENCODED,
        &dead,
    )));
    let status = Arc::new(Status::new(
        &threads,
        &deliverer,
        guard,
        Arc::clone(&registry),
        Rotation {
            bytes: plan.limits.rotate_bytes.0,
            files: plan.limits.rotate_files,
        },
        pods.as_ref().map(PodWatch::board),
    ));
    if let Some(listener) = listener {
        let source = Arc::clone(&status) as Arc<dyn crate::admin::StatusSource>;
        tokio::spawn(crate::admin::serve(
            listener,
            Arc::clone(&registry),
            source,
            stopped,
        ));
    }
    let files = MachineFiles::watching(plan.allowed_roots()).context("watch directories")?;
    let mut control = Control {
        tree,
        inotify: watch_descriptor(files.descriptor()?)?,
        alarm: Alarm::new(),
        files,
        deliverer,
        transport: HttpTransport::new(tokio::runtime::Handle::current(), bell, &plan.outputs),
        disk,
        dead,
        unread: Unread::new(&registry),
        pods,
        forgotten: false,
        status,
        positions_due: None,
        news: std::collections::VecDeque::new(),
        once: once_ms.map(|ms| Once::new(threads.clock.mono().plus_ms(ms))),
        threads,
    };
    control.start();
    let done = control.serve().await?;
    let account = match &control.once {
        Some(_) => {
            control.status.look().await;
            Some(Once::account(done, &control.status))
        }
        None => None,
    };
    control.finish(plan.limits.grace_ms).await;
    let _ = stop.send(true);
    if let Some(pods) = &mut control.pods {
        pods.write_last(&mut control.tree, &control.disk);
    }
    let positions = control.threads.ledger.snapshot();
    if !control.disk.end(positions, POSITIONS_PATIENCE) {
        tracing::error!(
            "the disk of `state` does not answer: the last positions are not written, and \
            the next start sends some lines again"
        );
    }
    drop(state);
    tracing::info!("stopped");
    let Some((text, proven)) = account else {
        return Ok(true);
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("print the account")?;
    Ok(proven)
}

fn seed(threads: &Threads) -> u64 {
    threads.clock.wall().unix_nanos() as u64 ^ u64::from(std::process::id())
}

impl Control {
    fn start(&mut self) {
        let mut events = Vec::new();
        self.tree.start(&self.files, &mut events);
        self.news.extend(events);
        self.tell();
        self.status.found();
        // Where `start_at` has begun must be known after a crash, though nothing was delivered yet.
        self.positions_due = Some(self.threads.clock.mono().plus_ms(POSITIONS_MS));
        tracing::info!(rung = %self.threads.report.rung.name(), io = self.threads.io, "started");
        for skipped in &self.threads.report.skipped {
            tracing::info!(rung = %skipped.rung.name(), why = %skipped.why, "a higher rung did not load");
        }
    }

    /// Hands discovery's news to the readers; what does not fit waits.
    fn tell(&mut self) {
        while let Some(event) = self.news.pop_front() {
            let reader = event.source().log.0 as usize % self.threads.news.len();
            if let Err(event) = self.threads.news[reader].tell(event) {
                self.news.push_front(event);
                return;
            }
        }
    }

    /// Serves until a signal, or the end of a run once; says whether that has done its work.
    async fn serve(&mut self) -> anyhow::Result<bool> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        loop {
            let mut deadline = self.turn();
            if let Some(once) = &mut self.once {
                if once.is_done(self.forgotten, &self.status, &self.threads.ledger) {
                    return Ok(true);
                }
                let now = self.threads.clock.mono();
                if now >= once.deadline {
                    return Ok(false);
                }
                // What is settled after the first change since the last snapshot rings no bell.
                let soon = now.plus_ms(BEHIND_MS).min(once.deadline);
                deadline = Some(deadline.map_or(soon, |deadline| deadline.min(soon)));
            }
            let control = Arc::clone(&self.threads.control);
            tokio::select! {
                _ = terminate.recv() => return Ok(false),
                _ = interrupt.recv() => return Ok(false),
                () = control.notified() => {}
                ready = self.inotify.readable() => ready?.clear_ready(),
                () = self.alarm.until(self.threads.clock.mono(), deadline) => {}
            }
        }
    }

    /// One turn of discovery, delivery and positions; says when the next is due.
    fn turn(&mut self) -> Option<Mono> {
        let now = self.threads.clock.mono();
        // Asked before the tree: a rename that a reader met while it opened what it was told is an
        // event by now, and such a file is no unfound one.
        let heard = self.news.is_empty() && self.threads.news.iter().all(News::is_heard);
        let mut events = Vec::new();
        let pods = self.pods.as_mut();
        let pods = pods.and_then(|pods| pods.turn(&mut self.tree, &self.disk, now));
        let tree = self.tree.turn(&self.files, now, &mut events);
        let settled = heard && events.is_empty();
        self.news.extend(events);
        self.tell();
        let behind = (!self.news.is_empty()).then(|| now.plus_ms(BEHIND_MS));
        let unfound = self.forget_unfound(settled, now);
        let lanes = self.deliver(now);
        let dues = [behind, unfound, lanes, self.positions_due];
        [tree.deadline, pods]
            .into_iter()
            .chain(dues)
            .flatten()
            .min()
    }

    /// Drops positions of files that are gone, once the readers have taken up the first whole
    /// listing. A root that is not there yet, or a directory that cannot be listed, hides files.
    fn forget_unfound(&mut self, settled: bool, now: Mono) -> Option<Mono> {
        if self.forgotten {
            return None;
        }
        if !settled {
            return Some(now.plus_ms(BEHIND_MS));
        }
        if self.tree.is_whole() {
            self.forgotten = true;
            self.news.shrink_to(NEWS_KEPT);
            self.unread.tell(&self.threads.ledger.forget_unfound());
        }
        None
    }

    fn deliverer(&self) -> MutexGuard<'_, Deliverer> {
        self.deliverer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn deliver(&mut self, now: Mono) -> Option<Mono> {
        let mut turn = self.turn_lanes(now);
        while turn.progress {
            turn = self.turn_lanes(self.threads.clock.mono());
        }
        if !self.dead.is_empty() {
            self.disk.letters();
        }
        if self.threads.ledger.has_changed() || self.disk.has_failed() {
            self.positions_due
                .get_or_insert_with(|| now.plus_ms(POSITIONS_MS));
        }
        if self.positions_due.is_some_and(|due| due <= now) {
            self.positions_due = None;
            self.write_positions();
        }
        turn.deadline
    }

    fn turn_lanes(&mut self, now: Mono) -> crate::deliver::Turn {
        let mut deliverer = self
            .deliverer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        deliverer.turn(now, &mut self.transport)
    }

    fn write_positions(&mut self) {
        let Some(positions) = self.threads.ledger.snapshot() else {
            return;
        };
        if !self.disk.write(Job::Positions(positions)) {
            // The disk is behind by one write: what it would say now, it says in a second.
            self.threads.ledger.snapshot_failed();
            let now = self.threads.clock.mono();
            self.positions_due = Some(now.plus_ms(POSITIONS_MS));
        }
    }

    /// Empties the rooms in order, for at most `grace_ms`.
    async fn finish(&mut self, grace_ms: u64) {
        tracing::info!(grace_ms, "stopping: what was read is delivered first");
        let end = self.threads.clock.mono().plus_ms(grace_ms);
        self.threads.stop();
        loop {
            let now = self.threads.clock.mono();
            let deadline = self.deliver(now);
            if self.threads.have_ended() && self.deliverer().idle() {
                break;
            }
            if now >= end {
                tracing::warn!(
                    "`limits.grace` is over: what is not delivered is read again at the \
                    next start"
                );
                break;
            }
            let soon = now.plus_ms(BEHIND_MS);
            let deadline = deadline
                .map_or(soon, |deadline| deadline.min(soon))
                .min(end);
            let control = Arc::clone(&self.threads.control);
            tokio::select! {
                () = control.notified() => {}
                () = self.alarm.until(now, Some(deadline)) => {}
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "an owned descriptor cannot be closed under the runtime"
)]
pub(super) fn watch_descriptor(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}
