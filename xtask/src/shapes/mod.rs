//! Every shape of bulk request against the real Elasticsearch and OpenSearch, queried back; and a
//! killed agent that stores nothing twice.
//!
//! ```text
//! four CRI lines -> agent (run --once), nine outputs -> server -> query    twice: ids tell
//! generator -> agent, killed twice -> proxy -> server -> every record there, once
//! ```
//!
//! 1. What the agent is told to write is what a query finds: names, mappings, routing, pipeline.
//! 2. Sent again from the beginning, what has ids is there once.

mod cost;
mod crash;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use harness::process::say;
use http::Method;
use serde_json::{Value, json};

use crate::build::target;
use crate::testbed::query::{Http, count, refresh};
use crate::testbed::{Cache, Kind, Options, Server};

const JSON: &str = "application/json";

/// What is written; the second line's team is no name for an index, the third has none.
const LINES: &str = r#"2026-11-24T05:00:00.000000001Z stdout F {"n":1,"team":"red","log":"taken"}
2026-11-24T05:00:00.000000002Z stdout F {"n":2,"team":"Blue/../*"}
2026-11-24T05:00:00.000000003Z stderr F plain text
2026-11-24T23:59:59.999999999Z stdout F {"n":3,"team":"green"}
"#;

/// Runs it with the release agent that was built last.
///
/// # Errors
/// What is not there as it was meant to be.
pub fn run() -> Result<()> {
    let cache = Cache::open()?;
    let name = format!("tailwake-shapes-{}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    for kind in [Kind::Elasticsearch, Kind::OpenSearch] {
        let begun = Instant::now();
        let install = std::env::var_os("CI").is_some();
        let options = Options {
            install,
            ..Options::default()
        };
        let directory = directory.join(kind.name());
        std::fs::create_dir_all(&directory)?;
        let server = Server::start(kind, &cache, &directory.join("server"), 0, options)?;
        let http = server.http()?;
        shapes(kind, &http, &server.url, &directory).with_context(|| kind.name())?;
        crash::run(&http, &server.url, &directory).with_context(|| kind.name())?;
        cost::run(&http, &server.url, &directory).with_context(|| kind.name())?;
        say(&format!("{}: {:.0?}", kind.name(), begun.elapsed()));
    }
    std::fs::remove_dir_all(directory)?;
    Ok(())
}

/// An agent that delivers what is there and ends.
fn once(directory: &Path, state: &str, config: &str) -> Result<()> {
    let file = directory.join(format!("{state}.yaml"));
    let state = directory.join(state);
    std::fs::write(&file, format!("state: \"{}\"\n{config}", state.display()))?;
    let output = Command::new(target().join("release/tailwake"))
        .args(["run", "--once", "--config"])
        .arg(&file)
        .output()?;
    if !output.status.success() {
        bail!(
            "the agent ended with {}:\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn put(http: &Http, path: &str, body: &Value) -> Result<()> {
    let body = Bytes::from(body.to_string());
    let answer = http.send(Method::PUT, path, Some(JSON), body)?;
    answer.json().map(drop).with_context(|| path.to_owned())
}

fn config(kind: Kind, url: &str, directory: &Path) -> String {
    let (pods, file) = (directory.join("pods"), directory.join("filed.json"));
    let outputs = [
        (
            "stream",
            "data_stream: 'logs-shape.{container}-{namespace}', timestamp: date_nanos, \
             kubernetes_fields: ecs, template: {name: tw-stream, built_in: true}"
                .to_owned(),
        ),
        ("daily", "index: 'tw-daily-{namespace}-%Y.%m.%d'".to_owned()),
        (
            "routed",
            "index: tw-routed, routing: '{namespace}/{stream}'".to_owned(),
        ),
        ("piped", "index: tw-piped, pipeline: p-drop".to_owned()),
        (
            "nested",
            "index: tw-nested, json: nest, template: {name: tw-nested, built_in: true}".to_owned(),
        ),
        (
            "text",
            "index: tw-text, json: text, ids: on, op_type: index".to_owned(),
        ),
        ("alias", "index: tw-alias, require_alias: true".to_owned()),
        (
            "labelled",
            "index: 'tw-team-{labels.team}', index_names_max: 2, fallback: tw-many".to_owned(),
        ),
        (
            "filed",
            format!(
                "data_stream: logs-filed-default, gzip_level: 0, template: {{name: tw-filed, file: '{}', \
                 overwrite: true}}",
                file.display()
            ),
        ),
    ];
    let mut outputs = outputs.to_vec();
    if kind == Kind::OpenSearch {
        let zstd = "index: tw-zstd, compression: zstd, server: opensearch3";
        outputs.push(("zstd", zstd.to_owned()));
    }
    let names: Vec<&str> = outputs.iter().map(|(name, _)| *name).collect();
    let texts = outputs
        .iter()
        .map(|(name, keys)| format!("  {name}: {{elasticsearch: {{urls: ['{url}'], {keys}}}}}\n"));
    format!(
        "limits: {{memory: 256MiB}}\ninputs:\n  pods: {{pods: {{root: '{}'}}, start_at: beginning}}\n\
         pipelines:\n  p:\n    from: [pods]\n    stages: [{{cri: {{}}}}, {{json: {{fields: {{team: \
         team}}}}}}, {{labels: [team]}}]\n    to: [{}]\noutputs:\n{}",
        pods.display(),
        names.join(", "),
        texts.collect::<String>()
    )
}

fn shapes(kind: Kind, http: &Http, url: &str, directory: &Path) -> Result<()> {
    let log = directory.join("pods/shop_web-1_0a1b2c3d/app");
    std::fs::create_dir_all(&log)?;
    std::fs::write(log.join("0.log"), LINES)?;
    let filed = json!({"index_patterns": ["logs-filed-*"], "priority": 300, "data_stream": {},
        "template": {"mappings": {"_meta": {"mine": true}}}});
    std::fs::write(directory.join("filed.json"), filed.to_string())?;
    // The published distribution of Elasticsearch has no other processor than our stand-ins.
    put(
        http,
        "/_ingest/pipeline/p-drop",
        &json!({"processors": [{"drop": {}}]}),
    )?;
    put(http, "/tw-piped", &json!({}))?;
    put(
        http,
        "/tw-alias-000001",
        &json!({"aliases": {"tw-alias": {"is_write_index": true}}}),
    )?;
    once(directory, "first", &config(kind, url, directory))?;
    stream(http)?;
    plain(http)?;
    if kind == Kind::OpenSearch {
        same(
            "zstd",
            &json!(hits(http, "tw-zstd", &all())?.len()),
            &json!(4),
        )?;
    }
    // All of it again, as after the loss of the state directory.
    once(directory, "second", &config(kind, url, directory))?;
    for (index, want) in [
        ("logs-shape.app-shop", 4),
        ("logs-filed-default", 4),
        ("tw-text", 4),
        ("tw-daily-shop-2026.11.24", 8),
    ] {
        refresh(http, index)?;
        same(index, &json!(count(http, index)?), &json!(want))?;
    }
    say("every shape is there as it was asked for, and what has ids is there once");
    Ok(())
}

fn same(what: &str, got: &Value, want: &Value) -> Result<()> {
    if got != want {
        bail!("{what}: got {got}, want {want}");
    }
    Ok(())
}

/// The hits of a search, in order of their offsets.
fn hits(http: &Http, index: &str, query: &Value) -> Result<Vec<Value>> {
    refresh(http, index)?;
    let body = json!({"query": query, "size": 100,
        "docvalue_fields": [{"field": "@timestamp", "format": "strict_date_optional_time_nanos"}]});
    let path = format!("/{index}/_search");
    let mut answer = http.post(&path, JSON, body.to_string())?.json()?;
    let hits = answer["hits"]["hits"].take();
    let mut hits = hits.as_array().cloned().context("no hits")?;
    hits.sort_by_key(|hit| hit["_source"]["log"]["offset"].as_u64());
    Ok(hits)
}

fn all() -> Value {
    json!({"match_all": {}})
}

fn stream(http: &Http) -> Result<()> {
    let index = "logs-shape.app-shop";
    let hits = hits(http, index, &all())?;
    same("documents", &json!(hits.len()), &json!(4))?;
    let hit = &hits[0];
    let source = &hit["_source"];
    let times: Vec<&Value> = hits
        .iter()
        .map(|hit| &hit["fields"]["@timestamp"][0])
        .collect();
    let want = [1, 2, 3].map(|nano| format!("2026-11-24T05:00:00.{nano:09}Z"));
    let want: Vec<&str> = want
        .iter()
        .map(String::as_str)
        .chain(["2026-11-24T23:59:59.999999999Z"])
        .collect();
    same("times to the nanosecond", &json!(times), &json!(want))?;
    same(
        "pod",
        &source["kubernetes"]["pod"],
        &json!({"name": "web-1", "uid": "0a1b2c3d"}),
    )?;
    same("ecs", &source["ecs"]["version"], &json!("8.11.0"))?;
    same("id", &json!(hit["_id"].as_str().map(str::len)), &json!(22))?;
    let named = hit["_index"]
        .as_str()
        .unwrap_or_default()
        .starts_with(".ds-logs-shape");
    same("a backing index", &json!(named), &json!(true))?;
    // The path and the pod are exact words: the built-in template has been there first.
    for (field, value) in [
        ("log.file.path", &source["log"]["file"]["path"]),
        ("kubernetes.pod.name", &json!("web-1")),
        ("labels.team", &json!("red")),
    ] {
        let found = self::hits(http, index, &json!({"term": {field: value}}))?;
        same(field, &json!(found.is_empty()), &json!(false))?;
    }
    let sorted =
        json!({"sort": [{"@timestamp": "asc"}, {"log.offset": "asc"}], "_source": ["log.offset"]});
    let answer = http
        .post(&format!("/{index}/_search"), JSON, sorted.to_string())?
        .json()?;
    let order = answer["hits"]["hits"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let order: Vec<Value> = order
        .iter()
        .map(|hit| hit["_source"]["log"]["offset"].clone())
        .collect();
    let want: Vec<Value> = hits
        .iter()
        .map(|hit| hit["_source"]["log"]["offset"].clone())
        .collect();
    same("order", &json!(order), &json!(want))
}

fn plain(http: &Http) -> Result<()> {
    for (index, want) in [
        ("tw-daily-shop-2026.11.24", 4),
        ("tw-alias-000001", 4),
        ("tw-team-red", 1),
        ("tw-team-blue_..__", 1),
        ("tw-many", 2),
        // The pipeline drops all that comes.
        ("tw-piped", 0),
        ("logs-filed-default", 4),
    ] {
        refresh(http, index)?;
        same(index, &json!(count(http, index)?), &json!(want))?;
    }
    let routed = hits(http, "tw-routed", &all())?;
    same("routing", &routed[0]["_routing"], &json!("shop/stdout"))?;
    same("routing", &routed[2]["_routing"], &json!("shop/stderr"))?;
    let nested = hits(http, "tw-nested", &json!({"term": {"parsed.n": 1}}))?;
    same("nested", &json!(nested.len()), &json!(1))?;
    same(
        "nested",
        &nested[0]["_source"]["parsed"]["log"],
        &json!("taken"),
    )?;
    let text = hits(http, "tw-text", &all())?;
    let message = &text[0]["_source"]["message"];
    same(
        "text",
        message,
        &json!(r#"{"n":1,"team":"red","log":"taken"}"#),
    )?;
    let filed = http.get("/_index_template/tw-filed")?.json()?;
    let meta = &filed["index_templates"][0]["index_template"]["template"]["mappings"]["_meta"];
    same("the template of a file", &meta["mine"], &json!(true))
}
