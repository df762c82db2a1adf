//! The loads of the benches: files of CRI lines of about 270 bytes with JSON bodies.
//!
//! ```text
//! "trace":"tw-FF-SSSSSSSSSS-TTTTTTTTTTTTTTTTTTT"   file, sequence in it, time of writing in ns
//! ```
//!
//! 1. Every line bears its mark, so that a sink finds it in any encoding without parsing. The file's
//!    number has two digits, or more where it needs them.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::generate::{LogFile, pod_directory};
use crate::journal::Container;
use crate::text::{now_ns, rfc3339_nano};

/// Files of a load, where nothing else is said.
pub const FILES: u32 = 50;

/// Whose files a steady load writes, and how.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Files.
    pub files: u32,
    /// They lie in so many namespaces in turn, `bench-0` and so on; one is `bench`.
    pub namespaces: u32,
    /// The first so many are written to as fast as it goes, in blocks, by one thread in turn.
    pub noisy: u32,
}

/// The container of a file.
#[must_use]
pub fn container(file: u32, namespaces: u32) -> Container {
    let namespace = match namespaces {
        0 | 1 => "bench".to_owned(),
        more => format!("bench-{}", file % more),
    };
    Container {
        namespace,
        pod: format!("load-{file:02}"),
        name: "app".to_owned(),
    }
}

/// Writes about `bytes` over all files as fast as it goes; gives lines and bytes.
pub fn backlog(root: &Path, bytes: u64) -> Result<(u64, u64)> {
    let (mut lines, mut total) = (0, 0);
    std::fs::create_dir_all(root.join("containers"))?;
    for file in 0..FILES {
        let container = container(file, 1);
        let directory = pod_directory(root, &container, file).join(&container.name);
        std::fs::create_dir_all(&directory)?;
        let path = directory.join("0.log");
        let log =
            std::fs::File::create(&path).with_context(|| format!("create {}", path.display()))?;
        let mut log = std::io::BufWriter::with_capacity(1 << 20, log);
        let (mut sequence, mut size) = (0, 0);
        let mut line = Vec::new();
        while size < bytes / u64::from(FILES) {
            push_line(&mut line, file, sequence);
            log.write_all(&line)?;
            size += line.len() as u64;
            sequence += 1;
        }
        log.flush()?;
        lines += sequence;
        total += size;
    }
    Ok((lines, total))
}

/// Writes `rate` lines a second over all files, each by its own `write`; gives lines and bytes. The
/// noisy ones are written to as fast as it goes instead.
pub fn steady(root: &Path, rate: u64, duration: Duration, shape: Shape) -> Result<(u64, u64)> {
    std::fs::create_dir_all(root.join("containers"))?;
    crate::process::raise_descriptors()?;
    let mut noisy = Vec::new();
    let mut quiet = Vec::new();
    for file in 0..shape.files {
        let log = LogFile::lay_out(root, &container(file, shape.namespaces), file, 0)?;
        let kind = if file < shape.noisy {
            &mut noisy
        } else {
            &mut quiet
        };
        kind.push(log);
    }
    let noisy = (!noisy.is_empty()).then(|| std::thread::spawn(move || scream(noisy, duration)));
    let (mut lines, mut bytes) = murmur(&mut quiet, shape.noisy, rate, duration)?;
    if let Some(noisy) = noisy {
        let noise = noisy
            .join()
            .map_err(|_| anyhow::anyhow!("the noisy writer panicked"))??;
        lines += noise.0;
        bytes += noise.1;
    }
    Ok((lines, bytes))
}

/// Makes `count` containers one after the other, each with a file of one line whose mark bears the
/// time before its directory was made; gives lines and bytes. Meanwhile file 0 is written to at
/// `busy` lines a second.
pub fn births(root: &Path, count: u32, every: Duration, busy: u64) -> Result<(u64, u64)> {
    std::fs::create_dir_all(root.join("containers"))?;
    let duration = every * count;
    let writer = if busy > 0 {
        let mut log = [LogFile::lay_out(root, &container(0, 1), 0, 0)?];
        Some(std::thread::spawn(move || {
            murmur(&mut log, 0, busy, duration)
        }))
    } else {
        None
    };
    let begun = Instant::now();
    let (mut lines, mut bytes) = (0u64, 0u64);
    let mut line = Vec::new();
    for file in 1..=count {
        push_line(&mut line, file, 0);
        let container = container(file, 1);
        let directory = pod_directory(root, &container, file).join(&container.name);
        std::fs::create_dir_all(&directory)?;
        let path = directory.join("0.log");
        std::fs::write(&path, &line).with_context(|| format!("write {}", path.display()))?;
        lines += 1;
        bytes += line.len() as u64;
        std::thread::sleep((every * file).saturating_sub(begun.elapsed()));
    }
    if let Some(writer) = writer {
        let more = writer
            .join()
            .map_err(|_| anyhow::anyhow!("the busy writer panicked"))??;
        lines += more.0;
        bytes += more.1;
    }
    Ok((lines, bytes))
}

/// Writes to files as fast as it goes, a block to each in turn.
fn scream(mut logs: Vec<LogFile>, duration: Duration) -> Result<(u64, u64)> {
    let begun = Instant::now();
    let (mut rounds, mut lines, mut bytes) = (0u64, 0u64, 0u64);
    let (mut line, mut block) = (Vec::new(), Vec::new());
    while begun.elapsed() < duration {
        for (file, log) in (0u32..).zip(&mut logs) {
            block.clear();
            for sequence in rounds * BLOCK_LINES..(rounds + 1) * BLOCK_LINES {
                push_line(&mut line, file, sequence);
                block.extend_from_slice(&line);
            }
            log.append(&block, 0)?;
            lines += BLOCK_LINES;
            bytes += block.len() as u64;
        }
        rounds += 1;
    }
    Ok((lines, bytes))
}

/// Lines of one write of the noisy writer.
const BLOCK_LINES: u64 = 256;

/// Writes at a rate over `logs`, of which the first has the number `first`.
fn murmur(logs: &mut [LogFile], first: u32, rate: u64, duration: Duration) -> Result<(u64, u64)> {
    let files = logs.len() as u64;
    let begun = Instant::now();
    let (mut lines, mut bytes) = (0u64, 0u64);
    let mut line = Vec::new();
    while begun.elapsed() < duration && files > 0 {
        let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
        while lines < due {
            let file = u32::try_from(lines % files).unwrap_or(0);
            push_line(&mut line, first + file, lines / files);
            logs[file as usize].append(&line, 0)?;
            lines += 1;
            bytes += line.len() as u64;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok((lines, bytes))
}

fn push_line(out: &mut Vec<u8>, file: u32, sequence: u64) {
    let time_ns = now_ns();
    let level = ["info", "info", "warn", "debug"][usize::try_from(sequence % 4).unwrap_or(0)];
    let random = (sequence ^ time_ns).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    out.clear();
    // Writing to a vector cannot fail.
    let _ = writeln!(
        out,
        "{} stdout F {{\"level\":\"{level}\",\
         \"trace\":\"tw-{file:02}-{sequence:010}-{time_ns:019}\",\
         \"msg\":\"request served\",\"method\":\"GET\",\"path\":\"/api/v1/items/{:06}\",\
         \"status\":200,\"took_ms\":{},\"user\":\"u{:010x}\",\
         \"agent\":\"Mozilla/5.0 (X11; Linux)\"}}",
        rfc3339_nano(time_ns),
        random >> 44,
        random % 977,
        random & 0xff_ffff_ffff,
    );
}
