//! The plan printed as native YAML, with every default written out.
//!
//! 1. Reading the printed text gives the plan again (but for hidden secrets), and printing that
//!    gives the same text.
//! 2. User names and passwords of URLs are not printed, nor are other secrets; `***` stands for
//!    them.

mod http;

use std::fmt::Display;

use super::{
    AtCap, DropStage, IoChoice, JsonField, MatchOp, Output, OutputKind, Pipeline, Plan, RungChoice,
    Selector, Spool, Stage, StartAt, Step, Template, TemplatePart, TimestampFormat, secret,
};
use crate::base::outputs::OutputId;
use crate::plan::{InputKind, Kubernetes, OnMissing, OverRate};

/// The whole plan as native YAML.
#[must_use]
pub fn yaml(plan: &Plan) -> String {
    let mut page = Page {
        text: String::new(),
        plan,
    };
    page.head();
    page.inputs();
    page.pipelines();
    page.entries();
    page.outputs();
    page.text
}

/// A selector as it is written in a config.
#[must_use]
pub fn selector(selector: &Selector) -> String {
    let matchers: Vec<String> = selector
        .0
        .iter()
        .map(|matcher| {
            let (sign, value) = match &matcher.op {
                MatchOp::Equal(value) => ("=", value.as_ref()),
                MatchOp::NotEqual(value) => ("!=", value.as_ref()),
                MatchOp::Matches(regex) => ("=~", bare(regex.as_str())),
                MatchOp::MatchesNot(regex) => ("!~", bare(regex.as_str())),
            };
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n")
                .replace('\r', "\\r")
                .replace('\t', "\\t");
            format!("{}{sign}\"{value}\"", matcher.label)
        })
        .collect();
    format!("{{{}}}", matchers.join(", "))
}

/// A duration in its largest whole unit: `250ms`, `2m`, `1d`.
#[must_use]
pub fn duration(ms: u64) -> String {
    for (unit, name) in [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
    ] {
        if ms >= unit && ms.is_multiple_of(unit) {
            return format!("{}{name}", ms / unit);
        }
    }
    format!("{ms}ms")
}

/// A pattern without the anchors that reading a selector puts around it.
fn bare(pattern: &str) -> &str {
    pattern
        .strip_prefix("^(?:")
        .and_then(|rest| rest.strip_suffix(")$"))
        .unwrap_or(pattern)
}

/// A list of texts in brackets.
fn bracketed<'a>(texts: impl Iterator<Item = std::borrow::Cow<'a, str>>) -> String {
    let texts: Vec<String> = texts.map(|text| scalar(&text)).collect();
    format!("[{}]", texts.join(", "))
}

/// Text as a scalar: plain where that is safe, else in double quotes. A `${` becomes `$${`.
pub(super) fn scalar(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let word = !matches!(
        text.to_ascii_lowercase().as_str(),
        "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    if starts && word && text.chars().all(fits) {
        return text.to_owned();
    }
    quoted(&text.replace("${", "$${"))
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            c if c.is_alphanumeric() => out.push(c),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// A key: variables are not expanded in keys.
fn key(text: &str) -> String {
    if text.contains("${") {
        quoted(text)
    } else {
        scalar(text)
    }
}

fn template(template: &Template) -> String {
    let text: String = template
        .0
        .iter()
        .map(|part| match part {
            TemplatePart::Text(text) => text.replace('{', "{{").replace('}', "}}"),
            TemplatePart::Field(name) => format!("{{{name}}}"),
        })
        .collect();
    scalar(&text)
}

struct Page<'p> {
    text: String,
    plan: &'p Plan,
}

impl Page<'_> {
    fn line(&mut self, indent: usize, line: impl Display) {
        self.text.push_str(&" ".repeat(indent));
        self.text.push_str(&line.to_string());
        self.text.push('\n');
    }

    fn head(&mut self) {
        let plan = self.plan;
        self.line(
            0,
            format!("state: {}", scalar(&plan.state.to_string_lossy())),
        );
        if let Some(admin) = plan.admin {
            self.line(0, "admin:");
            self.line(2, format!("listen: \"{admin}\""));
        }
        let auto = |count: Option<usize>| count.map_or("auto".to_owned(), |n| n.to_string());
        let limits = &plan.limits;
        self.line(0, "limits:");
        self.line(2, format!("memory: {}", limits.memory));
        self.line(2, format!("record_bytes_max: {}", limits.record_bytes_max));
        self.line(2, format!("buffer_bytes: {}", limits.buffer_bytes));
        self.line(2, format!("readers: {}", auto(limits.readers)));
        self.line(2, format!("encoders: {}", auto(limits.encoders)));
        self.line(2, format!("grace: {}", duration(limits.grace_ms)));
        self.line(2, format!("rotate_bytes: {}", limits.rotate_bytes));
        self.line(2, format!("rotate_files: {}", limits.rotate_files));
        let rates = [
            ("pod_rate", limits.pod_rate),
            ("namespace_rate", limits.namespace_rate),
        ];
        for (name, rate) in rates {
            if let Some(rate) = rate {
                self.line(2, format!("{name}: {rate}"));
            }
        }
        let over = match limits.over_rate {
            OverRate::Defer => "defer",
            OverRate::Drop => "drop",
        };
        self.line(2, format!("over_rate: {over}"));
        let wake = &plan.wake;
        self.line(0, "wake:");
        self.line(2, format!("rung: {}", rung(wake.rung)));
        self.line(2, format!("io: {}", face(wake.io)));
        self.line(2, format!("pace: {}", duration(wake.pace_ms)));
        self.line(2, format!("sweep: {}", duration(wake.sweep_ms)));
        self.line(0, "privileges:");
        self.line(2, format!("drop: {}", plan.privileges.drop));
    }

    fn inputs(&mut self) {
        self.line(0, "inputs:");
        for input in &self.plan.inputs {
            self.line(2, format!("{}:", key(&input.name)));
            match &input.kind {
                InputKind::Pods { root, .. } => {
                    self.line(4, "pods:");
                    self.line(6, format!("root: {}", scalar(&root.to_string_lossy())));
                }
                InputKind::Files { paths, exclude, .. } => {
                    self.line(4, "files:");
                    for (name, globs) in [("paths", paths), ("exclude", exclude)] {
                        let texts = globs.iter().map(|glob| glob.text().into());
                        self.line(6, format!("{name}: {}", bracketed(texts)));
                    }
                }
            }
            let roots = input.kind.link_roots().iter();
            let roots = bracketed(roots.map(|root| root.to_string_lossy()));
            self.line(6, format!("link_roots: {roots}"));
            if let Some(kubernetes) = input.kind.kubernetes() {
                self.kubernetes(kubernetes);
            }
            let start_at = match input.start_at {
                StartAt::Beginning => "beginning".to_owned(),
                StartAt::End => "end".to_owned(),
                StartAt::Age { secs } => duration(secs.saturating_mul(1_000)),
            };
            self.line(4, format!("start_at: {start_at}"));
        }
    }

    fn kubernetes(&mut self, kubernetes: &Kubernetes) {
        self.line(6, "kubernetes:");
        if let Some(node) = &kubernetes.node {
            self.line(8, format!("node: {}", scalar(node)));
        }
        if let Some(path) = &kubernetes.kubeconfig {
            let path = scalar(&path.to_string_lossy());
            self.line(8, format!("kubeconfig: {path}"));
        }
        let lists = [
            ("labels", &kubernetes.labels),
            ("annotations", &kubernetes.annotations),
        ];
        for (name, globs) in lists {
            let texts = globs.iter().map(|glob| glob.text().into());
            self.line(8, format!("{name}: {}", bracketed(texts)));
        }
        let on_missing = match kubernetes.on_missing {
            OnMissing::Wait => "wait",
            OnMissing::Send => "send",
        };
        self.line(8, format!("on_missing_metadata: {on_missing}"));
        let wait = duration(kubernetes.wait_ms);
        self.line(8, format!("metadata_wait: {wait}"));
        if let Some(name) = &kubernetes.opt_out {
            self.line(8, format!("opt_out_annotation: {}", scalar(name)));
        }
    }

    fn pipelines(&mut self) {
        self.line(0, "pipelines:");
        for pipeline in &self.plan.pipelines {
            self.pipeline(pipeline);
        }
    }

    /// Distinct outputs at the end of the steps are `to`; the rest are stages.
    fn pipeline(&mut self, pipeline: &Pipeline) {
        let from: Vec<String> = pipeline
            .from
            .iter()
            .filter_map(|place| self.plan.inputs.get(*place))
            .map(|input| scalar(&input.name))
            .collect();
        let mut to: Vec<OutputId> = Vec::new();
        let mut kept = pipeline.steps.len();
        for step in pipeline.steps.iter().rev() {
            match step {
                Step::Output(output) if !to.contains(output) => to.insert(0, *output),
                Step::Output(_)
                | Step::Stage(_)
                | Step::Match { .. }
                | Step::Copy(_)
                | Step::Goto(_)
                | Step::Drop { .. } => break,
            }
            kept -= 1;
        }
        self.line(2, format!("{}:", key(&pipeline.name)));
        self.line(4, format!("from: [{}]", from.join(", ")));
        self.steps(4, "stages:", &pipeline.steps[..kept]);
        if !to.is_empty() {
            let names: Vec<String> = to.iter().map(|output| self.output_name(*output)).collect();
            self.line(4, format!("to: [{}]", names.join(", ")));
        }
    }

    fn entries(&mut self) {
        if self.plan.entries.is_empty() {
            return;
        }
        self.line(0, "entries:");
        for entry in &self.plan.entries {
            self.steps(2, format!("{}:", key(&entry.name)), &entry.steps);
        }
    }

    fn output_name(&self, output: OutputId) -> String {
        let output = self.plan.outputs.get(output.index());
        output.map_or(String::new(), |output| scalar(&output.name))
    }

    fn steps(&mut self, indent: usize, head: impl Display, steps: &[Step]) {
        if steps.is_empty() {
            self.line(indent, format!("{head} []"));
            return;
        }
        self.line(indent, head);
        for step in steps {
            self.step(indent + 2, step);
        }
    }

    fn step(&mut self, indent: usize, step: &Step) {
        match step {
            Step::Stage(stage) => self.stage(indent, stage),
            Step::Match {
                selector: matchers,
                steps,
            } => {
                self.line(indent, "- match:");
                let selector = scalar(&selector(matchers));
                self.line(indent + 4, format!("selector: {selector}"));
                self.steps(indent + 4, "stages:", steps);
            }
            Step::Copy(branches) => {
                self.line(indent, "- copy:");
                for branch in branches {
                    self.steps(indent + 4, "-", branch);
                }
            }
            Step::Goto(place) => {
                let entry = self.plan.entries.get(*place);
                let name = entry.map_or(String::new(), |entry| scalar(&entry.name));
                self.line(indent, format!("- goto: {name}"));
            }
            Step::Output(output) => {
                let name = self.output_name(*output);
                self.line(indent, format!("- output: {name}"));
            }
            Step::Drop { reason } => {
                self.line(indent, "- drop_all:");
                self.line(indent + 4, format!("reason: {}", scalar(reason)));
            }
        }
    }

    fn stage(&mut self, indent: usize, stage: &Stage) {
        let below = indent + 4;
        match stage {
            Stage::Cri => self.line(indent, "- cri: {}"),
            Stage::Docker => self.line(indent, "- docker: {}"),
            Stage::Json(json) => {
                self.line(indent, "- json:");
                if json.fields.is_empty() {
                    self.line(below, "fields: {}");
                } else {
                    self.line(below, "fields:");
                }
                for field in &json.fields {
                    self.line(below + 2, format!("{}: {}", key(&field.name), path(field)));
                }
            }
            Stage::Labels(labels) => {
                self.line(indent, "- labels:");
                for label in labels {
                    let from = scalar(&label.from);
                    self.line(below, format!("{}: {from}", key(&label.label)));
                }
            }
            Stage::Drop(drop) => self.drop(indent, drop),
            Stage::Timestamp(time) => {
                self.line(indent, "- timestamp:");
                self.line(below, format!("source: {}", scalar(&time.source)));
                self.line(below, format!("format: {}", format_name(time.format)));
            }
            Stage::Multiline(lines) => {
                self.line(indent, "- multiline:");
                let first_line = scalar(lines.first_line.as_str());
                self.line(below, format!("first_line: {first_line}"));
                self.line(below, format!("wait: {}", duration(lines.wait_ms)));
                self.line(below, format!("lines_max: {}", lines.lines_max));
            }
        }
    }

    fn drop(&mut self, indent: usize, drop: &DropStage) {
        let below = indent + 4;
        self.line(indent, "- drop:");
        if let Some(source) = &drop.source {
            self.line(below, format!("source: {}", scalar(source)));
        }
        if let Some(expression) = &drop.expression {
            self.line(
                below,
                format!("expression: {}", scalar(expression.as_str())),
            );
        }
        if let Some(value) = &drop.value {
            self.line(below, format!("value: {}", scalar(value)));
        }
        if let Some(bytes) = drop.longer_than {
            let size = crate::base::size::ByteSize(bytes);
            self.line(below, format!("longer_than: {size}"));
        }
        if let Some(secs) = drop.older_than_secs {
            let age = duration(secs.saturating_mul(1_000));
            self.line(below, format!("older_than: {age}"));
        }
        self.line(below, format!("reason: {}", scalar(&drop.reason)));
    }

    fn outputs(&mut self) {
        self.line(0, "outputs:");
        for output in &self.plan.outputs {
            self.output(output);
        }
    }

    fn output(&mut self, output: &Output) {
        self.line(2, format!("{}:", key(&output.name)));
        match &output.kind {
            OutputKind::Loki(loki) => {
                self.line(4, "loki:");
                self.line(6, format!("url: {}", scalar(&secret::hide(&loki.url))));
                if let Some(tenant) = &loki.tenant {
                    self.line(6, format!("tenant: {}", scalar(tenant)));
                }
                if loki.labels.is_empty() {
                    self.line(6, "labels: {}");
                } else {
                    self.line(6, "labels:");
                }
                for (label, text) in &loki.labels {
                    self.line(8, format!("{}: {}", key(label), template(text)));
                }
            }
            OutputKind::Elasticsearch(search) => {
                self.line(4, "elasticsearch:");
                let hidden = search.urls.iter().map(|url| scalar(&secret::hide(url)));
                let urls: Vec<String> = hidden.collect();
                self.line(6, format!("urls: [{}]", urls.join(", ")));
                for line in super::print_bulk::lines(search) {
                    self.line(6, line);
                }
            }
        }
        self.line(4, format!("batch_bytes: {}", output.batch_bytes));
        self.line(4, format!("linger: {}", duration(output.linger_ms)));
        self.line(4, format!("window_bytes: {}", output.window_bytes));
        self.spool(&output.spool);
        self.line(4, "retry:");
        self.line(6, format!("min: {}", duration(output.retry.min_ms)));
        self.line(6, format!("max: {}", duration(output.retry.max_ms)));
        self.line(4, format!("timeout: {}", duration(output.timeout_ms)));
        self.http(&output.http);
        match output.dead_letters {
            None => self.line(4, "dead_letters: off"),
            Some(kept) => {
                self.line(4, "dead_letters:");
                self.line(6, format!("file_bytes: {}", kept.file_bytes));
                self.line(6, format!("files: {}", kept.files));
            }
        }
    }

    fn spool(&mut self, spool: &Spool) {
        let disk = match spool {
            Spool::Off => return,
            Spool::Memory(bytes) => {
                self.line(4, "spool:");
                return self.line(6, format!("memory: {bytes}"));
            }
            Spool::Disk(disk) => disk,
        };
        self.line(4, "spool:");
        self.line(6, format!("disk: {}", disk.bytes_max));
        let at_cap = match disk.at_cap {
            AtCap::Wait => "wait",
            AtCap::DropOldest => "drop_oldest",
            AtCap::DropNewest => "drop_newest",
        };
        self.line(6, format!("at_cap: {at_cap}"));
        self.line(6, format!("live_share: {}", disk.live_share));
        if let Some(adopt) = &disk.adopt {
            self.line(6, format!("adopt: {}", scalar(adopt)));
        }
    }
}

/// A JSON path with dots, or as a list where a key has a dot itself.
fn path(field: &JsonField) -> String {
    if field.path.iter().any(|part| part.contains('.')) {
        let parts: Vec<String> = field.path.iter().map(|part| scalar(part)).collect();
        return format!("[{}]", parts.join(", "));
    }
    scalar(&field.path.join("."))
}

/// The name of a rung in a config.
#[must_use]
pub const fn rung(rung: RungChoice) -> &'static str {
    match rung {
        RungChoice::Auto => "auto",
        RungChoice::Fexit => "fexit",
        RungChoice::TpBtf => "tp_btf",
        RungChoice::RawTp => "raw_tp",
        RungChoice::Inotify => "inotify",
        RungChoice::Sweep => "sweep",
    }
}

/// The name of a read face in a config.
#[must_use]
pub const fn face(face: IoChoice) -> &'static str {
    match face {
        IoChoice::Auto => "auto",
        IoChoice::Uring => "uring",
        IoChoice::Pread => "pread",
    }
}

const fn format_name(format: TimestampFormat) -> &'static str {
    match format {
        TimestampFormat::Rfc3339 => "rfc3339",
        TimestampFormat::Unix => "unix",
        TimestampFormat::UnixMs => "unix_ms",
        TimestampFormat::UnixUs => "unix_us",
        TimestampFormat::UnixNs => "unix_ns",
    }
}
