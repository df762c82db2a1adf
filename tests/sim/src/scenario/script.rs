//! A scenario's hands: the node, the servers and the agent, moved by name.
//!
//! 1. Nothing happens but what the script says, and the agent's own turns.
//! 2. At its end all is well: every record has arrived, each once but where the script names what
//!    explains it, nothing was excused but what it gave up itself, and nothing is left of the pods.

use std::path::{Path, PathBuf};

use harness::limits::Limits;

use crate::books::OUTPUTS;
use crate::hand::{Open, gzip};
use crate::rng::Rng;
use crate::run::{Sim, Summary};
use crate::servers::{Mood, SPOILT};
use crate::world::{Ills, Key, Weather};
use crate::writer::{Kind, Writer};

/// A file is opened at once; this is far more.
const OPEN_MS: u64 = 2_000;

/// A container's log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log(usize);

/// How a scenario's kernel is, and whether the agent sweeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// `None` = by seed.
    pub(crate) births: Option<bool>,
    pub(crate) sweeps: bool,
}

impl Setting {
    /// Birth times by seed, and no sweep: what is found was announced.
    pub(crate) const USUAL: Self = Self {
        births: None,
        sweeps: false,
    };
}

/// A run that a scenario moves.
pub(crate) struct Script {
    pub(crate) sim: Sim,
    pub(crate) rng: Rng,
    /// By log: the place of the file that is written to.
    targets: Vec<usize>,
    /// By output: bytes that the script took away unread.
    lost: [u64; OUTPUTS],
    /// How many records no server need have.
    excused: u64,
}

impl Script {
    /// An empty node and no agent.
    pub(crate) fn new(setting: Setting, seed: u64, trace: bool) -> Result<Self, String> {
        let mut rng = Rng::new(seed ^ 0xA5A5);
        let weather = Weather {
            flaky: false,
            births: setting.births.unwrap_or(rng.chance(50)),
            ends: rng.chance(60),
        };
        let sim = Sim::scripted(weather, setting.sweeps, seed, trace)?;
        Ok(Self {
            sim,
            rng,
            targets: Vec::new(),
            lost: [0; OUTPUTS],
            excused: 0,
        })
    }

    /// Milliseconds go by: some number below `most`.
    pub(crate) fn some(&mut self, most: u64) -> Result<(), String> {
        let ms = self.rng.below(most);
        self.sim.run_for(ms)
    }

    /// Milliseconds go by.
    pub(crate) fn run(&mut self, ms: u64) -> Result<(), String> {
        self.sim.run_for(ms)
    }

    /// A pod of one container, whose file is there and empty.
    pub(crate) fn pod(&mut self) -> Log {
        let name = format!("web.{}", self.targets.len());
        self.pod_named(&name)
    }

    /// A pod whose lines are JSON.
    pub(crate) fn json_pod(&mut self) -> Log {
        let name = format!("web.{}", self.targets.len());
        self.targets.push(0);
        let sim = &mut self.sim;
        Log(sim.node.run_pod_of(Kind::Json, &name, &mut sim.books))
    }

    /// A pod of this name.
    pub(crate) fn pod_named(&mut self, name: &str) -> Log {
        self.targets.push(0);
        Log(self.sim.node.run_pod(name, &mut self.sim.books))
    }

    /// The container.
    pub(crate) fn writer(&mut self, log: Log) -> &mut Writer {
        self.sim.node.writer(log.0)
    }

    /// Its files, oldest first: how many.
    pub(crate) fn files(&mut self, log: Log) -> usize {
        self.writer(log).files.len()
    }

    /// The key of the file at `at`.
    pub(crate) fn key(&mut self, log: Log, at: usize) -> Key {
        self.writer(log).files[at].key
    }

    /// The key of the file that is written to.
    pub(crate) fn target(&mut self, log: Log) -> Key {
        let at = self.targets[log.0];
        self.key(log, at)
    }

    /// Bytes reach the file that is written to, and are announced.
    pub(crate) fn put(&mut self, log: Log, bytes: &[u8]) {
        let key = self.target(log);
        self.sim.world.append(key, bytes);
        self.sim.world.announce(key, 0);
        let length = bytes.len();
        self.sim
            .trace
            .say(|| format!("script: {length} bytes to {key:?}"));
    }

    /// Records in both streams, written at once.
    pub(crate) fn say(&mut self, log: Log, records: usize) {
        let bytes = self.compose(log, records);
        self.put(log, &bytes);
    }

    /// The lines of some records, booked and not written yet.
    pub(crate) fn compose(&mut self, log: Log, records: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..records {
            let stream = self.rng.place(2);
            // The last bytes of a file tell it from another: no two lines end alike.
            let number = self.sim.books.counts.records;
            let words = format!("{}{number}", "ü word ".repeat(self.rng.place(12)));
            let mut open = self.begin(log, stream, &words, 1);
            bytes.extend(self.line(log, &mut open, None));
        }
        bytes
    }

    /// Begins a record of this many lines.
    pub(crate) fn begin(&mut self, log: Log, stream: usize, words: &str, lines: usize) -> Open {
        let writer = self.sim.node.writer(log.0);
        writer.begin(&mut self.sim.books, stream, words, lines)
    }

    /// The next line of a record, booked and not written yet.
    pub(crate) fn line(&mut self, log: Log, open: &mut Open, length: Option<usize>) -> Vec<u8> {
        let (target, writer) = (self.targets[log.0], self.sim.node.writer(log.0));
        writer.line(&mut self.sim.books, target, open, length)
    }

    /// A part of a record is written.
    pub(crate) fn part(&mut self, log: Log, open: &mut Open, length: usize) {
        let bytes = self.line(log, open, Some(length));
        self.put(log, &bytes);
    }

    /// The last line of a record is written.
    pub(crate) fn finish(&mut self, log: Log, mut open: Open) {
        let bytes = self.line(log, &mut open, None);
        self.put(log, &bytes);
    }

    /// The current file is renamed; lines go on to it.
    pub(crate) fn rename(&mut self, log: Log) {
        let world = self.sim.world.clone();
        let at = self.files(log) - 1;
        if world.is_unseen(self.key(log, at)) {
            // The agent may meet its successor first.
            let number = self.writer(log).number;
            self.sim.books.surprise(number);
        }
        self.sim.node.rotations += 1;
        let from = self.writer(log).rename(&world, at);
        self.sim
            .trace
            .say(|| format!("script: {} is renamed", from.display()));
    }

    /// The new file is made; lines go to it once `switch` says so.
    pub(crate) fn create(&mut self, log: Log) {
        let (world, trace) = (self.sim.world.clone(), self.sim.trace.clone());
        self.writer(log).open(&world, &trace);
    }

    /// Lines go to the newest file.
    pub(crate) fn switch(&mut self, log: Log) {
        self.targets[log.0] = self.files(log) - 1;
    }

    /// A whole rotation within a blink.
    pub(crate) fn rotate(&mut self, log: Log) {
        self.rename(log);
        self.create(log);
        self.switch(log);
    }

    /// Kubelet begins to compress a file: half of it is there. Gives what is missing.
    pub(crate) fn pack_begin(&mut self, log: Log, at: usize) -> (Key, Vec<u8>) {
        let key = self.key(log, at);
        let path = self.writer(log).packing(at);
        let mut half = gzip(&self.sim.world.bytes(key));
        let rest = half.split_off(half.len() / 2);
        let temporary = self.sim.world.create(&path);
        self.sim.world.append(temporary, &half);
        (temporary, rest)
    }

    /// The compressed file gets its name; the plain one is still there. Gives the plain one's name.
    pub(crate) fn pack_end(&mut self, log: Log, at: usize, (key, rest): (Key, Vec<u8>)) -> PathBuf {
        let world = self.sim.world.clone();
        world.append(key, &rest);
        self.writer(log).pack(&world, at)
    }

    /// Deletes the file at `at`.
    pub(crate) fn delete(&mut self, log: Log, at: usize) {
        let (world, trace) = (self.sim.world.clone(), self.sim.trace.clone());
        self.writer(log).delete(at, &world, &trace);
    }

    /// Nobody will have what of this file has not arrived: it is gone for good.
    pub(crate) fn give_up(&mut self, key: Key) -> [u64; OUTPUTS] {
        let before = self.sim.books.counts.excused;
        let bytes = self.sim.books.give_up(key);
        self.excused += self.sim.books.counts.excused - before;
        for (lost, more) in self.lost.iter_mut().zip(bytes) {
            *lost += more;
        }
        bytes
    }

    /// Lines that nobody counts are written.
    pub(crate) fn blank(&mut self, log: Log, bytes: &[u8]) {
        let target = self.targets[log.0];
        self.writer(log).files[target].size += bytes.len() as u64;
        self.put(log, bytes);
    }

    /// Records of one stream, written at once.
    pub(crate) fn say_in(&mut self, log: Log, stream: usize, records: usize) {
        for _ in 0..records {
            let open = self.begin(log, stream, "of one stream", 1);
            self.finish(log, open);
        }
    }

    /// A copy is made of the file that is written to; it has its lines from now on.
    pub(crate) fn copy(&mut self, log: Log) {
        let (at, world) = (self.targets[log.0], self.sim.world.clone());
        let writer = self.sim.node.writer(log.0);
        self.targets[log.0] = writer.copy(&world, &mut self.sim.books, at) + 1;
    }

    /// The file that is written to is cut; the lines that stood beyond are nobody's.
    pub(crate) fn cut(&mut self, log: Log, to: usize) {
        let key = self.target(log);
        self.sim
            .trace
            .say(|| format!("script: {key:?} is cut to {to}"));
        self.sim.apart = true;
        self.sim.world.truncate(key, to);
        let target = self.targets[log.0];
        self.writer(log).files[target].size = to as u64;
        self.sim.books.cut(key, to as u64);
    }

    /// A new attempt, whose name is a link to a new file.
    pub(crate) fn linked(&mut self, log: Log, target: &Path) -> PathBuf {
        let (world, trace) = (self.sim.world.clone(), self.sim.trace.clone());
        let writer = self.writer(log);
        writer.attempt += 1;
        let link = writer.current();
        writer.open_at(target, &world, &trace);
        world.link(&link, target);
        self.switch(log);
        link
    }

    /// Where a link leads, a new file is made.
    pub(crate) fn at_target(&mut self, log: Log, target: &Path) {
        let (world, trace) = (self.sim.world.clone(), self.sim.trace.clone());
        self.gone(log);
        self.writer(log).open_at(target, &world, &trace);
        self.switch(log);
    }

    /// Until the agent has the file open that is written to.
    pub(crate) fn opened(&mut self, log: Log) -> Result<(), String> {
        self.opened_at(log, self.targets[log.0])
    }

    /// Until the agent has the file at `at` open.
    pub(crate) fn opened_at(&mut self, log: Log, at: usize) -> Result<(), String> {
        let key = self.key(log, at);
        for _ in 0..OPEN_MS {
            if self.sim.world.is_open(key) {
                return Ok(());
            }
            self.run(1)?;
        }
        Err(format!("{key:?} is not opened"))
    }

    /// The container begins again, with a new file.
    pub(crate) fn attempt(&mut self, log: Log) {
        self.writer(log).attempt += 1;
        self.create(log);
        self.switch(log);
    }

    /// The file that was written to is gone already.
    pub(crate) fn gone(&mut self, log: Log) {
        let at = self.targets[log.0];
        self.writer(log).files[at].deleted = true;
    }

    /// The pod has ended; its files go, then its directories.
    pub(crate) fn end_pod(&mut self, log: Log) {
        let (node, books) = (&mut self.sim.node, &mut self.sim.books);
        node.end_pod(&mut self.rng, books, Some(log.0));
    }

    /// Demands that the agent has no more files open than that.
    pub(crate) fn most_held(&self, most: usize) -> Result<(), String> {
        let (opens, ..) = self.sim.world.held();
        if opens as usize > most {
            return Err(format!("{opens} files are open, and {most} are there"));
        }
        Ok(())
    }

    /// Demands that everything of one log has arrived.
    pub(crate) fn arrived_of(&mut self, log: Log) -> Result<(), String> {
        let keys: Vec<Key> = self.writer(log).files.iter().map(|file| file.key).collect();
        match keys.iter().all(|key| self.sim.books.is_settled(*key)) {
            true => Ok(()),
            false => Err("a log waits for another one".to_owned()),
        }
    }

    /// Until everything but so many records has arrived at each server.
    pub(crate) fn settle_but(&mut self, records: usize) -> Result<(), String> {
        for _ in 0..200 {
            self.run(50)?;
            if self.sim.books.unheld() <= records * OUTPUTS {
                return Ok(());
            }
        }
        self.arrived("ten seconds later")
    }

    /// The agent is told to end, and does.
    pub(crate) fn stop(&mut self) -> Result<(), String> {
        self.sim.stop()
    }

    /// The agent starts.
    pub(crate) fn start(&mut self) -> Result<(), String> {
        self.sim.start()
    }

    /// The agent is killed.
    pub(crate) fn crash(&mut self) {
        self.sim.crash();
    }

    /// The agent is killed and starts again.
    pub(crate) fn restart(&mut self) -> Result<(), String> {
        self.crash();
        self.start()
    }

    /// A server's mood changes.
    pub(crate) fn mood(&mut self, output: usize, mood: Mood) {
        self.sim.net.borrow_mut().servers[output].mood = mood;
    }

    /// What a picky server is picky about from now on.
    pub(crate) fn limits(&mut self, output: usize, limits: Limits) {
        self.sim.net.borrow_mut().servers[output].limits = limits;
    }

    /// Records that a picky server refuses for good.
    pub(crate) fn spoil(&mut self, log: Log, records: usize) {
        for _ in 0..records {
            let stream = self.rng.place(2);
            let open = self.begin(log, stream, SPOILT, 1);
            self.finish(log, open);
        }
    }

    /// Until everything has arrived, for so many milliseconds at the most.
    pub(crate) fn settle_all(&mut self, ms: u64) -> Result<(), String> {
        for _ in 0..ms / 50 {
            self.run(50)?;
            if self.sim.books.unheld() == 0 {
                return Ok(());
            }
        }
        self.arrived("after the limits")
    }

    /// Demands that what the server has refused for good is counted as rejected by line, and lies with
    /// the dead letters, each line once.
    pub(crate) fn rejected(&mut self, output: usize) -> Result<(), String> {
        // The last answer is on its way.
        self.run(2_000)?;
        let name = crate::books::NAMES[output];
        let excused = self.sim.books.counts.excused;
        let metric = format!("tailwake_rejected_lines_total{{output=\"{name}\"");
        self.is("rejected lines", self.metric(&metric), excused)?;
        let letters = self.sim.life.as_ref().map(|life| life.letters());
        let letters = letters.unwrap_or_default();
        let lines: u64 = letters.iter().map(|letter| u64::from(letter.lines)).sum();
        self.is("lines of dead letters", lines, excused)?;
        self.is(
            "rejected lines, a scenario of some",
            u64::from(excused > 0),
            1,
        )?;
        let texts: std::collections::BTreeSet<_> = letters
            .iter()
            .map(|letter| (&letter.line.labels, &letter.line.text))
            .collect();
        self.is(
            "different dead letters",
            texts.len() as u64,
            letters.len() as u64,
        )?;
        self.excused = excused;
        Ok(())
    }

    /// Whether the output takes lines: it is neither detached nor full.
    pub(crate) fn has_room(&self, output: usize) -> bool {
        let outlet = self.sim.life.as_ref().map(|life| &life.outlets[output]);
        outlet.is_some_and(|outlet| outlet.has_room() && !outlet.is_detached())
    }

    /// Both servers' mood changes.
    pub(crate) fn moods(&mut self, mood: Mood) {
        (0..OUTPUTS).for_each(|output| self.mood(output, mood));
    }

    /// What the kernel refuses from now on.
    pub(crate) fn ills(&mut self, ills: Ills) {
        self.sim.world.lock().ills = ills;
    }

    /// The sum of a metric's series that begin so.
    pub(crate) fn metric(&self, begins: &str) -> u64 {
        let life = self.sim.life.as_ref();
        life.map_or(0, |life| life.metric(begins))
    }

    /// Demands that everything written has arrived by now.
    pub(crate) fn arrived(&self, when: &str) -> Result<(), String> {
        match self.sim.books.missing().first() {
            None => Ok(()),
            Some(missing) => Err(format!("{when}: {missing}")),
        }
    }

    /// Until everything has arrived.
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        self.sim.settle(None)
    }

    /// Demands a number.
    pub(crate) fn is(&self, what: &str, got: u64, want: u64) -> Result<(), String> {
        if got == want {
            return Ok(());
        }
        Err(format!("{what}: {got}, and {want} were to be expected"))
    }

    /// Demands that the agent says what the script took away.
    pub(crate) fn told_losses(&self) -> Result<(), String> {
        for (output, name) in crate::books::NAMES.iter().enumerate() {
            let metric = format!("tailwake_unread_bytes_total{{output=\"{name}\"}}");
            self.is(&metric, self.metric(&metric), self.lost[output])?;
        }
        Ok(())
    }

    /// All is well; everything arrives, the pods end, and nothing is left of them.
    pub(crate) fn end(&mut self) -> Result<(), String> {
        self.moods(Mood::Well);
        self.ills(Ills::default());
        if self.sim.life.is_none() {
            self.start()?;
        }
        self.sim.settle(None)?;
        // What an earlier life had sent may have arrived before this one has read it.
        for _ in 0..10 {
            if self.sim.check_end().is_ok() {
                break;
            }
            self.run(500)?;
        }
        self.sim.check_end()?;
        let excused = self.sim.books.counts.excused;
        self.is("excused records", excused, self.excused)?;
        self.sim.node.end_all(&mut self.rng, &mut self.sim.books);
        self.sim.settle(Some(0))?;
        self.sim.check_nothing_is_left()
    }

    /// What the run came to.
    pub(crate) fn sum_up(self, done: Result<(), String>) -> Result<Summary, String> {
        self.sim.sum_up(done)
    }
}
