//! One run: random acts and faults, then quiet, then every pod's end, then the account.
//!
//! ```text
//! act (node, servers) -> time goes on -> seats that are due turn, in any order, a crash between
//! quiet: all well, no acts; time jumps to the next deadline -> everything has arrived, or: stuck
//! ```

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use tailwake::account::{Paces, Rotation, Row, State};
use tailwake::base::files::Files;
use tailwake::base::time::{Mono, Timestamp};
use tailwake::ledger::Identity;
use tailwake::ledger::positions::Positions;
use tailwake::plan::Plan;
use tailwake::tail::identity::is_same;

use crate::api::Api;
use crate::books::{Books, Counts, NAMES, OUTPUTS};
use crate::life::{Life, Seat};
use crate::net::Net;
use crate::node::Node;
use crate::plan::{ROOT, plan};
use crate::rng::Rng;
use crate::trace::Trace;
use crate::world::{Weather, World};

/// As kubelet rotates; no time is left to anything here.
const ROTATION: Rotation = Rotation {
    bytes: 10 << 20,
    files: 5,
};

/// Steps with acts and faults.
const STEPS: u64 = 500;

/// Steps in which everything must have arrived once the node is silent.
const QUIET_STEPS: u64 = 20_000;

/// How long an agent may take to end, in milliseconds.
const GRACE_MS: u64 = 10_000;

/// What happened in a run.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// What the account says.
    pub counts: Counts,
    /// Crashes.
    pub crashes: u64,
    /// Times an output was detached.
    pub detaches: u64,
    /// Rotations.
    pub rotations: u64,
    /// Files deleted while the node was in use.
    pub deletions: u64,
    /// What happened, line by line, when a trace was asked for.
    pub trace: Vec<String>,
}

/// Which faults a seed has.
#[derive(Clone, Copy, Debug)]
struct Faults {
    crashes: bool,
    servers: bool,
    flaky: bool,
}

/// A node, its servers, and the agent on it.
pub(crate) struct Sim {
    pub(crate) rng: Rng,
    pub(crate) trace: Trace,
    faults: Faults,
    plan: Plan,
    pub(crate) world: World,
    pub(crate) net: Rc<RefCell<Net>>,
    pub(crate) node: Node,
    pub(crate) books: Books,
    pub(crate) life: Option<Life>,
    api: Option<Api>,
    pub(crate) now: u64,
    /// Added to the wall clock's seconds: it was set.
    pub(crate) wall_shift: i64,
    /// Outputs went apart over a file that was cut.
    pub(crate) apart: bool,
    /// How many agents have started.
    lives: u64,
    /// Time goes on by a few milliseconds a step.
    small_steps: bool,
    quiet: bool,
    detaches: [u64; OUTPUTS],
    summary: Summary,
}

/// Runs one seed.
///
/// # Errors
/// What went wrong, after the trace if one was asked for.
pub fn run(seed: u64, trace: bool) -> Result<Summary, String> {
    let mut sim = Sim::new(seed, trace)?;
    let done = sim.go();
    sim.sum_up(done)
}

impl Sim {
    fn new(seed: u64, keeps: bool) -> Result<Self, String> {
        let mut rng = Rng::new(seed);
        let faults = Faults {
            crashes: !matches!(seed % 8, 0 | 1 | 4),
            servers: !matches!(seed % 8, 0 | 2 | 6),
            flaky: seed % 8 > 5,
        };
        let weather = Weather {
            flaky: faults.flaky,
            births: rng.chance(60),
            ends: rng.chance(60),
        };
        // Of numbers of its own: the other seeds play as they did.
        let api = (seed % 3 == 2).then(|| Rng::new(!seed));
        Self::with(faults, weather, faults.flaky, (rng, api), keeps)
    }

    /// A run in which nothing happens by itself but the turns of the agent.
    pub(crate) fn scripted(
        weather: Weather,
        sweeps: bool,
        seed: u64,
        keeps: bool,
    ) -> Result<Self, String> {
        let faults = Faults {
            crashes: false,
            servers: false,
            flaky: weather.flaky,
        };
        let mut sim = Self::with(faults, weather, sweeps, (Rng::new(seed), None), keeps)?;
        sim.small_steps = true;
        Ok(sim)
    }

    fn with(
        faults: Faults,
        weather: Weather,
        sweeps: bool,
        (mut rng, api): (Rng, Option<Rng>),
        keeps: bool,
    ) -> Result<Self, String> {
        let trace = Trace::new(keeps);
        let plan = plan(&mut rng, sweeps, api.is_some())?;
        let world = World::new(Path::new(ROOT), weather, rng.fork());
        let mut net = Net::new(rng.fork(), trace.clone());
        let api = api.map(|rng| Api::new(rng, trace.clone()));
        (net.servers.iter_mut()).for_each(|server| server.labelled = api.is_some());
        let node = Node::new(Path::new(ROOT), world.clone(), trace.clone());
        trace.say(|| {
            let limits = &plan.limits;
            let sizes: Vec<_> = plan
                .outputs
                .iter()
                .map(|it| (it.batch_bytes, it.window_bytes, it.linger_ms))
                .collect();
            format!(
                "{faults:?} {weather:?} {limits:?} {:?} {sizes:?}",
                plan.wake
            )
        });
        Ok(Self {
            rng,
            trace,
            faults,
            plan,
            world,
            net: Rc::new(RefCell::new(net)),
            node,
            books: Books::default(),
            life: None,
            api,
            now: 1_000,
            wall_shift: 0,
            apart: false,
            lives: 0,
            small_steps: false,
            quiet: false,
            detaches: [0; OUTPUTS],
            summary: Summary::default(),
        })
    }

    /// What a run came to, with its trace if one was asked for.
    ///
    /// # Errors
    /// That of `done`, after the trace.
    pub(crate) fn sum_up(mut self, done: Result<(), String>) -> Result<Summary, String> {
        self.summary.counts = self.books.counts;
        self.summary.rotations = self.node.rotations;
        self.summary.deletions = self.node.deletions;
        self.summary.trace = self.trace.lines();
        match done {
            Err(error) if !self.summary.trace.is_empty() => {
                let life = self.life.as_ref().map(Life::describe).unwrap_or_default();
                Err(format!(
                    "{}\n{life}\n{error}",
                    self.summary.trace.join("\n")
                ))
            }
            done => done.map(|()| self.summary),
        }
    }

    fn go(&mut self) -> Result<(), String> {
        self.node.add_pod(&mut self.rng, &mut self.books);
        self.node.add_pod(&mut self.rng, &mut self.books);
        for _ in 0..STEPS {
            self.act()?;
            self.step()?;
        }
        self.trace.say(|| "quiet".to_owned());
        self.quiet = true;
        self.net.borrow_mut().calm();
        if let Some(api) = &mut self.api {
            api.calm();
        }
        if self.life.is_none() {
            self.start()?;
        }
        self.settle(None)?;
        self.check_end()?;
        self.trace.say(|| "every pod ends".to_owned());
        self.node.end_all(&mut self.rng, &mut self.books);
        self.settle(Some(0))?;
        self.check_nothing_is_left()
    }

    /// Something happens to the node, the servers or the agent.
    fn act(&mut self) -> Result<(), String> {
        self.node.act(self.now, &mut self.rng, &mut self.books);
        if self.faults.servers && self.rng.once_in(60) {
            self.net.borrow_mut().change_mood(&self.trace);
        }
        if self.life.is_none() && self.rng.chance(10) {
            self.start()?;
        }
        Ok(())
    }

    /// Time goes on, and whoever is due takes a turn, or not yet.
    pub(crate) fn step(&mut self) -> Result<(), String> {
        self.pass();
        self.net.borrow_mut().step(&mut self.books)?;
        self.ask();
        let Some(life) = &self.life else {
            return Ok(());
        };
        let mut seats = life.seats();
        while !seats.is_empty() {
            let at = self.rng.place(seats.len());
            let seat = seats.swap_remove(at);
            if self.rng.chance(85) {
                self.turn(seat)?;
            }
            if self.faults.crashes && !self.quiet && self.rng.once_in(600) {
                self.crash();
                return Ok(());
            }
        }
        Ok(())
    }

    /// The Kubernetes API goes on, and what is known of it may be written down.
    fn ask(&mut self) {
        let Some(api) = &mut self.api else { return };
        api.act(&self.node);
        if let Some(life) = &mut self.life {
            life.api.extend(api.told.drain(..));
            if let Some(snapshot) = self.rng.chance(10).then(|| life.snapshot()).flatten() {
                api.snapshot = Some(snapshot);
            }
        }
    }

    fn pass(&mut self) {
        let long = match self.rng.below(20) {
            0 => 30,
            1 => 300,
            n => n % 4,
        };
        self.now += if self.small_steps || self.node.is_busy() {
            long % 4
        } else {
            long
        };
        self.trace.at(self.now);
        self.net.borrow_mut().now = self.now;
        self.node.pass(self.now, &self.books);
    }

    fn turn(&mut self, seat: Seat) -> Result<(), String> {
        let now = Mono(self.now * 1_000_000);
        let wall = Timestamp {
            secs: 1_795_000_000 + (self.now / 1_000) as i64 + self.wall_shift,
            nanos: 0,
        };
        let Some(life) = &mut self.life else {
            return Ok(());
        };
        if !life.is_due(seat, now) {
            return Ok(());
        }
        let stored = life.turn(seat, now, wall)?;
        if let Some(passed) = life.memory_passed(&self.plan) {
            return Err(format!("memory: {passed}"));
        }
        for (output, outlet) in life.outlets.iter().enumerate() {
            let detaches = outlet.counters.detaches.get();
            if std::mem::replace(&mut self.detaches[output], detaches) < detaches {
                self.summary.detaches += 1;
                self.trace.say(|| format!("{} is detached", NAMES[output]));
                self.books.may_all_repeat(output);
            }
        }
        let written = life.written.take();
        self.note_durable(written.as_ref());
        stored.map_or(Ok(()), |positions| self.check_positions(&positions))
    }

    /// Files that the state file says to be settled whole.
    fn note_durable(&mut self, written: Option<&Positions>) {
        let Some(positions) = written else { return };
        let mut durable = Vec::new();
        for (log, key, path, size) in self.node.files() {
            let mut entries = positions.files.iter().filter(|entry| entry.log == log);
            let whole = entries.any(|entry| {
                let all = entry.marks.values().all(|mark| mark.at == size);
                size > 0 && all && self.is_file(path, &entry.identity)
            });
            durable.extend(whole.then_some((key, size)));
        }
        self.node.durable.extend(durable);
    }

    pub(crate) fn start(&mut self) -> Result<(), String> {
        self.trace.say(|| "the agent starts".to_owned());
        self.lives += 1;
        self.detaches = [0; OUTPUTS];
        let snapshot = self.api.as_mut().and_then(|api| {
            api.connect();
            api.snapshot.as_deref()
        });
        let life = Life::start(
            &self.plan,
            &self.world,
            &self.net,
            &mut self.rng,
            &self.trace,
            snapshot,
        )?;
        self.life = Some(life);
        Ok(())
    }

    pub(crate) fn crash(&mut self) {
        let Some(mut life) = self.life.take() else {
            return;
        };
        self.trace.say(|| "the agent crashes".to_owned());
        self.summary.crashes += 1;
        if self.rng.chance(50) {
            // The write that was under way had reached the disk.
            life.write();
        }
        let written = life.written.take();
        drop(life);
        self.world.stop();
        self.note_durable(written.as_ref());
        self.books.crash(&self.node.deleted());
    }

    /// The agent is told to end, and ends when all that it has read is delivered.
    pub(crate) fn stop(&mut self) -> Result<(), String> {
        let Some(life) = &mut self.life else {
            return Ok(());
        };
        self.trace.say(|| "the agent is told to end".to_owned());
        life.finish();
        let end = self.now + GRACE_MS;
        while self.life.as_ref().is_some_and(|life| !life.has_finished()) {
            if self.now > end {
                return Err("the agent does not end".to_owned());
            }
            self.run_for(1)?;
        }
        if let Some(mut life) = self.life.take() {
            life.end();
            let mut outputs = life.outlets.iter().map(|outlet| outlet.output);
            if let Some(output) = outputs.find(|output| !life.ledger.is_free(*output)) {
                return Err(format!(
                    "ended, and {} is owed something",
                    NAMES[output.index()]
                ));
            }
        }
        self.trace.say(|| "the agent has ended".to_owned());
        self.world.stop();
        Ok(())
    }

    /// Steps until everything has arrived, and the ledger knows as many logs as the node has.
    pub(crate) fn settle(&mut self, logs: Option<usize>) -> Result<(), String> {
        let mut why = String::new();
        for step in 0..QUIET_STEPS {
            self.node.write(&mut self.rng, &mut self.books, 100);
            self.step()?;
            self.jump(u64::MAX);
            if step % 16 != 15 {
                continue;
            }
            why = self.unsettled(logs);
            if why.is_empty() {
                return Ok(());
            }
        }
        let missing = self.books.missing().join("; ");
        Err(format!("stuck: {why}; {missing}"))
    }

    /// Steps for `ms` milliseconds.
    pub(crate) fn run_for(&mut self, ms: u64) -> Result<(), String> {
        let until = self.now + ms;
        while self.now < until {
            self.step()?;
            self.jump(until);
        }
        Ok(())
    }

    /// Where nobody is due, time goes on to the next deadline, and no further than `until`.
    fn jump(&mut self, until: u64) {
        let now = Mono(self.now * 1_000_000);
        let Some(life) = &mut self.life else { return };
        if self.node.is_busy() || life.seats().into_iter().any(|seat| life.is_due(seat, now)) {
            return;
        }
        let deadline = life.deadline().map(|at| at.0.div_ceil(1_000_000));
        let dues = [deadline, self.net.borrow().due(), self.node.due(self.now)];
        if let Some(due) = dues.into_iter().flatten().min() {
            self.now = self.now.max(due.min(until));
        }
    }

    fn unsettled(&self, logs: Option<usize>) -> String {
        let Some(life) = &self.life else {
            return "no agent".to_owned();
        };
        let known = life.ledger.accounts().len();
        let logs = logs.unwrap_or_else(|| self.node.logs());
        if !self.node.is_done() {
            return "the node is not done".to_owned();
        }
        if known != logs {
            return format!("{known} logs are known of {logs}");
        }
        life.unsettled()
            .or_else(|| self.books.missing().into_iter().next())
            .unwrap_or_default()
    }

    /// No stored position passes a byte of a record that its server does not hold.
    fn check_positions(&self, positions: &Positions) -> Result<(), String> {
        for (log, key, path, size) in self.node.files() {
            let entries = positions.files.iter().filter(|entry| entry.log == log);
            let mut entries = entries.filter(|entry| self.is_file(path, &entry.identity));
            let (Some(entry), None) = (entries.next(), entries.next()) else {
                // Without birth times an empty file may be any of its number.
                continue;
            };
            for (output, name) in NAMES.iter().enumerate() {
                let Some(mark) = entry.marks.get(name) else {
                    continue;
                };
                let ranges = [(0, mark.at)]
                    .into_iter()
                    .chain(mark.beyond.iter().copied());
                for (from, to) in ranges {
                    let wrong = self.books.audit(key, output, from, to);
                    if let Some(missed) = wrong {
                        let path = path.display();
                        return Err(format!(
                            "position {mark:?} of {name} in {path} passes {missed}"
                        ));
                    }
                    if to > size {
                        let path = path.display();
                        return Err(format!("position {mark:?} is past {path}'s end {size}"));
                    }
                }
            }
        }
        Ok(())
    }

    fn is_file(&self, path: &Path, identity: &Identity) -> bool {
        let handle = self.world.open_log(path);
        let facts = handle.and_then(|handle| Ok((self.world.stat(&handle)?, handle)));
        facts.is_ok_and(|(stat, handle)| {
            is_same(&self.world, &handle, &stat, identity).is_ok_and(|same| same)
        })
    }

    /// Once all is quiet the positions stand at every file's end.
    pub(crate) fn check_end(&mut self) -> Result<(), String> {
        let Some(life) = &mut self.life else {
            return Ok(());
        };
        let positions = life.last_positions().unwrap_or_default();
        life.look(Mono(self.now * 1_000_000), Timestamp::default())?;
        let (accounts, names) = (life.ledger.accounts(), life.ledger.outputs().to_vec());
        self.check_positions(&positions)?;
        for (log, _, path, size) in self.node.files() {
            let mut entries = positions.files.iter().filter(|entry| entry.log == log);
            let whole = entries.any(|entry| {
                let all = entry.marks.values().all(|mark| mark.at == size);
                all && self.is_file(path, &entry.identity)
            });
            if !whole {
                return Err(format!(
                    "{} is not settled to its end {size}: {positions:?}",
                    path.display()
                ));
            }
        }
        // What is deleted before its positions are stored is lost to the next agent.
        let may_lose = self.lives > 1 || self.books.counts.excused > 0;
        let worst = if may_lose {
            State::Lost
        } else {
            State::Unknown
        };
        let mut paces = Paces::default();
        for account in &accounts {
            let pace = paces.look(account, Mono(self.now * 1_000_000), ROTATION);
            let row = Row::new(account, &names, pace);
            if row.state() > worst {
                return Err(format!("the books do not prove it: {row:?}"));
            }
        }
        // Outputs that stand at different places read the bytes between them apart.
        let apart = self.apart
            || self.lives > 1
            || self.summary.detaches > 0
            || self.books.counts.excused > 0;
        let calm = !self.faults.crashes && !self.faults.flaky && !apart;
        if !calm || self.books.has_surprises() {
            return Ok(());
        }
        for account in accounts {
            let settled = account
                .outputs
                .iter()
                .all(|output| output.settled == account.read);
            if !settled || account.reread_bytes > 0 {
                return Err(format!("an account does not add up: {account:?}"));
            }
        }
        Ok(())
    }

    /// The pods are gone, and so is all that the agent had of them.
    pub(crate) fn check_nothing_is_left(&mut self) -> Result<(), String> {
        let (opens, armed, watches) = self.world.held();
        if opens > 0 || armed > 0 || watches > 1 {
            return Err(format!(
                "after the last pod: {opens} files open, {armed} files and {watches} directories watched"
            ));
        }
        let series = self.life.as_ref().map_or(0, Life::new_series);
        if series > 0 {
            return Err(format!("{series} metric series came with the pods"));
        }
        Ok(())
    }
}
