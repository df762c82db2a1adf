//! Ids over the whole way from chunks to bodies.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;

use super::super::compress::inflate;
use super::super::fixture::{Told, chunk, record, source, ticket};
use super::super::{Outlet, Worker};
use super::id::{has_id, id, origin};
use crate::base::bell::Bell;
use crate::base::count::Registry;
use crate::base::outputs::OutputId;
use crate::base::time::{Mono, Timestamp};
use crate::plan::Ids;
use crate::stage::{Program, TimeOrigin};
use crate::ticket::Feed;

/// A config with one output, `o`; the pipelines are under test.
fn config(ids: &str, pipelines: &str) -> String {
    format!(
        "inputs: {{pods: {{pods: {{}}}}}}\n{pipelines}\noutputs: {{o: {{window_bytes: 1GiB, \
         elasticsearch: {{urls: http://h, data_stream: logs-a-b, ids: '{ids}'}}}}}}\n\
         limits: {{memory: 4GiB}}\n"
    )
}

const PLAIN: &str = "pipelines: {p: {from: pods, stages: [{cri: {}}], to: o}}";

/// (id, message) of all documents that a text becomes, read in pieces that end at `cuts`.
fn ids(
    config: &str,
    text: &[u8],
    cuts: &[usize],
    wall: Timestamp,
) -> Vec<(Option<String>, String)> {
    let plan = crate::config::parse("t.yaml", config, &|_| None)
        .map_err(|found| found.to_string())
        .unwrap();
    let (registry, bell) = (Registry::default(), Bell::silent());
    let outlet = Outlet::new(OutputId(0), "o", 1 << 40, bell, Vec::new(), &registry);
    let outlet = Arc::new(outlet);
    let program = Program::compile(&plan);
    let outlets = vec![Arc::clone(&outlet)];
    let mut worker = Worker::new(0, &plan, program, 1 << 20, outlets, &registry);
    let told = Arc::new(Told::default());
    let mut borders: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    borders.extend([0, text.len()]);
    borders.sort_unstable();
    borders.dedup();
    let mut feeds: VecDeque<Feed> = VecDeque::new();
    for pair in borders.windows(2) {
        let mut chunk = chunk(&told, pair[0] as u64, &text[pair[0]..pair[1]], 1);
        chunk.open_tail = pair[1] < text.len();
        feeds.push_back(Feed::Chunk(chunk));
    }
    let mut found = Vec::new();
    let mut now = Mono(1);
    while !feeds.is_empty() {
        worker.turn(now, wall, &mut || feeds.pop_front());
        now = now.plus_ms(1);
    }
    // Blocks leave in their time, and so does the batch.
    for _ in 0..3 {
        now = now.plus_ms(10_000);
        worker.turn(now, wall, &mut || None);
    }
    while let Some(request) = outlet.take() {
        let raw = inflate(request.encoding, &request.body).unwrap();
        let mut lines = raw.split(|byte| *byte == b'\n');
        while let (Some(action), Some(document)) = (lines.next(), lines.next()) {
            let action: Value = serde_json::from_slice(action).unwrap();
            let document: Value = serde_json::from_slice(document).unwrap();
            found.push((
                action["create"]["_id"].as_str().map(str::to_owned),
                document["message"].as_str().unwrap_or_default().to_owned(),
            ));
        }
        request
            .tickets
            .into_iter()
            .for_each(crate::ticket::Ticket::settle);
    }
    found
}

fn only(found: &[(Option<String>, String)]) -> BTreeSet<String> {
    found.iter().map(|(id, _)| id.clone().unwrap()).collect()
}

const TEXT: &[u8] = b"2026-11-24T05:00:00.5Z stdout F same\n\
    2026-11-24T05:00:00.5Z stdout F same\n\
    2026-11-24T05:00:00.5Z stderr F same\n\
    2026-11-24T05:00:00.6Z stdout P long, \n\
    2026-11-24T05:00:00.6Z stderr F between\n\
    2026-11-24T05:00:00.7Z stdout F its end\n\
    no time at all\n\
    2026-11-24T05:00:00.8Z stdout F \n";

#[test]
fn lines_that_are_alike_have_ids_of_their_own_and_those_without_a_time_as_they_are_asked() {
    let wall = Timestamp::default();
    let found = ids(&config("on", PLAIN), TEXT, &[], wall);
    assert_eq!((found.len(), only(&found).len()), (7, 7), "{found:?}");
    let later = Timestamp { secs: 9, nanos: 9 };
    assert_eq!(ids(&config("on", PLAIN), TEXT, &[], later), found);
    let without = |ids_are: &str| {
        let found = ids(&config(ids_are, PLAIN), TEXT, &[], wall);
        let none = found.into_iter().filter(|(id, _)| id.is_none());
        none.map(|(_, text)| text).collect::<Vec<_>>()
    };
    assert_eq!(without("timed"), ["no time at all"]);
    assert_eq!(without("off").len(), 7);
}

#[test]
fn each_way_to_the_output_has_ids_of_its_own() {
    let pipelines = "
entries:
  e: [{multiline: {first_line: 'same'}}, {output: o}]
pipelines:
  p: {from: pods, stages: [{cri: {}}, {output: o}, {copy: [[{output: o}], [{goto: e}], [{labels: [x]}, {goto: e}], [{match: {selector: '{stream=\"stdout\"}', stages: [{output: o}]}}]]}]}
  q: {from: pods, stages: [{cri: {}}], to: o}
  r: {from: pods, stages: [{cri: {}}, {copy: [[{goto: e}], [{copy: [[{goto: e}], [{output: o}]]}]]}]}";
    let text = &TEXT[..37];
    let found = ids(&config("on", pipelines), text, &[], Timestamp::default());
    assert_eq!(found.len(), 9, "{found:?}");
    assert_eq!(only(&found).len(), 9, "{found:?}");
    let again = ids(
        &config("on", pipelines),
        text,
        &[5, 20],
        Timestamp::default(),
    );
    assert_eq!(only(&again), only(&found));
    // Another pipeline's steps change nothing.
    let fewer = "pipelines: {q: {from: pods, stages: [{cri: {}}], to: o}, \
        p: {from: pods, stages: [{cri: {}}, {drop: {value: x}}], to: o}}";
    let more = fewer.replace("{drop: {value: x}}", "{drop: {value: x}}, {output: o}");
    let fewer = only(&ids(&config("on", fewer), text, &[], Timestamp::default()));
    let more = only(&ids(&config("on", &more), text, &[], Timestamp::default()));
    assert_eq!(fewer.intersection(&more).count(), 2, "{fewer:?} {more:?}");
}

#[test]
fn an_id_is_of_all_that_a_line_is_and_of_nothing_else() {
    let told = Arc::new(Told::default());
    let (here, owed) = (source(&[]), ticket(&told, 0, 1));
    let of = |cluster: &str, output: &str, change: &dyn Fn(&mut crate::stage::Record<'_>)| {
        let mut record = record(&here, &owed, b"text");
        change(&mut record);
        let made = id(&origin(cluster, output, &record), &record);
        String::from_utf8(made.to_vec()).unwrap()
    };
    let first = of("", "o", &|_| ());
    // What an older agent has sent must be known by a newer one.
    assert_eq!(first, "xxnIsNG0Z5qrB-MBeWCuYw");
    let mut all = BTreeSet::from([first.clone()]);
    let mut differs = |id: String| assert!(all.insert(id), "an id that was there");
    differs(of("c", "o", &|_| ()));
    differs(of("", "p", &|_| ()));
    differs(of("o", "", &|_| ()));
    differs(of("", "o", &|record| record.offset += 1));
    differs(of("", "o", &|record| record.text = b"texT"[..].into()));
    differs(of("", "o", &|record| record.ordinal = 1));
    differs(of("", "o", &|record| record.route = 1));
    differs(of("", "o", &|record| record.time.nanos += 1));
    differs(of("", "o", &|record| record.time.secs += 1));
    differs(of("", "o", &|record| record.time_origin = TimeOrigin::Read));
    differs(of("", "o", &|record| {
        record.stream = crate::stage::Stream::Stderr
    }));
    let mut other = (*here).clone();
    other.key = "default_web-1_0a1b/side".into();
    let mut moved = (*here).clone();
    moved.meta.node = "node-2".into();
    for source in [Arc::new(other), Arc::new(moved)] {
        let record = record(&source, &owed, b"text");
        let made = id(&origin("", "o", &record), &record);
        differs(String::from_utf8(made.to_vec()).unwrap());
    }
    // Labels, the path under which the file was found and the rest of the metadata are not of it.
    let mut elsewhere = (*source(&[("app", "x")])).clone();
    elsewhere.filename = "/var/log/pods/x/0.log.20261124-050000.gz".into();
    elsewhere.log = crate::ticket::LogId(9);
    let elsewhere = Arc::new(elsewhere);
    let mut same = record(&elsewhere, &owed, b"text");
    same.labels.push(("level".into(), b"info"[..].into()));
    assert_eq!(id(&origin("", "o", &same), &same), *first.as_bytes());
    same.time_origin = TimeOrigin::Read;
    let then = id(&origin("", "o", &same), &same);
    same.time.secs += 5;
    assert_eq!(id(&origin("", "o", &same), &same), then);
    assert!(has_id(Ids::On, &same) && !has_id(Ids::Timed, &same));
    drop(same);
    owed.settle();
}

/// A line of one of two streams, whole or in parts, or none of the runtime's.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let text = prop::collection::vec(prop::sample::select(b"ab \xff{}\"".to_vec()), 0..12);
    (text, 0..6u8, 0..3u8).prop_map(|(text, kind, nanos)| {
        let head = match kind {
            0 => String::new(),
            1 => format!("2026-11-24T05:00:00.{nanos}Z stderr F "),
            2 => format!("2026-11-24T05:00:00.{nanos}Z stdout P "),
            _ => format!("2026-11-24T05:00:00.{nanos}Z stdout F "),
        };
        [head.as_bytes(), &text, b"\n"].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// However a text is cut into chunks, its lines have the same ids, each its own.
    #[test]
    fn any_split_gives_the_same_ids(
        lines in prop::collection::vec(line(), 1..12),
        cuts in prop::collection::vec(any::<usize>(), 0..8),
    ) {
        let text = lines.concat();
        let wall = Timestamp::default();
        let whole = ids(&config("on", PLAIN), &text, &[], wall);
        prop_assert_eq!(only(&whole).len(), whole.len());
        let mut split = ids(&config("on", PLAIN), &text, &cuts, wall);
        split.sort();
        let mut whole = whole;
        whole.sort();
        prop_assert_eq!(split, whole);
    }
}
