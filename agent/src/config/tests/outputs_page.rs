//! docs/outputs.md against the code: options, the errors of bad values, metrics, configs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::*;
use crate::config::native::keys::SECTIONS;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// What the sections of outputs are called.
const OUTPUT: &str = "outputs.NAME";
/// The account's figures of a container that no output has.
const OF_NO_OUTPUT: [&str; 3] = [
    "tailwake_container_written_bytes_total",
    "tailwake_container_incomplete",
    "tailwake_container_read_bytes_total",
];

fn page() -> String {
    std::fs::read_to_string(Path::new(ROOT).join("docs/outputs.md")).unwrap()
}

/// The rows below a heading, without head and rule; each by its cells.
fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let (_, below) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    let below = below.split("\n## ").next().unwrap();
    let lines = below.lines().filter(|line| line.starts_with('|')).skip(2);
    let cells = |line: &str| {
        let inner = line.trim_matches('|').split('|');
        inner.map(|cell| cell.trim().to_owned()).collect()
    };
    lines.map(cells).collect()
}

fn bare(cell: &str) -> &str {
    cell.trim_matches('`')
}

/// Every option's path below its output, with its default.
fn options() -> BTreeMap<String, &'static str> {
    let mut options = BTreeMap::new();
    for section in SECTIONS.iter().filter(|it| it.name.starts_with(OUTPUT)) {
        let path = section.name.trim_start_matches(OUTPUT);
        let path = path.trim_start_matches('.');
        for key in section.keys {
            let dot = if path.is_empty() { "" } else { "." };
            options.insert(format!("{path}{dot}{}", key.name), key.default);
        }
    }
    options
}

#[test]
fn every_option_of_outputs_stands_in_the_page_with_its_default() {
    let shown: Vec<(String, String)> = rows(&page(), "Options")
        .into_iter()
        .map(|row| (bare(&row[0]).to_owned(), row[1].clone()))
        .collect();
    let default = |default: &str| match default {
        "" => "must be given".to_owned(),
        default => default.to_owned(),
    };
    let options = options().into_iter();
    let want: BTreeMap<String, String> = options.map(|(path, it)| (path, default(it))).collect();
    assert_eq!(shown.len(), want.len(), "an option stands twice");
    assert_eq!(shown.into_iter().collect::<BTreeMap<_, _>>(), want);
}

/// What stands around an option so that it alone is wrong.
fn around(path: &str) -> &'static str {
    let (map, key) = path.rsplit_once('.').unwrap_or(("", path));
    match (map, key) {
        ("", "loki" | "elasticsearch") => "",
        ("", _) => "loki: {url: http://h/p}",
        ("loki", "url") => "",
        ("loki", _) => "url: http://h/p",
        ("elasticsearch", "urls") => "data_stream: x",
        ("elasticsearch", "index" | "data_stream") => "urls: http://h",
        ("elasticsearch", _) => "urls: http://h, data_stream: x",
        ("elasticsearch.template", "built_in" | "file") => "name: x",
        ("elasticsearch.template", "name") => "built_in: true",
        ("elasticsearch.template", _) => "name: x, built_in: true",
        ("spool", "memory" | "disk") => "",
        ("spool", _) => "disk: 1GiB",
        ("auth.basic", "user") => "password: p",
        ("auth.basic", _) => "user: u",
        ("auth.oauth2", "token_url") => "client_id: c, client_secret: s",
        ("auth.oauth2", "client_id") => "token_url: https://h/t, client_secret: s",
        ("auth.oauth2", "client_secret" | "client_secret_file") => {
            "token_url: https://h/t, client_id: c"
        }
        ("auth.oauth2", _) => "token_url: https://h/t, client_id: c, client_secret: s",
        _ => "",
    }
}

/// A config in which the option has this value.
fn bad(path: &str, value: &str) -> String {
    let (map, key) = path.rsplit_once('.').unwrap_or(("", path));
    let comma = if around(path).is_empty() { "" } else { ", " };
    let mut text = format!("{}{comma}{key}: {value}", around(path));
    for name in map.rsplit('.').filter(|name| !name.is_empty()) {
        let beside = match name {
            "template" => ", urls: http://h, data_stream: x",
            _ => "",
        };
        text = format!("{name}: {{{text}}}{beside}");
    }
    let kind = match map.split('.').next() {
        Some("loki" | "elasticsearch") => "",
        _ if matches!(key, "loki" | "elasticsearch") || map.is_empty() => "",
        _ => "loki: {url: https://h/p}, ",
    };
    format!(
        "inputs: {{pods: {{pods: {{}}}}}}\npipelines: {{p: {{from: pods, to: o}}}}\n\
         outputs: {{o: {{{kind}{text}}}}}\n"
    )
}

#[test]
fn each_bad_value_of_the_page_gives_the_error_beside_it() {
    let mut wrong = Vec::new();
    for row in rows(&page(), "Options") {
        let (path, value, error) = (bare(&row[0]), bare(&row[4]), &row[5]);
        let text = bad(path, value);
        let said = parse("t.yaml", &text, &env).map_err(|found| found.to_string());
        let is_said = said
            .as_ref()
            .is_err_and(|said| said.contains(error.as_str()));
        if !is_said {
            wrong.push(format!("{path}: {value}: {error}\n{said:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn the_configs_of_the_page_load() {
    let page = page();
    let configs: Vec<&str> = page
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("\n```").next().unwrap())
        .collect();
    assert_eq!(configs.len(), 4, "a minimal and a full one of each kind");
    for config in &configs {
        plan(config);
    }
    // A full one has every option that does not exclude another, at its place.
    for (full, kind) in [(configs[1], "loki"), (configs[3], "elasticsearch")] {
        for key in SECTIONS
            .iter()
            .filter(|it| it.name == OUTPUT || it.name == format!("{OUTPUT}.{kind}"))
            .flat_map(|section| section.names())
        {
            let other = [
                "loki",
                "elasticsearch",
                "index",
                "routing",
                "json_key",
                "fallback",
            ];
            let stands = full.contains(&format!("{key}:"));
            assert!(stands || other.contains(&key), "{key} of {kind}");
        }
    }
}

/// The sources of the product, without their tests.
fn sources() -> Vec<(PathBuf, String)> {
    let mut left = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    let mut found = Vec::new();
    while let Some(path) = left.pop() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            let items = std::fs::read_dir(&path).unwrap();
            left.extend(items.map(|item| item.unwrap().path()));
        } else if name.ends_with(".rs") && !name.contains("tests") {
            let text = std::fs::read_to_string(&path).unwrap();
            let tests = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
            found.push((path, text[..tests].to_owned()));
        }
    }
    found
}

/// Words that begin with `tailwake_`, behind what `before` says.
fn metrics(text: &str, before: &str) -> BTreeSet<String> {
    let begin = format!("{before}tailwake_");
    let word = |at: usize| {
        let word = &text[at + before.len()..];
        let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let end = word.find(|c| !is_part(c)).unwrap_or(word.len());
        word[..end].to_owned()
    };
    text.match_indices(&begin).map(|(at, _)| word(at)).collect()
}

/// A metric is registered where its name stands; those of a file that says `output` bear that label.
#[test]
fn every_metric_of_an_output_stands_in_the_page_with_its_type() {
    let mut want = BTreeMap::new();
    for (path, text) in sources() {
        let is_status = path.ends_with("run/status.rs");
        let labels = text.contains("(\"output\", ") || text.contains(",output=\\\"");
        if !labels || is_status {
            continue;
        }
        for name in metrics(&text, "\"") {
            if OF_NO_OUTPUT.contains(&name.as_str()) {
                continue;
            }
            let is_counter = ["_total", "_count", "_sum"]
                .iter()
                .any(|end| name.ends_with(end));
            want.insert(
                name,
                if is_counter { "counter" } else { "gauge" }.to_owned(),
            );
        }
    }
    let rows = rows(&page(), "Metrics");
    let shown: BTreeMap<String, String> = rows
        .iter()
        .map(|row| (bare(&row[0]).to_owned(), row[1].clone()))
        .collect();
    assert_eq!(shown.len(), rows.len(), "a metric stands twice");
    assert_eq!(shown, want);
}

#[test]
fn every_metric_that_the_documents_name_is_there() {
    let known: BTreeSet<String> = sources()
        .iter()
        .flat_map(|it| metrics(&it.1, "\""))
        .collect();
    let docs = std::fs::read_dir(Path::new(ROOT).join("docs")).unwrap();
    let mut paths: Vec<PathBuf> = docs.map(|item| item.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "md"));
    paths.extend(
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(|it| Path::new(ROOT).join(it)),
    );
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        for name in metrics(&text, "") {
            assert!(known.contains(&name), "{name} in {}", path.display());
        }
        // `tailwake_a_lines_total`, `_bytes_total`: the rest of a name stands for the whole.
        for line in text.lines().filter(|line| line.contains("tailwake_")) {
            for end in line
                .split('`')
                .skip(1)
                .step_by(2)
                .filter(|it| it.starts_with('_'))
            {
                let is_end = known.iter().any(|name| name.contains(end));
                assert!(is_end || end == "_id", "{end} in {}", path.display());
            }
        }
    }
}

/// The metrics and reasons that show an option's effect are there.
#[test]
fn each_option_names_a_metric_of_the_page() {
    let page = page();
    let metrics = rows(&page, "Metrics");
    let is_metric = |word: &str| {
        let name = format!("`tailwake_{word}`");
        metrics.iter().any(|row| row[0] == name)
    };
    let reasons = crate::deliver::judge::Reason::ALL;
    let is_reason = |word: &str| reasons.iter().any(|reason| reason.label() == word);
    for row in rows(&page, "Options") {
        for word in row[3].split('`').skip(1).step_by(2) {
            let is_known = is_metric(word) || is_reason(word);
            assert!(is_known || ["_count", "check"].contains(&word), "{word}");
        }
    }
}

/// What an answer leads to is counted by reason: each stands in a table of the page.
#[test]
fn every_reason_stands_in_the_page() {
    let page = page();
    for reason in crate::deliver::judge::Reason::ALL {
        let label = format!("`{}`", reason.label());
        assert!(page.contains(&label), "{label}");
    }
}
