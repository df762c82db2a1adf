//! The models; what each shows is its name.

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use loom::thread;

use meet::base::bell::{Bell, Ring};
use meet::base::belled::Belled;
use meet::base::pool::Pool;
use meet::wake::shared::Shared;

/// A sleeper's bell.
#[derive(Debug)]
struct Rung(AtomicBool);

impl Ring for Rung {
    fn ring(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn bell() -> (Arc<Rung>, Bell) {
    let rung = Arc::new(Rung(AtomicBool::new(false)));
    let bell = Bell::new(Arc::clone(&rung) as Arc<dyn Ring>);
    (rung, bell)
}

#[test]
fn a_reader_without_a_buffer_is_rung_or_finds_one() {
    loom::model(|| {
        let (rung, bell) = bell();
        let pool = Pool::new(1, 8, bell);
        let Some(buffer) = pool.take() else {
            unreachable!("a new pool has its buffer")
        };
        let encoder = thread::spawn(move || drop(buffer));
        let found = pool.take().is_some();
        assert!(encoder.join().is_ok());
        assert!(
            found || rung.0.load(Ordering::SeqCst),
            "nobody wakes the reader"
        );
    });
}

#[test]
fn who_sleeps_over_an_empty_queue_is_rung_or_finds_what_was_put() {
    loom::model(|| {
        let (rung, bell) = bell();
        let queue = Arc::new(Belled::new(2, bell));
        let into = Arc::clone(&queue);
        let reader = thread::spawn(move || assert!(into.put(7).is_ok()));
        // A turn: the ringing is taken back, then the queue is looked at, then comes the sleep.
        rung.0.store(false, Ordering::SeqCst);
        let found = queue.take().is_some();
        let wakes = rung.0.load(Ordering::SeqCst);
        assert!(reader.join().is_ok());
        let woken = wakes || rung.0.load(Ordering::SeqCst);
        assert!(found || woken, "nobody wakes the encoder");
    });
}

#[test]
fn a_file_that_was_armed_and_read_is_woken_or_has_nothing_more() {
    loom::model(|| {
        let slot = Arc::new(Shared {
            flag: AtomicU32::new(1),
            generation: AtomicU32::new(0),
            end: AtomicU64::new(0),
        });
        let size = Arc::new(AtomicU64::new(0));
        let (own, grows) = (Arc::clone(&slot), Arc::clone(&size));
        let writer = thread::spawn(move || {
            // The probe runs after the size has moved; its exchange is a full barrier.
            grows.store(1, Ordering::Relaxed);
            own.end.store(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            own.flag.swap(1, Ordering::SeqCst) == 0
        });
        slot.arm();
        let seen = size.load(Ordering::Relaxed) == 1;
        let woken = writer.join();
        assert!(seen || woken.is_ok_and(|woken| woken), "the write is lost");
        assert_eq!(slot.announced(), 1);
    });
}
