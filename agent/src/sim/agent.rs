//! One life of the agent: the rooms under test, with plain ones around them.

use std::collections::VecDeque;
use std::sync::Arc;

use super::encoder::{Delivery, Encoder};
use super::rng::Rng;
use super::world::{SimRing, World};
use crate::base::bell::Bell;
use crate::base::count::Registry;
use crate::base::outputs::OutputId;
use crate::base::pool::Pool;
use crate::discover::Event;
use crate::encode::Outlet;
use crate::ledger::Ledger;
use crate::ledger::positions::Positions;
use crate::plan::StartAt;
use crate::tail::{Reader, Roll, Settings};
use crate::ticket::{Feeds, Ticket};

/// How many outputs there are.
pub(super) const OUTPUTS: usize = 2;

/// What lives and dies with the agent.
pub(super) struct Agent {
    pub(super) reader: Reader<SimRing, World>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) feeds: Arc<Feeds>,
    pub(super) outlets: Vec<Arc<Outlet>>,
    pub(super) encoder: Encoder,
    pub(super) pool: Pool,
    pub(super) registry: Registry,
    pub(super) news: VecDeque<(u64, Event)>,
    pub(super) sending: VecDeque<Delivery>,
    pub(super) acks: Vec<(u64, Vec<Ticket>)>,
}

impl Agent {
    /// An agent that has read `positions` and knows no file yet.
    pub(super) fn new(rng: &mut Rng, world: &World, positions: Positions, flaky: bool) -> Self {
        let registry = Registry::default();
        let names = (0..OUTPUTS).map(|output| format!("out{output}")).collect();
        let ledger = Ledger::new(names, vec![Bell::silent()], positions);
        let pool = Pool::new(1 + rng.below(4) as usize, 300, Bell::silent());
        let room = 1 + rng.below(6) as usize;
        let feeds = Arc::new(Feeds::new(room, Bell::silent()));
        let outlets: Vec<_> = (0..OUTPUTS as u8)
            .map(|output| {
                let (id, name) = (OutputId(output), format!("out{output}"));
                let silent = Bell::silent();
                Arc::new(Outlet::new(id, &name, 1_000, silent, Vec::new(), &registry))
            })
            .collect();
        let settings = Settings {
            number: 0,
            pace_ms: rng.below(20),
            sweep_ms: if flaky { 400 } else { 0 },
            start_at: vec![StartAt::Beginning],
            roll: Arc::new(Roll::new(&registry)),
        };
        let ring = SimRing::new(world.clone(), Rng::new(rng.next()), flaky);
        let reader = Reader::new(
            settings,
            ring,
            world.clone(),
            Arc::clone(&ledger),
            pool.clone(),
            vec![Arc::clone(&feeds)],
            outlets.clone(),
            &registry,
        );
        Self {
            reader,
            ledger,
            feeds,
            outlets,
            encoder: Encoder::default(),
            pool,
            registry,
            news: VecDeque::new(),
            sending: VecDeque::new(),
            acks: Vec::new(),
        }
    }
}
