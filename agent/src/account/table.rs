//! The account as a table for people and scripts.

use std::fmt::Write as _;

use super::{Beyond, Row};

/// A line a container and output, and below it what belongs to none.
#[must_use]
pub fn table(rows: &[Row], beyond: &Beyond) -> String {
    let mut all = vec![HEAD.map(str::to_owned).to_vec()];
    all.extend(cells(rows));
    let mut text = aligned(&all);
    let clean = super::is_clean(rows, beyond);
    if beyond.containers_missed > 0 {
        let _ = writeln!(
            text,
            "{} containers were gone before a file of theirs could be opened: written ?",
            beyond.containers_missed
        );
    }
    if beyond.files_unopened > 0 {
        let _ = writeln!(
            text,
            "{} files are there and may not be opened: written ?",
            beyond.files_unopened
        );
    }
    for (output, files) in beyond.unread_files.iter().filter(|(_, files)| **files > 0) {
        let bytes = beyond.unread_bytes.get(output).copied().unwrap_or(0);
        let _ = writeln!(
            text,
            "{output}: {files} files were gone before it had all of them, {bytes} bytes as far as known"
        );
    }
    let verdict = if clean {
        "clean: nothing is known to be lost, and all terms add up"
    } else {
        "not clean: something is lost, or not known to have arrived"
    };
    let _ = writeln!(text, "{verdict}");
    text
}

/// The cells of a line a container and output.
#[must_use]
pub fn cells(rows: &[Row]) -> Vec<Vec<String>> {
    let mut cells = Vec::new();
    for row in rows {
        for (name, output) in &row.outputs {
            cells.push(vec![
                name_of(row),
                name.clone(),
                unknown(row.written_bytes),
                source(row),
                (row.read_before_bytes + row.read_bytes).to_string(),
                (output.before_bytes + output.bytes).to_string(),
                output.in_flight_bytes.to_string(),
                unknown(output.lost_bytes),
                output.lag_bytes.to_string(),
                secs(output.lag_secs, "?"),
                secs(output.rotated_away_secs, "-"),
                output.state.name().to_owned(),
            ]);
        }
    }
    cells
}

/// The table's columns.
pub const HEAD: [&str; 12] = [
    "container",
    "output",
    "written",
    "by",
    "read",
    "acknowledged",
    "in flight",
    "lost",
    "lag",
    "lag s",
    "gone in s",
    "state",
];

/// The container as a person calls it; its log where it is in no pod.
#[must_use]
pub fn name_of(row: &Row) -> String {
    if row.pod.is_empty() {
        return row.log.clone();
    }
    format!("{}/{}/{}", row.namespace, row.pod, row.container)
}

fn source(row: &Row) -> String {
    match (&row.gap, row.written_source) {
        (Some(gap), _) => gap.clone(),
        (None, super::Word::Kernel) => "kernel".to_owned(),
        (None, super::Word::Stat) => "stat".to_owned(),
    }
}

fn unknown(figure: Option<u64>) -> String {
    figure.map_or("?".to_owned(), |figure| figure.to_string())
}

fn secs(figure: Option<f64>, none: &str) -> String {
    figure.map_or(none.to_owned(), |figure| format!("{figure:.1}"))
}

/// Names to the left, figures to the right.
#[must_use]
pub fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let wide = widths[at];
            let _ = if at < 2 || at + 1 == columns {
                write!(line, "{cell:<wide$}  ")
            } else {
                write!(line, "{cell:>wide$}  ")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
