//! Small words that both ends use: times in RFC 3339, a seeded random number, a hash.
//!
//! 1. Formatting and parsing of times are inverse to each other.
//! 2. The same seed gives the same numbers on every machine.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970 by the system's clock.
#[must_use]
pub fn now_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Writes a time as Go's RFC3339Nano does: UTC, trailing zeros of the fraction cut.
#[must_use]
pub fn rfc3339_nano(time_ns: u64) -> String {
    let (seconds, nanoseconds) = (time_ns / NANOSECONDS, time_ns % NANOSECONDS);
    let (year, month, day) = civil(seconds / DAY);
    let (hour, minute, second) = (seconds % DAY / 3600, seconds % 3600 / 60, seconds % 60);
    let mut out = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if nanoseconds > 0 {
        let fraction = format!(".{nanoseconds:09}");
        out.push_str(fraction.trim_end_matches('0'));
    }
    out.push('Z');
    out
}

/// The stamp in the name of a rotated file: `YYYYmmdd-HHMMSS`.
#[must_use]
pub fn rotation_stamp(time_ns: u64) -> String {
    let text = rfc3339_nano(time_ns / NANOSECONDS * NANOSECONDS);
    text.trim_end_matches('Z')
        .replace(['-', ':'], "")
        .replace('T', "-")
}

/// Reads an RFC 3339 time in UTC (`Z` or `+00:00`).
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let text = text
        .strip_suffix('Z')
        .or_else(|| text.strip_suffix("+00:00"))?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (date, time) = seconds.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<u64>().ok());
    let mut time = time.split(':').map(|part| part.parse::<u64>().ok());
    let days = days(date.next()??, date.next()??, date.next()??);
    let clock = time.next()?? * 3600 + time.next()?? * 60 + time.next()??;
    if fraction.len() > 9 {
        return None;
    }
    let nanoseconds = if fraction.is_empty() {
        0
    } else {
        format!("{fraction:0<9}").parse::<u64>().ok()?
    };
    Some((days * DAY + clock) * NANOSECONDS + nanoseconds)
}

/// The hash by which both ends compare texts.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// A small seeded generator of numbers (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, or 0 when the bound is 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            0
        } else {
            self.next_u64() % bound
        }
    }
}

/// Howard Hinnant's civil-from-days, for days since 1970.
const fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

const fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, yoe) = (year / 400, year % 400);
    let mp = (month + 9) % 12;
    let doy = (153 * mp + 2) / 5 + day - 1;
    (era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy).saturating_sub(719_468)
}

const NANOSECONDS: u64 = 1_000_000_000;
const DAY: u64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them_and_read_back() {
        for (time, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_500_000_000, "2000-02-29T00:00:00.5Z"),
            (1_795_000_000_000_000_001, "2026-11-18T11:06:40.000000001Z"),
        ] {
            assert_eq!(rfc3339_nano(time), want);
            assert_eq!(parse_rfc3339(want), Some(time));
        }
        assert_eq!(rotation_stamp(951_782_400_500_000_000), "20000229-000000");
    }
}
