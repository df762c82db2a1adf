//! The disk thread: the one that waits for fsync. A sick disk stops nothing but itself.
//!
//! ```text
//! control: write(positions | pods) -> [one job] -> disk: replace the file -> failed: control tries again
//! gates:   requests, ended loans          -> disk: a turn of each spool
//! lanes:   dead letters                   -> disk: the files of each output
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossbeam_utils::sync::Parker;

use super::health::Beating;
use super::letters::Letters;
use super::spools::Spools;
use super::threads::{Threads, park};
use crate::base::bell::Bell;
use crate::base::count::{Counter, Registry};
use crate::base::files::Files as _;
use crate::base::quiet::Quiet;
use crate::base::time::{Clock as _, MachineClock};
use crate::ledger::Ledger;
use crate::ledger::positions::Snapshot;
use crate::machine::MachineFiles;

/// What is to be written.
#[derive(Debug)]
pub(super) enum Job {
    /// The positions file.
    Positions(Snapshot),
    /// What is known of this node's pods.
    Pods(Vec<u8>),
}

/// The thread, as control has it.
#[derive(Debug)]
pub(super) struct Disk {
    jobs: mpsc::SyncSender<Job>,
    /// Rings the thread.
    bell: Bell,
    unwritten: Arc<AtomicBool>,
    pods_unwritten: Arc<AtomicBool>,
    /// Told after each job, and gone with the thread.
    done: mpsc::Receiver<()>,
}

/// What the thread has to do beside writing positions, and where those go.
#[derive(Debug)]
pub(super) struct Work {
    /// The positions file.
    pub(super) positions: PathBuf,
    /// The snapshot of pods.
    pub(super) pods: PathBuf,
    pub(super) letters: Letters,
    pub(super) spools: Spools,
}

struct Writer {
    path: PathBuf,
    pods_path: PathBuf,
    ledger: Arc<Ledger>,
    clock: MachineClock,
    beat: Beating,
    control: Bell,
    unwritten: Arc<AtomicBool>,
    pods_unwritten: Arc<AtomicBool>,
    failed: Arc<Counter>,
    quiet: Quiet,
}

impl Disk {
    /// Starts the thread with its work.
    ///
    /// # Errors
    /// The system's: no thread is to be had.
    pub(super) fn start(
        work: Work,
        threads: &mut Threads,
        control: Bell,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        // One job: control offers the newest positions again while the disk is behind.
        let (sender, jobs) = mpsc::sync_channel(1);
        let unwritten = Arc::new(AtomicBool::new(false));
        let pods_unwritten = Arc::new(AtomicBool::new(false));
        let mut writer = Writer {
            path: work.positions.clone(),
            pods_path: work.pods.clone(),
            ledger: Arc::clone(&threads.ledger),
            clock: threads.clock,
            beat: threads.health.member("disk", || false),
            control,
            unwritten: Arc::clone(&unwritten),
            pods_unwritten: Arc::clone(&pods_unwritten),
            failed: registry.counter(
                "tailwake_positions_write_errors_total",
                "Positions writes that failed; tried again within a second.",
                &[],
            ),
            quiet: Quiet::default(),
        };
        let (tell, done) = mpsc::sync_channel(1);
        let (parker, bell) = threads.disk();
        thread::Builder::new()
            .name("disk".to_owned())
            .spawn(move || writer.run(work, &parker, &jobs, &tell))
            .context("start the disk thread")?;
        Ok(Self {
            jobs: sender,
            bell,
            unwritten,
            pods_unwritten,
            done,
        })
    }

    /// Has it written soon; says no while the disk is behind.
    #[must_use]
    pub(super) fn write(&self, job: Job) -> bool {
        let sent = self.jobs.try_send(job).is_ok();
        self.bell.ring();
        sent
    }

    /// Has the dead letters written that wait, soon.
    pub(super) fn letters(&self) {
        self.bell.ring();
    }

    /// Whether a write of the pods has failed since the last call.
    #[must_use]
    pub(super) fn has_failed_pods(&self) -> bool {
        self.pods_unwritten.swap(false, Ordering::AcqRel)
    }

    /// Whether a write has failed since the last call.
    #[must_use]
    pub(super) fn has_failed(&self) -> bool {
        self.unwritten.swap(false, Ordering::AcqRel)
    }

    /// Has the last positions written and waits for it, but no longer than `patience`: the disk may
    /// hang. Says whether they are written.
    pub(super) fn end(self, positions: Option<Snapshot>, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let wait = || {
            let left = until.saturating_duration_since(Instant::now());
            self.done.recv_timeout(left) != Err(RecvTimeoutError::Timeout)
        };
        let mut next = positions.map(Job::Positions);
        while let Some(job) = next.take() {
            if let Err(TrySendError::Full(job)) = self.jobs.try_send(job) {
                if !wait() {
                    return false;
                }
                next = Some(job);
            }
            self.bell.ring();
        }
        drop(self.jobs);
        self.bell.ring();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.done.recv_timeout(left) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }
}

impl Writer {
    fn run(
        &mut self,
        work: Work,
        parker: &Parker,
        jobs: &mpsc::Receiver<Job>,
        tell: &mpsc::SyncSender<()>,
    ) {
        let Work {
            mut letters,
            mut spools,
            ..
        } = work;
        spools.take_up();
        loop {
            self.beat.turn();
            let job = jobs.try_recv();
            // First: a position says that its rejected lines lie here.
            letters.drain();
            if let Ok(job) = &job {
                match job {
                    Job::Positions(positions) => self.write(positions),
                    Job::Pods(pods) => self.write_pods(pods),
                }
                let _ = tell.try_send(());
            }
            let now = self.clock.mono();
            let turn = spools.turn(now, self.clock.wall());
            if job.is_ok() || turn.progress {
                continue;
            }
            if matches!(job, Err(TryRecvError::Disconnected)) {
                return spools.end(self.clock.mono());
            }
            self.beat.park(true);
            park(parker, now, turn.deadline);
        }
    }

    fn write(&mut self, positions: &Snapshot) {
        let files = MachineFiles::default();
        let written = files.replace_by(&self.path, |file| positions.write_to(file));
        let Err(error) = written else { return };
        self.failed.add(1);
        self.ledger.snapshot_failed();
        self.unwritten.store(true, Ordering::Release);
        self.control.ring();
        let key = error.raw_os_error();
        if let Some(suppressed) = self.quiet.allow(self.clock.mono(), key) {
            tracing::error!(path = %self.path.display(), %error, suppressed,
                "cannot write positions; tried again every second. Logs are read and delivered as \
                 before, but a restart now would send lines again: make room on the disk of \
                 `state`, or give the agent the right to write there");
        }
    }

    /// What is known of pods: a restart without it waits for the API, and no line is lost.
    fn write_pods(&mut self, pods: &[u8]) {
        let written = MachineFiles::default().replace(&self.pods_path, pods);
        let Err(error) = written else { return };
        self.pods_unwritten.store(true, Ordering::Release);
        if let Some(suppressed) = self.quiet.allow(self.clock.mono(), ("pods", error.kind())) {
            tracing::warn!(path = %self.pods_path.display(), %error, suppressed,
                "cannot write what is known of this node's pods; tried again. A restart now would wait \
                 for the Kubernetes API: make room on the disk of `state`, or give the agent the right \
                 to write there");
        }
    }
}
