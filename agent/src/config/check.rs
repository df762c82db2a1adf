//! What `tailwake check` prints: inputs, pipelines, outputs, and the memory formula.

use std::fmt::Write;

use crate::plan::memory::{Memory, Threads};
use crate::plan::{Glob, InputKind, OutputKind, Plan, Spool, StartAt, Step, print, secret};

/// The page for a plan on a machine with `cpus` processors.
///
/// # Errors
/// The plan needs more than `limits.memory`; the text says the cure.
pub fn check(plan: &Plan, cpus: usize) -> Result<String, String> {
    let threads = Memory::threads(plan, cpus)?;
    let mut out = String::new();
    table(&mut out, &["INPUT", "READS", "START AT"], inputs(plan));
    table(
        &mut out,
        &["PIPELINE", "FROM", "STEPS", "TO"],
        pipelines(plan),
    );
    table(
        &mut out,
        &[
            "OUTPUT", "KIND", "SENDS TO", "BATCH", "LINGER", "WINDOW", "SPOOL",
        ],
        outputs(plan),
    );
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{}", formula(&threads));
    Ok(out)
}

fn formula(threads: &Threads) -> String {
    format!(
        "threads: {} reader(s), {} encoder(s)\nmemory: {} ({} read buffers)",
        threads.readers, threads.encoders, threads.memory, threads.memory.pool_buffers
    )
}

fn inputs(plan: &Plan) -> Vec<Vec<String>> {
    let row = |input: &crate::plan::Input| {
        let reads = match &input.kind {
            InputKind::Pods { root, .. } => format!("pods {}", root.display()),
            InputKind::Files { paths, exclude, .. } => {
                let texts = |globs: &[Glob]| -> String {
                    let texts: Vec<&str> = globs.iter().map(Glob::text).collect();
                    texts.join(" ")
                };
                let mut reads = format!("files {}", texts(paths));
                if !exclude.is_empty() {
                    reads.push_str(&format!(" but {}", texts(exclude)));
                }
                reads
            }
        };
        let start_at = match input.start_at {
            StartAt::Beginning => "beginning".to_owned(),
            StartAt::End => "end".to_owned(),
            StartAt::Age { secs } => format!("last {}", print::duration(secs * 1_000)),
        };
        vec![input.name.clone(), reads, start_at]
    };
    plan.inputs.iter().map(row).collect()
}

fn pipelines(plan: &Plan) -> Vec<Vec<String>> {
    let row = |pipeline: &crate::plan::Pipeline| {
        let from = pipeline.from.iter().map(|place| &plan.inputs[*place].name);
        let from: Vec<&str> = from.map(String::as_str).collect();
        vec![
            pipeline.name.clone(),
            from.join(" "),
            pipeline.steps.len().to_string(),
            targets(plan, &pipeline.steps).join(" "),
        ]
    };
    plan.pipelines.iter().map(row).collect()
}

/// Outputs that the steps lead to, through entries too.
fn targets(plan: &Plan, steps: &[Step]) -> Vec<String> {
    let mut left: Vec<&Step> = steps.iter().collect();
    let mut entered = vec![false; plan.entries.len()];
    let mut found = vec![false; plan.outputs.len()];
    while let Some(step) = left.pop() {
        match step {
            Step::Output(output) => found[output.index()] = true,
            Step::Goto(entry) if !entered[*entry] => {
                entered[*entry] = true;
                left.extend(&plan.entries[*entry].steps);
            }
            Step::Match { steps, .. } => left.extend(steps),
            Step::Copy(branches) => left.extend(branches.iter().flatten()),
            Step::Goto(_) | Step::Stage(_) | Step::Drop { .. } => {}
        }
    }
    let outputs = plan.outputs.iter().zip(found);
    outputs
        .filter(|(_, found)| *found)
        .map(|(output, _)| output.name.clone())
        .collect()
}

fn outputs(plan: &Plan) -> Vec<Vec<String>> {
    let row = |output: &crate::plan::Output| {
        let (kind, target) = match &output.kind {
            OutputKind::Loki(loki) => ("loki", secret::hide(&loki.url)),
            OutputKind::Elasticsearch(search) => (
                "elasticsearch",
                format!("{} {}", secret::hide(&search.urls.join(" ")), search.index),
            ),
        };
        vec![
            output.name.clone(),
            kind.to_owned(),
            target,
            output.batch_bytes.to_string(),
            print::duration(output.linger_ms),
            output.window_bytes.to_string(),
            match &output.spool {
                Spool::Off => "none".to_owned(),
                Spool::Memory(bytes) => format!("{bytes} of memory"),
                Spool::Disk(disk) => format!("{} on disk", disk.bytes_max),
            },
        ]
    };
    plan.outputs.iter().map(row).collect()
}

fn table(out: &mut String, head: &[&str], rows: Vec<Vec<String>>) {
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let mut widths: Vec<usize> = head.iter().map(String::len).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in std::iter::once(&head).chain(&rows) {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out.push('\n');
}
