//! What the containers printed against what Loki and Elasticsearch hold.
//!
//! ```text
//! printers' journals --+                       +-- Loki: query_range
//!                      +--> row per container <-+
//! kubelet's files -----+      and output       +-- Elasticsearch: scroll
//! ```
//!
//! 1. A record is expected when its printer finished printing it. Where a fault lay between printer
//!    and file (a killed containerd, a power cut), it is expected when it stood in a file.
//! 2. Of a printer that was killed, the one record under way may be there, whole or cut.
//! 3. What is missing is named by its numbers, what is excused is counted.
//! 4. A second copy is explained only by a kill of the agent after the record was printed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;

use harness::journal::{Container, Stream};
use harness::print::{Run, recognize, stream_of};
use harness::wire::{Arrived, Output};

/// Records by run and number.
pub(super) type Numbers = BTreeMap<String, BTreeSet<u64>>;

/// What the scenario knows of its own acts.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// How far each run was when the agent was last killed: what came before may come again.
    pub killed: BTreeMap<String, u64>,
}

/// What one output holds.
#[derive(Debug, Default)]
pub(super) struct Held {
    by_run: BTreeMap<String, BTreeMap<u64, Copies>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Copies {
    count: u64,
    altered: bool,
    /// Under another container's or stream's name.
    misplaced: bool,
}

impl Held {
    /// Takes in all that the output answered; lines of no printer are passed over.
    pub(super) fn take(arrived: &[Arrived], runs: &[Run]) -> Self {
        let owners: BTreeMap<&str, &Container> = runs
            .iter()
            .map(|run| (run.name.as_str(), &run.container))
            .collect();
        let mut held = Self::default();
        for record in arrived {
            let Some((run, number, same)) = recognize(&record.text) else {
                continue;
            };
            let of_run = held.by_run.entry(run.to_owned()).or_default();
            let copies = of_run.entry(number).or_default();
            copies.count += 1;
            copies.altered |= !same;
            let stream = if record.text.contains(" end=") {
                Stream::Stdout
            } else {
                stream_of(number)
            };
            copies.misplaced |=
                owners.get(run) != Some(&&record.container) || record.stream != stream;
        }
        held
    }
}

/// One run at one output.
#[derive(Debug)]
pub(super) struct Row {
    run: Run,
    output: Output,
    /// Records that its printer finished but that never stood in a file: the runtime's loss.
    unfiled: u64,
    expected: u64,
    missing: Vec<RangeInclusive<u64>>,
    altered: u64,
    misplaced: u64,
    /// Second copies. Loki keeps one of those that agree in time and text.
    twice: u64,
    /// Which came again and no kill explains it.
    again: Vec<RangeInclusive<u64>>,
    /// Records that were never printed.
    unprinted: u64,
}

impl Row {
    fn draw(
        run: &Run,
        output: Output,
        held: &Held,
        files: Option<&Numbers>,
        known: &Known,
    ) -> Self {
        let none = BTreeMap::new();
        let copies = held.by_run.get(&run.name).unwrap_or(&none);
        let has = |numbers: &Numbers, number: u64| {
            numbers
                .get(&run.name)
                .is_some_and(|set| set.contains(&number))
        };
        let filed = |number: u64| files.is_none_or(|files| has(files, number));
        let expected: Vec<u64> = (0..run.printed).filter(|number| filed(*number)).collect();
        let mut row = Self {
            run: run.clone(),
            output,
            unfiled: run.printed - expected.len() as u64,
            expected: expected.len() as u64,
            missing: Vec::new(),
            altered: 0,
            misplaced: 0,
            twice: 0,
            again: Vec::new(),
            unprinted: 0,
        };
        for number in expected {
            if copies.contains_key(&number) {
                continue;
            }
            push(&mut row.missing, number, 1);
        }
        for (number, copies) in copies {
            // The one under way at a kill, and one that the runtime mixed with another.
            let unsure = !run.ended && *number == run.printed || !filed(*number);
            row.twice += copies.count - 1;
            let killed_at = known.killed.get(&run.name);
            if copies.count > 1 && killed_at.is_none_or(|at| number > at) {
                push(&mut row.again, *number, PER_STREAM);
            }
            row.misplaced += u64::from(copies.misplaced);
            row.altered += u64::from(copies.altered && !unsure);
            row.unprinted += u64::from(*number >= run.printed && !unsure);
        }
        row
    }

    fn missing_count(&self) -> u64 {
        let count = |range: &RangeInclusive<u64>| range.end() - range.start() + 1;
        self.missing.iter().map(count).sum()
    }

    fn is_clean(&self) -> bool {
        let others = self.altered + self.misplaced + self.unprinted;
        self.missing.is_empty() && self.again.is_empty() && others == 0
    }
}

/// Adds a number to ranges in which at most `gap` lies between neighbours.
fn push(ranges: &mut Vec<RangeInclusive<u64>>, number: u64, gap: u64) {
    match ranges.last_mut() {
        Some(last) if *last.end() + gap >= number => *last = *last.start()..=number,
        _ => ranges.push(number..=number),
    }
}

/// All rows.
#[derive(Debug, Default)]
pub(super) struct Account {
    rows: Vec<Row>,
}

impl Account {
    /// Adds a run at an output. `files`, where given, tells what stood in kubelet's files.
    pub(super) fn add(
        &mut self,
        run: &Run,
        output: Output,
        held: &Held,
        files: Option<&Numbers>,
        known: &Known,
    ) {
        self.rows.push(Row::draw(run, output, held, files, known));
    }

    /// Whether nothing is missing, altered, misplaced or unprinted, or came twice without a kill.
    pub(super) fn is_clean(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(Row::is_clean)
    }

    /// Records that are missing.
    pub(super) fn missing(&self) -> u64 {
        self.rows.iter().map(Row::missing_count).sum()
    }
}

impl fmt::Display for Account {
    /// A line per kind of pod and output, then a line per run that is not clean.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds: BTreeMap<(String, Output), [u64; 8]> = BTreeMap::new();
        for row in &self.rows {
            let kind = (kind(&row.run.container), row.output);
            let of_row = [
                1,
                row.run.printed,
                row.unfiled,
                row.missing_count(),
                row.altered,
                row.misplaced,
                row.unprinted,
                row.twice,
            ];
            for (sum, more) in kinds.entry(kind).or_default().iter_mut().zip(of_row) {
                *sum += more;
            }
        }
        write!(f, "{:<28} {:<13} {:>4}", "pods", "output", "runs")?;
        for head in COLUMNS {
            write!(f, " {head:>9}")?;
        }
        for ((kind, output), sums) in kinds {
            write!(f, "\n{kind:<28} {:<13} {:>4}", output.to_string(), sums[0])?;
            for sum in &sums[1..] {
                write!(f, " {sum:>9}")?;
            }
        }
        writeln!(f)?;
        for row in self.rows.iter().filter(|row| !row.is_clean()) {
            let Row { run, output, .. } = row;
            write!(f, "WRONG {output} {} {}:", run.container, run.name)?;
            writeln!(
                f,
                " of {} expected, missing {}, again {}",
                row.expected,
                head(&row.missing),
                head(&row.again)
            )?;
        }
        Ok(())
    }
}

/// The first ranges, for a person.
fn head(ranges: &[RangeInclusive<u64>]) -> String {
    let shown = &ranges[..ranges.len().min(RANGES_SHOWN)];
    let more = if ranges.len() > shown.len() {
        " ..."
    } else {
        ""
    };
    format!("{shown:?}{more}")
}

/// Namespace and the pod's name up to its owner's first word.
fn kind(container: &Container) -> String {
    let first = container.pod.split('-').next().unwrap_or_default();
    let short: String = first.chars().take(16).collect();
    let space: String = container.namespace.chars().take(10).collect();
    format!("{space}/{short}")
}

const COLUMNS: [&str; 7] = [
    "printed",
    "unfiled",
    "missing",
    "altered",
    "misplaced",
    "unprinted",
    "twice",
];
/// Of the records of one stream every fifth may be the other's.
const PER_STREAM: u64 = 5;
const RANGES_SHOWN: usize = 8;

#[cfg(test)]
mod tests {
    use harness::print::{end_text, text};

    use super::*;

    fn run(printed: u64, ended: bool) -> Run {
        let container = Container {
            namespace: "n".to_owned(),
            pod: "p-1".to_owned(),
            name: "c".to_owned(),
        };
        Run {
            container,
            name: "u/c/0".to_owned(),
            printed,
            ended,
        }
    }

    fn arrived(text: String, stream: Stream) -> Arrived {
        Arrived {
            container: run(0, true).container,
            stream,
            lane: 0,
            time_ns: None,
            text,
            merged: false,
            sequence: None,
        }
    }

    fn draw(run: &Run, texts: Vec<String>, files: Option<&Numbers>) -> Row {
        let records: Vec<Arrived> = texts
            .into_iter()
            .map(|text| {
                let number = recognize(&text).map_or(0, |(_, number, _)| number);
                let stream = if text.contains(" end=") {
                    Stream::Stdout
                } else {
                    stream_of(number)
                };
                arrived(text, stream)
            })
            .collect();
        let held = Held::take(&records, std::slice::from_ref(run));
        Row::draw(run, Output::Loki, &held, files, &Known::default())
    }

    #[test]
    fn a_missing_an_altered_and_a_second_copy_are_told_apart() {
        let of = |number| text("u/c/0", number, 40);
        let end = end_text("u/c/0", 2);
        assert!(draw(&run(3, true), vec![of(0), of(1), end], None).is_clean());
        let spoiled = vec![of(0), of(0), of(1) + "x", of(5), of(9)];
        let spoiled = draw(&run(6, true), spoiled, None);
        assert_eq!(spoiled.missing, [2..=4]);
        assert_eq!(spoiled.again, [0..=0]);
        assert_eq!(
            (spoiled.altered, spoiled.twice, spoiled.unprinted),
            (1, 1, 1)
        );
        let killed = run(1, false);
        let held = Held::take(
            &[arrived(of(0), Stream::Stderr)],
            std::slice::from_ref(&killed),
        );
        let row = Row::draw(&killed, Output::Loki, &held, None, &Known::default());
        assert_eq!(row.misplaced, 1);
    }

    #[test]
    fn the_record_under_way_may_be_cut_and_what_stood_in_no_file_is_not_expected() {
        let of = |number| text("u/c/0", number, 40);
        let mut cut = of(2);
        cut.truncate(cut.len() - 3);
        assert!(draw(&run(2, false), vec![of(0), of(1), cut], None).is_clean());
        let files = Numbers::from([("u/c/0".to_owned(), BTreeSet::from([0]))]);
        let row = draw(&run(2, false), vec![of(0)], Some(&files));
        assert!(row.is_clean());
        assert_eq!((row.expected, row.unfiled), (1, 1));
    }
}
