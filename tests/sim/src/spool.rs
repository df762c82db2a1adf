//! The spools of a run: which output has one, its directory, and what the books may take from it.
//!
//! ```text
//! Spools (with the node: stores survive) --Life::start--> Keepers (with the agent) --disk seat--> turn
//! Spools --what a power cut would leave--> Books: neither lost nor arrived
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use harness::wire;
use tailwake::base::bell::Bell;
use tailwake::base::count::Registry;
use tailwake::base::size::ByteSize;
use tailwake::base::time::{Mono, Timestamp};
use tailwake::encode::{Encoding, Gate, Outlet};
use tailwake::ledger::Ledger;
use tailwake::plan::{AtCap, DiskSpool, Plan, SPOOL_WAY_BYTES, Spool};
use tailwake::spool::{self, Entry, Keeper, kind_of};

use crate::alarm::Alarm;
use crate::books::{Books, NAMES, OUTPUTS, Spooled};
use crate::rng::Rng;
use crate::run::Sim;
use crate::store::{Sick, SimStore};

/// By output: its spool's directory, if it has one.
pub(crate) type Stores = [Option<SimStore>; OUTPUTS];

/// How an output's spool is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) bytes_max: u64,
    pub(crate) at_cap: AtCap,
    pub(crate) live_share: u8,
}

/// The spools of a seed by numbers of its own: one output, or both.
pub(crate) fn drawn(rng: &mut Rng) -> [Option<Shape>; OUTPUTS] {
    let mut shape = || Shape {
        bytes_max: [3_000, 10_000, 60_000][rng.place(3)],
        at_cap: [AtCap::Wait, AtCap::DropOldest, AtCap::DropNewest][rng.place(3)],
        live_share: [0, 50][rng.place(2)],
    };
    let both = [Some(shape()), Some(shape())];
    let mut shapes = both;
    if let Some(none) = shapes.get_mut(rng.place(3)) {
        *none = None;
    }
    shapes
}

/// Puts spools into a plan and the books, and makes their directories.
fn build(
    shapes: [Option<Shape>; OUTPUTS],
    plan: &mut Plan,
    books: &mut Books,
    rng: &mut Rng,
) -> Stores {
    let mut stores = Stores::default();
    for (output, shape) in shapes.into_iter().enumerate() {
        let Some(shape) = shape else { continue };
        plan.limits.memory.0 += 4 * SPOOL_WAY_BYTES;
        plan.outputs[output].spool = Spool::Disk(DiskSpool {
            bytes_max: ByteSize(shape.bytes_max),
            at_cap: shape.at_cap,
            live_share: shape.live_share,
            adopt: None,
        });
        books.spools[output] = Some(Spooled {
            any_order: shape.live_share > 0,
            drops: shape.at_cap != AtCap::Wait,
            ..Spooled::default()
        });
        stores[output] = Some(SimStore::new(rng.fork()));
    }
    stores
}

/// What a power cut would leave in the spools, told to the books.
fn tell(stores: &Stores, plan: &Plan, books: &mut Books) -> Result<(), String> {
    for (output, store) in stores.iter().enumerate() {
        let Some(store) = store else { continue };
        let kind = kind_of(&plan.outputs[output].kind);
        let mut spool = spool::Spool::open(store.durable(), kind, 1_000);
        let mut ids = BTreeSet::new();
        while let Some((_, entry)) = spool.lend() {
            for arrived in read(output, &entry)? {
                ids.extend(books.read(&arrived)?);
            }
        }
        if let Some(spooled) = &mut books.spools[output] {
            spooled.ids = ids;
        }
    }
    Ok(())
}

fn read(output: usize, entry: &Entry) -> Result<Vec<wire::Arrived>, String> {
    let wrong = |error| format!("a spooled body that cannot be read: {error:#}");
    if output == 0 {
        return wire::loki::decode("application/x-protobuf", &entry.body).map_err(wrong);
    }
    let packed = matches!(entry.encoding, Encoding::Gzip(_)).then_some("gzip");
    let plain = wire::inflate(packed, &entry.body).map_err(wrong)?;
    wire::bulk::decode("/_bulk", &plain).map_err(wrong)
}

/// The agent's side: the disk thread's spools with the bell that wakes it.
#[derive(Default)]
pub(crate) struct Keepers {
    pub(crate) alarm: Alarm,
    all: Vec<(usize, Keeper<SimStore>)>,
    gates: Vec<Arc<Gate>>,
}

impl Keepers {
    /// The gate of an output, if it has a spool.
    pub(crate) fn gate(&mut self, spool: &Spool) -> Option<Arc<Gate>> {
        let bell: Bell = self.alarm.bell();
        let gate = Gate::of(spool, &bell);
        self.gates.extend(gate.clone());
        gate
    }

    /// Takes up what is there; the disk thread does it before its first turn.
    pub(crate) fn open(
        &mut self,
        plan: &Plan,
        stores: &Stores,
        outlets: &[Arc<Outlet>],
        ledger: &Arc<Ledger>,
        registry: &Arc<Registry>,
    ) {
        for (at, (store, output)) in stores.iter().zip(&plan.outputs).enumerate() {
            let (Some(store), Spool::Disk(disk)) = (store, &output.spool) else {
                continue;
            };
            let keeper = Keeper::open(
                store.clone(),
                kind_of(&output.kind),
                disk,
                (Arc::clone(&outlets[at]), &output.name),
                Arc::clone(ledger),
                registry,
            );
            self.all.push((at, keeper));
            self.alarm.again = true;
        }
    }

    /// A turn of each.
    pub(crate) fn turn(&mut self, now: Mono, wall: Timestamp) {
        self.alarm.hear();
        let (mut again, mut deadline) = (false, None);
        for (_, keeper) in &mut self.all {
            let turn = keeper.turn(now, wall);
            again |= turn.progress;
            deadline = [deadline, turn.deadline].into_iter().flatten().min();
        }
        self.alarm.set(again, deadline);
    }

    /// The agent ends.
    pub(crate) fn end(&mut self, now: Mono) {
        self.all.iter_mut().for_each(|(_, keeper)| keeper.end(now));
    }

    /// Whether something waits on a disk.
    pub(crate) fn hold(&self) -> bool {
        { self.all.iter() }.any(|(_, keeper)| keeper.backlog().requests > 0)
    }

    /// What is said of one in a trace.
    pub(crate) fn describe(&self) -> String {
        let one = |(at, keeper): &(usize, Keeper<SimStore>)| {
            format!("{}: {:?}", NAMES[*at], keeper.backlog())
        };
        let gates = self.gates.iter().map(|gate| format!("{gate:?}"));
        self.all
            .iter()
            .map(one)
            .chain(gates)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// What is under way to a spool or back, and passes its bound by more than one request.
    pub(crate) fn passed(&self, request: u64) -> Option<String> {
        let most = SPOOL_WAY_BYTES + request;
        let mut gates = self.gates.iter().map(|gate| gate.under_way());
        let (down, up) = gates.find(|(down, up)| *down > most || *up > most)?;
        Some(format!(
            "the way to a spool: {down} down, {up} up of {most}"
        ))
    }
}

impl Sim {
    /// The outputs have spools, in directories of these numbers.
    pub(crate) fn with_spools(&mut self, shapes: [Option<Shape>; OUTPUTS], mut rng: Rng) {
        self.trace.say(|| format!("spools: {shapes:?}"));
        self.stores = build(shapes, &mut self.plan, &mut self.books, &mut rng);
    }

    /// Some disk falls sick or gets well.
    pub(crate) fn change_disks(&self) {
        for (store, name) in self.stores.iter().zip(NAMES) {
            if let Some(sick) = store.as_ref().and_then(SimStore::change) {
                self.trace.say(|| format!("the disk of {name}: {sick:?}"));
            }
        }
    }

    /// Every disk is well from now on.
    pub(crate) fn calm_disks(&self) {
        let stores = self.stores.iter().flatten();
        stores.for_each(|store| store.sick(Sick::default()));
    }

    /// The books hear what is in the spools, and what was given up at their caps.
    pub(crate) fn look_at_spools(&mut self) -> Result<(), String> {
        if self.stores.iter().all(Option::is_none) {
            return Ok(());
        }
        self.look_at_drops();
        tell(&self.stores, &self.plan, &mut self.books)
    }

    /// Where nothing is under way, what is missing was given up.
    pub(crate) fn forgive(&mut self) {
        let quiet = self
            .life
            .as_ref()
            .is_some_and(|it| it.unsettled().is_none());
        if quiet {
            self.look_at_drops();
            self.books.forgive();
        }
    }

    /// The books hear what was given up so far.
    pub(crate) fn look_at_drops(&mut self) {
        let Some(life) = &self.life else { return };
        for (spooled, name) in self.books.spools.iter_mut().zip(NAMES) {
            let Some(spooled) = spooled else { continue };
            let metric = format!("tailwake_spool_dropped_lines_total{{output=\"{name}\"");
            let now = life.metric(&metric);
            spooled.now = now;
            spooled.dropped = spooled.before + now;
        }
    }
}
