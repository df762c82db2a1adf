//! The network between the agent's lanes and the servers: delays, refused connections, answers that
//! are lost or late.
//!
//! 1. A call arrives at most once and ends at most once; one that its agent has given up, or whose
//!    agent has crashed, may still arrive.
//! 2. A server's answer is told in time, or the books are told that its records may come again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tailwake::base::bell::Bell;
use tailwake::deliver::{Answer, Call, CallId, Failure, Transport};

use crate::books::{Books, Id, OUTPUTS};
use crate::rng::Rng;
use crate::servers::{Mood, Server};
use crate::trace::Trace;

type End = Result<Answer, Failure>;

#[derive(Debug)]
struct Flying {
    life: u64,
    id: CallId,
    call: Call,
    /// When it arrives at its server; `None` when it never does, or has.
    arrives: Option<u64>,
    /// How long its answer takes; `None` when it is lost.
    back: Option<u64>,
}

#[derive(Debug)]
struct Ending {
    at: u64,
    life: u64,
    id: CallId,
    end: End,
}

/// The network and the servers behind it.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) now: u64,
    rng: Rng,
    trace: Trace,
    pub(crate) servers: [Server; OUTPUTS],
    flying: Vec<Flying>,
    endings: Vec<Ending>,
    /// The living agent and its bell.
    life: u64,
    bell: Bell,
}

impl Net {
    /// A network with nothing under way.
    pub(crate) fn new(mut rng: Rng, trace: Trace) -> Self {
        let servers = [0, 1].map(|output| Server::new(output, rng.fork()));
        Self {
            now: 0,
            rng,
            trace,
            servers,
            flying: Vec::new(),
            endings: Vec::new(),
            life: 0,
            bell: Bell::silent(),
        }
    }

    /// An agent's end of it; the one before is dead.
    pub(crate) fn connect(this: &Rc<RefCell<Self>>, bell: Bell) -> SimTransport {
        let mut net = this.borrow_mut();
        net.life += 1;
        net.bell = bell;
        net.endings.clear();
        SimTransport {
            net: Rc::clone(this),
            life: net.life,
        }
    }

    /// Some server's mood changes.
    pub(crate) fn change_mood(&mut self, trace: &Trace) {
        let at = self.rng.place(OUTPUTS);
        let moods = [Mood::Well, Mood::Busy, Mood::Down, Mood::Odd];
        let mut mood = moods[self.rng.place(moods.len())];
        if mood == Mood::Busy && self.rng.clone().chance(40) {
            mood = Mood::Picky;
        }
        self.servers[at].mood = mood;
        trace.say(|| format!("net: server {at} is {mood:?}"));
    }

    /// Every server is well from now on.
    pub(crate) fn calm(&mut self) {
        self.servers.iter_mut().for_each(|it| it.mood = Mood::Well);
    }

    fn send(&mut self, life: u64, id: CallId, call: Call) {
        let rng = &mut self.rng;
        let (there, back) = (self.now + rng.below(5), rng.below(6));
        let timeout = self.now + call.timeout_ms;
        let (mut arrives, mut back) = (Some(there), Some(back));
        let mut end = Some((timeout, Err(Failure::Timeout)));
        let mood = self.servers[call.output.index()].mood;
        match (mood, rng.below(100)) {
            (Mood::Down, 0..70) => {
                arrives = None;
                end = Some((there, Err(Failure::Connect("refused".to_owned()))));
            }
            (Mood::Down, 70..95) | (Mood::Dead, _) => arrives = None,
            // Late: the agent has given it up when it arrives.
            (Mood::Down, _) | (Mood::Odd, 0..4) => arrives = Some(timeout + 1 + rng.below(300)),
            // The answer is lost, and the connection breaks at once or never.
            (Mood::Odd, 4..14) => {
                back = None;
                if rng.chance(50) {
                    end = Some((there + 1, Err(Failure::Broken("reset".to_owned()))));
                }
            }
            // The transport forgets the call.
            (Mood::Odd, 14..16) => (back, end) = (None, None),
            // Slow, sometimes too slow.
            (Mood::Odd | Mood::Busy, 16..40) => back = Some(rng.below(call.timeout_ms * 2)),
            (_, _) => {}
        }
        if let Some((at, end)) = end {
            self.endings.push(Ending { at, life, id, end });
        }
        self.trace
            .say(|| format!("net: {id:?} {call:?} arrives {arrives:?}"));
        self.flying.push(Flying {
            life,
            id,
            call,
            arrives,
            back,
        });
    }

    /// What is due arrives.
    pub(crate) fn step(&mut self, books: &mut Books) -> Result<(), String> {
        let now = self.now;
        for mut flying in std::mem::take(&mut self.flying) {
            if flying.arrives.is_none_or(|at| at > now) {
                if flying.arrives.is_some() {
                    self.flying.push(flying);
                }
                continue;
            }
            flying.arrives = None;
            self.arrive(&flying, books)?;
        }
        let due = |ending: &Ending| ending.at <= now;
        if self.endings.iter().any(due) {
            self.bell.ring();
        }
        Ok(())
    }

    fn arrive(&mut self, flying: &Flying, books: &mut Books) -> Result<(), String> {
        let output = flying.call.output.index();
        let (id, now) = (flying.id, self.now);
        let own = |ending: &Ending| (ending.life, ending.id) == (flying.life, id);
        let known = self.endings.iter().position(own);
        let late = known.is_none_or(|place| self.endings[place].at <= now);
        let handled = self.servers[output].handle(&flying.call, (now, late), books)?;
        let answer = handled.answer;
        self.trace.say(|| {
            let short = |ids: &[Id]| -> Vec<_> {
                ids.iter()
                    .map(|id| (id.container, id.stream, id.seq))
                    .collect()
            };
            let (stored, seen) = (short(&handled.stored), short(&handled.seen));
            let status = answer.status;
            format!("net: {id:?} is answered {status} and stores {stored:?}, refuses {seen:?}")
        });
        let at = flying.back.map(|back| now + back);
        let told = match (known, at) {
            (Some(place), Some(at)) if at < self.endings[place].at => {
                let ending = &mut self.endings[place];
                (ending.at, ending.end) = (at, Ok(answer));
                true
            }
            _ => false,
        };
        if !told {
            books.may_repeat(&handled.stored, output);
        }
        Ok(())
    }

    /// When something happens next.
    pub(crate) fn due(&self) -> Option<u64> {
        let arrivals = self.flying.iter().filter_map(|flying| flying.arrives);
        let endings = self.endings.iter().map(|ending| ending.at);
        arrivals.chain(endings).min()
    }

    fn poll(&mut self, life: u64, ended: &mut Vec<(CallId, End)>) {
        let now = self.now;
        let due = |ending: &mut Ending| ending.life == life && ending.at <= now;
        let mut due: BTreeMap<CallId, End> = self
            .endings
            .extract_if(.., due)
            .map(|ending| (ending.id, ending.end))
            .collect();
        ended.extend(std::iter::from_fn(|| due.pop_first()));
    }
}

/// The living agent's end of the network.
#[derive(Debug)]
pub(crate) struct SimTransport {
    net: Rc<RefCell<Net>>,
    life: u64,
}

impl Transport for SimTransport {
    fn send(&mut self, id: CallId, call: Call) {
        self.net.borrow_mut().send(self.life, id, call);
    }

    fn cancel(&mut self, id: CallId) {
        let mut net = self.net.borrow_mut();
        let life = self.life;
        net.trace.say(|| format!("net: {id:?} is given up"));
        net.endings
            .retain(|ending| (ending.life, ending.id) != (life, id));
    }

    fn poll(&mut self, ended: &mut Vec<(CallId, End)>) {
        self.net.borrow_mut().poll(self.life, ended);
    }
}
