//! Inputs: kubelet's tree and path patterns.

use std::path::PathBuf;

use super::{keys, kubernetes};
use crate::config::diagnostics::Report;
use crate::config::fields::{self, Fields};
use crate::config::tree::{Key, Node};
use crate::plan::{Glob, Input, InputKind, StartAt};

/// Where docker keeps the files that the tree's links lead to.
const DOCKER: &str = "/var/lib/docker/containers";

/// Where kubelet keeps those that `/var/log/containers` leads to.
const PODS: &str = "/var/log/pods";

pub(super) fn input(key: &Key, node: &Node, report: &mut Report<'_>) -> Option<Input> {
    let map = Fields::open(node, &keys::INPUT, report);
    let start_at = match map.get("start_at") {
        None => StartAt::default(),
        Some(node) => start_at(node, report),
    };
    let kind = match (map.given("pods"), map.given("files")) {
        (Some(node), None) => pods(node, report),
        (None, Some(node)) => files(node, report)?,
        (Some(_), Some(node)) => {
            report.error(
                node.span,
                format!("the input `{}` has two kinds", key.text),
                "make two inputs of it, and name both in the pipeline's `from`",
            );
            return None;
        }
        (None, None) => {
            report.error(
                key.span,
                format!("the input `{}` has no kind", key.text),
                "add `pods: {}` to read kubelet's tree of container logs, or `files: {paths: [...]}`",
            );
            return None;
        }
    };
    Some(Input {
        name: key.text.clone(),
        kind,
        start_at,
    })
}

fn pods(node: &Node, report: &mut Report<'_>) -> InputKind {
    let map = Fields::open(node, &keys::PODS, report);
    InputKind::Pods {
        root: PathBuf::from(map.text("root", report).unwrap_or(PODS)),
        link_roots: link_roots(&map, &[DOCKER], report),
        kubernetes: map
            .given("kubernetes")
            .map(|node| Box::new(kubernetes::kubernetes(node, report))),
    }
}

fn files(node: &Node, report: &mut Report<'_>) -> Option<InputKind> {
    let map = Fields::open(node, &keys::FILES, report);
    let node = map.need("paths", "[/var/log/app/*.log]", report)?;
    let paths = globs(node, "paths", report);
    super::refuse_empty(fields::list(node, "paths", report), node, "paths", report);
    let exclude = map.get("exclude");
    Some(InputKind::Files {
        paths,
        exclude: exclude.map_or_else(Vec::new, |node| globs(node, "exclude", report)),
        link_roots: link_roots(&map, &[PODS, DOCKER], report),
    })
}

fn globs(node: &Node, name: &str, report: &mut Report<'_>) -> Vec<Glob> {
    let mut globs = Vec::new();
    for item in fields::list(node, name, report) {
        let Some(text) = fields::text(item, name, report) else {
            continue;
        };
        match Glob::parse(text) {
            Ok(glob) => globs.push(glob),
            Err(why) => report.error(
                item.span,
                format!("`{}` is no pattern for paths: {why}", item.shown()),
                "write an absolute path such as `/var/log/app/**/*.log`",
            ),
        }
    }
    globs
}

fn link_roots(map: &Fields<'_>, default: &[&str], report: &mut Report<'_>) -> Vec<PathBuf> {
    let Some(node) = map.get("link_roots") else {
        return default.iter().map(PathBuf::from).collect();
    };
    let mut roots = Vec::new();
    for item in fields::list(node, "link_roots", report) {
        let Some(text) = fields::text(item, "link_roots", report) else {
            continue;
        };
        if !text.starts_with('/') || text.trim_matches('/').is_empty() {
            report.error(
                item.span,
                format!("`{}` is no directory that links may lead to", item.shown()),
                "write an absolute path below `/`",
            );
        }
        roots.push(PathBuf::from(text));
    }
    roots
}

fn start_at(node: &Node, report: &mut Report<'_>) -> StartAt {
    let Some(text) = fields::text(node, "start_at", report) else {
        return StartAt::default();
    };
    match (text, fields::duration_ms(text)) {
        ("beginning", _) => StartAt::Beginning,
        ("end", _) => StartAt::End,
        (_, Some(ms)) if ms >= 1_000 => StartAt::Age { secs: ms / 1_000 },
        _ => {
            report.error(
                node.span,
                format!("`start_at` does not know `{}`", node.shown()),
                "write `beginning`, `end`, or an age of at least a second, for example `24h`",
            );
            StartAt::default()
        }
    }
}
