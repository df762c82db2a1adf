//! A ring that loses events or fails, and names that are no logs.

use super::*;

#[test]
fn a_name_that_is_no_log_is_counted_once_while_it_is_there() {
    let mut bench = Bench::new("no-log");
    let mut counted = Vec::new();
    for there in [true, true, false, true] {
        let (link, target) = (bench.path("0.log"), "/proc/self/status");
        let _ = if there {
            std::os::unix::fs::symlink(target, link)
        } else {
            fs::remove_file(link)
        };
        bench.settle();
        counted.push(bench.count("tailwake_files_refused_total"));
    }
    assert_eq!(counted, [1, 1, 1, 2]);
}

#[test]
fn an_error_of_the_ring_loses_no_event() {
    let mut bench = Bench::new("ring-error");
    bench.log("0.log", &["one"]);
    bench.reader.ring().breaks = 20;
    bench.settle();
    bench.log("0.log", &["two"]);
    bench.reader.ring().breaks = 20;
    bench.read();
    bench.has(&["one", "two"]);
}

#[test]
fn a_refused_event_calls_for_a_sweep_as_soon_as_another_file_wakes() {
    let mut bench = Bench::new("refused");
    bench.log("0.log", &["one"]);
    bench.log("other", &["other"]);
    let source = Source {
        log: LogId(1),
        key: "a_b_c/other".into(),
        ..Source::clone(&bench.source)
    };
    let mut events = bench.list(false);
    events.push_back(Event::Found {
        source: Arc::new(source),
        path: bench.path("other"),
        place: log_file("0.log").unwrap(),
        at_start: false,
        at_end: false,
    });
    bench.turn(events);
    bench.reader.ring().loses = true;
    bench.log("0.log", &["two"]);
    bench.read();
    bench.has(&["one", "other"]);
    bench.reader.ring().loses = false;
    bench.log("other", &["wakes"]);
    bench.read();
    bench.has(&["one", "other", "wakes", "two"]);
    assert_eq!(bench.count("tailwake_sweep_alarms_total"), 1);
    assert_eq!(bench.count("tailwake_sweep_late_finds_total"), 1);
}
