//! The benches' sink: decompresses, finds the marks of `load`, checks them, costs little.
//!
//! 1. A request is answered only after its marks were counted.
//! 2. Order is checked within (file, level), since labels split a file by level.
//! 3. `GET /stats` gives the counts so far as JSON.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use memchr::memmem;
use serde::{Deserialize, Serialize};

use crate::receive::output_of;
use crate::serve::{Answer, Server, answer};
use crate::text::now_ns;
use crate::wire::{Output, inflate};

/// What a sink has seen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Requests.
    pub requests: u64,
    /// Bytes of their bodies on the wire.
    pub wire_bytes: u64,
    /// Different lines.
    pub lines: u64,
    /// Lines that came again.
    pub duplicates: u64,
    /// First arrivals that came after a later one.
    pub disordered: u64,
    /// Sequence numbers below the highest of their file that have not come.
    pub gaps: u64,
    /// Median of write to receipt, microseconds.
    pub p50_us: u64,
    /// 99th percentile of write to receipt, microseconds.
    pub p99_us: u64,
    /// The same without the first file, whose writer may be a noisy neighbour.
    pub others_p99_us: u64,
    /// Their median.
    pub others_p50_us: u64,
    /// Their lines.
    pub others: u64,
    /// When the last line came.
    pub last_ns: u64,
}

/// Starts a sink on a loopback port (0 takes a free one).
pub fn start(port: u16) -> Result<Server> {
    let counts = Arc::new(Mutex::new(Counts::default()));
    Server::start(port, move |request| {
        let counts = Arc::clone(&counts);
        async move { serve(&counts, request).await }
    })
}

/// Asks a sink for its counts.
pub fn stats(address: SocketAddr) -> Result<Stats> {
    Ok(serde_json::from_str(&crate::serve::get(
        address, "/stats",
    )?)?)
}

async fn serve(counts: &Mutex<Counts>, request: Request<Incoming>) -> Answer {
    let Some(output) = output_of(request.uri().path()) else {
        let stats = counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stats();
        return match request.uri().path() {
            "/stats" => answer(200, serde_json::to_string(&stats)?),
            _ => answer(200, r#"{"version":{"number":"8.19.0"}}"#),
        };
    };
    let gzip = request.headers().get("content-encoding").is_some();
    let body = request.into_body().collect().await?.to_bytes();
    let plain = match output {
        Output::Loki => snap::raw::Decoder::new().decompress_vec(&body)?,
        Output::Elasticsearch => inflate(gzip.then_some("gzip"), &body)?,
    };
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    counts.requests += 1;
    counts.wire_bytes += body.len() as u64;
    let found = counts.scan(&plain);
    match output {
        Output::Loki => answer(204, ""),
        Output::Elasticsearch => answer(200, bulk_answer(found)),
    }
}

fn bulk_answer(items: u64) -> String {
    let mut out = String::from(r#"{"took":1,"errors":false,"items":["#);
    for index in 0..items {
        if index > 0 {
            out.push(',');
        }
        out.push_str(r#"{"index":{"_index":"bench","status":201}}"#);
    }
    out.push_str("]}");
    out
}

#[derive(Debug, Default)]
struct Counts {
    requests: u64,
    wire_bytes: u64,
    lines: u64,
    duplicates: u64,
    disordered: u64,
    last_ns: u64,
    /// Per file a bit per sequence number.
    seen: BTreeMap<u32, Vec<u64>>,
    highest: BTreeMap<(u32, u64), u64>,
    /// Latencies by bucket of an eighth of a power of two; and those of all files but the first.
    latencies: BTreeMap<u32, u64>,
    others: BTreeMap<u32, u64>,
}

impl Counts {
    /// Counts the marks of a plain body.
    fn scan(&mut self, plain: &[u8]) -> u64 {
        let now = now_ns();
        let mut found = 0;
        for at in memmem::find_iter(plain, b"\"tw-") {
            let rest = &plain[at + 4..];
            let Some(dash) = rest
                .iter()
                .take(FILE_DIGITS_MAX + 1)
                .position(|b| *b == b'-')
            else {
                continue;
            };
            let Some(mark) = rest.get(dash + 1..dash + 1 + MARK_BYTES) else {
                continue;
            };
            let (file, sequence) = (number(&rest[..dash]), number(&mark[..10]));
            let time_ns = number(&mark[11..]);
            found += 1;
            self.count(
                u32::try_from(file).unwrap_or(u32::MAX),
                sequence,
                now,
                time_ns,
            );
        }
        found
    }

    fn count(&mut self, file: u32, sequence: u64, now: u64, time_ns: u64) {
        let bits = self.seen.entry(file).or_default();
        let (word, bit) = (
            usize::try_from(sequence / 64).unwrap_or(0),
            1u64 << (sequence % 64),
        );
        if bits.len() <= word {
            bits.resize((word + 1).next_power_of_two(), 0);
        }
        if bits[word] & bit != 0 {
            self.duplicates += 1;
            return;
        }
        bits[word] |= bit;
        self.lines += 1;
        self.last_ns = now;
        let highest = self.highest.entry((file, sequence % 4)).or_default();
        self.disordered += u64::from(*highest > sequence);
        *highest = (*highest).max(sequence);
        let bucket = bucket(now.saturating_sub(time_ns) / 1000);
        *self.latencies.entry(bucket).or_default() += 1;
        if file > 0 {
            *self.others.entry(bucket).or_default() += 1;
        }
    }

    fn stats(&self) -> Stats {
        let gaps = self.seen.values().map(|bits| {
            let set: u64 = bits.iter().map(|word| u64::from(word.count_ones())).sum();
            let last = bits.iter().rposition(|word| *word != 0);
            let top = last.map_or(0, |at| {
                (at as u64 + 1) * 64 - u64::from(bits[at].leading_zeros())
            });
            top - set
        });
        Stats {
            requests: self.requests,
            wire_bytes: self.wire_bytes,
            lines: self.lines,
            duplicates: self.duplicates,
            disordered: self.disordered,
            gaps: gaps.sum(),
            p50_us: percentile(&self.latencies, 50),
            p99_us: percentile(&self.latencies, 99),
            others_p99_us: percentile(&self.others, 99),
            others_p50_us: percentile(&self.others, 50),
            others: self.others.values().sum(),
            last_ns: self.last_ns,
        }
    }
}

fn percentile(latencies: &BTreeMap<u32, u64>, percent: u64) -> u64 {
    let all: u64 = latencies.values().sum();
    let wanted = (all * percent).div_ceil(100);
    let mut passed = 0;
    for (bucket, count) in latencies {
        passed += count;
        if passed >= wanted {
            return ceiling(*bucket);
        }
    }
    0
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |sum, digit| {
        sum.wrapping_mul(10)
            .wrapping_add(u64::from(digit.wrapping_sub(b'0')))
    })
}

const fn bucket(us: u64) -> u32 {
    if us < 8 {
        return us as u32;
    }
    let power = us.ilog2();
    power * 8 + ((us >> (power - 3)) & 7) as u32
}

const fn ceiling(bucket: u32) -> u64 {
    if bucket < 24 {
        return bucket as u64;
    }
    (8 + (bucket % 8) as u64 + 1) << (bucket / 8 - 3)
}

/// `SSSSSSSSSS-TTTTTTTTTTTTTTTTTTT`, after the file's number and its dash.
const MARK_BYTES: usize = 30;

/// Digits of a file's number at the most.
const FILE_DIGITS_MAX: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_counted_and_checked_in_any_encoding() {
        let mut counts = Counts::default();
        let mark = |file: u32, sequence: u64| {
            format!(
                "\\\"trace\\\":\\\"tw-{file:02}-{sequence:010}-{:019}\\\"",
                5
            )
        };
        for sequence in [0, 1, 2, 3, 8, 4, 4] {
            counts.scan(mark(7, sequence).as_bytes());
        }
        let said = |counts: &Counts| {
            let stats = counts.stats();
            (stats.lines, stats.duplicates, stats.disordered, stats.gaps)
        };
        assert_eq!(said(&counts), (6, 1, 1, 3));
        // Another file, of a number with more digits.
        counts.scan(mark(10_007, 1).as_bytes());
        assert_eq!(said(&counts), (7, 1, 1, 4));
    }

    #[test]
    fn a_latency_is_never_told_shorter_than_it_was() {
        for us in [0, 7, 8, 100, 1000, 250_000, 10_000_000] {
            assert!(ceiling(bucket(us)) >= us, "{us}");
            assert!(ceiling(bucket(us)) <= us + us / 8 + 1, "{us}");
        }
    }
}
