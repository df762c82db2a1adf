//! Metadata of pods from the Kubernetes API: the option of an input, and what outputs may name of it.

use std::path::PathBuf;

use super::keys;
use crate::config::diagnostics::Report;
use crate::config::fields::{self, Fields};
use crate::config::tree::{Key, Node};
use crate::plan::{Kubernetes, NameGlob, OnMissing, OutputKind, Plan, TemplatePart};

const ON_MISSING: [(&str, OnMissing); 2] = [("wait", OnMissing::Wait), ("send", OnMissing::Send)];

/// Longer than that a pod's start is not waited for.
const WAIT_MS_MAX: u64 = 86_400_000;

pub(super) fn kubernetes(node: &Node, report: &mut Report<'_>) -> Kubernetes {
    let map = Fields::open(node, &keys::KUBERNETES, report);
    let default = Kubernetes::default();
    let name = map.text("node", report);
    if let (Some(node), Some(text)) = (map.get("node"), name)
        && !is_node(text)
    {
        report.error(
            node.span,
            format!("`{}` is no name of a node", node.shown()),
            "write it as `kubectl get nodes` shows it, or leave the key out and set NODE_NAME from \
             the field spec.nodeName",
        );
    }
    let kubeconfig = map.text("kubeconfig", report).map(PathBuf::from);
    let on_missing = map.choice(
        "on_missing_metadata",
        &ON_MISSING,
        default.on_missing,
        report,
    );
    let wait_ms = map.duration("metadata_wait", default.wait_ms, 0, report);
    if let Some(node) = map.get("metadata_wait").filter(|_| wait_ms > WAIT_MS_MAX) {
        report.error(
            node.span,
            "`metadata_wait` is longer than a day",
            "write `on_missing_metadata: wait` to hold files for as long as the API is silent",
        );
    }
    Kubernetes {
        node: name.map(str::to_owned),
        kubeconfig,
        labels: globs(&map, "labels", default.labels, report),
        annotations: globs(&map, "annotations", default.annotations, report),
        on_missing,
        wait_ms,
        opt_out: opt_out(&map, report),
    }
}

/// A node's name is a DNS subdomain: it stands in a query as it is.
fn is_node(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    text.len() <= 253 && text.chars().all(fits)
}

fn globs(
    map: &Fields<'_>,
    name: &str,
    default: Vec<NameGlob>,
    report: &mut Report<'_>,
) -> Vec<NameGlob> {
    let Some(node) = map.get(name) else {
        return default;
    };
    let mut globs = Vec::new();
    for item in fields::list(node, name, report) {
        let Some(text) = fields::text(item, name, report) else {
            continue;
        };
        if !is_name(text, "*?") {
            report.error(
                item.span,
                format!("`{}` is no pattern for names of {name}", item.shown()),
                "write a name such as `app.kubernetes.io/name`, with `*` for any characters",
            );
        }
        globs.push(NameGlob::new(text));
    }
    globs
}

fn opt_out(map: &Fields<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = map.text("opt_out_annotation", report)?;
    if let Some(node) = map.get("opt_out_annotation").filter(|_| !is_name(text, "")) {
        report.error(
            node.span,
            format!("`{}` is no name of an annotation", node.shown()),
            "write a name such as `tailwake.io/exclude`; pods that bear it with the value `true` \
             are not read",
        );
    }
    Some(text.to_owned())
}

fn is_name(text: &str, beside: &str) -> bool {
    let fits = |c: char| {
        c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/') || beside.contains(c)
    };
    !text.is_empty() && text.chars().all(fits)
}

/// The list and the name of a template's field such as `labels.app`.
pub(super) fn of_pod(field: &str) -> Option<(&'static str, &str)> {
    let lists = ["labels", "annotations"];
    let of = |list: &'static str| Some((list, field.strip_prefix(list)?.strip_prefix('.')?));
    let found = lists.into_iter().find_map(of);
    found.filter(|(_, name)| is_name(name, ""))
}

/// Inputs that ask the API for different things: one watch serves them all.
pub(super) fn refuse_apart(inputs: &[(Key, Node)], plan: &Plan, report: &mut Report<'_>) {
    let mut first: Option<(&str, &Kubernetes)> = None;
    for ((key, _), input) in inputs.iter().zip(&plan.inputs) {
        let Some(asked) = input.kind.kubernetes() else {
            continue;
        };
        match first {
            None => first = Some((&input.name, asked)),
            Some((name, before)) if !asked.is_served_with(before) => report.error(
                key.span,
                format!(
                    "the `kubernetes` of `{}` differs from that of `{name}`",
                    key.text
                ),
                "give both the same node, kubeconfig, labels, annotations and opt_out_annotation: \
                 one watch serves them",
            ),
            Some(_) => {}
        }
    }
}

/// Templates that name what no input takes: they would stay empty.
pub(super) fn refuse_untaken(outputs: &[(Key, Node)], plan: &Plan, report: &mut Report<'_>) {
    for ((key, _), output) in outputs.iter().zip(&plan.outputs) {
        let OutputKind::Loki(loki) = &output.kind else {
            continue;
        };
        let parts = loki.labels.iter().flat_map(|(_, template)| &template.0);
        let fields = parts.filter_map(|part| match part {
            TemplatePart::Field(field) => Some(field),
            TemplatePart::Text(_) => None,
        });
        for field in fields {
            if let Some(cure) = untaken(field, plan) {
                report.error(
                    key.span,
                    format!(
                        "the labels of `{}` name `{{{field}}}`, which no input takes",
                        key.text
                    ),
                    cure,
                );
            }
        }
    }
}

/// How an input would take what a template names, where none does.
fn untaken(field: &str, plan: &Plan) -> Option<String> {
    let asked = plan.kubernetes();
    let Some((list, name)) = of_pod(field) else {
        let needs = matches!(field, "owner" | "owner_kind") && asked.is_none();
        return needs.then(|| "add `kubernetes: {}` to an input of kind `pods`".to_owned());
    };
    let Some(asked) = asked else {
        return Some(format!(
            "add `kubernetes: {{{list}: [{name}]}}` to an input of kind `pods`"
        ));
    };
    let globs = match list {
        "labels" => &asked.labels,
        _ => &asked.annotations,
    };
    let taken = globs.iter().any(|glob| glob.matches(name));
    (!taken).then(|| format!("add `{name}` to `{list}` of the input's `kubernetes`"))
}
