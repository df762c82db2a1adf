//! `tailwake probe`: what this node allows, what the agent would stand on, and what to change.
//!
//! ```text
//! Survey (rungs tried, roots looked at) + Facts (kernel, limits, rights) -> advice -> text or JSON
//! ```
//!
//! 1. Nothing is changed: hooks are attached and detached again, a ring is made and closed.
//! 2. Exit codes: 0 = a probe rung serves every root, 1 = inotify or the sweep serves one, 2 = the
//!    command line or the config is wrong.

mod facts;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use self::facts::{Facts, Found, Used};
use crate::config;
use crate::guard::Names;
use crate::wake::{Rung, Survey};

/// The arguments of `tailwake probe`.
#[derive(Clone, Debug, Args)]
pub(super) struct Probe {
    /// Looks at the log roots of this config.
    #[arg(long, short, value_name = "FILE", conflicts_with = "root")]
    config: Option<PathBuf>,
    /// Looks at this log root; may stand several times. /var/log/pods when neither is given.
    #[arg(long, value_name = "DIR")]
    root: Vec<PathBuf>,
    /// Prints JSON for scripts.
    #[arg(long)]
    json: bool,
}

/// Runs it; the code is the exit code.
pub(super) fn run(probe: &Probe) -> ExitCode {
    let roots = match roots(probe) {
        Ok(roots) => roots,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "tailwake: {error}");
            return ExitCode::from(2);
        }
    };
    let (survey, facts) = (Survey::take(&roots), Facts::gather());
    let advice = advice(&survey, &facts);
    let page = if probe.json {
        format!("{:#}\n", as_json(&survey, &facts, &advice))
    } else {
        text(&survey, &facts, &advice)
    };
    // A closed pipe is the reader's own affair.
    let _ = std::io::stdout().write_all(page.as_bytes());
    if survey.probes_serve_all() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn roots(probe: &Probe) -> Result<Vec<PathBuf>, config::Diagnostics> {
    let Some(path) = &probe.config else {
        let default = || vec![PathBuf::from("/var/log/pods")];
        let given = probe.root.clone();
        return Ok(if given.is_empty() { default() } else { given });
    };
    let plan = config::load(path)?;
    let inputs = plan.inputs.iter();
    Ok(inputs.flat_map(|input| input.kind.roots()).collect())
}

/// What a person can do, most useful first; empty when nothing is to be gained.
fn advice(survey: &Survey, facts: &Facts) -> Vec<String> {
    let mut advice = Vec::new();
    if !survey.embedded {
        advice.push("take a binary with probes: `cargo xtask build` makes one".to_owned());
    }
    if !facts.missing.is_empty() {
        let names: Vec<&str> = facts.missing.iter().map(|(name, _)| *name).collect();
        let list = names.join(", ");
        advice.push(format!(
            "give it the capabilities {list}: in a pod `securityContext.capabilities.add: \
             [{list}]` with uid 0, elsewhere `setcap` or root (docs/privileges.md)"
        ));
    }
    if facts.btf.is_err() {
        advice.push("use a kernel with CONFIG_DEBUG_INFO_BTF: no probe loads without".to_owned());
    }
    for root in &survey.roots {
        let (path, system) = (root.path.display(), &root.file_system);
        if root.path != root.seen {
            advice.push(format!("{path} is not there yet: make it, or name another"));
        }
        if survey.best < Rung::Inotify && root.rung >= Rung::Inotify {
            let best = survey.best.name();
            advice.push(format!(
                "{path} lies on {system}, which {best} does not see: move it to ext4 or xfs, or \
                 let inotify serve it"
            ));
        }
    }
    if let Err(why) = &facts.io_uring {
        advice.push(format!("io_uring, without which reads are slower: {why}"));
    }
    for (name, used) in [
        ("max_user_instances", facts.inotify_instances),
        ("max_user_watches", facts.inotify_watches),
    ] {
        if used.is_short() {
            advice.push(format!(
                "raise fs.inotify.{name}: {} are in use",
                shown(used)
            ));
        }
    }
    if facts.counts_memlock() && facts.memlock.is_some() {
        advice.push("raise RLIMIT_MEMLOCK, or give it CAP_SYS_RESOURCE (before Linux 5.11)".into());
    }
    advice
}

fn shown(used: Used) -> String {
    let max = used.max.map_or("unknown".to_owned(), |max| max.to_string());
    format!("{} of {max}", used.used)
}

fn text(survey: &Survey, facts: &Facts, advice: &[String]) -> String {
    let mut rows = vec![row(["RUNG", "LOADS", "WHY NOT"])];
    for tried in &survey.rungs {
        let why = tried.why_not.as_deref();
        let loads = if why.is_none() { "yes" } else { "no" };
        rows.push(row([tried.rung.name(), loads, why.unwrap_or_default()]));
    }
    let mut out = table(&rows);
    let mut rows = vec![row(["ROOT", "FILE SYSTEM", "DEVICE", "WOKEN BY", "HOOKS"])];
    for root in &survey.roots {
        let device = format!("{}:{}", root.device.0, root.device.1);
        let hooks = root.hooks.join(" ");
        let path = root.path.display().to_string();
        let system = &root.file_system;
        rows.push(row([&*path, system, &device, root.rung.name(), &hooks]));
    }
    out += &table(&rows);
    let missing = facts.missing.iter();
    let missing: Vec<String> = missing
        .map(|(name, why)| format!("CAP_{name} ({why})"))
        .collect();
    let missing = if missing.is_empty() {
        "none".to_owned()
    } else {
        missing.join(", ")
    };
    let memlock = facts.memlock.map(|bytes| format!("{bytes} bytes"));
    let embedded = if survey.embedded { "yes" } else { "no" };
    out += &table(&[
        row(["NODE", ""]),
        row(["kernel", &*facts.kernel]),
        row(["probes in this binary", embedded]),
        row(["BTF", &*said(&facts.btf)]),
        row(["io_uring", &*said(&facts.io_uring)]),
        row(["inotify instances", &*shown(facts.inotify_instances)]),
        row(["inotify watches", &*shown(facts.inotify_watches)]),
        row(["memlock", memlock.as_deref().unwrap_or("no limit")]),
        row(["capabilities held", &*held(facts.held)]),
        row(["capabilities missing", &*missing]),
        row(["landlock", &*said(&facts.landlock)]),
        row(["seccomp", &*said(&facts.seccomp)]),
    ]);
    out += if advice.is_empty() {
        "Nothing to change.\n"
    } else {
        "To change:\n"
    };
    out.extend(advice.iter().map(|line| format!("- {line}\n")));
    out
}

/// Of root's forty, those that are of interest.
fn held(held: Names) -> String {
    const MANY: usize = 8;
    if held.count() <= MANY {
        return held.to_string();
    }
    let wanted = facts::WANTED.iter().filter(|(name, _)| held.has(name));
    let wanted: Vec<String> = wanted.map(|(name, _)| format!("CAP_{name}")).collect();
    format!("{}, among them {}", held.count(), wanted.join(" "))
}

fn said(found: &Found) -> String {
    match found {
        Ok(said) => said.clone(),
        Err(why) => format!("no: {why}"),
    }
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.into_iter().map(str::to_owned).collect()
}

/// Columns as wide as their widest cell, but for the last; an empty line after.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        out.push_str(line.join("  ").trim_end());
        out.push('\n');
    }
    out.push('\n');
    out
}

fn as_json(survey: &Survey, facts: &Facts, advice: &[String]) -> Value {
    let found = |found: &Found| match found {
        Ok(said) => json!({"there": true, "said": said}),
        Err(why) => json!({"there": false, "said": why}),
    };
    let used = |used: Used| json!({"used": used.used, "max": used.max});
    let rungs: Vec<Value> = (survey.rungs.iter())
        .map(|tried| {
            let why = &tried.why_not;
            json!({"rung": tried.rung.name(), "loads": why.is_none(), "why_not": why})
        })
        .collect();
    let roots: Vec<Value> = (survey.roots.iter())
        .map(|root| {
            json!({
                "path": root.path, "seen": root.seen, "file_system": root.file_system,
                "device": format!("{}:{}", root.device.0, root.device.1),
                "rung": root.rung.name(), "hooks": root.hooks,
            })
        })
        .collect();
    let missing: Vec<String> = (facts.missing.iter())
        .map(|(name, _)| format!("CAP_{name}"))
        .collect();
    json!({
        "rung": survey.best.name(),
        "probes_serve_all_roots": survey.probes_serve_all(),
        "probes_embedded": survey.embedded,
        "rungs": rungs,
        "roots": roots,
        "kernel": facts.kernel,
        "btf": found(&facts.btf),
        "io_uring": found(&facts.io_uring),
        "inotify": {
            "instances": used(facts.inotify_instances), "watches": used(facts.inotify_watches),
        },
        "memlock_bytes": facts.memlock,
        "capabilities": {"held": facts.held.to_string(), "missing": missing},
        "landlock": found(&facts.landlock),
        "seccomp": found(&facts.seccomp),
        "to_change": advice,
    })
}
