//! What ids cost the server: the same lines with and without, its CPU, its indexing time, its disk.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use harness::process::say;

use super::once;
use crate::testbed::query::{Http, count, refresh};

/// Lines of each of the runs, of some 200 bytes.
const LINES: u64 = 60_000;

/// The first two warm the server up and are not printed.
const RUNS: [(&str, bool); 6] = [
    ("off", false),
    ("timed", false),
    ("off", true),
    ("timed", true),
    ("off", true),
    ("timed", true),
];

pub(super) fn run(http: &Http, url: &str, directory: &Path) -> Result<()> {
    let pods = directory.join("cost");
    let log = pods.join("shop_web-1_0a1b2c3d/app");
    std::fs::create_dir_all(&log)?;
    let mut text = String::new();
    for line in 0..LINES {
        let (id, ms) = (line.wrapping_mul(0x9e37_79b9_7f4a_7c15), line % 613);
        writeln!(
            text,
            "2026-11-24T05:{:02}:{:02}.{:09}Z stdout F {{\"level\":\"info\",\"msg\":\"request \
             completed\",\"path\":\"/api/v1/users/{line}/orders\",\"ms\":{ms},\"trace\":\"{id:016x}\"}}",
            line / 1000 / 60,
            line / 1000 % 60,
            line % 1000 * 1_000_000
        )?;
    }
    std::fs::write(log.join("0.log"), text)?;
    for (run, (ids, printed)) in RUNS.into_iter().enumerate() {
        let stream = format!("logs-cost{run}-default");
        let config = format!(
            "inputs:\n  pods: {{pods: {{root: '{}'}}, start_at: beginning}}\npipelines:\n  p: {{from: \
             [pods], stages: [{{cri: {{}}}}], to: [o]}}\noutputs:\n  o: {{elasticsearch: {{urls: \
             ['{url}'], data_stream: {stream}, ids: {ids}, template: {{name: tw-cost, built_in: true, \
             overwrite: true}}}}}}\n",
            pods.display()
        );
        let before = cpu_ms(http)?;
        once(directory, &format!("cost{run}"), &config)?;
        refresh(http, &stream)?;
        let cpu = cpu_ms(http)?.saturating_sub(before);
        let stored = count(http, &stream)?;
        let stats = http.get(&format!("/{stream}/_stats"))?.json()?;
        let all = &stats["_all"]["primaries"];
        let indexing = all["indexing"]["index_time_in_millis"].as_u64();
        let bytes = all["store"]["size_in_bytes"].as_u64();
        if printed {
            say(&format!(
                "ids {ids}: {stored} documents, server's CPU {cpu} ms, indexing {} ms, {} KiB on disk",
                indexing.unwrap_or(0),
                bytes.unwrap_or(0) >> 10
            ));
        }
    }
    Ok(())
}

/// What the server has used of CPU so far, as it says itself.
fn cpu_ms(http: &Http) -> Result<u64> {
    let stats = http.get("/_nodes/stats/process")?.json()?;
    let nodes = stats["nodes"].as_object().context("no nodes")?;
    let node = nodes.values().next().context("no node")?;
    let spent = node["process"]["cpu"]["total_in_millis"].as_u64();
    spent.context("no CPU time")
}
