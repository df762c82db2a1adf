//! The control thread: signals, discovery, delivery, admin, and the pace of positions.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::state::State;
use super::status::Status;
use super::threads::{Disk, Threads, start_disk};
use crate::base::count::Registry;
use crate::base::time::{Clock, Mono};
use crate::deliver::{Deliverer, HttpTransport};
use crate::discover::{Event, Tree};
use crate::machine::MachineFiles;
use crate::plan::Plan;

/// Positions are written at most this often; after a crash, what was acknowledged since is sent again.
const POSITIONS_MS: u64 = 1_000;

/// Discovery looks again this soon when a reader's queue was full.
const BEHIND_MS: u64 = 20;

struct Control {
    threads: Threads,
    tree: Tree,
    files: MachineFiles,
    /// Readable when there are directory events.
    inotify: AsyncFd<OwnedFd>,
    deliverer: Deliverer,
    transport: HttpTransport,
    disk: mpsc::SyncSender<Disk>,
    status: Arc<Status>,
    positions_due: Option<Mono>,
    news: std::collections::VecDeque<Event>,
}

/// Runs until a signal ends it.
///
/// # Errors
/// What kept it from starting.
pub(super) async fn control(
    plan: &Plan,
    threads: Threads,
    state: State,
    registry: Arc<Registry>,
) -> anyhow::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let node = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let ledger = Arc::clone(&threads.ledger);
    let (disk, disk_thread) = start_disk(state.positions_path(), ledger, &registry)?;
    let status = Arc::new(Status::new(&threads, Arc::clone(&registry)));
    if let Some(address) = plan.admin {
        let listener = std::net::TcpListener::bind(address).with_context(|| {
            format!("listen on {address} for /metrics and /status (`admin.listen`)")
        })?;
        let source = Arc::clone(&status) as Arc<dyn crate::admin::StatusSource>;
        tokio::spawn(crate::admin::serve(
            listener,
            Arc::clone(&registry),
            source,
            stopped,
        ));
    }
    let bell = crate::base::bell::Bell::new(Arc::new(super::threads::NotifyBell(Arc::clone(
        &threads.control,
    ))));
    let files = MachineFiles::watching(plan.allowed_roots()).context("watch directories")?;
    let mut control = Control {
        tree: Tree::new(plan, &node, &registry),
        inotify: watch_descriptor(files.descriptor()?)?,
        files,
        deliverer: Deliverer::new(
            plan,
            threads.outlets.clone(),
            &registry,
            seed(&threads),
            crate::encode::recompose,
        ),
        transport: HttpTransport::new(tokio::runtime::Handle::current(), bell)
            .context("set up TLS")?,
        disk,
        status,
        positions_due: None,
        news: std::collections::VecDeque::new(),
        threads,
    };
    control.start();
    control.serve().await?;
    control.finish(plan.limits.grace_ms).await;
    let _ = stop.send(true);
    drop(control);
    let _ = disk_thread.join();
    drop(state);
    tracing::info!("stopped");
    Ok(())
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
        tracing::info!(rung = %self.threads.report.rung.name(), io = self.threads.io, "started");
        for skipped in &self.threads.report.skipped {
            tracing::info!(rung = %skipped.rung.name(), why = %skipped.why, "a higher rung did not load");
        }
    }

    /// Hands discovery's news to the readers; what does not fit waits.
    fn tell(&mut self) {
        while let Some(event) = self.news.pop_front() {
            let log = match &event {
                Event::Found { source, .. }
                | Event::Moved { source, .. }
                | Event::Gone { source, .. }
                | Event::Ended { source } => source.log,
            };
            let reader = log.0 as usize % self.threads.news.len();
            if let Err(event) = self.threads.news[reader].tell(event) {
                self.news.push_front(event);
                return;
            }
        }
    }

    async fn serve(&mut self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        loop {
            let deadline = self.turn();
            let control = Arc::clone(&self.threads.control);
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                () = control.notified() => {}
                ready = self.inotify.readable() => ready?.clear_ready(),
                () = until(self.threads.clock.mono(), deadline) => {}
            }
        }
    }

    /// One turn of discovery, delivery and positions; says when the next is due.
    fn turn(&mut self) -> Option<Mono> {
        let now = self.threads.clock.mono();
        let mut events = Vec::new();
        let tree = self.tree.turn(&self.files, now, &mut events);
        self.news.extend(events);
        self.tell();
        let behind = (!self.news.is_empty()).then(|| now.plus_ms(BEHIND_MS));
        let lanes = self.deliver(now);
        [tree.deadline, behind, lanes, self.positions_due]
            .into_iter()
            .flatten()
            .min()
    }

    fn deliver(&mut self, now: Mono) -> Option<Mono> {
        let mut turn = self.deliverer.turn(now, &mut self.transport);
        while turn.progress {
            self.positions_due
                .get_or_insert_with(|| now.plus_ms(POSITIONS_MS));
            turn = self
                .deliverer
                .turn(self.threads.clock.mono(), &mut self.transport);
        }
        self.status.outputs(self.deliverer.status());
        if self.positions_due.is_some_and(|due| due <= now) {
            self.positions_due = None;
            self.write_positions();
        }
        turn.deadline
    }

    fn write_positions(&mut self) {
        let Some(positions) = self.threads.ledger.snapshot() else {
            return;
        };
        if self.disk.try_send(Disk::Positions(positions)).is_err() {
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
            let done = self.threads.encoders_ended() && self.deliverer.idle();
            if done || now >= end {
                break;
            }
            let soon = now.plus_ms(BEHIND_MS);
            let deadline = deadline
                .map_or(soon, |deadline| deadline.min(soon))
                .min(end);
            let control = Arc::clone(&self.threads.control);
            tokio::select! {
                () = control.notified() => {}
                () = until(now, Some(deadline)) => {}
            }
        }
        if let Some(positions) = self.threads.ledger.snapshot() {
            let _ = self.disk.send(Disk::Positions(positions));
        }
    }
}

async fn until(now: Mono, deadline: Option<Mono>) {
    match deadline {
        None => std::future::pending().await,
        Some(deadline) => {
            tokio::time::sleep(Duration::from_nanos(deadline.0.saturating_sub(now.0))).await;
        }
    }
}

#[expect(
    deprecated,
    reason = "an owned descriptor cannot be closed under the runtime"
)]
fn watch_descriptor(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}
