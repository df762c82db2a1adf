//! RFC 3339 times, as runtimes write them: any number of fraction digits, `Z` or an offset.

use crate::base::time::Timestamp;

/// Remembers the last second that was read: log lines come many to a second.
#[derive(Clone, Debug, Default)]
pub struct SecondCache {
    /// `2026-11-24T05:15:01`.
    text: [u8; SECOND_BYTES],
    /// The same as Unix seconds, without the offset.
    secs: i64,
}

impl SecondCache {
    /// Reads a time that takes the whole of `text`.
    pub fn parse(&mut self, text: &[u8]) -> Option<Timestamp> {
        let (second, rest) = text.split_first_chunk::<SECOND_BYTES>()?;
        // Fast path: the same second as the line before. An empty cache holds no digits.
        if *second != self.text {
            self.secs = parse_second(second)?;
            self.text = *second;
        }
        let (nanos, zone) = match rest.split_first()? {
            (b'.' | b',', digits) => parse_fraction(digits)?,
            _ => (0, rest),
        };
        Some(Timestamp {
            secs: self.secs - parse_offset(zone)?,
            nanos,
        })
    }
}

/// Reads one time on its own.
#[must_use]
pub fn parse_rfc3339(text: &[u8]) -> Option<Timestamp> {
    SecondCache::default().parse(text)
}

/// Bytes of `2026-11-24T05:15:01`.
const SECOND_BYTES: usize = 19;

fn two(high: u8, low: u8) -> Option<u8> {
    (high.is_ascii_digit() && low.is_ascii_digit()).then(|| (high - b'0') * 10 + (low - b'0'))
}

fn parse_second(text: &[u8; SECOND_BYTES]) -> Option<i64> {
    let marks = [text[4], text[7], text[10], text[13], text[16]];
    if marks != *b"--T::" {
        return None;
    }
    let year = i64::from(two(text[0], text[1])?) * 100 + i64::from(two(text[2], text[3])?);
    let (month, day) = (two(text[5], text[6])?, two(text[8], text[9])?);
    let (hour, minute) = (two(text[11], text[12])?, two(text[14], text[15])?);
    let second = two(text[17], text[18])?;
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let days_in_month = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    if day == 0 || day > days_in_month || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let clock = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    Some(days(year, i64::from(month), i64::from(day)) * 86_400 + clock)
}

/// Days from 1970-01-01, counting years from March so that the leap day is the last.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Nanoseconds of a fraction, and what comes after its digits. Digits past the ninth count nothing.
fn parse_fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let (mut nanos, mut digits) = (0u32, 0usize);
    // Fast path: eight digits in one word.
    if let Some(number) = text.first_chunk::<8>().and_then(eight_digits) {
        (nanos, digits) = (number, 8);
    }
    while let Some(byte) = text.get(digits).filter(|byte| byte.is_ascii_digit()) {
        if digits < 9 {
            nanos = nanos * 10 + u32::from(byte - b'0');
        }
        digits += 1;
    }
    if digits == 0 {
        return None;
    }
    Some((nanos * POWERS[digits.min(9)], &text[digits..]))
}

/// What a fraction of this many digits is multiplied with to be nanoseconds.
const POWERS: [u32; 10] = [
    1_000_000_000,
    100_000_000,
    10_000_000,
    1_000_000,
    100_000,
    10_000,
    1_000,
    100,
    10,
    1,
];

/// The number that eight ASCII digits write: neighbours are added up in pairs, fours, eights.
fn eight_digits(text: &[u8; 8]) -> Option<u32> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(*text);
    // Every byte is 0x30..=0x39: its high half is 3, and stays 3 when 6 is added.
    let high = word & (ONES * 0xf0);
    let raised = word.wrapping_add(ONES * 0x06) & (ONES * 0xf0);
    if high != ONES * 0x30 || raised != ONES * 0x30 {
        return None;
    }
    let digits = word - ONES * 0x30;
    let pairs = (digits.wrapping_mul(10) + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100) + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    let eight = (fours & 0xffff) * 10_000 + (fours >> 32);
    u32::try_from(eight).ok()
}

/// Seconds east of Greenwich.
fn parse_offset(text: &[u8]) -> Option<i64> {
    match text {
        b"Z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (two(*h1, *h2)?, two(*m1, *m2)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let secs = i64::from(hours) * 3600 + i64::from(minutes) * 60;
            Some(if *sign == b'-' { -secs } else { secs })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_of_any_width_and_offset_are_read() {
        for (text, want) in [
            ("1970-01-01T00:00:00Z", Some((0, 0))),
            ("1969-12-31T23:59:59.5Z", Some((-1, 500_000_000))),
            ("2026-11-24T05:15:01Z", Some((1_795_497_301, 0))),
            ("2026-11-24T05:15:01.1Z", Some((1_795_497_301, 100_000_000))),
            (
                "2026-11-24T05:15:01.12345678Z",
                Some((1_795_497_301, 123_456_780)),
            ),
            (
                "2026-11-24T05:15:01.123456789Z",
                Some((1_795_497_301, 123_456_789)),
            ),
            (
                "2026-11-24T05:15:01.1234567899Z",
                Some((1_795_497_301, 123_456_789)),
            ),
            (
                "2026-11-24T05:15:01.000000001+05:30",
                Some((1_795_477_501, 1)),
            ),
            ("2026-11-24T05:15:01-01:00", Some((1_795_500_901, 0))),
            ("2024-02-29T00:00:00Z", Some((1_709_164_800, 0))),
            ("2000-03-01T00:00:00Z", Some((951_868_800, 0))),
            ("2026-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-11-24T05:15:61Z", None),
            ("2026-11-24 05:15:01Z", None),
            ("2026-11-24T05:15:01", None),
            ("2026-11-24T05:15:01.Z", None),
            ("2026-11-24T05:15:01.1234567:Z", None),
            ("2026-11-24T05:15:01Zx", None),
            ("2026-11-24T05:15:01+0530", None),
            ("2026-11-2xT05:15:01Z", None),
            ("", None),
        ] {
            let want = want.map(|(secs, nanos)| Timestamp { secs, nanos });
            assert_eq!(parse_rfc3339(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn a_bad_second_leaves_the_cache_as_it_was() {
        let mut cache = SecondCache::default();
        let good = cache.parse(b"2026-11-24T05:15:01Z");
        assert_eq!(cache.parse(b"2026-11-24T05:15:99Z"), None);
        assert_eq!(cache.parse(b"2026-11-24T05:15:99Z"), None);
        assert_eq!(cache.parse(b"2026-11-24T05:15:01Z"), good);
    }

    proptest! {
        #[test]
        fn every_time_reads_as_a_date_library_reads_it(
            secs in 0i64..4_000_000_000, nanos in 0u32..1_000_000_000,
        ) {
            let text = jiff::Timestamp::new(secs, i32::try_from(nanos).unwrap())
                .unwrap()
                .to_string();
            prop_assert_eq!(parse_rfc3339(text.as_bytes()), Some(Timestamp { secs, nanos }));
        }
    }
}
