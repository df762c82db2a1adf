//! Proof that each real server starts, stores, restarts on its data and is read back whole.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::query::{count, loki_entries, refresh, sources};
use super::{Cache, Kind, Options, Server};

// Over one page of Loki (2000) and over one scroll (5000).
const LINES: usize = 7001;

const HOUR_NS: u64 = 3_600_000_000_000;

fn now_ns() -> u64 {
    u64::try_from(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos(),
    )
    .unwrap()
}

fn start(kind: Kind) -> (Server, PathBuf) {
    let cache = Cache::open().unwrap();
    let dir = cache
        .state()
        .join(format!("test-{}-{}", kind.name(), std::process::id()));
    let server = Server::start(kind, &cache, &dir, 0, Options::default()).unwrap();
    (server, dir)
}

#[test]
#[ignore = "starts the real Loki; the first run builds it"]
fn loki_gives_back_every_line_across_a_restart() {
    let (mut server, dir) = start(Kind::Loki);
    let now = u64::try_from(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos(),
    );
    let first = now.unwrap() - 60_000_000_000;
    // Ten lines share each instant, so pages end inside one.
    let stamp = |index: usize| first + u64::try_from(index / 10).unwrap();
    let values: Vec<[String; 2]> = (0..LINES)
        .map(|index| [stamp(index).to_string(), format!("line {index}")])
        .collect();
    let body = json!({"streams": [{"stream": {"app": "roundtrip"}, "values": values}]});
    let http = server.http().unwrap();
    let answer = http
        .post("/loki/api/v1/push", "application/json", body.to_string())
        .unwrap();
    assert_eq!(answer.status, 204, "{:?}", answer.body);
    server.stop().unwrap();
    server.start_again().unwrap();
    let end = first + 120_000_000_000;
    let found = loki_entries(&http, "{app=\"roundtrip\"}", first, end).unwrap();
    let mut lines: Vec<&str> = found.iter().map(|entry| entry.line.as_str()).collect();
    lines.sort_unstable();
    let mut want: Vec<String> = (0..LINES).map(|index| format!("line {index}")).collect();
    want.sort_unstable();
    assert_eq!(lines, want);
    assert!(found.windows(2).all(|pair| pair[0].ts_ns <= pair[1].ts_ns));
    drop(server);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
#[ignore = "builds the real Promtail and Loki"]
fn promtail_delivers_a_file_to_loki() {
    let (loki, loki_dir) = start(Kind::Loki);
    let cache = Cache::open().unwrap();
    let dir = cache
        .state()
        .join(format!("test-promtail-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("app.log"), "one\ntwo\n").unwrap();
    let config = dir.join("promtail.yaml");
    let text = format!(
        "clients: [{{url: \"{}/loki/api/v1/push\"}}]\nscrape_configs:\n- job_name: a\n  \
         static_configs:\n  - labels: {{app: oracle, __path__: \"{}/app.log\"}}\n",
        loki.url,
        dir.display()
    );
    std::fs::write(&config, text).unwrap();
    let args = vec![format!("-config.file={}", config.display())];
    let options = Options {
        args,
        ..Options::default()
    };
    let mut promtail = Server::start(Kind::Promtail, &cache, &dir, 0, options).unwrap();
    let http = loki.http().unwrap();
    let started = std::time::Instant::now();
    let mut lines = Vec::new();
    // Each turn waits for an answer of Loki; Promtail sends its batch after one second.
    while lines.len() < 2 && started.elapsed().as_secs() < 20 {
        let found = loki_entries(
            &http,
            "{app=\"oracle\"}",
            now_ns() - HOUR_NS,
            now_ns() + HOUR_NS,
        );
        lines = found.unwrap().into_iter().map(|entry| entry.line).collect();
    }
    assert_eq!(lines, ["one", "two"]);
    promtail.stop().unwrap();
    drop(loki);
    std::fs::remove_dir_all(dir).unwrap();
    std::fs::remove_dir_all(loki_dir).unwrap();
}

fn search_roundtrip(kind: Kind) {
    let (mut server, dir) = start(kind);
    let http = server.http().unwrap();
    let mut bulk = String::new();
    for index in 0..LINES {
        bulk.push_str("{\"index\":{}}\n");
        bulk.push_str(&json!({"n": index, "message": "x"}).to_string());
        bulk.push('\n');
    }
    let answer = http
        .post("/roundtrip/_bulk", "application/x-ndjson", bulk)
        .unwrap();
    assert_eq!(answer.json().unwrap()["errors"], false);
    server.kill().unwrap();
    server.start_again().unwrap();
    refresh(&http, "roundtrip").unwrap();
    assert_eq!(count(&http, "roundtrip").unwrap(), LINES as u64);
    let mut found: Vec<u64> = sources(&http, "roundtrip")
        .unwrap()
        .iter()
        .map(|doc| doc["n"].as_u64().unwrap())
        .collect();
    found.sort_unstable();
    assert!(found.into_iter().eq(0..LINES as u64));
    server.stop().unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
#[ignore = "fetches and starts the real Elasticsearch"]
fn elasticsearch_gives_back_every_document_across_a_kill() {
    search_roundtrip(Kind::Elasticsearch);
}

#[test]
#[ignore = "fetches and starts the real OpenSearch"]
fn opensearch_gives_back_every_document_across_a_kill() {
    search_roundtrip(Kind::OpenSearch);
}
