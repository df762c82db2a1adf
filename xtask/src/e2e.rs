//! The end-to-end test: a node that writes and rotates, the agent, and real servers that are
//! queried afterwards.
//!
//! ```text
//! generator -> files -> agent -> proxy (counts) -> Loki, Elasticsearch -> query -> account
//! ```
//!
//! 1. While lines flow the agent is killed (SIGKILL) and started again, and each server is stopped
//!    and started again.
//! 2. Every record is there with its text, time and container; what came twice was counted on the
//!    wire, and comes only from the kill and from answers that a stop cut off.
//! 3. The plan is a graph: drop, a stage that holds, a nested match, a copy to both outputs.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use harness::account::Account;
use harness::generate::{Generator, Options as Load, journal_directory};
use harness::journal::read_all;
use harness::process::say;
use harness::proxy::Proxy;
use harness::tally::Tally;
use harness::twice::Crash;
use harness::wire::{Arrived, Output, bulk, loki as push};
use serde_json::{Value, json};

use crate::build::target;
use crate::run::agent::{Agent, Setup, Stages};
use crate::testbed::query::{Http, loki_entries, refresh, sources_of};
use crate::testbed::{Cache, Kind, Options, Server};

/// Records in all.
const RECORDS: u64 = 200_000;

/// Containers that write them, each its share.
const PODS: u32 = 20;

/// Records a second.
const RATE: u64 = 8_000;

/// Requests of one output whose answer may be cut off: one per lane for the kill, one for its
/// server's stop. This plan has one tenant and, on two processors, one encoder.
const CUT_REQUESTS_MAX: usize = 2;

/// From the ledger's snapshot to the end of its fsync, and from the last of a chunk's records to the
/// first: a chunk counts as delivered when all of it is.
const SLACK: Duration = Duration::from_millis(1_500);

/// The whole of it may take this long.
const LIMIT: Duration = Duration::from_secs(240);

/// Runs it with the release agent that was built last.
///
/// # Errors
/// What was lost, altered or sent twice too often.
pub fn run() -> Result<()> {
    let begun = Instant::now();
    let directory = std::env::temp_dir().join(format!("tailwake-e2e-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let done = rounds(&directory, begun);
    if done.is_ok() {
        std::fs::remove_dir_all(&directory)?;
    } else {
        say(&format!(
            "logs, config and the agent's log stay in {}",
            directory.display()
        ));
    }
    done
}

fn rounds(directory: &Path, begun: Instant) -> Result<()> {
    let cache = Cache::open()?;
    let server = |kind, name: &str| {
        let install = std::env::var_os("CI").is_some();
        let options = Options {
            install,
            ..Options::default()
        };
        Server::start(kind, &cache, &directory.join(name), 0, options)
    };
    let mut loki = server(Kind::Loki, "loki")?;
    let mut search = server(Kind::Elasticsearch, "elasticsearch")?;
    let proxies = (Proxy::start(&loki.url)?, Proxy::start(&search.url)?);
    let setup = Setup {
        directory: directory.to_owned(),
        pods: directory.join("node").join("pods"),
        loki: Some(format!("http://{}", proxies.0.address())),
        search: Some(format!("http://{}", proxies.1.address())),
        stages: Stages::Graph,
    };
    let binary = target().join("release").join("tailwake");
    let node = directory.join("node");
    let generator = Generator::start(&Load {
        directory: node.clone(),
        pods: PODS,
        records: Some(RECORDS / u64::from(PODS)),
        rate: RATE,
        rotate_bytes: 1 << 20,
        duration: None,
        seed: 7,
        invalid_utf8: true,
        noise: true,
    })?;
    let written = || {
        generator
            .written()
            .records
            .load(std::sync::atomic::Ordering::Relaxed)
    };
    let reach = |part: u64| {
        until(
            begun,
            || Ok(written() >= RECORDS * part / 100),
            "the writers",
        )
    };
    let mut agent = Agent::start(&binary, &setup)?;
    reach(25)?;
    say("killing the agent");
    drop(agent);
    // Only now it is dead: an answer may have come while the signal was on its way.
    let at = SystemTime::now();
    let file = directory.join("state").join("positions");
    let positions = std::fs::metadata(file).and_then(|facts| facts.modified());
    // Killed before the first write: all that was acknowledged may come again.
    let positions = positions.unwrap_or(SystemTime::UNIX_EPOCH);
    let crash = Crash { at, positions };
    agent = Agent::start(&binary, &setup)?;
    reach(45)?;
    say("stopping Loki");
    loki.stop()?;
    reach(60)?;
    loki.start_again()?;
    say("Loki is back; stopping Elasticsearch");
    search.stop()?;
    reach(75)?;
    search.start_again()?;
    say("Elasticsearch is back");
    until(begun, || Ok(generator.is_finished()), "the writers")?;
    generator.wait()?;
    let journals = read_all(&journal_directory(&node))?;
    let all: u64 = journals
        .iter()
        .map(|(_, entries)| entries.len() as u64)
        .sum();
    let whole = |proxy: &Proxy, output| proxy.acknowledged().distinct(output) >= all;
    let settled = until(
        begun,
        || {
            agent.check(directory)?;
            Ok(whole(&proxies.0, Output::Loki) && whole(&proxies.1, Output::Elasticsearch))
        },
        "the last acknowledgement",
    );
    say(&format!("{all} records written; asking the servers"));
    let status = agent.status();
    let detaches = ["loki", "search"].map(|output| {
        let series = format!("tailwake_output_detaches_total{{output=\"{output}\"}}");
        agent.metric(&series).unwrap_or(0)
    });
    let noise = agent.metric("tailwake_records_dropped_total{reason=\"noise\"}");
    agent.end()?;
    let tally = Tally::default();
    tally.take(
        Output::Loki,
        loki_records(&loki.url, "{namespace=~\".+\"}")?,
    );
    let all = json!({"match_all": {}});
    let found = search_records(&search.url, "tailwake-demo", &all)?;
    tally.take(Output::Elasticsearch, found);
    let outputs = [Output::Loki, Output::Elasticsearch];
    let mut account = Account::draw(&journals, &tally, &outputs);
    // A query gives no order of arrival; the demo node's receiver judges that.
    account
        .rows
        .iter_mut()
        .for_each(|row| (row.disordered, row.duplicates) = (0, 0));
    say(&format!("rung {}", status["rung"]));
    if !account.is_clean() || settled.is_err() {
        bail!("{account}\n{settled:?}");
    }
    let outputs = [("loki", &proxies.0), ("elasticsearch", &proxies.1)];
    for ((output, proxy), detaches) in outputs.into_iter().zip(detaches) {
        let twice = proxy.sendings().judge(crash, SLACK);
        say(&format!(
            "{output}: detached {detaches} times, sent twice: {twice:?}"
        ));
        if twice.unexplained > 0 || twice.cut_requests > CUT_REQUESTS_MAX {
            bail!("{output}: more was sent twice than the kill and the stops explain");
        }
    }
    if noise.is_none_or(|noise| noise == 0) {
        bail!("the noise did not arrive, and no drop of it was counted");
    }
    say("every record is there, in both servers");
    Ok(())
}

fn until(begun: Instant, mut reached: impl FnMut() -> Result<bool>, what: &str) -> Result<()> {
    while !reached()? {
        if begun.elapsed() > LIMIT {
            bail!("{what}: not within {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// All that Loki has of a selector, taken out of its answers as out of a push in JSON.
pub(crate) fn loki_records(url: &str, selector: &str) -> Result<Vec<Arrived>> {
    let http = Http::new(url)?;
    let now = harness::text::now_ns();
    let (from, to) = (now - 3_600_000_000_000, now + 60_000_000_000);
    let mut streams = Vec::new();
    for entry in loki_entries(&http, selector, from as _, to as _)? {
        let value = json!([[entry.ts_ns.to_string(), entry.line]]);
        streams.push(json!({"stream": entry.labels, "values": value}));
    }
    let body = serde_json::to_vec(&json!({ "streams": streams }))?;
    push::decode("application/json", &body)
}

/// All that an index of Elasticsearch has of a query, taken out as out of a bulk.
pub(crate) fn search_records(url: &str, index: &str, query: &Value) -> Result<Vec<Arrived>> {
    let http = Http::new(url)?;
    refresh(&http, index)?;
    let mut documents = sources_of(&http, index, query)?;
    let time = |document: &Value| document["@timestamp"].as_str().map(str::to_owned);
    documents.sort_by_cached_key(time);
    let mut body = String::new();
    for document in documents {
        body.push_str(&json!({"index": {"_index": index}}).to_string());
        body.push('\n');
        body.push_str(&document.to_string());
        body.push('\n');
    }
    bulk::decode("/_bulk", body.as_bytes()).context("what Elasticsearch has")
}
