//! The reader on real files, with the real tree's listings and simulated time: which file is which.

#![expect(clippy::unwrap_used, reason = "tests")]

mod books;
mod fair;
mod flaky;
mod open;
mod ring;
mod standing;

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use flaky::{Failing, FlakyFiles};

use super::eventfd::EventFd;
use super::{Event as RingEvent, MachineRing, Rates, Reader, Ring, Roll, Settings, Token};
use crate::base::bell::Bell;
use crate::base::count::Registry;
use crate::base::outputs::OutputId;
use crate::base::pool::{Buffer, Permits, Pool};
use crate::base::time::{Mono, Timestamp};
use crate::discover::Event;
use crate::discover::name::log_file;
use crate::encode::Outlet;
use crate::ledger::Ledger;
use crate::ledger::positions::Positions;
use crate::plan::{IoChoice, Limits, RungChoice, StartAt};
use crate::ticket::{Chunk, Ended, Feed, Feeds, LogId, Meta, Source, Standing};
use crate::wake::{Ladder, Rung, WakeCounters};

/// A directory that goes with its last user.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The machine's ring, which may lose wakes as a probe's ring that refuses them does.
struct LossyRing {
    inner: MachineRing,
    loses: bool,
    /// Drains that fail after they have given what there is.
    breaks: usize,
    lost: u64,
}

impl Ring for LossyRing {
    type File = File;

    fn read(&mut self, token: Token, file: &File, offset: u64, buf: Buffer, len: usize) {
        self.inner.read(token, file, offset, buf, len);
    }
    fn watch(&mut self, token: Token, file: &File, inode: u64) -> io::Result<()> {
        self.inner.watch(token, file, inode)
    }
    fn unwatch(&mut self, token: Token) {
        self.inner.unwatch(token);
    }
    fn arm(&mut self, token: Token) -> io::Result<()> {
        self.inner.arm(token)
    }
    fn rung_of(&self, token: Token) -> Rung {
        self.inner.rung_of(token)
    }
    fn wake_counters(&self) -> WakeCounters {
        let counted = self.inner.wake_counters();
        WakeCounters {
            events: counted.events - self.lost,
            ..counted
        }
    }
    fn refused(&self) -> u64 {
        self.lost
    }
    fn expected_end(&self, token: Token) -> Option<u64> {
        self.inner.expected_end(token)
    }
    fn drain(&mut self, events: &mut Vec<RingEvent>) -> io::Result<()> {
        self.inner.drain(events)?;
        let before = events.len();
        events.retain(|event| !(self.loses && matches!(event, RingEvent::Woken(_))));
        self.lost += (before - events.len()) as u64;
        match self.breaks.checked_sub(1) {
            None => Ok(()),
            Some(left) => {
                self.breaks = left;
                Err(io::Error::other("the ring ails"))
            }
        }
    }
    fn park(&mut self, now: Mono, until: Option<Mono>) -> io::Result<()> {
        self.inner.park(now, until)
    }
}

/// One container log, and the agent's reader on it.
struct Bench {
    dir: Arc<Directory>,
    source: Arc<Source>,
    reader: Reader<LossyRing, FlakyFiles>,
    /// Reads of files that fail from now on.
    failing: Failing,
    /// Chunks are kept, as by an encoder that is behind.
    keeps: bool,
    kept: Vec<Chunk>,
    ledger: Arc<Ledger>,
    feeds: Arc<Feeds>,
    registry: Arc<Registry>,
    now: Mono,
    known: BTreeSet<String>,
    lines: Vec<String>,
    /// How often something was ended, and what the last time.
    finished: usize,
    ended: Ended,
}

impl Bench {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("tailwake-tail-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Self::start(Arc::new(Directory(dir)), Positions::default())
    }

    fn start(dir: Arc<Directory>, positions: Positions) -> Self {
        let registry = Arc::new(Registry::default());
        let ledger = Ledger::new(vec!["out".to_owned()], vec![Bell::silent()], positions);
        let feeds = Arc::new(Feeds::new(64, Bell::silent()));
        let (mut wakes, _) = Ladder::choose(RungChoice::Inotify, &[], 1, 64);
        let bell = EventFd::new().unwrap();
        let ring = LossyRing {
            inner: MachineRing::new(IoChoice::Pread, wakes.remove(0), bell).unwrap(),
            loses: false,
            breaks: 0,
            lost: 0,
        };
        let failing = Failing::default();
        let outlet = Outlet::new(
            OutputId(0),
            "out",
            1 << 20,
            Bell::silent(),
            Vec::new(),
            &registry,
        );
        let settings = Settings {
            number: 0,
            pace_ms: 5,
            sweep_ms: 0,
            start_at: vec![StartAt::Beginning],
            log_bytes_min: 1 << 20,
            record_bytes_max: 1 << 20,
            rates: Rates::new(&Limits::default(), &registry),
            roll: Arc::new(Roll::new(&registry)),
        };
        let reader = Reader::new(
            settings,
            ring,
            FlakyFiles::new(failing.clone()),
            Arc::clone(&ledger),
            Pool::new(4, 4096, Bell::silent()),
            Permits::new(1, Bell::silent()),
            Bell::silent(),
            vec![Arc::clone(&feeds)],
            vec![Arc::new(outlet)],
            &registry,
        );
        let source = Source {
            log: LogId(0),
            input: 0,
            key: "a_b_c/d".into(),
            filename: dir.0.join("0.log").to_string_lossy().into(),
            meta: Meta::default(),
            labels: Vec::new(),
            tag: None,
            standing: Standing::Read,
        };
        Self {
            dir,
            source: Arc::new(source),
            reader,
            failing,
            keeps: false,
            kept: Vec::new(),
            ledger,
            feeds,
            registry,
            now: Mono(1_000_000_000),
            known: BTreeSet::new(),
            lines: Vec::new(),
            finished: 0,
            ended: Ended::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.0.join(name)
    }

    /// Writes lines, as a container runtime does.
    fn log(&self, name: &str, texts: &[&str]) {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(name))
            .unwrap();
        for text in texts {
            file.write_all(line(text).as_bytes()).unwrap();
        }
    }

    fn compress(&self, name: &str) {
        let bytes = fs::read(self.path(name)).unwrap();
        let file = File::create(self.path(&format!("{name}.gz"))).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        encoder.write_all(&bytes).unwrap();
        encoder.finish().unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// What discovery says of the directory now, in its order.
    fn list(&mut self, at_start: bool) -> VecDeque<Event> {
        let names: BTreeSet<String> = fs::read_dir(&self.dir.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| log_file(name).is_some())
            .collect();
        let mut found: Vec<_> = names
            .iter()
            .filter(|name| at_start || !self.known.contains(*name) || *name == "0.log")
            .map(|name| (log_file(name).unwrap(), name))
            .collect();
        found.sort_by_key(|(place, _)| *place);
        let found = found.into_iter().map(|(place, name)| Event::Found {
            source: Arc::clone(&self.source),
            path: self.path(name),
            place,
            at_start,
            at_end: false,
        });
        let gone = self.known.difference(&names).map(|name| Event::Gone {
            source: Arc::clone(&self.source),
            path: self.path(name),
        });
        let events = found.chain(gone).collect();
        self.known = names;
        events
    }

    /// Tells what the directory holds, then turns until nothing more happens; all is delivered.
    fn settle(&mut self) {
        let events = self.list(self.known.is_empty());
        self.turn(events);
    }

    /// As [`Self::settle`], before discovery has heard of anything.
    fn read(&mut self) {
        self.turn(VecDeque::new());
    }

    /// As [`Self::read`], after a while in which the reader turns when something is due.
    fn later(&mut self, ms: u64) {
        let until = self.now.plus_ms(ms);
        while self.now < until {
            self.read();
        }
    }

    fn turn(&mut self, mut events: VecDeque<Event>) {
        let mut idle = 0;
        while idle < 60 {
            let mut next = || events.pop_front();
            let turn = self.reader.turn(self.now, Timestamp::default(), &mut next);
            self.take();
            idle = if turn.is_ok_and(|turn| turn.progress) {
                0
            } else {
                idle + 1
            };
            self.now = self.now.plus_ms(10);
        }
    }

    /// Does the encoder's part: all is delivered.
    fn take(&mut self) {
        while let Some(feed) = self.feeds.take() {
            if let Feed::Finished { ended, .. } = feed {
                (self.finished, self.ended) = (self.finished + 1, ended);
            }
            if let Feed::Chunk(chunk) = feed {
                let text = String::from_utf8_lossy(chunk.bytes()).into_owned();
                self.lines.extend(text.lines().map(str::to_owned));
                if self.keeps {
                    self.kept.push(chunk);
                } else {
                    chunk.ticket.settle();
                }
            }
        }
    }

    /// The agent ends and another takes up its positions.
    fn restart(self) -> Self {
        let positions = self.ledger.snapshot().unwrap().write().unwrap();
        drop(self.reader);
        let mut bench = Self::start(self.dir, Positions::read(&positions).unwrap());
        bench.lines = self.lines;
        bench
    }

    /// The texts that arrived, in order.
    #[track_caller]
    fn has(&self, want: &[&str]) {
        let got: Vec<&str> = self.lines.iter().map(|line| text_of(line)).collect();
        assert_eq!(got, want);
    }

    fn count(&self, name: &str) -> u64 {
        self.registry.value(name)
    }

    fn lost(&self) -> u64 {
        self.ledger.accounts()[0].outputs[0].lost_bytes
    }
}

/// A line as a runtime writes it: told from others by its time.
fn line(text: &str) -> String {
    let nanos: u64 = text
        .bytes()
        .fold(7, |sum, byte| sum * 31 % 999_999_937 + u64::from(byte));
    format!("2026-11-24T05:00:00.{nanos:09}Z stdout F {text}\n")
}

fn text_of(line: &str) -> &str {
    line.rsplit_once(" F ").map_or(line, |(_, text)| text)
}

/// Names in the order in which rotation makes them.
const OLDER: &str = "0.log.20261124-050001";
const OLD: &str = "0.log.20261124-050002";

#[test]
fn rotation_and_two_rotations_within_a_blink_read_every_line_once() {
    let mut bench = Bench::new("blink");
    bench.log("0.log", &["one"]);
    bench.settle();
    bench.log("0.log", &["two"]);
    bench.rename("0.log", OLDER);
    bench.log(OLDER, &["three"]);
    bench.log("0.log", &["four"]);
    bench.rename("0.log", OLD);
    bench.log("0.log", &["five"]);
    bench.settle();
    bench.has(&["one", "two", "three", "four", "five"]);
    assert_eq!(bench.lost(), 0);
}

/// containerd ends a stream that has no last newline with a `P`.
#[test]
fn cyclic_renames_read_nothing_twice() {
    let mut bench = Bench::new("cycle");
    bench.log("0.log", &["one"]);
    bench.settle();
    bench.rename("0.log", OLD);
    bench.settle();
    bench.rename(OLD, "0.log");
    bench.settle();
    bench.log("0.log", &["two"]);
    bench.settle();
    bench.has(&["one", "two"]);
}

#[test]
fn a_new_file_with_the_old_ones_inode_number_is_read_from_its_start() {
    let mut bench = Bench::new("inode");
    for text in ["one", "two", "three"] {
        bench.log(
            "0.log",
            &[text, "and a line that makes all files equally long"],
        );
        bench.settle();
        fs::remove_file(bench.path("0.log")).unwrap();
        bench.settle();
    }
    let long = "and a line that makes all files equally long";
    bench.has(&["one", long, "two", long, "three", long]);
}

#[test]
fn a_truncated_file_that_grew_past_our_place_is_read_from_its_start() {
    let mut bench = Bench::new("regrown");
    bench.log("0.log", &["one"]);
    bench.settle();
    File::create(bench.path("0.log")).unwrap();
    bench.log(
        "0.log",
        &["two, which is longer than what stood there before it"],
    );
    bench.settle();
    bench.has(&[
        "one",
        "two, which is longer than what stood there before it",
    ]);
    assert_eq!(
        (bench.count("tailwake_truncations_total"), bench.lost()),
        (1, 0)
    );
}

#[test]
fn what_was_not_read_before_a_copytruncate_comes_from_the_copy() {
    let mut bench = Bench::new("copy");
    bench.log("0.log", &["one"]);
    bench.settle();
    bench.log("0.log", &["two", "three"]);
    fs::copy(bench.path("0.log"), bench.path(OLD)).unwrap();
    File::create(bench.path("0.log")).unwrap();
    bench.log("0.log", &["four", "five", "six", "seven"]);
    bench.settle();
    bench.has(&["one", "two", "three", "four", "five", "six", "seven"]);
    // Again, with all read before: the copy adds nothing.
    fs::copy(bench.path("0.log"), bench.path("0.log.20261124-050003")).unwrap();
    bench.settle();
    File::create(bench.path("0.log")).unwrap();
    bench.log("0.log", &["eight"]);
    bench.settle();
    bench.has(&[
        "one", "two", "three", "four", "five", "six", "seven", "eight",
    ]);
    assert_eq!(bench.lost(), 0);
}

#[test]
fn what_a_truncation_took_unread_is_counted() {
    let mut bench = Bench::new("lost");
    bench.log("0.log", &["one"]);
    bench.settle();
    let mut file = OpenOptions::new()
        .append(true)
        .open(bench.path("0.log"))
        .unwrap();
    file.write_all(b"2026-11-24T05:00:00.1Z stdout F half of a li")
        .unwrap();
    bench.read();
    file.set_len(0).unwrap();
    bench.log("0.log", &["two"]);
    bench.settle();
    bench.has(&["one", "two"]);
    assert_eq!(bench.lost(), 44);
    assert_eq!(bench.count("tailwake_unread_bytes_total"), 44);
}

#[test]
fn the_hole_that_a_writer_leaves_after_a_truncation_is_passed_over_and_counted() {
    let mut bench = Bench::new("hole");
    bench.log("0.log", &["one"]);
    bench.settle();
    let before = fs::metadata(bench.path("0.log")).unwrap().len();
    let file = OpenOptions::new()
        .write(true)
        .open(bench.path("0.log"))
        .unwrap();
    file.set_len(0).unwrap();
    use std::os::unix::fs::FileExt as _;
    // Larger than a buffer.
    file.write_all_at(line("two").as_bytes(), before + 10_000)
        .unwrap();
    bench.settle();
    bench.has(&["one", "two"]);
    assert_eq!(bench.count("tailwake_hole_bytes_total"), before + 10_000);
}

#[test]
fn files_with_the_same_first_kilobyte_are_told_by_what_was_read_last() {
    let mut bench = Bench::new("header");
    let header = ["h"; 400];
    bench.log("0.log", &header);
    bench.log("0.log", &["one"]);
    bench.settle();
    bench.rename("0.log", OLD);
    bench.log("0.log", &header);
    bench.log("0.log", &["two"]);
    bench.settle();
    let got: Vec<_> = bench.lines.iter().map(|line| text_of(line)).collect();
    assert_eq!((got.len(), got[400], got[801]), (802, "one", "two"));
}

#[test]
fn rotation_while_the_agent_was_down_is_finished_first() {
    let mut bench = Bench::new("down");
    bench.log("0.log", &["one"]);
    bench.settle();
    let mut bench = bench.restart();
    bench.log("0.log", &["two"]);
    bench.rename("0.log", OLD);
    bench.log("0.log", &["three"]);
    bench.settle();
    bench.has(&["one", "two", "three"]);
}

#[test]
fn what_was_compressed_while_the_agent_was_down_is_finished_first_and_once() {
    let mut bench = Bench::new("gz-down");
    bench.log("0.log", &["one"]);
    bench.settle();
    let mut bench = bench.restart();
    bench.log("0.log", &["two"]);
    bench.rename("0.log", OLDER);
    bench.compress(OLDER);
    fs::remove_file(bench.path(OLDER)).unwrap();
    bench.log("0.log", &["three"]);
    bench.rename("0.log", OLD);
    // For a moment both are there.
    bench.compress(OLD);
    bench.log("0.log", &["four"]);
    bench.settle();
    bench.has(&["one", "two", "three", "four"]);
    fs::remove_file(bench.path(OLD)).unwrap();
    bench.settle();
    // Another start reads none of them again, whichever name is left.
    let mut bench = bench.restart();
    bench.settle();
    bench.log("0.log", &["five"]);
    bench.settle();
    bench.has(&["one", "two", "three", "four", "five"]);
    assert_eq!(bench.lost(), 0);
}

#[test]
fn compression_of_what_was_read_reads_nothing_again() {
    let mut bench = Bench::new("gz-live");
    bench.log("0.log", &["one"]);
    bench.settle();
    bench.rename("0.log", OLDER);
    bench.log("0.log", &["two"]);
    bench.settle();
    bench.compress(OLDER);
    bench.settle();
    fs::remove_file(bench.path(OLDER)).unwrap();
    bench.settle();
    let mut bench = bench.restart();
    bench.settle();
    fs::remove_file(bench.path(&format!("{OLDER}.gz"))).unwrap();
    bench.settle();
    bench.has(&["one", "two"]);
}

#[test]
fn a_broken_compressed_log_is_said_and_the_next_file_goes_on() {
    let mut bench = Bench::new("gz-broken");
    bench.log(OLD, &["one"; 300]);
    bench.compress(OLD);
    fs::remove_file(bench.path(OLD)).unwrap();
    let packed = bench.path(&format!("{OLD}.gz"));
    let bytes = fs::read(&packed).unwrap();
    fs::write(&packed, &bytes[..bytes.len() - 9]).unwrap();
    bench.log("0.log", &["two"]);
    bench.settle();
    assert_eq!(bench.lines.last().map(|line| text_of(line)), Some("two"));
    assert!(bench.count("tailwake_read_errors_total") > 0);
}
