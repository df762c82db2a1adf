//! The control thread's timer.
//!
//! A near deadline is tokio's. A far one has a timer descriptor: tokio's wheel has coarse slots for
//! what is far, and would wake the thread several times on the way to it.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use super::control::watch_descriptor;
use crate::base::time::Mono;

/// Deadlines from here on are far, in milliseconds: a second after the last acknowledgement, when
/// the positions are written, is near, so that a busy agent makes no system call for its timer.
const FAR_MS: u64 = 2_000;

/// One timer.
#[derive(Debug)]
pub(super) struct Alarm {
    /// None where a policy refuses one: then every deadline is tokio's.
    timer: Option<AsyncFd<OwnedFd>>,
    /// What the descriptor is set to.
    set: Option<Mono>,
}

impl Alarm {
    /// A timer that is not set.
    pub(super) fn new() -> Self {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)
            .map_err(io::Error::from)
            .and_then(watch_descriptor);
        if let Err(error) = &timer {
            tracing::info!(%error, "no timer descriptor; an idle agent wakes a few times more between sweeps");
        }
        Self {
            timer: timer.ok(),
            set: None,
        }
    }

    /// Waits until the deadline; without one, without end. It may end early.
    pub(super) async fn until(&mut self, now: Mono, deadline: Option<Mono>) {
        let Some(deadline) = deadline else {
            return std::future::pending().await;
        };
        let nanos = deadline.0.saturating_sub(now.0);
        let far = deadline.ms_since(now) >= FAR_MS && self.set_to(deadline, nanos).is_ok();
        let Some(timer) = self.timer.as_ref().filter(|_| far) else {
            return tokio::time::sleep(Duration::from_nanos(nanos)).await;
        };
        if let Ok(mut ready) = timer.readable().await {
            ready.clear_ready();
        }
        self.set = None;
    }

    fn set_to(&mut self, deadline: Mono, nanos: u64) -> io::Result<()> {
        if self.set == Some(deadline) {
            return Ok(());
        }
        let wait = Timespec {
            tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: (nanos % 1_000_000_000) as _,
        };
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: wait,
        };
        let timer = self.timer.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        timerfd_settime(timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        self.set = Some(deadline);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_far_deadline_is_kept_over_other_turns_and_a_passed_one_ends_at_once() {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(async {
            let mut alarm = Alarm::new();
            let far = Mono(0).plus_ms(3_600_000);
            for turn in 0..3 {
                let now = Mono(turn);
                tokio::select! {
                    biased;
                    () = alarm.until(now, Some(far)) => unreachable!(),
                    () = tokio::task::yield_now() => {}
                }
                assert_eq!(alarm.set, Some(far));
            }
            alarm.until(far, Some(Mono(1))).await;
            // The descriptor itself: set to what is a moment away, it rings.
            let deadline = Mono(0).plus_ms(FAR_MS);
            alarm.set_to(deadline, 1).unwrap();
            alarm.until(Mono(0), Some(deadline)).await;
        });
    }
}
