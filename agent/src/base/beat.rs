//! The beat of a data thread: how others see that it turns.
//!
//! ```text
//! thread: turn .. turn .. park(room) .. turn .. end        anybody: Pulse::judge(beat, work, now)
//! ```
//!
//! 1. Publishing is one store of one word: no lock, no allocation, no clock.
//! 2. A thread is still only when it did not turn for [`STILL_MS`] although it had work and room.
//!    Waiting for an output, a budget or news is healthy, however long it lasts.
//! 3. A thread that has ended beats no more, and is told from one that is still.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use super::time::Mono;

/// A thread with work and room that did not turn for this long is still. Far above the worst
/// fsync or disk read of a node under load, since the answer to it is that the agent is ended.
pub const STILL_MS: u64 = 60_000;

/// How many low bits of the word say the state; the others count turns.
const STATE_BITS: u32 = 2;

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In a turn.
    Turning,
    /// Parked, and would take what comes.
    Idle,
    /// Parked until there is room: it takes nothing.
    Full,
    /// It has ended.
    Ended,
}

/// One thread's beat: written by that thread alone.
#[derive(Debug, Default)]
pub struct Beat(CachePadded<AtomicU64>);

impl Beat {
    /// A turn begins.
    pub fn turn(&self) {
        let turns = self.0.load(Ordering::Relaxed) >> STATE_BITS;
        self.put(turns.wrapping_add(1), State::Turning);
    }

    /// The turn is over and the thread parks; `room` = it would take work if there was some.
    pub fn park(&self, room: bool) {
        self.state(if room { State::Idle } else { State::Full });
    }

    /// The thread ends.
    pub fn end(&self) {
        self.state(State::Ended);
    }

    fn state(&self, state: State) {
        self.put(self.0.load(Ordering::Relaxed) >> STATE_BITS, state);
    }

    fn put(&self, turns: u64, state: State) {
        self.0
            .store(turns << STATE_BITS | state as u64, Ordering::Release);
    }

    fn get(&self) -> (u64, State) {
        let word = self.0.load(Ordering::Acquire);
        let state = [State::Turning, State::Idle, State::Full, State::Ended];
        (word, state[(word & ((1 << STATE_BITS) - 1)) as usize])
    }
}

/// What is wrong with a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sick {
    /// It has ended.
    Ended,
    /// It has stood still for this many milliseconds.
    Still(u64),
}

/// What a judge remembers of one thread between two looks.
#[derive(Debug, Default)]
pub struct Pulse {
    /// The word, and since when it has been seen unchanged with work and room.
    seen: Option<(u64, Mono)>,
}

impl Pulse {
    /// Looks at `beat`; `work` = something waits for the thread.
    ///
    /// Two looks are needed to call a thread still: nobody has looked before the first.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn judge(&mut self, beat: &Beat, work: bool, now: Mono) -> Result<(), Sick> {
        let (word, state) = beat.get();
        let owes_a_turn = match state {
            State::Ended => return Err(Sick::Ended),
            State::Turning => true,
            State::Idle => work,
            State::Full => false,
        };
        if !owes_a_turn {
            self.seen = None;
            return Ok(());
        }
        let since = match self.seen {
            Some((seen, since)) if seen == word => since,
            _ => now,
        };
        self.seen = Some((word, since));
        match now.ms_since(since) {
            still if still >= STILL_MS => Err(Sick::Still(still)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every ten seconds for five minutes, after `act` has done what the thread does.
    fn look(work: bool, mut act: impl FnMut(&Beat)) -> Result<(), Sick> {
        let (beat, mut pulse) = (Beat::default(), Pulse::default());
        beat.turn();
        (0..=30).try_for_each(|look| {
            act(&beat);
            pulse.judge(&beat, work, Mono(0).plus_ms(look * 10_000))
        })
    }

    #[test]
    fn waiting_is_healthy_and_standing_still_is_not() {
        // In one turn for ever: a hanging read, a loop that does not end.
        assert_eq!(look(false, |_| ()), Err(Sick::Still(60_000)));
        // Nothing to do.
        assert_eq!(look(false, |beat| beat.park(true)), Ok(()));
        // Something waits, and nobody wakes it.
        assert_eq!(look(true, |beat| beat.park(true)), Err(Sick::Still(60_000)));
        // An output is down, and its window full.
        assert_eq!(look(true, |beat| beat.park(false)), Ok(()));
        // Busy without a pause.
        assert_eq!(look(true, Beat::turn), Ok(()));
        // It panicked.
        assert_eq!(look(false, Beat::end), Err(Sick::Ended));
    }

    #[test]
    fn what_came_between_two_rare_looks_is_no_stillness() {
        let (beat, mut pulse) = (Beat::default(), Pulse::default());
        beat.turn();
        beat.park(true);
        assert_eq!(pulse.judge(&beat, false, Mono(0)), Ok(()));
        // Work came just now, an hour after the last look.
        let hour = Mono(0).plus_ms(3_600_000);
        assert_eq!(pulse.judge(&beat, true, hour), Ok(()));
        assert_eq!(pulse.judge(&beat, true, hour.plus_ms(59_999)), Ok(()));
        let still = hour.plus_ms(STILL_MS);
        assert_eq!(pulse.judge(&beat, true, still), Err(Sick::Still(STILL_MS)));
        // One turn later all is well.
        beat.turn();
        beat.park(true);
        assert_eq!(pulse.judge(&beat, true, still), Ok(()));
    }
}
