//! One run: random writes, rotations, faults and crashes, then quiet, then the account.

use std::collections::{BTreeSet, VecDeque};

use super::agent::{Agent, OUTPUTS};
use super::encoder::Delivery;
use super::rng::Rng;
use super::world::World;
use super::writer::{Generation, Writer};
use crate::base::files::Files;
use crate::base::outputs::{OutputId, OutputSet};
use crate::base::time::{Mono, Timestamp};
use crate::discover::Event;
use crate::encode::request::{Encoding, Request};
use crate::ledger::Identity;
use crate::ledger::positions::Positions;
use crate::tail::identity::is_same;
use crate::ticket::Ticket;

const LOGS: u32 = 2;
const STEPS: u64 = 400;
/// Turns in which everything must have arrived once the writers are silent.
const SETTLE_TURNS: u64 = 4_000;
/// The body of the one request that stands for a delivery in the window.
const BODY: &[u8] = b"0123456789";

/// What happened in a run.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Records written.
    pub records: usize,
    /// Records that arrived again after a fault.
    pub again: usize,
    /// Records that arrived after a later one of their stream, after a fault.
    pub disordered: usize,
    /// Crashes.
    pub crashes: usize,
    /// Deliveries that failed, and detaches.
    pub faults: usize,
    /// Rotations.
    pub rotations: usize,
    /// Files deleted.
    pub deletions: usize,
    /// What happened, line by line, when a trace was asked for.
    pub trace: Vec<String>,
}

/// What one output's server has of one log: by stream the numbers seen, and the highest.
type Seen = [(BTreeSet<usize>, Option<usize>); 2];

struct Sim {
    rng: Rng,
    world: World,
    writers: Vec<Writer>,
    agent: Option<Agent>,
    now: u64,
    seen: Vec<Vec<Seen>>,
    /// Outputs with a fault: they may see records again and out of order.
    faulty: OutputSet,
    positions: Option<Vec<u8>>,
    calm: bool,
    flaky: bool,
    summary: Summary,
    traced: bool,
}

/// Runs one seed.
///
/// # Errors
/// What went wrong, after the trace if one was asked for.
pub fn run(seed: u64, trace: bool) -> Result<Summary, String> {
    let mut sim = Sim::new(seed, trace);
    match sim.go() {
        Ok(()) => Ok(sim.summary),
        Err(error) if trace => {
            if let Some(agent) = &sim.agent {
                sim.summary.trace.push(format!("{:#?}", agent.reader));
            }
            Err(format!("{}\n{error}", sim.summary.trace.join("\n")))
        }
        Err(error) => Err(error),
    }
}

impl Sim {
    fn new(seed: u64, traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let world = World::new(rng.chance(60));
        let writers = (0..LOGS).map(|log| Writer::new(log, &world)).collect();
        Self {
            rng,
            world,
            writers,
            agent: None,
            now: 1_000,
            seen: vec![vec![Seen::default(); LOGS as usize]; OUTPUTS],
            faulty: OutputSet::NONE,
            positions: None,
            calm: seed.is_multiple_of(4),
            flaky: seed % 8 > 5,
            summary: Summary::default(),
            traced,
        }
    }

    fn say(&mut self, what: impl FnOnce() -> String) {
        if self.traced {
            self.summary
                .trace
                .push(format!("{:>6} {}", self.now, what()));
        }
    }

    fn go(&mut self) -> Result<(), String> {
        self.start()?;
        for _ in 0..STEPS {
            self.act()?;
            self.step()?;
        }
        if self.agent.is_none() {
            self.start()?;
        }
        self.say(|| "silence".to_owned());
        self.settle(LOGS as usize)?;
        self.snapshot()?;
        self.account()?;
        // The first container goes, its last line unfinished; the reader reads it to its end.
        self.say(|| "the end of log 0".to_owned());
        let mut news = Vec::new();
        self.writers[0].end(&self.world, &mut news);
        self.tell(news);
        self.settle(LOGS as usize - 1)
    }

    /// Turns until everything has arrived and so many logs are known.
    fn settle(&mut self, logs: usize) -> Result<(), String> {
        for turn in 0..SETTLE_TURNS {
            for writer in &mut self.writers {
                writer.write(&self.world, &mut self.rng);
            }
            self.step()?;
            if turn % 64 == 63 && self.is_settled(logs) {
                return Ok(());
            }
        }
        Err(format!("stuck: {}", self.missing()))
    }

    fn act(&mut self) -> Result<(), String> {
        let at = self.rng.below(u64::from(LOGS)) as usize;
        match self.rng.below(100) {
            0..30 => self.writers[at].compose(&mut self.rng),
            30..33 => self.rotate(at),
            33..40 => self.delete()?,
            40..48 => self.snapshot()?,
            48..50 if !self.calm => self.crash(),
            50..52 if !self.calm => self.detach(),
            50..60 if self.agent.is_none() => self.start()?,
            _ => {}
        }
        for writer in &mut self.writers {
            if self.rng.chance(40) {
                let (size, path) = size_of(writer);
                writer.write(&self.world, &mut self.rng);
                let to = size_of(writer).0;
                if to > size && self.traced {
                    let text = format!("{:>6} write {path} {size}..{to}", self.now);
                    self.summary.trace.push(text);
                }
            }
        }
        Ok(())
    }

    /// Time goes on; everybody gets a turn, or not.
    fn step(&mut self) -> Result<(), String> {
        let busy = self.writers.iter().any(Writer::is_busy);
        self.now += match self.rng.below(20) {
            0 if !busy => 30,
            1 if !busy => 300,
            n => n % 4,
        };
        let mut news = Vec::new();
        for writer in &mut self.writers {
            writer.pass(&self.world, self.now, &mut news);
        }
        self.tell(news);
        if self.rng.chance(85) {
            self.turn()?;
        }
        if self.rng.chance(70) {
            self.encode()?;
        }
        self.deliver()
    }

    fn tell(&mut self, news: Vec<Event>) {
        for event in news {
            self.say(|| format!("news {event:?}"));
            let Some(agent) = &mut self.agent else { return };
            let last = agent.news.back().map_or(0, |(due, _)| *due);
            let late = if self.rng.chance(50) {
                0
            } else {
                self.rng.below(12)
            };
            let due = last.max(self.now + late);
            // Rotations are seconds apart: who hears of two at once was held up, and hears all.
            agent.news.iter_mut().for_each(|news| news.0 = due);
            agent.news.push_back((due, event));
        }
    }

    fn turn(&mut self) -> Result<(), String> {
        let Some(agent) = &mut self.agent else {
            return Ok(());
        };
        let now = self.now;
        let news = &mut agent.news;
        let mut next = || {
            let due = news.front().is_some_and(|(due, _)| *due <= now);
            due.then(|| news.pop_front())
                .flatten()
                .map(|(_, event)| event)
        };
        let (mono, wall) = (Mono(now * 1_000_000), Timestamp::default());
        for _ in 0..4 {
            let turn = agent.reader.turn(mono, wall, &mut next);
            if !turn.map_err(|error| error.to_string())?.progress {
                break;
            }
        }
        Ok(())
    }

    fn encode(&mut self) -> Result<(), String> {
        let Some(agent) = &mut self.agent else {
            return Ok(());
        };
        for _ in 0..self.rng.below(4) {
            let Some(feed) = agent.feeds.take() else {
                break;
            };
            if self.traced {
                let text = match &feed {
                    crate::ticket::Feed::Chunk(chunk) => {
                        format!("chunk {:?} of {:?}", chunk.ticket, chunk.pass)
                    }
                    other => format!("{other:?}"),
                };
                self.summary.trace.push(format!("{:>6} {text}", self.now));
            }
            let gone = agent.outlets.iter().filter(|outlet| outlet.is_detached());
            let gone = gone.fold(OutputSet::NONE, |set, outlet| {
                set.or(OutputSet::one(outlet.output))
            });
            let mut out = VecDeque::new();
            agent.encoder.take(feed, gone, &mut out)?;
            for mut delivery in out {
                let _ = agent.outlets[delivery.output.index()].put(request(delivery.output));
                let _ = agent.outlets[delivery.output.index()].take();
                let earlier = agent
                    .sending
                    .iter()
                    .filter(|have| have.output == delivery.output);
                let slow = if self.rng.chance(3) { 60 } else { 4 };
                delivery.due = earlier.map(|have| have.due).max().unwrap_or(0);
                delivery.due = delivery.due.max(self.now + self.rng.below(slow));
                agent.sending.push_back(delivery);
            }
        }
        Ok(())
    }

    fn deliver(&mut self) -> Result<(), String> {
        let Some(agent) = &mut self.agent else {
            return Ok(());
        };
        let mut arrived = Vec::new();
        let sending = std::mem::take(&mut agent.sending);
        for delivery in sending {
            if delivery.due > self.now {
                agent.sending.push_back(delivery);
                continue;
            }
            agent.outlets[delivery.output.index()].release(BODY.len() as u64);
            if !self.calm && self.rng.below(400) == 0 {
                self.faulty = self.faulty.or(OutputSet::one(delivery.output));
                self.summary.faults += 1;
                if self.traced {
                    let text = format!("{:>6} lost {delivery:?}", self.now);
                    self.summary.trace.push(text);
                }
                continue;
            }
            arrived.push(delivery);
        }
        for mut delivery in arrived {
            let claims = std::mem::take(&mut delivery.claims);
            let due = self.now + self.rng.below(10);
            self.serve(&delivery)?;
            if let Some(agent) = &mut self.agent {
                agent.acks.push((due, claims));
            }
        }
        if let Some(agent) = &mut self.agent {
            for (due, claims) in std::mem::take(&mut agent.acks) {
                if due <= self.now {
                    claims.into_iter().for_each(Ticket::settle);
                } else {
                    agent.acks.push((due, claims));
                }
            }
        }
        Ok(())
    }

    /// The server takes a record: whole, in order, and once, unless something had failed.
    fn serve(&mut self, delivery: &Delivery) -> Result<(), String> {
        let (log, stream) = (delivery.log, delivery.stream);
        let seq = delivery.text.strip_prefix("seq=");
        let seq = seq.and_then(|text| text.split(' ').next()?.parse::<usize>().ok());
        let whole = seq.and_then(|seq| self.writers[log].records[stream].get(seq));
        let (Some(seq), true) = (seq, whole == Some(&delivery.text)) else {
            return Err(format!("torn: {delivery:?}"));
        };
        self.say(|| format!("{:?} has log {log} stream {stream} #{seq}", delivery.output));
        let faulty = self.faulty.has(delivery.output);
        let (seen, last) = &mut self.seen[delivery.output.index()][log][stream];
        if !seen.insert(seq) {
            self.summary.again += 1;
            if !faulty && self.summary.crashes == 0 {
                return Err(format!("sent again without a fault: {delivery:?}"));
            }
            return Ok(());
        }
        if last.is_some_and(|last| last + 1 != seq) || (last.is_none() && seq != 0) {
            self.summary.disordered += 1;
            if !faulty {
                return Err(format!("out of order after {last:?}: {delivery:?}"));
            }
        }
        *last = (*last).max(Some(seq));
        Ok(())
    }

    fn rotate(&mut self, at: usize) {
        let gap = if self.rng.chance(70) { 4 } else { 100 };
        let reopens = self.now + self.rng.below(gap);
        let mut news = Vec::new();
        self.writers[at].rotate(&self.world, reopens, &mut news);
        self.summary.rotations += news.len();
        self.tell(news);
    }

    fn delete(&mut self) -> Result<(), String> {
        for at in 0..self.writers.len() {
            let Some(oldest) = self.writers[at].oldest() else {
                continue;
            };
            if self.is_kept(at, &self.writers[at].files[oldest])? {
                let mut news = Vec::new();
                self.writers[at].delete(oldest, &self.world, &mut news);
                self.summary.deletions += 1;
                self.tell(news);
            }
        }
        Ok(())
    }

    /// Whether the last snapshot says that every output has the whole file.
    fn is_kept(&self, at: usize, file: &Generation) -> Result<bool, String> {
        let Some(bytes) = &self.positions else {
            return Ok(false);
        };
        let positions = Positions::read(bytes).map_err(|error| error.to_string())?;
        let inode = self.world.inode(file.key);
        let all = (0..OUTPUTS).all(|output| self.first_missing(at, output, file) == file.size);
        let mut entries = positions.files.iter().filter(|entry| {
            *entry.log == *self.writers[at].source.key && entry.identity.inode == inode
        });
        Ok(all && entries.any(|entry| entry.marks.values().all(|mark| mark.at == file.size)))
    }

    /// Where the first line of a record begins that the server does not have.
    fn first_missing(&self, at: usize, output: usize, file: &Generation) -> u64 {
        let seen = &self.seen[output][at];
        let mut lines = file.lines.iter();
        let missing = lines.find(|line| !seen[line.stream].0.contains(&line.seq));
        missing.map_or(file.size, |line| line.start)
    }

    fn snapshot(&mut self) -> Result<(), String> {
        let positions = self
            .agent
            .as_ref()
            .and_then(|agent| agent.ledger.snapshot());
        let Some(positions) = positions else {
            return Ok(());
        };
        for (at, writer) in self.writers.iter().enumerate() {
            for file in writer.files.iter().filter(|file| !file.deleted) {
                let inode = self.world.inode(file.key);
                let entries: Vec<_> = positions
                    .files
                    .iter()
                    .filter(|entry| *entry.log == *writer.source.key)
                    .filter(|entry| entry.identity.inode == inode)
                    // Without birth times only the first bytes tell who had the number before.
                    .filter(|entry| self.is_file(file, &entry.identity))
                    .collect();
                let [entry] = entries[..] else { continue };
                for output in 0..OUTPUTS {
                    let missing = self.first_missing(at, output, file);
                    let mark = entry.marks.get(&format!("out{output}"));
                    if let Some(mark) = mark.filter(|mark| mark.at > missing) {
                        return Err(format!(
                            "output {output} has {mark:?} in {file:?} and misses {missing}"
                        ));
                    }
                }
            }
        }
        self.positions = Some(positions.write().map_err(|error| error.to_string())?);
        self.say(|| format!("snapshot {positions:?}"));
        Ok(())
    }

    fn is_file(&self, file: &Generation, identity: &Identity) -> bool {
        let handle = self.world.open_log(&file.path);
        let facts = handle.and_then(|handle| Ok((self.world.stat(&handle)?, handle)));
        facts.is_ok_and(|(stat, handle)| is_same(&self.world, &handle, &stat, identity))
    }

    fn detach(&mut self) {
        let output = self.rng.below(OUTPUTS as u64) as usize;
        if let Some(agent) = &self.agent {
            agent.outlets[output].detach();
            self.faulty = self.faulty.or(OutputSet::one(OutputId(output as u8)));
            self.summary.faults += 1;
            self.say(|| format!("detach {output}"));
        }
    }

    fn crash(&mut self) {
        if self.agent.take().is_some() {
            self.summary.crashes += 1;
            self.say(|| "crash".to_owned());
        }
    }

    fn start(&mut self) -> Result<(), String> {
        self.say(|| "start".to_owned());
        let positions = match &self.positions {
            Some(bytes) => Positions::read(bytes).map_err(|error| error.to_string())?,
            None => Positions::default(),
        };
        let listing = self.writers.iter().flat_map(Writer::listing);
        let mut agent = Agent::new(&mut self.rng, &self.world, positions, self.flaky);
        let mut listing = listing.collect::<VecDeque<_>>();
        let mono = Mono(self.now * 1_000_000);
        let mut next = || listing.pop_front();
        let turn = agent.reader.turn(mono, Timestamp::default(), &mut next);
        let _ = turn.map_err(|error| error.to_string())?;
        let _ = agent.ledger.forget_unfound();
        self.agent = Some(agent);
        Ok(())
    }

    fn is_settled(&self, logs: usize) -> bool {
        let idle = self.agent.as_ref().is_some_and(|agent| {
            let buffers = agent.pool.free() == agent.pool.count();
            let ways = agent.feeds.is_empty() && agent.sending.is_empty() && agent.acks.is_empty();
            let known = agent.ledger.accounts().len() == logs;
            known && buffers && ways && agent.news.is_empty() && agent.encoder.is_empty()
        });
        idle && self.writers.iter().all(Writer::is_done) && self.missing().is_empty()
    }

    /// The files that some output does not have, and from where.
    fn missing(&self) -> String {
        let mut text = String::new();
        for (at, writer) in self.writers.iter().enumerate() {
            for file in &writer.files {
                for output in 0..OUTPUTS {
                    let missing = self.first_missing(at, output, file);
                    if missing < file.size {
                        let (path, size) = (file.path.display(), file.size);
                        text += &format!("output {output} misses {path} {missing}..{size}; ");
                    }
                }
            }
        }
        text
    }

    /// What must hold at the end.
    fn account(&mut self) -> Result<(), String> {
        let records = self.writers.iter().flat_map(|writer| &writer.records);
        self.summary.records = records.map(Vec::len).sum();
        let Some(agent) = &self.agent else {
            return Ok(());
        };
        let text = agent.registry.render();
        for name in ["read_errors", "truncations", "files_refused"] {
            let zero = format!("tailwake_{name}_total 0");
            if !self.flaky && !text.lines().any(|line| line == zero) {
                return Err(format!("{name} is not 0: {text}"));
            }
        }
        for account in agent.ledger.accounts() {
            for settled in account.settled {
                if self.summary.crashes + self.summary.faults == 0 && settled != account.read {
                    return Err(format!("read {:?}, settled {settled:?}", account.read));
                }
            }
        }
        Ok(())
    }
}

fn size_of(writer: &Writer) -> (u64, String) {
    let file = writer.files.last();
    file.map_or((0, String::new()), |file| {
        (file.size, file.path.display().to_string())
    })
}

fn request(output: OutputId) -> Request {
    Request {
        output,
        tenant: None,
        encoder: 0,
        body: bytes::Bytes::from_static(BODY),
        encoding: Encoding::Plain,
        inflated: BODY.len() as u64,
        items: Vec::new(),
        groups: Vec::new(),
        tickets: Vec::new(),
        opened: Mono(0),
    }
}
