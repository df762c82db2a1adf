//! The `Ring` seam over the simulated kernel: reads that end late and in any order, and wakes.
//!
//! 1. A read's bytes are those of the moment at which the kernel copies them, which lies anywhere
//!    between its submission and its end.
//! 2. Some wakes are told twice, and some come for nothing.
//! 3. Regular files give short reads only at their end, as the kernel does; where the hook tells
//!    the expected end, reads may be short anywhere.

use std::io;

use tailwake::base::pool::Buffer;
use tailwake::base::time::Mono;
use tailwake::tail::{Event, Ring, Token};
use tailwake::wake::{Rung, WakeCounters};

use crate::files::{Handle, copy};
use crate::rng::Rng;
use crate::world::{Armed, Key, Weather, World};

#[derive(Debug)]
struct Flight {
    token: Token,
    key: Key,
    offset: u64,
    buf: Buffer,
    len: usize,
    /// The bytes were copied; the end is not told yet.
    done: Option<io::Result<usize>>,
}

/// One reader's ring.
#[derive(Debug)]
pub(crate) struct SimRing {
    reader: usize,
    world: World,
    weather: Weather,
    rng: Rng,
    flights: Vec<Flight>,
    told: Vec<Event>,
    counted: WakeCounters,
}

impl SimRing {
    /// The ring of this reader.
    pub(crate) fn new(reader: usize, world: World, rng: Rng) -> Self {
        let weather = world.lock().weather;
        Self {
            reader,
            world,
            weather,
            rng,
            flights: Vec::new(),
            told: Vec::new(),
            counted: WakeCounters::default(),
        }
    }

    /// Whether `drain` may give something.
    pub(crate) fn has_events(&self) -> bool {
        let flies = !self.flights.is_empty() || !self.told.is_empty();
        flies || self.world.has_woken(self.reader)
    }

    fn land(&mut self, mut flight: Flight) {
        if flight.done.is_none() && self.rng.chance(80) {
            let mut len = flight.len;
            if self.weather.ends && len > 1 && self.rng.chance(3) {
                len = 1 + self.rng.place(len - 1);
            }
            let into = &mut flight.buf[..len];
            flight.done = Some(copy(&self.world, flight.key, flight.offset, into));
        }
        match flight.done.take() {
            Some(done) if self.rng.chance(80) => {
                let fails = self.weather.flaky && self.rng.chance(1);
                let result = if fails {
                    Err(io::ErrorKind::Interrupted.into())
                } else {
                    done
                };
                let Flight { token, buf, .. } = flight;
                self.told.push(Event::Read { token, buf, result });
            }
            done => {
                flight.done = done;
                self.flights.push(flight);
            }
        }
    }
}

impl Ring for SimRing {
    type File = Handle;

    fn read(&mut self, token: Token, file: &Handle, offset: u64, buf: Buffer, len: usize) {
        let len = len.min(buf.len());
        self.flights.push(Flight {
            token,
            key: file.key,
            offset,
            buf,
            len,
            done: None,
        });
    }

    fn watch(&mut self, token: Token, file: &Handle, _: u64) -> io::Result<()> {
        let refused = self.world.lock().ills.rungs;
        if refused || (self.weather.flaky && self.rng.chance(30)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let armed = Armed {
            key: file.key,
            armed: false,
        };
        let old = self.world.lock().armed.insert((self.reader, token), armed);
        assert!(old.is_none(), "{token:?} is watched already");
        Ok(())
    }

    fn unwatch(&mut self, token: Token) {
        self.world.lock().armed.remove(&(self.reader, token));
    }

    fn arm(&mut self, token: Token) -> io::Result<()> {
        match self.world.lock().armed.get_mut(&(self.reader, token)) {
            Some(armed) => {
                armed.armed = true;
                Ok(())
            }
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rung_of(&self, token: Token) -> Rung {
        let watched = self.world.lock().armed.contains_key(&(self.reader, token));
        if watched {
            Rung::TracepointBtf
        } else {
            Rung::SweepOnly
        }
    }

    fn wake_counters(&self) -> WakeCounters {
        self.counted
    }

    fn refused(&self) -> u64 {
        0
    }

    fn expected_end(&self, token: Token) -> Option<u64> {
        let state = self.world.lock();
        let key = state.armed.get(&(self.reader, token))?.key;
        let node = state.nodes.get(&key)?;
        self.weather.ends.then_some(node.announced)
    }

    fn drain(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let woken = std::mem::take(&mut self.world.lock().woken[self.reader]);
        self.counted.events += woken.len() as u64;
        for token in woken {
            let twice = self.rng.chance(5);
            self.told.push(Event::Woken(token));
            self.told.extend(twice.then_some(Event::Woken(token)));
        }
        for flight in std::mem::take(&mut self.flights) {
            self.land(flight);
        }
        while !self.told.is_empty() && !self.rng.chance(10) {
            let at = self.rng.place(self.told.len());
            events.push(self.told.swap_remove(at));
        }
        Ok(())
    }

    fn park(&mut self, _: Mono, _: Option<Mono>) -> io::Result<()> {
        Ok(())
    }
}
