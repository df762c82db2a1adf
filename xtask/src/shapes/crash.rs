//! `kill -9` against the real server: what was sent twice is there once, in one backing index.
//!
//! With a rollover between the crash and the resend it is not: ids are told apart within one index
//! alone. That is counted and printed, and stands in docs/loss.md.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use harness::account::Account;
use harness::generate::{Generator, Options as Load, journal_directory};
use harness::journal::read_all;
use harness::process::say;
use harness::proxy::Proxy;
use harness::tally::Tally;
use harness::wire::Output;
use serde_json::json;

use crate::build::target;
use crate::e2e::search_records;
use crate::run::agent::Agent;
use crate::testbed::query::{Http, count, refresh};

/// Records of one round, over as many seconds as a thousandth of these and a little more.
const RECORDS: u64 = 24_000;
const PODS: u32 = 6;
const RATE: u64 = 6_000;
const LIMIT: Duration = Duration::from_secs(90);

/// Two rounds: killed twice, and killed with a rollover before the agent is back.
pub(super) fn run(http: &Http, url: &str, directory: &Path) -> Result<()> {
    let twice = round(http, url, directory, "kept", false)?;
    say(&format!(
        "killed twice: {} records sent again, {} documents more than records",
        twice.sent, twice.stored
    ));
    if twice.sent == 0 || twice.stored > 0 {
        bail!("wanted some sent again and none stored again: {twice:?}");
    }
    let twice = round(http, url, directory, "rolled", true)?;
    say(&format!(
        "killed, rolled over: {} records sent again, {} stored again in the new backing index",
        twice.sent, twice.stored
    ));
    if twice.stored > twice.sent {
        bail!("more stored again than sent again: {twice:?}");
    }
    Ok(())
}

#[derive(Debug)]
struct Twice {
    sent: u64,
    stored: u64,
}

fn round(http: &Http, url: &str, directory: &Path, name: &str, rollover: bool) -> Result<Twice> {
    let (directory, stream) = (directory.join(name), format!("logs-{name}-default"));
    let node = directory.join("node");
    std::fs::create_dir_all(&node)?;
    let proxy = Proxy::start(url)?;
    let generator = Generator::start(&Load {
        directory: node.clone(),
        pods: PODS,
        records: Some(RECORDS / u64::from(PODS)),
        rate: RATE,
        rotate_bytes: 256 << 10,
        duration: None,
        seed: 11,
        invalid_utf8: true,
        noise: false,
    })?;
    let begun = Instant::now();
    let mut agent = start(&directory, &proxy, &stream)?;
    let acknowledged = || proxy.acknowledged().distinct(Output::Elasticsearch);
    let until = |part: u64, agent: &mut Agent| -> Result<()> {
        while acknowledged() < RECORDS * part / 100 {
            agent.check(&directory)?;
            if begun.elapsed() > LIMIT {
                bail!(
                    "{} of {RECORDS} acknowledged within {LIMIT:?}",
                    acknowledged()
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    };
    for part in if rollover { &[50][..] } else { &[30, 60] } {
        until(*part, &mut agent)?;
        // Dropped is killed.
        drop(agent);
        if rollover {
            let answer = http.post(&format!("/{stream}/_rollover"), "application/json", "")?;
            answer.json()?;
        }
        agent = start(&directory, &proxy, &stream)?;
    }
    until(100, &mut agent)?;
    generator.wait()?;
    // What was sent again may still be on its way.
    agent.end()?;
    let journals = read_all(&journal_directory(&node))?;
    let tally = Tally::default();
    let found = search_records(url, &stream, &json!({"match_all": {}}))?;
    tally.take(Output::Elasticsearch, found);
    let mut account = Account::draw(&journals, &tally, &[Output::Elasticsearch]);
    // A query gives no order of arrival.
    account.rows.iter_mut().for_each(|row| row.disordered = 0);
    if !account.is_clean() {
        bail!("{account}");
    }
    refresh(http, &stream)?;
    // Refused templates are no error of the agent's: without its own this is no data stream.
    let hit = http.get(&format!("/{stream}/_search?size=1"))?.json()?;
    let index = hit["hits"]["hits"][0]["_index"]
        .as_str()
        .unwrap_or_default();
    if !index.starts_with(".ds-") {
        bail!("{index} is no backing index of {stream}");
    }
    let stored = count(http, &stream)?;
    let written: u64 = journals.iter().map(|(_, all)| all.len() as u64).sum();
    Ok(Twice {
        sent: proxy.sent().duplicates(Output::Elasticsearch),
        stored: stored - written,
    })
}

fn start(directory: &Path, proxy: &Proxy, stream: &str) -> Result<Agent> {
    let (state, pods) = (directory.join("state"), directory.join("node/pods"));
    let binary = target().join("release").join("tailwake");
    Agent::start_config(&binary, directory, |admin| {
        format!(
            "state: '{}'\nadmin: {{listen: '{admin}'}}\ninputs:\n  pods: {{pods: {{root: '{}'}}, \
             start_at: beginning}}\npipelines:\n  p: {{from: [pods], stages: [{{cri: {{}}}}], to: \
             [o]}}\noutputs:\n  o:\n    elasticsearch: {{urls: ['http://{}'], data_stream: {stream}, \
             ids: timed, json: text, timestamp: date_nanos, template: {{name: tw-{stream}, built_in: \
             true}}}}\n",
            state.display(),
            pods.display(),
            proxy.address()
        )
    })
}
