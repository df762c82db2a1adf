//! The loads of the benches: 50 files of CRI lines of about 270 bytes with JSON bodies.
//!
//! ```text
//! "trace":"tw-FF-SSSSSSSSSS-TTTTTTTTTTTTTTTTTTT"   file, sequence in it, time of writing in ns
//! ```
//!
//! 1. Every line bears its mark, so that a sink finds it in any encoding without parsing.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::generate::{LogFile, pod_directory};
use crate::journal::Container;
use crate::text::{now_ns, rfc3339_nano};

/// Files of a load.
pub const FILES: u32 = 50;

/// The container of a file.
#[must_use]
pub fn container(file: u32) -> Container {
    let (namespace, name) = ("bench".to_owned(), "app".to_owned());
    Container {
        namespace,
        pod: format!("load-{file:02}"),
        name,
    }
}

/// Writes about `bytes` over all files as fast as it goes; gives lines and bytes.
pub fn backlog(root: &Path, bytes: u64) -> Result<(u64, u64)> {
    let (mut lines, mut total) = (0, 0);
    std::fs::create_dir_all(root.join("containers"))?;
    for file in 0..FILES {
        let container = container(file);
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

/// Writes `rate` lines a second over all files, each by its own `write`; gives lines and bytes. With
/// `noise` the first file is written to as fast as it goes instead, in blocks.
pub fn steady(root: &Path, rate: u64, duration: Duration, noise: bool) -> Result<(u64, u64)> {
    std::fs::create_dir_all(root.join("containers"))?;
    let mut logs = Vec::new();
    for file in 0..FILES {
        logs.push(LogFile::lay_out(root, &container(file), file, 0)?);
    }
    let noisy = noise.then(|| {
        let log = logs.remove(0);
        std::thread::spawn(move || scream(log, duration))
    });
    let (mut lines, mut bytes) = murmur(&mut logs, u32::from(noise), rate, duration)?;
    if let Some(noisy) = noisy {
        let noise = noisy
            .join()
            .map_err(|_| anyhow::anyhow!("the noisy writer panicked"))??;
        lines += noise.0;
        bytes += noise.1;
    }
    Ok((lines, bytes))
}

/// Writes to one file as fast as it goes.
fn scream(mut log: LogFile, duration: Duration) -> Result<(u64, u64)> {
    let begun = Instant::now();
    let (mut lines, mut bytes) = (0u64, 0u64);
    let (mut line, mut block) = (Vec::new(), Vec::new());
    while begun.elapsed() < duration {
        block.clear();
        for _ in 0..BLOCK_LINES {
            push_line(&mut line, 0, lines);
            block.extend_from_slice(&line);
            lines += 1;
        }
        log.append(&block, 0)?;
        bytes += block.len() as u64;
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
    while begun.elapsed() < duration {
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
