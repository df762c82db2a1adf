//! Logs that are held, released under another version, and shut.

use super::*;
use crate::ticket::{Facts, Standing};

impl Bench {
    /// Another version of the log's source.
    fn change(&mut self, standing: Standing, app: &str) {
        let mut source = Source::clone(&self.source);
        source.standing = standing;
        source.meta.facts = Some(Arc::new(Facts {
            labels: vec![("app".into(), app.into())],
            ..Facts::default()
        }));
        self.source = Arc::new(source);
        let source = Arc::clone(&self.source);
        self.turn(VecDeque::from([Event::Changed { source }]));
    }

    fn hold(&mut self) {
        let mut source = Source::clone(&self.source);
        source.standing = Standing::Held;
        self.source = Arc::new(source);
    }

    /// The label of each chunk that has come, which is settled.
    fn apps(&mut self) -> Vec<String> {
        let mut apps = Vec::new();
        for chunk in std::mem::take(&mut self.kept) {
            let app = chunk.source.meta.field("labels.app");
            apps.push(app.map_or("", |app| app).to_owned());
            chunk.ticket.settle();
        }
        apps
    }
}

#[test]
fn a_held_log_is_open_and_unread_and_loses_nothing_to_rotation_and_deletion() {
    let mut bench = Bench::new("held");
    bench.keeps = true;
    bench.hold();
    bench.log("0.log", &["one"]);
    bench.settle();
    bench.rename("0.log", "0.log.20261124-030001");
    bench.log("0.log", &["two"]);
    bench.settle();
    fs::remove_file(bench.path("0.log.20261124-030001")).unwrap();
    fs::remove_file(bench.path("0.log")).unwrap();
    bench.settle();
    bench.later(5_000);
    bench.has(&[]);
    assert_eq!(bench.count("tailwake_files_open"), 2);
    bench.change(Standing::Read, "web");
    bench.has(&["one", "two"]);
    assert!(
        bench.apps().iter().all(|app| *app == "web"),
        "{:?}",
        bench.apps()
    );
    assert_eq!(bench.count("tailwake_unread_bytes_total"), 0);
}

#[test]
fn a_chunk_keeps_the_version_under_which_it_was_read() {
    let mut bench = Bench::new("version");
    bench.keeps = true;
    bench.log("0.log", &["one"]);
    bench.settle();
    bench.change(Standing::Read, "web");
    assert_eq!(bench.apps(), [""]);
    for app in ["web", "api"] {
        bench.change(Standing::Read, app);
        bench.log("0.log", &["more"]);
        bench.settle();
        assert_eq!(bench.apps(), [app]);
    }
}

#[test]
fn what_is_sent_without_metadata_is_counted() {
    let mut bench = Bench::new("bare");
    bench.hold();
    bench.log("0.log", &["one", "two"]);
    bench.settle();
    bench.change(Standing::Bare, "");
    bench.has(&["one", "two"]);
    assert_eq!(bench.count("tailwake_lines_without_metadata_total"), 2);
}

#[test]
fn a_log_that_is_shut_is_closed_at_once_and_its_unread_bytes_are_counted() {
    let mut bench = Bench::new("shut");
    bench.hold();
    bench.log("0.log", &["one"]);
    bench.settle();
    let size = fs::metadata(bench.path("0.log")).unwrap().len();
    bench.change(Standing::Shut, "");
    bench.has(&[]);
    assert_eq!(bench.count("tailwake_files_open"), 0);
    assert_eq!(bench.count("tailwake_opted_out_bytes_total"), size);
    assert!(bench.ledger.accounts().is_empty(), "its series go with it");
}

#[test]
fn a_log_that_is_opened_again_begins_at_its_present_end() {
    let mut bench = Bench::new("again");
    bench.log("0.log", &["secret"]);
    let mut source = Source::clone(&bench.source);
    source.log = LogId(1);
    bench.source = Arc::new(source);
    let mut events = bench.list(true);
    for event in &mut events {
        if let Event::Found { at_end, .. } = event {
            *at_end = true;
        }
    }
    bench.turn(events);
    bench.log("0.log", &["public"]);
    bench.settle();
    bench.has(&["public"]);
}
