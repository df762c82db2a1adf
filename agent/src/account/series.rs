//! The accounts as series of `/metrics`.
//!
//! 1. A container's series are there as long as its log is.
//! 2. What is not known, and what does not apply, has no series: never 0.

use std::fmt::{Display, Write as _};

use super::{OutputRow, Row, Word};

/// One output's figure in a family.
type Figure = (
    &'static str,
    &'static str,
    &'static str,
    fn(&OutputRow) -> Option<String>,
);

const OF_OUTPUTS: [Figure; 7] = [
    (
        "tailwake_container_acknowledged_bytes_total",
        "counter",
        "Bytes of the container's files that the output has, before this run of the agent too.",
        |row| Some((row.before_bytes + row.bytes).to_string()),
    ),
    (
        "tailwake_container_lost_bytes_total",
        "counter",
        "Bytes known to be lost to the output; without a series where none are.",
        |row| (row.lost_known_bytes > 0).then(|| row.lost_known_bytes.to_string()),
    ),
    (
        "tailwake_container_lag_bytes",
        "gauge",
        "Bytes written and not acknowledged; without a series where there are none.",
        |row| (row.lag_bytes > 0).then(|| row.lag_bytes.to_string()),
    ),
    (
        "tailwake_container_lag_seconds",
        "gauge",
        "For how long the oldest byte that is not acknowledged has waited.",
        |row| row.lag_secs.filter(|_| row.lag_bytes > 0).map(decimal),
    ),
    (
        "tailwake_container_rotated_away_seconds",
        "gauge",
        "Seconds until the oldest byte that is not acknowledged is rotated away at the present rate.",
        |row| row.rotated_away_secs.map(decimal),
    ),
    (
        "tailwake_container_unproven_lines_total",
        "counter",
        "Lines that were settled though nobody says what became of them; without a series where none were.",
        |row| (row.unproven_lines > 0).then(|| row.unproven_lines.to_string()),
    ),
    (
        "tailwake_container_unproven_bytes",
        "gauge",
        "Bytes by which the terms of the account differ; without a series where they do not.",
        |row| (row.unproven_bytes > 0).then(|| row.unproven_bytes.to_string()),
    ),
];

/// The series of all rows in the text exposition format 0.0.4: each row is written to all families
/// at once, so that no more than one need be there.
#[derive(Debug)]
pub struct Series {
    families: Vec<String>,
}

impl Default for Series {
    fn default() -> Self {
        let written = head(
            WRITTEN,
            "counter",
            "Bytes that the container has written; without a series where there may be more than is known.",
        );
        let incomplete = head(
            INCOMPLETE,
            "gauge",
            "1 where more may have been written than is known, by reason.",
        );
        let read = head(
            READ,
            "counter",
            "Bytes of the container's files that were read, before this run of the agent too.",
        );
        let of_outputs = OF_OUTPUTS.iter();
        let of_outputs = of_outputs.map(|(name, kind, help, _)| head(name, kind, help));
        Self {
            families: [written, incomplete, read]
                .into_iter()
                .chain(of_outputs)
                .collect(),
        }
    }
}

impl Series {
    /// Adds a container's.
    pub fn add(&mut self, row: &Row) {
        let labels = labels(row);
        let [written, incomplete, read, of_outputs @ ..] = self.families.as_mut_slice() else {
            return;
        };
        let source = match row.written_source {
            Word::Kernel => "kernel",
            Word::Stat => "stat",
        };
        if let Some(bytes) = row.written_bytes {
            let _ = writeln!(written, "{WRITTEN}{{{labels},source=\"{source}\"}} {bytes}");
        }
        if let Some(gap) = &row.gap {
            let _ = writeln!(incomplete, "{INCOMPLETE}{{{labels},reason=\"{gap}\"}} 1");
        }
        let bytes = row.read_before_bytes + row.read_bytes;
        let _ = writeln!(read, "{READ}{{{labels}}} {bytes}");
        for (text, (name, _, _, figure)) in of_outputs.iter_mut().zip(OF_OUTPUTS) {
            for (output, of) in &row.outputs {
                if let Some(said) = figure(of) {
                    let _ = writeln!(text, "{name}{{{labels},output=\"{output}\"}} {said}");
                }
            }
        }
    }

    /// All of them, in pieces: together they would need the room twice.
    #[must_use]
    pub fn pieces(self) -> Vec<String> {
        self.families
    }
}

const WRITTEN: &str = "tailwake_container_written_bytes_total";
const INCOMPLETE: &str = "tailwake_container_incomplete";
const READ: &str = "tailwake_container_read_bytes_total";

fn head(name: &str, kind: &str, help: &str) -> String {
    format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")
}

fn labels(row: &Row) -> String {
    if row.pod.is_empty() {
        return format!("log=\"{}\"", escaped(&row.log));
    }
    format!(
        "namespace=\"{}\",pod=\"{}\",container=\"{}\",uid=\"{}\"",
        escaped(&row.namespace),
        escaped(&row.pod),
        escaped(&row.container),
        escaped(&row.uid)
    )
}

fn escaped(value: &str) -> impl Display {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    value.replace('\n', "\\n")
}

fn decimal(figure: f64) -> String {
    format!("{figure:.3}")
}
