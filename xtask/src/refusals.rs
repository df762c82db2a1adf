//! What real servers refuse: each limit of Loki, and the mapping of an index, provoked; exactly the refused
//! lines are missing, and exactly those lie with the dead letters.
//!
//! ```text
//! CRI files -> agent -> Loki with small limits, Elasticsearch with a mapping -> query
//!                   `-> dead letters -> tailwake deadletter list --json
//! ```
//!
//! 1. Each round has a server with limits of its own, a state of its own and pods of its own.
//! 2. A round ends when each line is acknowledged or rejected, as the agent counts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::process::say;
use harness::text::{now_ns, rfc3339_nano};
use serde_json::{Value, json};

use crate::build::target;
use crate::run::agent::{Agent, config_path};
use crate::testbed::query::{Http, loki_entries, refresh, sources};
use crate::testbed::{Cache, Kind, Options, Server};

/// A round may take this long.
const LIMIT: Duration = Duration::from_secs(60);

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3_600 * SECOND;

/// A line of a pod: how old it is, in nanoseconds, and its text; `None` reason = it is to be stored.
struct Line {
    pod: &'static str,
    time_ns: u64,
    text: String,
    refused: Option<&'static str>,
}

/// A server's limits and what is written under them.
struct Round {
    name: &'static str,
    env: &'static [(&'static str, &'static str)],
    lines: Vec<Line>,
    /// A pod that has everything long before the others have.
    first: Option<&'static str>,
}

/// Runs all rounds with the release agent that was built last.
///
/// # Errors
/// What is stored and should not be, or the other way round.
pub fn run() -> Result<()> {
    let directory = std::env::temp_dir().join(format!("tailwake-refusals-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let done = all(&directory);
    if done.is_ok() {
        std::fs::remove_dir_all(&directory)?;
    } else {
        say(&format!("all of it stays in {}", directory.display()));
    }
    done
}

fn all(directory: &Path) -> Result<()> {
    let cache = Cache::open()?;
    for round in rounds() {
        let begun = Instant::now();
        loki(&cache, &directory.join(round.name), &round)
            .with_context(|| format!("round `{}`", round.name))?;
        let took = begun.elapsed().as_secs_f64();
        say(&format!(
            "loki, {}: {} lines, {took:.1} s",
            round.name,
            round.lines.len()
        ));
    }
    search(&cache, &directory.join("search")).context("round `mapping`")?;
    say("elasticsearch, mapping: refused fields came as text, and refused lines are dead letters");
    Ok(())
}

fn rounds() -> Vec<Round> {
    let now = now_ns();
    let line = |pod, time_ns, text: &str, refused| Line {
        pod,
        time_ns,
        text: text.to_owned(),
        refused,
    };
    let many = |pod, count: u64, bytes: usize| {
        let one = |at: u64| {
            line(
                pod,
                now + at,
                &format!("{at:04} {}", "m".repeat(bytes)),
                None,
            )
        };
        (0..count).map(one).collect::<Vec<_>>()
    };
    let long = "l".repeat(1_025);
    let mut limits = vec![
        line("one", now - 5 * SECOND, "good", None),
        line("one", now - 4 * SECOND, &long, Some("line_too_long")),
        line("one", now - 3 * SECOND, &long[1..], None),
        line("one", now - 2 * HOUR, "old", Some("too_old")),
        line("two", now + HOUR, "new", Some("too_new")),
        line("two", now - SECOND, "good too", None),
        line("three", now - 3 * HOUR, "old too", Some("too_old")),
    ];
    limits.extend(many("four", 200, 20));
    // One stream alone: of a push with another stream behind it, Loki 3.7 forgets this refusal and
    // answers 204 (docs/loss.md).
    let behind = vec![
        line("one", now, "head", None),
        line("one", now - 2 * HOUR, "far behind", Some("too_far_behind")),
        line("one", now + 1, "after", None),
    ];
    let schema = vec![
        line(
            "one",
            1_546_300_800 * SECOND,
            "of 2019",
            Some("before_schema"),
        ),
        // One stream: where another follows it, Loki answers 204 all the same (docs/loss.md).
        line("one", now, "of today", None),
    ];
    let mut stream = many("fast", 20, 500);
    stream.extend(many("calm", 3, 10));
    vec![
        Round {
            name: "lines",
            env: &[
                ("MAX_LINE", "1KB"),
                ("REJECT_OLD", "true"),
                ("MAX_AGE", "1h"),
            ],
            lines: limits,
            first: None,
        },
        Round {
            name: "behind",
            env: &[],
            lines: behind,
            first: None,
        },
        Round {
            name: "schema",
            env: &[],
            lines: schema,
            first: None,
        },
        Round {
            name: "stream-rate",
            env: &[("STREAM_RATE", "1KB"), ("STREAM_BURST", "4KB")],
            lines: stream,
            first: Some("calm"),
        },
        Round {
            name: "tenant-rate",
            env: &[("RATE_MB", "0.01"), ("BURST_MB", "0.02")],
            lines: many("one", 60, 1_000),
            first: None,
        },
        Round {
            name: "size",
            env: &[("MAX_RECV", "20000")],
            lines: many("one", 200, 1_000),
            first: None,
        },
    ]
}

/// Writes the pods' files.
fn write(pods: &Path, lines: &[Line]) -> Result<()> {
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    for line in lines {
        let time = rfc3339_nano(line.time_ns);
        let text = format!("{time} stdout F {}\n", line.text);
        files.entry(line.pod).or_default().push_str(&text);
    }
    for (pod, text) in files {
        let dir = pods.join(format!("default_{pod}_0a/app"));
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("0.log"), text)?;
    }
    Ok(())
}

fn binary() -> PathBuf {
    target().join("release").join("tailwake")
}

fn start(directory: &Path, output: &str) -> Result<Agent> {
    let (state, pods) = (directory.join("state"), directory.join("pods"));
    let (state, pods) = (state.display(), pods.display());
    Agent::start_config(&binary(), directory, |admin| {
        format!(
            "state: \"{state}\"\nadmin: {{listen: \"{admin}\"}}\ninputs: {{pods: {{pods: {{root: \
             \"{pods}\"}}}}}}\npipelines: {{main: {{from: [pods], stages: [{{cri: {{}}}}], to: \
             [out]}}}}\noutputs:\n  out:\n    retry: {{min: 50ms, max: 500ms}}\n    {output}\n"
        )
    })
}

/// The sum of a metric's series.
fn sum(agent: &Agent, begins: &str) -> u64 {
    let text = agent.metrics().unwrap_or_default();
    let series = text.lines().filter(|line| line.starts_with(begins));
    series
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// Until each line has ended; `look` is asked once the half of it has gone by.
fn finish(agent: &mut Agent, directory: &Path, lines: u64) -> Result<()> {
    let begun = Instant::now();
    loop {
        agent.check(directory)?;
        let stored = sum(agent, "tailwake_acknowledged_lines_total{");
        let rejected = sum(agent, "tailwake_rejected_lines_total{");
        if stored + rejected == lines {
            return Ok(());
        }
        if begun.elapsed() > LIMIT || stored + rejected > lines {
            bail!("{stored} lines acknowledged and {rejected} rejected of {lines}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What lies with the dead letters: reason by text.
fn letters(directory: &Path) -> Result<BTreeMap<String, String>> {
    let listed = Command::new(binary())
        .args(["deadletter", "list", "--json", "--config"])
        .arg(config_path(directory))
        .output()?;
    ensure!(
        listed.status.success(),
        "tailwake deadletter list: {listed:?}"
    );
    let mut found = BTreeMap::new();
    for line in String::from_utf8(listed.stdout)?.lines() {
        let letter: Value = serde_json::from_str(line)?;
        let text = |key: &str| letter[key].as_str().unwrap_or_default().to_owned();
        ensure!(
            !text("words").is_empty() && !text("entry_time").is_empty(),
            "{line}"
        );
        let twice = found.insert(text("line"), text("reason"));
        ensure!(twice.is_none(), "a letter came twice: {line}");
    }
    Ok(found)
}

fn loki(cache: &Cache, directory: &Path, round: &Round) -> Result<()> {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let options = Options {
        env: round.env.iter().map(pair).collect(),
        install: std::env::var_os("CI").is_some(),
        ..Options::default()
    };
    let server = Server::start(Kind::Loki, cache, &directory.join("loki"), 0, options)?;
    write(&directory.join("pods"), &round.lines)?;
    let url = &server.url;
    let output = format!("loki: {{url: \"{url}/loki/api/v1/push\"}}");
    let mut agent = start(directory, &output)?;
    let http = Http::new(url)?;
    let texts = |selector: &str| -> Result<Vec<String>> {
        let (from, to) = (now_ns() - 4 * HOUR, now_ns() + 2 * HOUR);
        let entries = loki_entries(&http, selector, from, to)?;
        Ok(entries.into_iter().map(|entry| entry.line).collect())
    };
    if let Some(first) = round.first {
        let of = |pod: &str| round.lines.iter().filter(|line| line.pod == pod).count();
        let begun = Instant::now();
        while texts(&format!("{{pod=\"{first}\"}}"))?.len() < of(first) {
            ensure!(
                begun.elapsed() < Duration::from_secs(3),
                "{first} waits for the others"
            );
        }
        let all = texts("{namespace=\"default\"}")?.len();
        ensure!(all < round.lines.len(), "nobody was limited");
    }
    finish(&mut agent, directory, round.lines.len() as u64)?;
    agent.end()?;
    let mut stored = texts("{namespace=\"default\"}")?;
    stored.sort();
    let good = round.lines.iter().filter(|line| line.refused.is_none());
    let mut want: Vec<String> = good.map(|line| line.text.clone()).collect();
    want.sort();
    ensure!(
        stored == want,
        "stored {}, to be stored {}",
        stored.len(),
        want.len()
    );
    let bad = round
        .lines
        .iter()
        .filter_map(|line| Some((line.text.clone(), line.refused?.to_owned())));
    let want: BTreeMap<String, String> = bad.collect();
    let letters = letters(directory)?;
    ensure!(letters == want, "dead letters {letters:?}, to be {want:?}");
    Ok(())
}

/// A long that is no number, and a text that no keyword holds.
fn search(cache: &Cache, directory: &Path) -> Result<()> {
    let options = Options {
        install: std::env::var_os("CI").is_some(),
        ..Options::default()
    };
    let home = directory.join("elasticsearch");
    let server = Server::start(Kind::Elasticsearch, cache, &home, 0, options)?;
    let http = Http::new(&server.url)?;
    let mapping = json!({"mappings": {"properties": {
        "n": {"type": "long"},
        "message": {"type": "keyword"},
    }}});
    let made = http.send(
        http::Method::PUT,
        "/picky",
        Some("application/json"),
        mapping.to_string().into(),
    )?;
    ensure!(made.status == 200, "make the index: {:?}", made.body);
    let (now, immense) = (now_ns(), "i".repeat(40_000));
    let texts = [
        r#"{"n":1,"fits":true}"#,
        r#"{"n":"no number", "m":[1]}"#,
        "plain",
        &immense,
        r#"{"n":{"o":1}}"#,
    ];
    let lines: Vec<Line> = (0u64..)
        .zip(texts)
        .map(|(at, text)| Line {
            pod: "one",
            time_ns: now + at,
            text: text.to_owned(),
            refused: None,
        })
        .collect();
    write(&directory.join("pods"), &lines)?;
    let url = &server.url;
    let output = format!("elasticsearch: {{urls: [\"{url}\"], index: picky}}");
    let mut agent = start(directory, &output)?;
    finish(&mut agent, directory, lines.len() as u64)?;
    let plain = sum(&agent, "tailwake_plain_lines_total{");
    agent.end()?;
    refresh(&http, "picky")?;
    let documents = sources(&http, "picky")?;
    let messages = documents.iter().filter_map(|it| it["message"].as_str());
    let mut messages: Vec<&str> = messages.collect();
    messages.sort_unstable();
    ensure!(messages == [texts[2], texts[1], texts[4]], "{documents:?}");
    let merged = documents
        .iter()
        .filter(|it| it["n"] == 1 && it["fits"] == true);
    ensure!(
        merged.count() == 1 && documents.len() == 4 && plain == 2,
        "{documents:?}"
    );
    let letters = letters(directory)?;
    let reasons: Vec<&str> = letters.values().map(String::as_str).collect();
    ensure!(reasons == ["bad_item"], "dead letters {reasons:?}");
    ensure!(
        letters.keys().all(|line| line.contains(&immense)),
        "another line"
    );
    Ok(())
}
