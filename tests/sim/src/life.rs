//! One life of the agent: the real rooms, wired as `run` wires them, their threads as seats that
//! take turns.
//!
//! ```text
//! control: Tree::turn -> news; Deliverer::turn; positions     reader: Reader::turn
//! encoder: Worker::turn                                       disk: Files::replace
//! ```
//!
//! 1. A seat turns only when its thread would: it made progress, its bell rang, its descriptor is
//!    ready, or its deadline has come. A wake-up that is missing leaves the run stuck.
//! 2. Dropping a life is a crash: nothing of it is told to anybody.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use tailwake::base::bell::Ring as _;
use tailwake::base::count::Registry;
use tailwake::base::files::Files;
use tailwake::base::outputs::OutputId;
use tailwake::base::pool::{Permits, Pool};
use tailwake::base::time::{Mono, Timestamp};
use tailwake::deliver::{Bodies, DeadQueue, Deliverer, Letter};
use tailwake::discover::{Event, Tree};
use tailwake::encode::{Outlet, Worker};
use tailwake::ledger::positions::{Positions, Snapshot};
use tailwake::ledger::{Ledger, UnreadCount};
use tailwake::plan::Plan;
use tailwake::plan::memory::Memory;
use tailwake::roster::Update;
use tailwake::stage::Program;
use tailwake::tail::{Reader, Roll, Settings};
use tailwake::ticket::{Feed, Feeds};

use crate::alarm::Alarm;
use crate::net::{Net, SimTransport};
use crate::ring::SimRing;
use crate::rng::Rng;
use crate::trace::Trace;
use crate::world::World;

/// The state file.
const POSITIONS: &str = "/state/positions";

/// Who takes a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    Control,
    Reader(usize),
    Encoder(usize),
    Disk,
}

/// A reader with what discovery has told it.
struct Eye {
    reader: Reader<SimRing, World>,
    news: VecDeque<Event>,
    alarm: Alarm,
    pool: Pool,
}

/// An encoder with its feeds.
struct Hand {
    worker: Worker,
    feeds: Arc<Feeds>,
    alarm: Alarm,
    /// It has sealed everything, after the agent was told to end.
    ended: bool,
}

/// What lives and dies with the agent's process.
pub(crate) struct Life {
    world: World,
    trace: Trace,
    control: Alarm,
    tree: Tree,
    /// What did not fit into a reader's queue.
    behind: VecDeque<Event>,
    deliverer: Deliverer,
    /// What the disk thread would write.
    dead: Arc<DeadQueue>,
    transport: SimTransport,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) outlets: Vec<Arc<Outlet>>,
    roll: Arc<Roll>,
    eyes: Vec<Eye>,
    hands: Vec<Hand>,
    disk: Option<Snapshot>,
    /// What the state file says now.
    pub(crate) written: Option<Positions>,
    positions_ms: u64,
    positions_due: Option<Mono>,
    registry: Registry,
    /// Metric series at the start: none comes with a pod.
    series: usize,
    memory: Memory,
    news_max: usize,
    /// The positions of files that were gone at the start are dropped.
    forgotten: bool,
    /// It was told to end.
    ending: bool,
    /// What the watch of the Kubernetes API has told.
    pub(crate) api: VecDeque<Update>,
}

impl Life {
    /// An agent that starts: it loads the positions and lists the tree.
    pub(crate) fn start(
        plan: &Plan,
        world: &World,
        net: &Rc<RefCell<Net>>,
        rng: &mut Rng,
        trace: &Trace,
        snapshot: Option<&[u8]>,
    ) -> Result<Self, String> {
        let threads = Memory::threads(plan, 4)?;
        world.restart(threads.readers);
        let positions = match world.load(Path::new(POSITIONS)) {
            // What is damaged is set aside, and the agent begins anew.
            Ok(bytes) => Positions::read(&bytes).unwrap_or_default(),
            Err(_) => Positions::default(),
        };
        let registry = Registry::default();
        let control = Alarm::default();
        let ears: Vec<Alarm> = (0..threads.readers).map(|_| Alarm::default()).collect();
        let palms: Vec<Alarm> = (0..threads.encoders).map(|_| Alarm::default()).collect();
        let bells = |alarms: &[Alarm]| alarms.iter().map(Alarm::bell).collect::<Vec<_>>();
        let outlets: Vec<Arc<Outlet>> = (plan.outputs.iter().enumerate())
            .map(|(place, output)| {
                let all = [bells(&palms), bells(&ears)].concat();
                let (id, window) = (OutputId(place as u8), output.window());
                Arc::new(Outlet::new(
                    id,
                    &output.name,
                    window,
                    control.bell(),
                    all,
                    &registry,
                ))
            })
            .collect();
        let names = plan.outputs.iter().map(|output| output.name.clone());
        let ledger = Ledger::new(names.collect(), bells(&ears), positions);
        let room = [2, 5, 4096][rng.place(3)];
        let feeds: Vec<Arc<Feeds>> = bells(&palms)
            .into_iter()
            .map(|bell| Arc::new(Feeds::new(room, bell)))
            .collect();
        let program = Program::compile(plan);
        let hand = |(number, alarm): (usize, Alarm)| Hand {
            worker: Worker::new(
                number as u16,
                plan,
                Arc::clone(&program),
                threads.memory.blocks_bytes,
                outlets.clone(),
                &registry,
            ),
            feeds: Arc::clone(&feeds[number]),
            alarm,
            ended: false,
        };
        let hands = palms.into_iter().enumerate().map(hand).collect();
        // A pool that is never empty hides what an empty one does.
        let most = (threads.memory.pool_buffers / threads.readers).max(1);
        let buffers = [1, 3, 8, most][rng.place(4)];
        let bytes = plan.limits.buffer_bytes.0 as usize;
        let permits = [1, (threads.memory.permits / threads.readers).max(1)][rng.place(2)];
        let roll = Arc::new(Roll::new(&registry));
        let eye = |(number, alarm): (usize, Alarm)| {
            let pool = Pool::new(buffers, bytes, alarm.bell());
            let settings = Settings::of(plan, number, &roll, &Arc::default());
            let reader = Reader::new(
                settings,
                SimRing::new(number, world.clone(), rng.fork()),
                world.clone(),
                Arc::clone(&ledger),
                pool.clone(),
                Permits::new(permits, alarm.bell()),
                alarm.bell(),
                feeds.clone(),
                outlets.clone(),
                &registry,
            );
            Eye {
                reader,
                news: VecDeque::new(),
                alarm,
                pool,
            }
        };
        let eyes = ears.into_iter().enumerate().map(eye).collect();
        let dead = Arc::new(DeadQueue::default());
        let mut life = Self {
            world: world.clone(),
            trace: trace.clone(),
            tree: Tree::new(plan, "node", &registry),
            behind: VecDeque::new(),
            deliverer: Deliverer::new(
                plan,
                outlets.clone(),
                &registry,
                rng.next(),
                Bodies::ENCODED,
                &dead,
            ),
            dead,
            transport: Net::connect(net, control.bell()),
            control,
            ledger,
            outlets,
            roll,
            eyes,
            hands,
            disk: None,
            written: None,
            positions_ms: [20, 100, 1_000][rng.place(3)],
            positions_due: None,
            series: 0,
            registry,
            memory: threads.memory,
            news_max: [1, 4, 16_384][rng.place(3)],
            forgotten: false,
            ending: false,
            api: VecDeque::new(),
        };
        if let (Some(roster), Some(snapshot)) = (life.tree.roster(), snapshot) {
            let recalled = roster.recall(snapshot);
            recalled.map_err(|error| format!("the snapshot: {error}"))?;
        }
        let mut news = Vec::new();
        life.tree.start(&life.world, &mut news);
        life.behind.extend(news);
        life.tell();
        life.series = life.registry.render().lines().count();
        life.control.again = true;
        life.eyes.iter_mut().for_each(|eye| eye.alarm.again = true);
        Ok(life)
    }

    /// All seats.
    pub(crate) fn seats(&self) -> Vec<Seat> {
        let readers = (0..self.eyes.len()).map(Seat::Reader);
        let encoders = (0..self.hands.len()).map(Seat::Encoder);
        let rest = [Seat::Control, Seat::Disk];
        rest.into_iter().chain(readers).chain(encoders).collect()
    }

    /// Whether the seat's thread would turn now.
    pub(crate) fn is_due(&mut self, seat: Seat, now: Mono) -> bool {
        match seat {
            Seat::Control => {
                self.control.is_due(now) || self.world.has_events() || !self.api.is_empty()
            }
            Seat::Reader(at) => {
                let eye = &mut self.eyes[at];
                eye.alarm.is_due(now) || eye.reader.ring().has_events()
            }
            Seat::Encoder(at) => !self.hands[at].ended && self.hands[at].alarm.is_due(now),
            Seat::Disk => self.disk.is_some(),
        }
    }

    /// When the next seat's deadline comes.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        let readers = self.eyes.iter().map(|eye| &eye.alarm);
        let encoders = self.hands.iter().map(|hand| &hand.alarm);
        let all = readers.chain(encoders).chain([&self.control]);
        all.filter_map(|alarm| alarm.deadline).min()
    }

    /// The seat takes its turn. Gives positions that are now to be stored.
    pub(crate) fn turn(
        &mut self,
        seat: Seat,
        now: Mono,
        wall: Timestamp,
    ) -> Result<Option<Positions>, String> {
        match seat {
            Seat::Control => return Ok(self.control_turn(now)),
            Seat::Reader(at) => self.reader_turn(at, now, wall)?,
            Seat::Encoder(at) => {
                let hand = &mut self.hands[at];
                hand.alarm.hear();
                let (feeds, trace) = (Arc::clone(&hand.feeds), &self.trace);
                let mut next = || {
                    let feed = feeds.take()?;
                    trace.say(|| format!("encoder {at}: takes {}", fed(&feed)));
                    Some(feed)
                };
                let turn = hand.worker.turn(now, wall, &mut next);
                hand.alarm.set(turn.progress, turn.deadline);
                if self.ending && hand.feeds.is_empty() && !turn.blocked {
                    hand.ended = hand.worker.drain(now, wall);
                    let again = (!hand.ended).then(|| now.plus_ms(DRAIN_MS));
                    hand.alarm.set(false, again);
                }
            }
            Seat::Disk => self.write(),
        }
        Ok(None)
    }

    /// Each reader looks at the sizes of its files, as for `/status`.
    pub(crate) fn look(&mut self, now: Mono, wall: Timestamp) -> Result<(), String> {
        let question = self.roll.ask();
        for at in 0..self.eyes.len() {
            self.reader_turn(at, now, wall)?;
        }
        let answered = self.roll.is_answered(question, self.eyes.len());
        answered
            .then_some(())
            .ok_or_else(|| "a reader did not look at its files".to_owned())
    }

    fn reader_turn(&mut self, at: usize, now: Mono, wall: Timestamp) -> Result<(), String> {
        let eye = &mut self.eyes[at];
        eye.alarm.hear();
        let (news, trace) = (&mut eye.news, &self.trace);
        let mut next = || {
            let event = news.pop_front()?;
            trace.say(|| format!("reader {at}: hears {}", said(&event)));
            Some(event)
        };
        let turn = eye.reader.turn(now, wall, &mut next);
        let turn = turn.map_err(|error| error.to_string())?;
        eye.alarm.set(turn.progress, turn.deadline);
        Ok(())
    }

    fn control_turn(&mut self, now: Mono) -> Option<Positions> {
        self.control.hear();
        let heard = !self.ending
            && self.behind.is_empty()
            && self.eyes.iter().all(|eye| eye.news.is_empty());
        for update in self.api.drain(..) {
            self.tree.hear_api(update, now);
        }
        let mut news = Vec::new();
        let tree = self.tree.turn(&self.world, now, &mut news);
        if !self.forgotten && heard && news.is_empty() && self.tree.is_whole() {
            self.forgotten = true;
            self.forget_unfound();
        }
        self.behind.extend(news);
        self.tell();
        let behind = (!self.behind.is_empty()).then(|| now.plus_ms(20));
        let lanes = self.deliverer.turn(now, &mut self.transport);
        if lanes.progress {
            let due = now.plus_ms(self.positions_ms);
            self.positions_due.get_or_insert(due);
        }
        let mut stored = None;
        if self.positions_due.is_some_and(|due| due <= now) {
            self.positions_due = None;
            stored = self.store(now);
        }
        let deadlines = [tree.deadline, behind, lanes.deadline, self.positions_due];
        self.control
            .set(lanes.progress, deadlines.into_iter().flatten().min());
        stored
    }

    /// What the agent knows of pods, if that has changed since it was written.
    pub(crate) fn snapshot(&mut self) -> Option<Vec<u8>> {
        let roster = self.tree.roster()?;
        roster.is_unwritten().then(|| roster.snapshot())
    }

    fn forget_unfound(&mut self) {
        for lost in self.ledger.forget_unfound().unread {
            let count = UnreadCount::new(&self.registry, &lost.output);
            count.files.add(lost.files);
            count.bytes.add(lost.bytes);
        }
    }

    /// The dead letters since the last call, as the disk thread would take them.
    pub(crate) fn letters(&self) -> Vec<Letter> {
        std::iter::from_fn(|| self.dead.take()).collect()
    }

    /// The sum of a metric's series that begin so.
    pub(crate) fn metric(&self, begins: &str) -> u64 {
        let text = self.registry.render();
        let series = text.lines().filter(|line| line.starts_with(begins));
        let values = series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        values.sum()
    }

    fn tell(&mut self) {
        if self.ending {
            return self.behind.clear();
        }
        while let Some(event) = self.behind.pop_front() {
            let reader = event.source().log.0 as usize % self.eyes.len();
            let eye = &mut self.eyes[reader];
            if eye.news.len() >= self.news_max {
                return self.behind.push_front(event);
            }
            eye.news.push_back(event);
            eye.alarm.rung.ring();
        }
    }

    fn store(&mut self, now: Mono) -> Option<Positions> {
        let positions = self.ledger.snapshot()?;
        if self.disk.is_some() {
            self.ledger.snapshot_failed();
            self.positions_due = Some(now.plus_ms(self.positions_ms));
            return None;
        }
        let stored = positions.positions();
        self.disk = Some(positions);
        Some(stored)
    }

    /// The disk thread's job; a crash may come before it is done, or right after.
    pub(crate) fn write(&mut self) {
        let Some(positions) = self.disk.take() else {
            return;
        };
        let written = positions
            .write()
            .and_then(|bytes| self.world.replace(Path::new(POSITIONS), &bytes));
        self.trace
            .say(|| format!("disk: {written:?} {:?}", positions.positions()));
        match written {
            Ok(()) => self.written = Some(positions.positions()),
            Err(_) => self.ledger.snapshot_failed(),
        }
    }

    /// Told to end: readers end first, then encoders when they have sealed all that they were fed.
    pub(crate) fn finish(&mut self) {
        self.ending = true;
        self.eyes.clear();
        self.hands
            .iter_mut()
            .for_each(|hand| hand.alarm.again = true);
    }

    /// Whether all that was read is delivered.
    pub(crate) fn has_finished(&self) -> bool {
        self.hands.iter().all(|hand| hand.ended) && self.deliverer.idle()
    }

    /// The last act: the positions are written.
    pub(crate) fn end(&mut self) {
        self.write();
        self.disk = self.ledger.snapshot();
        self.write();
    }

    /// Asks for the positions once more, whatever they say.
    pub(crate) fn last_positions(&mut self) -> Option<Positions> {
        self.ledger.snapshot_failed();
        Some(self.ledger.snapshot()?.positions())
    }

    /// What is still under way, if anything is.
    pub(crate) fn unsettled(&self) -> Option<String> {
        let buffers = |eye: &Eye| eye.pool.free() != eye.pool.count();
        let held = |hand: &Hand| hand.worker.machine().held_bytes() > 0;
        let found = [
            (self.eyes.iter().any(buffers), "buffers are out"),
            (
                self.eyes.iter().any(|eye| !eye.news.is_empty()),
                "news wait",
            ),
            (
                self.hands.iter().any(|hand| !hand.feeds.is_empty()),
                "feeds wait",
            ),
            (self.hands.iter().any(held), "stages hold bytes"),
            (!self.deliverer.idle(), "lanes are busy"),
            (!self.behind.is_empty(), "discovery is behind"),
        ];
        let found: Vec<&str> = found.iter().filter(|it| it.0).map(|it| it.1).collect();
        (!found.is_empty()).then(|| found.join(", "))
    }

    /// What the memory formula says, and does not hold.
    pub(crate) fn memory_passed(&self, plan: &Plan) -> Option<String> {
        let memory = &self.memory;
        let bytes = plan.limits.buffer_bytes.0;
        let used = |eye: &Eye| (eye.pool.count() - eye.pool.free()) as u64 * bytes;
        let pool: u64 = self.eyes.iter().map(used).sum();
        let held = |hand: &Hand| hand.worker.machine().held_bytes();
        let joins: u64 = self.hands.iter().map(held).sum();
        let batches: u64 = self
            .hands
            .iter()
            .map(|hand| hand.worker.batch_bytes())
            .sum();
        // What one feed makes beyond a batch waits too, in each encoder and for each output.
        let feed = bytes / LINE_BYTES_MIN * ITEM_BYTES;
        let most = memory.batches_bytes + feed * (self.hands.len() * plan.outputs.len()) as u64;
        if pool > memory.pool_bytes || joins > memory.joins_bytes || batches > most {
            let passed = format!("pool {pool}, joins {joins}, batches {batches} of {memory}");
            return Some(passed);
        }
        for (outlet, output) in self.outlets.iter().zip(&plan.outputs) {
            // A window is passed by one request at the most, and that by one record; a line in it
            // takes some memory beside its bytes.
            let batch = output.batch_bytes.0 + RECORD_BYTES;
            let most = outlet.window_max() + batch * LINE_FACTOR;
            if outlet.window() > most {
                return Some(format!(
                    "window of {}: {} of {most}",
                    output.name,
                    outlet.window()
                ));
            }
        }
        None
    }

    /// How many metric series there are more than at the start.
    pub(crate) fn new_series(&self) -> usize {
        self.registry.render().lines().count() - self.series
    }

    /// All that can be said of it, for the trace of a failure.
    pub(crate) fn describe(&self) -> String {
        let readers = self.eyes.iter().map(|eye| format!("{:#?}", eye.reader));
        let workers = self.hands.iter().map(|hand| format!("{:?}", hand.worker));
        let all: Vec<String> = readers.chain(workers).collect();
        format!("{}\n{:?}", all.join("\n"), self.deliverer)
    }
}

/// What a request holds of a line, with its tables and the claim on its chunk, in lines' bytes at the
/// most: some 300 bytes for one of 20.
const LINE_FACTOR: u64 = 20;

/// A drain that waits for a window looks again this soon.
const DRAIN_MS: u64 = 5;

/// The shortest CRI line, in bytes.
const LINE_BYTES_MIN: u64 = 45;

/// What a short record takes in a body, in bytes.
const ITEM_BYTES: u64 = 450;

/// The longest record with what an encoder puts around it, in bytes.
const RECORD_BYTES: u64 = 2_000;

fn fed(feed: &Feed) -> String {
    match feed {
        Feed::Chunk(chunk) => format!("{:?} open {}", chunk.ticket, chunk.open_tail),
        Feed::Merged { .. }
        | Feed::Abandoned { .. }
        | Feed::Finished { .. }
        | Feed::Ended { .. } => format!("{feed:?}"),
    }
}

fn said(event: &Event) -> String {
    match event {
        Event::Found { path, .. } => format!("found {}", path.display()),
        Event::Moved { to, .. } => format!("moved to {}", to.display()),
        Event::Gone { path, .. } => format!("gone {}", path.display()),
        Event::Changed { source } => format!("changed {} {:?}", source.key, source.standing),
        Event::Ended { source } => format!("ended {}", source.key),
    }
}
