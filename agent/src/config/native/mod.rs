//! Native YAML: the printed form of the plan.
//!
//! ```text
//! tree -> names -> inputs, outputs, entries, pipelines -> Plan
//! ```
//!
//! 1. Names are gathered first, so that a broken output is not also a missing one.
//! 2. A plan comes out only if nothing was reported.

mod bulk;
mod graph;
mod http;
mod inputs;
pub mod keys;
mod kubernetes;
mod names;
mod outputs;
mod selector;
mod spool;
mod stages;

use std::net::SocketAddr;
use std::path::PathBuf;

use self::graph::Graph;
use super::diagnostics::{Report, Span};
use super::fields::{self, Fields};
use super::tree::{Key, Node, Value};
use crate::base::outputs::OUTPUTS_MAX;
use crate::base::size::ByteSize;
use crate::plan::memory::Memory;
use crate::plan::{
    Entry, IoChoice, Limits, OverRate, Pipeline, Plan, Privileges, RungChoice, Step, Wake,
};

/// More than anybody keeps; the least is kubelet's.
const ROTATE_FILES_MAX: u64 = 10_000;

/// Reader and encoder threads that may be asked for.
const THREADS_MAX: u64 = 64;

const RUNGS: [(&str, RungChoice); 6] = [
    ("auto", RungChoice::Auto),
    ("fexit", RungChoice::Fexit),
    ("tp_btf", RungChoice::TpBtf),
    ("raw_tp", RungChoice::RawTp),
    ("inotify", RungChoice::Inotify),
    ("sweep", RungChoice::Sweep),
];

/// Read buffers that a window must hold.
const WINDOW_BUFFERS: u64 = 4;

const FACES: [(&str, IoChoice); 3] = [
    ("auto", IoChoice::Auto),
    ("uring", IoChoice::Uring),
    ("pread", IoChoice::Pread),
];

const OVER_RATES: [(&str, OverRate); 2] = [("defer", OverRate::Defer), ("drop", OverRate::Drop)];

const SWITCH: [(&str, bool); 2] = [("true", true), ("false", false)];

/// Makes a plan of a tree. What is wrong goes to `report`; the plan counts only if nothing is.
pub(super) fn lower(root: &Node, report: &mut Report<'_>) -> Plan {
    let map = Fields::open(root, &keys::ROOT, report);
    let sources = named(&map, "inputs", "{pods: {pods: {}}}", report);
    let pipelines = named(
        &map,
        "pipelines",
        "{main: {from: [pods], to: [loki]}}",
        report,
    );
    let outputs = named(&map, "outputs", "{loki: {loki: {url: ...}}}", report);
    let entries = match map.get("entries") {
        Some(node) => entries_of(node, "entries", report),
        None => &[],
    };
    if let Some((key, _)) = outputs.get(OUTPUTS_MAX) {
        report.error(
            key.span,
            format!("{} outputs are more than {OUTPUTS_MAX}", outputs.len()),
            "remove some, or run a second agent with a state directory of its own",
        );
    }
    let mut graph = Graph {
        inputs: names_of(sources),
        entries: names_of(entries),
        outputs: names_of(outputs),
        ..Graph::default()
    };
    let plan = Plan {
        state: map
            .text("state", report)
            .map_or_else(|| PathBuf::from("/var/lib/tailwake"), PathBuf::from),
        admin: map.get("admin").and_then(|node| admin(node, report)),
        limits: limits(&map, report),
        wake: wake(&map, report),
        privileges: privileges(&map, report),
        inputs: sources
            .iter()
            .filter_map(|(key, node)| inputs::input(key, node, report))
            .collect(),
        outputs: outputs
            .iter()
            .filter_map(|(key, node)| outputs::output(key, node, report))
            .collect(),
        entries: entries
            .iter()
            .enumerate()
            .map(|(place, (key, node))| entry(place, key, node, &mut graph, report))
            .collect(),
        pipelines: pipelines
            .iter()
            .map(|(key, node)| pipeline(key, node, &mut graph, report))
            .collect(),
    };
    graph.refuse_circles(report);
    refuse_unused(sources, outputs, &graph, report);
    if report.count() == 0 {
        refuse_small_windows(outputs, &plan, report);
        kubernetes::refuse_apart(sources, &plan, report);
        kubernetes::refuse_untaken(outputs, &plan, report);
        refuse_too_large(&map, &plan, report);
    }
    plan
}

/// The entries of a map by name that must be there.
fn named<'n>(
    map: &Fields<'n>,
    name: &str,
    example: &str,
    report: &mut Report<'_>,
) -> &'n [(Key, Node)] {
    let Some(node) = map.get(name) else {
        if !map.is_map {
            return &[];
        }
        report.error_of_file(
            format!("the config has no `{name}`"),
            format!("add for example `{name}: {example}`"),
        );
        return &[];
    };
    let entries = entries_of(node, name, report);
    if entries.is_empty() && matches!(node.value, Value::Map(_)) {
        report.error(
            node.span,
            format!("`{name}` is empty"),
            format!("write for example `{name}: {example}`"),
        );
    }
    entries
}

fn entries_of<'n>(node: &'n Node, name: &str, report: &mut Report<'_>) -> &'n [(Key, Node)] {
    let entries = fields::map(node, name, report);
    for (key, _) in entries {
        names::name(&key.text, key.span, report);
    }
    entries
}

fn names_of(entries: &[(Key, Node)]) -> Vec<String> {
    entries.iter().map(|(key, _)| key.text.clone()).collect()
}

fn admin(node: &Node, report: &mut Report<'_>) -> Option<SocketAddr> {
    let map = Fields::open(node, &keys::ADMIN, report);
    let node = map.need("listen", "\"127.0.0.1:9400\"", report)?;
    let text = fields::text(node, "listen", report)?;
    let address = text.parse().ok();
    if address.is_none() {
        report.error(
            node.span,
            format!("`listen` is no address with a port: `{}`", node.shown()),
            "write an IP address, not a host name: `127.0.0.1:9400`, `0.0.0.0:9400`, `[::]:9400`",
        );
    }
    address
}

fn limits(map: &Fields<'_>, report: &mut Report<'_>) -> Limits {
    let default = Limits::default();
    let Some(node) = map.get("limits") else {
        return default;
    };
    let map = Fields::open(node, &keys::LIMITS, report);
    let threads = |name: &str, report: &mut Report<'_>| {
        let auto = |node: &Node| matches!(&node.value, Value::Text { text, .. } if text == "auto");
        if map.get(name).is_some_and(auto) {
            return None;
        }
        let number = map.number(name, 1..=THREADS_MAX, report)?;
        usize::try_from(number).ok()
    };
    Limits {
        memory: map.size("memory", default.memory, 4 << 20..=1 << 40, report),
        record_bytes_max: map.size(
            "record_bytes_max",
            default.record_bytes_max,
            1 << 10..=64 << 20,
            report,
        ),
        buffer_bytes: map.size(
            "buffer_bytes",
            default.buffer_bytes,
            4 << 10..=16 << 20,
            report,
        ),
        readers: threads("readers", report),
        encoders: threads("encoders", report),
        grace_ms: map.duration("grace", default.grace_ms, 0, report),
        rotate_bytes: map.size("rotate_bytes", default.rotate_bytes, 1..=1 << 40, report),
        rotate_files: map
            .number("rotate_files", 2..=ROTATE_FILES_MAX, report)
            .unwrap_or(default.rotate_files),
        pod_rate: rate(&map, "pod_rate", report),
        namespace_rate: rate(&map, "namespace_rate", report),
        over_rate: map.choice("over_rate", &OVER_RATES, default.over_rate, report),
    }
}

/// Bytes a second; none where the key is missing.
fn rate(map: &Fields<'_>, name: &str, report: &mut Report<'_>) -> Option<ByteSize> {
    map.get(name)?;
    Some(map.size(name, ByteSize(1 << 20), 1 << 10..=1 << 40, report))
}

fn wake(map: &Fields<'_>, report: &mut Report<'_>) -> Wake {
    let default = Wake::default();
    let Some(node) = map.get("wake") else {
        return default;
    };
    let map = Fields::open(node, &keys::WAKE, report);
    Wake {
        rung: map.choice("rung", &RUNGS, default.rung, report),
        io: map.choice("io", &FACES, default.io, report),
        pace_ms: map.duration("pace", default.pace_ms, 0, report),
        sweep_ms: map.duration("sweep", default.sweep_ms, 0, report),
    }
}

fn privileges(map: &Fields<'_>, report: &mut Report<'_>) -> Privileges {
    let default = Privileges::default();
    let Some(node) = map.get("privileges") else {
        return default;
    };
    let map = Fields::open(node, &keys::PRIVILEGES, report);
    Privileges {
        drop: map.choice("drop", &SWITCH, default.drop, report),
    }
}

fn entry(
    place: usize,
    key: &Key,
    node: &Node,
    graph: &mut Graph,
    report: &mut Report<'_>,
) -> Entry {
    graph.here = Some(place);
    let nodes = fields::list(node, &key.text, report);
    let steps = stages::steps(nodes, false, graph, report);
    graph.here = None;
    Entry {
        name: key.text.clone(),
        steps,
    }
}

fn pipeline(key: &Key, node: &Node, graph: &mut Graph, report: &mut Report<'_>) -> Pipeline {
    let map = Fields::open(node, &keys::PIPELINE, report);
    let mut from = Vec::new();
    if let Some(node) = map.need("from", "[pods]", report) {
        let items = fields::list(node, "from", report);
        refuse_empty(items, node, "from", report);
        for item in items {
            let text = fields::text(item, "from", report);
            let place = text.and_then(|text| graph.input(text, item, report));
            refuse_twice(
                place.is_some_and(|place| from.contains(&place)),
                item,
                report,
            );
            from.extend(place);
        }
    }
    let nodes = match map.get("stages") {
        Some(node) => fields::list(node, "stages", report),
        None => &[],
    };
    let errors = report.count();
    let mut steps = stages::steps(nodes, true, graph, report);
    let last = steps.last().and_then(stages::ends);
    match (map.get("to"), last) {
        (Some(node), Some(name)) => report.error(
            node.span,
            format!("no record reaches `to`: nothing comes out of the last stage, `{name}`"),
            format!("remove `to`, or send in `{name}`'s place"),
        ),
        (Some(node), None) => outputs_to(node, &mut steps, graph, report),
        (None, _) if report.count() == errors && !sends(&steps) => report.error(
            key.span,
            format!("the pipeline `{}` sends its records nowhere", key.text),
            "add `to: [...]` with the names of outputs",
        ),
        (None, _) => {}
    }
    Pipeline {
        name: key.text.clone(),
        from,
        steps,
    }
}

fn outputs_to(node: &Node, steps: &mut Vec<Step>, graph: &mut Graph, report: &mut Report<'_>) {
    let items = fields::list(node, "to", report);
    refuse_empty(items, node, "to", report);
    let mut seen = Vec::new();
    for item in items {
        let text = fields::text(item, "to", report);
        if let Some(output) = text.and_then(|text| graph.output(text, item, report)) {
            refuse_twice(seen.contains(&output), item, report);
            seen.push(output);
            steps.push(Step::Output(output));
        }
    }
}

/// Whether some step sends records, or drops them on purpose.
fn sends(steps: &[Step]) -> bool {
    let mut left: Vec<&Step> = steps.iter().collect();
    while let Some(step) = left.pop() {
        match step {
            Step::Output(_) | Step::Goto(_) | Step::Drop { .. } => return true,
            Step::Match { steps, .. } => left.extend(steps),
            Step::Copy(branches) => left.extend(branches.iter().flatten()),
            Step::Stage(_) => {}
        }
    }
    false
}

fn refuse_empty(items: &[Node], node: &Node, name: &str, report: &mut Report<'_>) {
    if items.is_empty() && matches!(node.value, Value::List(_)) {
        report.error(
            node.span,
            format!("`{name}` is empty"),
            format!("name at least one: `{name}: [...]`"),
        );
    }
}

fn refuse_twice(twice: bool, node: &Node, report: &mut Report<'_>) {
    if twice {
        report.error(
            node.span,
            format!("`{}` is named twice", node.shown()),
            "name it once; each record would come twice",
        );
    }
}

fn refuse_unused(
    inputs: &[(Key, Node)],
    outputs: &[(Key, Node)],
    graph: &Graph,
    report: &mut Report<'_>,
) {
    // With other errors about, what looks unused may only be misspelt.
    if report.count() > 0 {
        return;
    }
    for (place, (key, _)) in inputs.iter().enumerate() {
        if !graph.inputs_used.contains(&place) {
            report.error(
                key.span,
                format!("no pipeline reads the input `{}`", key.text),
                "name it in the `from` of a pipeline, or remove it",
            );
        }
    }
    let used: Vec<usize> = graph
        .outputs_used
        .iter()
        .map(|output| output.index())
        .collect();
    for (place, (key, _)) in outputs.iter().enumerate() {
        if !used.contains(&place) {
            report.error(
                key.span,
                format!("no pipeline sends to the output `{}`", key.text),
                "name it in the `to` of a pipeline, or remove it",
            );
        }
    }
}

/// An output that comes back after an outage takes a whole buffer's lines, or begins it again: what
/// a buffer becomes must fit into its window, with what a format adds to each line.
fn refuse_small_windows(outputs: &[(Key, Node)], plan: &Plan, report: &mut Report<'_>) {
    let least = ByteSize(WINDOW_BUFFERS * plan.limits.buffer_bytes.0);
    for ((key, _), output) in outputs.iter().zip(&plan.outputs) {
        if output.window_bytes < least {
            report.error(
                key.span,
                format!(
                    "the `window_bytes` of `{}` hold less than {WINDOW_BUFFERS} read buffers: {}",
                    output.name, output.window_bytes
                ),
                format!("set `window_bytes: {least}` or more, or lower `limits.buffer_bytes`"),
            );
        }
    }
}

fn refuse_too_large(map: &Fields<'_>, plan: &Plan, report: &mut Report<'_>) {
    let encoders = plan.limits.encoders.unwrap_or(1);
    let readers = plan.limits.readers.unwrap_or(1);
    if let Err(cause) = Memory::of(plan, encoders, readers) {
        let limits = map
            .get("limits")
            .map(|node| Fields::open(node, &keys::LIMITS, report));
        let span = limits
            .map(|map| map.get("memory").map_or(map.span, |node| node.span))
            .unwrap_or(Span { start: 0, end: 0 });
        let (cause, cure) = cause
            .split_once("; ")
            .unwrap_or((&cause, "raise `limits.memory`"));
        report.error(span, cause, cure);
    }
}
