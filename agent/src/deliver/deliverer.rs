//! Every lane of every output, and the turn that moves them.
//!
//! ```text
//! turn: transport.poll -> judge -> lane.end -> Outlet::release
//!       Outlet::take   -> lane (output, tenant, encoder)
//!       lane.next      -> transport.send
//! ```
//!
//! 1. Lanes fly together; within a lane nothing overtakes, items of a bulk that are retried alone
//!    excepted (what was answered with them is already stored), and streams on a slow way of their own.
//! 2. An output has at most [`LANES_MAX`] lanes, [`SLOW_MAX`] slow ways and [`HELD_MAX`] requests; what
//!    is more waits in its outlet, in order, and the outlet's window makes the encoders wait.
//! 3. A call that its transport forgets is given up some time after its timeout.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::dead::{Dead, DeadQueue};
use super::fate::Bench;
use super::judge::{Judgement, Sink, judge};
use super::lane::{Freed, Lane, Way};
use super::load::Bodies;
use super::redact;
use super::setup::{Ask, Setup};
use super::tally::Tally;
use super::track::Flight;
use super::transport::{Answer, Call, CallId, Failure, Transport};
use crate::base::count::Registry;
use crate::base::outputs::OutputId;
use crate::base::time::Mono;
use crate::encode::outlet::Outlet;
use crate::encode::{Encoding, Request};
use crate::plan::{Output, OutputKind, Plan, Retry};

/// Lanes of an output: tenants times encoders.
pub const LANES_MAX: usize = 256;
/// Requests in all lanes of an output.
pub const HELD_MAX: usize = 1024;
/// Streams of an output that may have a slow way of their own at once; one more holds its lane.
pub const SLOW_MAX: usize = 64;
/// How long after a call's timeout it is given up if its transport does not end it.
const GIVE_UP_MS: u64 = 5_000;
/// Only what is judged is asked for. `items.*.status` keeps the place of good items.
const BULK_PATH: &str =
    "/_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason";

/// What a turn has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Something was taken, sent or ended.
    pub progress: bool,
    /// When the next turn is due if no bell rings before.
    pub deadline: Option<Mono>,
}

/// How an output fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputStatus {
    /// Which output.
    pub output: OutputId,
    /// Its name.
    pub name: String,
    /// Lines stored.
    pub acknowledged_lines: u64,
    /// Body bytes before compression stored.
    pub acknowledged_bytes: u64,
    /// Lines given up.
    pub rejected_lines: u64,
    /// Streams that its server holds back now.
    pub slow_streams: usize,
    /// Requests sent again.
    pub retries: u64,
    /// Requests sent and not answered.
    pub in_flight: u64,
    /// Requests in lanes.
    pub held: usize,
    /// What went wrong last, in words.
    pub last_error: Option<String>,
    /// For how long the worst lane has been failing; `None` when no lane is.
    pub failing_secs: Option<u64>,
    /// 99th percentile of first record to acknowledgement, in milliseconds.
    pub latency_p99_ms: Option<u64>,
}

/// (place of the output, tenant, encoder, whether it comes from the spool).
type LaneKey = (usize, Option<Arc<str>>, u16, bool);

/// Bytes after which what was taken of live requests and of a backlog counts half.
const SHARE_BYTES: u64 = 16 << 20;

struct Side {
    outlet: Arc<Outlet>,
    name: String,
    sink: Sink,
    /// URLs without user names and passwords, spread over.
    targets: Vec<Arc<str>>,
    tenant: Option<Arc<str>>,
    retry: Retry,
    timeout_ms: u64,
    tally: Tally,
    dead: Dead,
    lanes: usize,
    /// Slow ways in its lanes.
    slow: usize,
    /// The largest body that was stored, in bytes as sent.
    passed: usize,
    held: usize,
    /// What is asked before the first request.
    setup: Option<Setup>,
    /// Taken, but there was no lane to be had.
    waiting: Option<Request>,
    /// Bytes taken of late of live requests, and of what a spool has lent.
    taken: (u64, u64),
    calls: usize,
}

/// The lanes of all outputs.
pub struct Deliverer {
    sides: Vec<Side>,
    lanes: BTreeMap<LaneKey, Lane>,
    calls: BTreeMap<CallId, (LaneKey, Way)>,
    next_call: u64,
    seed: u64,
    bodies: Bodies,
    ended: Vec<(CallId, Result<Answer, Failure>)>,
    now: Mono,
}

impl std::fmt::Debug for Deliverer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Deliverer({} lanes, {} calls)",
            self.lanes.len(),
            self.calls.len()
        )
    }
}

impl Deliverer {
    /// Lanes for the outputs of `plan` that have an outlet; `seed` decides the jitter, `bodies` takes
    /// bodies apart, and what is refused for good goes to `dead`.
    #[must_use]
    pub fn new(
        plan: &Plan,
        outlets: Vec<Arc<Outlet>>,
        registry: &Registry,
        seed: u64,
        bodies: Bodies,
        dead: &Arc<DeadQueue>,
    ) -> Self {
        let side = |outlet: Arc<Outlet>| {
            let output = plan.outputs.get(outlet.output.index())?;
            Some(Side::new(output, outlet, registry, seed, dead))
        };
        Self {
            sides: outlets.into_iter().filter_map(side).collect(),
            lanes: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_call: 0,
            seed,
            bodies,
            ended: Vec::new(),
            now: Mono(0),
        }
    }

    /// Ends what has ended, takes what is sealed, sends what is due.
    pub fn turn(&mut self, now: Mono, transport: &mut impl Transport) -> Turn {
        self.now = now;
        let mut ended = std::mem::take(&mut self.ended);
        transport.poll(&mut ended);
        let mut progress = false;
        for (id, end) in ended.drain(..) {
            progress |= self.end(id, &end);
        }
        self.ended = ended;
        progress |= self.give_up(transport);
        progress |= self.intake();
        progress |= self.send(transport);
        Turn {
            progress,
            deadline: self.deadline(),
        }
    }

    /// Whether nothing is queued or in flight.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.lanes.is_empty()
            && self
                .sides
                .iter()
                .all(|side| side.waiting.is_none() && side.outlet.window() == 0)
    }

    /// How each output fares.
    #[must_use]
    pub fn status(&self, now: Mono) -> Vec<OutputStatus> {
        let status = |(place, side): (usize, &Side)| {
            let lanes = self.lanes.iter().filter(|(key, _)| key.0 == place);
            let failing = lanes.filter_map(|(_, lane)| lane.failing_since()).min();
            OutputStatus {
                output: side.outlet.output,
                name: side.name.clone(),
                acknowledged_lines: side.tally.acknowledged_lines.get(),
                acknowledged_bytes: side.tally.acknowledged_bytes.get(),
                rejected_lines: side.tally.rejected_lines(),
                slow_streams: side.slow,
                retries: side.tally.retried_requests(),
                in_flight: side.tally.in_flight.get(),
                held: side.held,
                last_error: side.tally.last_error.clone(),
                failing_secs: failing.map(|since| now.ms_since(since) / 1000),
                latency_p99_ms: side.tally.latency_p99_ms(),
            }
        };
        self.sides.iter().enumerate().map(status).collect()
    }

    fn deadline(&self) -> Option<Mono> {
        let setups = self
            .sides
            .iter()
            .filter_map(|side| side.setup.as_ref()?.deadline());
        let lanes = self.lanes.values().filter_map(Lane::deadline);
        lanes.chain(setups).min()
    }

    fn end(&mut self, id: CallId, end: &Result<Answer, Failure>) -> bool {
        for side in &mut self.sides {
            if let Some(setup) = side.setup.as_mut().filter(|setup| setup.flies(id)) {
                setup.end(self.now, end);
                side.setup.take_if(|setup| setup.is_done());
                return true;
            }
        }
        let Some((key, way)) = self.calls.remove(&id) else {
            return false;
        };
        let side = &mut self.sides[key.0];
        side.tally.in_flight.sub(1);
        let Some(lane) = self.lanes.get_mut(&key) else {
            return false;
        };
        if let Ok(answer) = end
            && !(200..=299).contains(&answer.status)
        {
            side.tally.count_error(answer.status);
        }
        let judgement: Judgement = judge(side.sink, lane.items_in_flight(&way), end);
        let before = lane.slow_ways();
        let mut bench = side.bench(self.now, self.bodies, key.1.as_ref());
        let freed = lane.end(&way, judgement, &mut bench);
        side.free(freed, before, lane.slow_ways());
        if lane.is_empty() {
            self.lanes.remove(&key);
            side.lanes -= 1;
        }
        true
    }

    fn give_up(&mut self, transport: &mut impl Transport) -> bool {
        let setups = self
            .sides
            .iter()
            .filter_map(|side| side.setup.as_ref()?.late(self.now));
        let lanes = self.lanes.values().flat_map(|lane| lane.late(self.now));
        let ids: Vec<CallId> = lanes.chain(setups).collect();
        for id in &ids {
            transport.cancel(*id);
            self.end(*id, &Err(Failure::Timeout));
        }
        !ids.is_empty()
    }

    fn intake(&mut self) -> bool {
        let mut progress = false;
        for place in 0..self.sides.len() {
            while let Some(request) = self.sides[place].next() {
                let lent = request.loan.is_some();
                let key = (place, request.tenant.clone(), request.encoder, lent);
                let side = &mut self.sides[place];
                if !self.lanes.contains_key(&key) {
                    if side.lanes >= LANES_MAX {
                        side.waiting = Some(request);
                        break;
                    }
                    side.lanes += 1;
                }
                self.seed = self
                    .seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let (retry, seed) = (side.retry, self.seed >> 16);
                let lane = self
                    .lanes
                    .entry(key)
                    .or_insert_with(|| Lane::new(retry, seed));
                lane.push(request);
                side.held += 1;
                progress = true;
            }
        }
        progress
    }

    fn send(&mut self, transport: &mut impl Transport) -> bool {
        let mut progress = false;
        for side in &mut self.sides {
            let Some(ask) = side.setup.as_ref().and_then(|setup| setup.ready(self.now)) else {
                continue;
            };
            let id = CallId(self.next_call);
            self.next_call += 1;
            transport.send(id, side.ask(ask));
            let give_up = self.now.plus_ms(side.timeout_ms.saturating_add(GIVE_UP_MS));
            if let Some(setup) = &mut side.setup {
                setup.sent(id, give_up);
            }
            progress = true;
        }
        for (key, lane) in &mut self.lanes {
            if self.sides[key.0].setup.is_some() {
                continue;
            }
            let side = &mut self.sides[key.0];
            loop {
                let (before, mut freed) = (lane.slow_ways(), Freed::default());
                let mut bench = side.bench(self.now, self.bodies, key.1.as_ref());
                let next = lane.next(&mut bench, &mut freed);
                let next = next.map(|(way, part)| (way, part.encoding, part.body.clone()));
                side.free(freed, before, lane.slow_ways());
                progress |= freed != Freed::default();
                let Some((way, encoding, body)) = next else {
                    break;
                };
                let call = side.call(key.1.as_ref(), encoding, body);
                let id = CallId(self.next_call);
                self.next_call += 1;
                let give_up = self.now.plus_ms(side.timeout_ms.saturating_add(GIVE_UP_MS));
                lane.fly(&way, Flight { id, give_up });
                self.calls.insert(id, (key.clone(), way));
                side.tally.in_flight.add(1);
                transport.send(id, call);
                progress = true;
            }
        }
        self.lanes.retain(|key, lane| {
            let is_empty = lane.is_empty();
            self.sides[key.0].lanes -= usize::from(is_empty);
            !is_empty
        });
        progress
    }
}

impl Side {
    fn new(
        output: &Output,
        outlet: Arc<Outlet>,
        registry: &Registry,
        seed: u64,
        dead: &Arc<DeadQueue>,
    ) -> Self {
        let target = |url: &str, path: &str| -> Arc<str> {
            // Who the agent is goes with the output: the transport says it.
            let (url, _) = redact::endpoint(url);
            let url = if path.is_empty() {
                &url
            } else {
                url.trim_end_matches('/')
            };
            format!("{url}{path}").into()
        };
        let (sink, targets, tenant, setup) = match &output.kind {
            OutputKind::Loki(loki) => (
                Sink::Loki,
                vec![target(&loki.url, "")],
                loki.tenant.as_deref(),
                None,
            ),
            OutputKind::Elasticsearch(bulk) => {
                let path = if bulk.filter_path {
                    BULK_PATH
                } else {
                    "/_bulk"
                };
                let targets = bulk.urls.iter().map(|url| target(url, path)).collect();
                let setup = Setup::new(output, bulk, registry, seed);
                (Sink::Bulk, targets, None, setup)
            }
        };
        Self {
            outlet,
            name: output.name.clone(),
            sink,
            targets,
            tenant: tenant.map(Arc::from),
            retry: output.retry,
            timeout_ms: output.timeout_ms,
            tally: Tally::new(&output.name, registry),
            dead: Dead::new(
                &output.name,
                output.dead_letters.map(|_| Arc::clone(dead)),
                registry,
            ),
            lanes: 0,
            slow: 0,
            passed: 0,
            held: 0,
            setup,
            waiting: None,
            taken: (0, 0),
            calls: 0,
        }
    }

    fn bench(&mut self, now: Mono, bodies: Bodies, tenant: Option<&Arc<str>>) -> Bench<'_> {
        Bench {
            now,
            bodies,
            tenant: tenant.or(self.tenant.as_ref()).cloned(),
            tally: &mut self.tally,
            dead: &self.dead,
            slow_room: SLOW_MAX.saturating_sub(self.slow),
            is_slow: false,
            passed: self.passed,
        }
    }

    /// A lane has let go of this, and has so many slow ways now.
    fn free(&mut self, freed: Freed, before: usize, after: usize) {
        if freed.bytes > 0 {
            self.outlet.release(freed.bytes);
        }
        self.held -= freed.loads;
        self.passed = self.passed.max(freed.stored);
        self.slow = self.slow + after - before;
        self.tally.slow_streams.set(self.slow as u64);
    }

    fn next(&mut self) -> Option<Request> {
        if self.held >= HELD_MAX {
            return None;
        }
        if let Some(waiting) = self.waiting.take() {
            return Some(waiting);
        }
        let Some(gate) = &self.outlet.gate else {
            return self.outlet.take();
        };
        let (live, lent) = self.taken;
        let share = u64::from(gate.live_share);
        // A backlog waits only while live requests have less than their share.
        let behind = live.saturating_mul(100 - share) < lent.saturating_mul(share);
        let request = if behind {
            self.outlet.take().or_else(|| gate.take_lent())
        } else {
            gate.take_lent().or_else(|| self.outlet.take())
        }?;
        let bytes = request.body.len() as u64;
        match request.loan {
            Some(_) => self.taken.1 += bytes,
            None => self.taken.0 += bytes,
        }
        if live + lent > SHARE_BYTES {
            self.taken = (self.taken.0 / 2, self.taken.1 / 2);
        }
        Some(request)
    }

    fn call(&mut self, tenant: Option<&Arc<str>>, encoding: Encoding, body: bytes::Bytes) -> Call {
        let place = self.calls % self.targets.len().max(1);
        self.calls = self.calls.wrapping_add(1);
        let url = self.targets.get(place).map(Arc::clone);
        let content = match self.sink {
            Sink::Loki => "application/x-protobuf",
            Sink::Bulk => "application/x-ndjson",
        };
        let mut headers = vec![("content-type", Arc::from(content))];
        match encoding {
            Encoding::Gzip(_) => headers.push(("content-encoding", Arc::from("gzip"))),
            Encoding::Zstd(_) => headers.push(("content-encoding", Arc::from("zstd"))),
            Encoding::Plain | Encoding::Snappy => {}
        }
        if let Some(tenant) = tenant.or(self.tenant.as_ref()) {
            headers.push(("x-scope-orgid", Arc::clone(tenant)));
        }
        Call {
            output: self.outlet.output,
            method: http::Method::POST,
            url: url.unwrap_or_default(),
            headers,
            body,
            timeout_ms: self.timeout_ms,
        }
    }

    /// A call of the setup, to the server that a bulk would go to.
    fn ask(&mut self, ask: Ask) -> Call {
        let call = self.call(None, Encoding::Plain, ask.body);
        let base = call.url.rsplit_once("/_bulk").map_or("", |(base, _)| base);
        let json = ("content-type", Arc::from("application/json"));
        let others = call.headers.iter().filter(|(name, _)| *name != json.0);
        Call {
            method: ask.method,
            url: format!("{base}{}", ask.path).into(),
            headers: others.cloned().chain([json.clone()]).collect(),
            ..call
        }
    }
}

#[cfg(test)]
#[path = "deliverer_tests.rs"]
mod tests;
