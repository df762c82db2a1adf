//! A container that prints: numbered records on both streams, and a journal of how many.
//!
//! ```text
//! journal/<uid>.<container>.<attempt>:  namespace pod uid container attempt
//!                                       <printed> <ended: 0 or 1>
//! stdout, stderr:  run=<uid>/<container>/<attempt> seq=<n> <padding>
//!                  run=<uid>/<container>/<attempt> seq=<count> end=<count>     last, maybe without a newline
//! ```
//!
//! 1. The journal counts a record once `write` has taken all of it: a printer that was killed has
//!    printed as many as it says, and at most a part or the whole of one more.
//! 2. A text follows from its run and its number, so that an altered one is seen without a copy.
//! 3. Attempts of one container bear different numbers, also when the node was started again.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::journal::{Container, Stream};
use crate::text::hash;

/// What is printed.
#[derive(Debug, Clone, clap::Args)]
pub struct Print {
    /// Where the journal is kept.
    #[arg(long)]
    journal: PathBuf,
    /// The container's name, which the downward API does not give.
    #[arg(long)]
    container: String,
    /// Records in all; without it until it is killed.
    #[arg(long, default_value_t = u64::MAX)]
    records: u64,
    /// Records a second; 0 is as fast as it goes.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// Bytes of a text on average; one in 500 is of two parts.
    #[arg(long, default_value_t = 150)]
    bytes: u64,
    /// The exit code after the last record.
    #[arg(long, default_value_t = 0)]
    exit: u8,
    /// Stays after the last record.
    #[arg(long)]
    stay: bool,
}

/// One process that printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Whose it is.
    pub container: Container,
    /// `<uid>/<container>/<attempt>`
    pub name: String,
    /// Records that it printed whole.
    pub printed: u64,
    /// Whether it printed its end.
    pub ended: bool,
}

/// Prints, and keeps the journal.
///
/// # Errors
/// The journal or a stream cannot be written.
pub fn run(print: &Print) -> Result<ExitCode> {
    let (journal, name, head) = open_journal(print)?;
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    let begun = Instant::now();
    let mut number = 0;
    while number < print.records {
        let due = begun.elapsed().as_secs_f64() * print.rate as f64;
        if print.rate > 0 && number as f64 > due {
            std::thread::sleep(PACE);
            continue;
        }
        let line = text(&name, number, print.bytes) + "\n";
        match stream_of(number) {
            Stream::Stdout => put(&mut out, &line)?,
            Stream::Stderr => put(&mut err, &line)?,
        }
        number += 1;
        note(&journal, head, number, false)?;
    }
    // Who stays ends the line; who goes leaves it to the runtime, as many programs do.
    let newline = if print.stay { "\n" } else { "" };
    put(&mut out, &(end_text(&name, number) + newline))?;
    note(&journal, head, number + 1, true)?;
    if print.stay {
        loop {
            std::thread::park();
        }
    }
    Ok(ExitCode::from(print.exit))
}

/// All that printed, by name.
///
/// # Errors
/// A journal cannot be read.
pub fn runs(journal: &Path) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for entry in std::fs::read_dir(journal).context("list the printers' journals")? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        // A printer that was killed at its first step has printed nothing.
        if !text.is_empty() {
            runs.push(parse(&text).with_context(|| format!("journal {}", path.display()))?);
        }
    }
    runs.sort_by(|a, b| (&a.container, &a.name).cmp(&(&b.container, &b.name)));
    Ok(runs)
}

/// The text of a record.
#[must_use]
pub fn text(run: &str, number: u64, bytes: u64) -> String {
    let mut text = format!("run={run} seq={number} bytes={bytes} ");
    let random = hash(format!("{run} {number}").as_bytes());
    let padding = if number % LONG_EVERY == LONG_EVERY - 1 {
        LONG_BYTES
    } else {
        random % (bytes * 2).max(1)
    };
    let mark = format!("{random:016x} ");
    while (text.len() as u64) < padding {
        text.push_str(&mark);
    }
    text
}

/// The last text of a run that printed `count` records before it.
#[must_use]
pub fn end_text(run: &str, count: u64) -> String {
    format!("run={run} seq={count} end={count}")
}

/// Where a record is printed.
#[must_use]
pub const fn stream_of(number: u64) -> Stream {
    if number % 5 == 3 {
        Stream::Stderr
    } else {
        Stream::Stdout
    }
}

/// Run and number of a text, and whether the text is what was printed under them.
#[must_use]
pub fn recognize(line: &str) -> Option<(&str, u64, bool)> {
    let (run, rest) = line.strip_prefix("run=")?.split_once(" seq=")?;
    let (number, rest) = rest.split_once(' ')?;
    let number = number.parse().ok()?;
    let word = rest.split(' ').next().unwrap_or_default();
    let same = if word.starts_with("end=") {
        line == end_text(run, number)
    } else {
        let bytes = word
            .strip_prefix("bytes=")
            .and_then(|bytes| bytes.parse().ok());
        bytes.is_some_and(|bytes| line == text(run, number, bytes))
    };
    Some((run, number, same))
}

fn open_journal(print: &Print) -> Result<(File, String, u64)> {
    // From the downward API.
    let of = |name: &str| std::env::var(name).with_context(|| format!("${name}"));
    let (namespace, pod) = (of("POD_NAMESPACE")?, of("POD_NAME")?);
    let (uid, container) = (of("POD_UID")?, &print.container);
    for attempt in 0..ATTEMPTS_MAX {
        let path = print.journal.join(format!("{uid}.{container}.{attempt}"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => {
                let head = format!("{namespace} {pod} {uid} {container} {attempt}\n");
                file.write_all_at(format!("{head}{:020} 0\n", 0).as_bytes(), 0)?;
                let name = format!("{uid}/{container}/{attempt}");
                return Ok((file, name, head.len() as u64));
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("create {}", path.display())),
        }
    }
    bail!("{ATTEMPTS_MAX} attempts of {uid}/{container}")
}

fn note(journal: &File, at: u64, printed: u64, ended: bool) -> Result<()> {
    let line = format!("{printed:020} {}\n", u8::from(ended));
    journal
        .write_all_at(line.as_bytes(), at)
        .context("write the journal")
}

fn put(stream: &mut impl Write, line: &str) -> Result<()> {
    stream.write_all(line.as_bytes())?;
    stream.flush().context("print")
}

fn parse(text: &str) -> Result<Run> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [namespace, pod, uid, name, attempt, printed, ended] = words[..] else {
        bail!("not seven words: {text:?}");
    };
    let container = Container {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        name: name.to_owned(),
    };
    Ok(Run {
        container,
        name: format!("{uid}/{name}/{attempt}"),
        printed: printed.parse()?,
        ended: ended == "1",
    })
}

/// How long a printer that is ahead of its rate sleeps.
const PACE: Duration = Duration::from_millis(2);

/// Every so many records one is longer than the 16 KiB at which containerd cuts.
const LONG_EVERY: u64 = 500;
const LONG_BYTES: u64 = 20_000;

/// More attempts than any crash loop of a test.
const ATTEMPTS_MAX: u32 = 1000;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_text_is_recognized_and_an_altered_one_too() {
        for number in [0, 3, 499] {
            let line = text("u/c/0", number, 150);
            assert_eq!(recognize(&line), Some(("u/c/0", number, true)));
            assert_eq!(
                recognize(&line[..line.len() - 1]),
                Some(("u/c/0", number, false))
            );
        }
        assert_eq!(recognize("run=u/c/1 seq=7 end=7"), Some(("u/c/1", 7, true)));
        assert_eq!(
            recognize("run=u/c/1 seq=7 end=8"),
            Some(("u/c/1", 7, false))
        );
        assert_eq!(recognize("another line"), None);
    }

    #[test]
    fn a_journal_gives_its_run() {
        let run = parse("shop web-1 u-1 app 2\n00000000000000000005 1\n").unwrap();
        assert_eq!(
            (run.name.as_str(), run.printed, run.ended),
            ("u-1/app/2", 5, true)
        );
        assert_eq!(run.container.to_string(), "shop/web-1/app");
        assert!(parse("shop web-1\n").is_err());
    }
}
