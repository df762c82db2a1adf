//! The stages that read and write values: labels, drop, timestamp.

use std::borrow::Cow;
use std::sync::Arc;

use super::record::{Extracted, Record, TimeOrigin, Value};
use crate::base::time::Timestamp;
use crate::line::time::parse_rfc3339;
use crate::plan::{DropStage, LabelField, TimestampFormat, TimestampStage};

/// Sets an extracted value; a name stands once.
pub(super) fn set_extracted<'c>(all: &mut Extracted<'c>, name: &Arc<str>, value: Value<'c>) {
    match all.iter_mut().find(|(known, _)| same(known, name)) {
        Some((_, known)) => *known = value,
        None => all.push((Arc::clone(name), value)),
    }
}

fn find<'r, 'c>(all: &'r Extracted<'c>, name: &Arc<str>) -> Option<&'r Value<'c>> {
    all.iter()
        .find(|(known, _)| same(known, name))
        .map(|(_, value)| value)
}

fn same(a: &Arc<str>, b: &Arc<str>) -> bool {
    Arc::ptr_eq(a, b) || **a == **b
}

/// The value with text of its own.
pub(super) fn into_owned(value: Value<'_>) -> Value<'static> {
    match value {
        Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
        Value::Int(number) => Value::Int(number),
        Value::Float(number) => Value::Float(number),
        Value::Bool(truth) => Value::Bool(truth),
        Value::Null => Value::Null,
    }
}

/// The value as text, borrowed where it can be; none for null.
fn text_of<'c>(value: &Value<'c>) -> Option<Cow<'c, [u8]>> {
    Some(match value {
        Value::Text(text) => text.clone(),
        Value::Int(number) => Cow::Owned(number.to_string().into_bytes()),
        Value::Float(number) => Cow::Owned(number.to_string().into_bytes()),
        Value::Bool(true) => Cow::Borrowed(b"true"),
        Value::Bool(false) => Cow::Borrowed(b"false"),
        Value::Null => return None,
    })
}

/// `labels`: values that are missing or null make no label.
pub(super) fn set_labels(record: &mut Record<'_>, fields: &[LabelField]) {
    for field in fields {
        let Some(value) = find(&record.extracted, &field.from).and_then(text_of) else {
            continue;
        };
        let labels = &mut record.labels;
        match labels.iter_mut().find(|(name, _)| same(name, &field.label)) {
            Some((_, known)) => *known = value,
            None => labels.push((Arc::clone(&field.label), value)),
        }
    }
}

/// `drop`: whether all its conditions hold.
pub(super) fn is_dropped(record: &Record<'_>, stage: &DropStage, wall: Timestamp) -> bool {
    let text = match &stage.source {
        None => Some(Cow::Borrowed(&*record.text)),
        Some(name) => find(&record.extracted, name).and_then(text_of),
    };
    let Some(text) = text else {
        // The value that is asked for is not there.
        return false;
    };
    let age = wall.secs.saturating_sub(record.time.secs);
    stage
        .expression
        .as_ref()
        .is_none_or(|re| re.is_match(&text))
        && stage
            .value
            .as_ref()
            .is_none_or(|want| *text == *want.as_bytes())
        && stage
            .longer_than
            .is_none_or(|max| record.text.len() as u64 > max)
        && stage.older_than_secs.is_none_or(|max| {
            // A record that lies ahead is not old.
            u64::try_from(age).is_ok_and(|age| age > max)
        })
}

/// `timestamp`: false when the value is missing or no time; the record then keeps its time.
pub(super) fn set_time(record: &mut Record<'_>, stage: &TimestampStage) -> bool {
    let Some(time) = find(&record.extracted, &stage.source).and_then(|value| {
        let text = text_of(value)?;
        match stage.format {
            TimestampFormat::Rfc3339 => parse_rfc3339(&text),
            TimestampFormat::Unix => parse_unix(&text, 0),
            TimestampFormat::UnixMs => parse_unix(&text, 3),
            TimestampFormat::UnixUs => parse_unix(&text, 6),
            TimestampFormat::UnixNs => parse_unix(&text, 9),
        }
    }) else {
        return false;
    };
    record.time = time;
    record.time_origin = TimeOrigin::Line;
    true
}

/// A decimal number in units of 10^-`scale` seconds; digits below a nanosecond count nothing.
fn parse_unix(text: &[u8], scale: usize) -> Option<Timestamp> {
    let (negative, text) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, text),
    };
    let dot = text
        .iter()
        .position(|byte| *byte == b'.')
        .unwrap_or(text.len());
    let (whole, fraction) = (&text[..dot], text.get(dot + 1..).unwrap_or_default());
    if whole.is_empty() || (dot < text.len() && fraction.is_empty()) {
        return None;
    }
    if !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return None;
    }
    let mut nanos = 0i128;
    for byte in whole {
        nanos = nanos
            .checked_mul(10)?
            .checked_add(i128::from(byte - b'0'))?;
    }
    let places = 9 - scale;
    for place in 0..places {
        let digit = fraction.get(place).map_or(0, |byte| byte - b'0');
        nanos = nanos.checked_mul(10)?.checked_add(i128::from(digit))?;
    }
    let nanos = if negative { -nanos } else { nanos };
    Some(Timestamp {
        secs: i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?,
        nanos: u32::try_from(nanos.rem_euclid(1_000_000_000)).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_times_keep_their_digits() {
        for (text, scale, want) in [
            ("1795497301", 0, Some((1_795_497_301, 0))),
            ("1795497301.25", 0, Some((1_795_497_301, 250_000_000))),
            (
                "1795497301.1234567899",
                0,
                Some((1_795_497_301, 123_456_789)),
            ),
            ("1795497301123", 3, Some((1_795_497_301, 123_000_000))),
            ("1795497301123.5", 3, Some((1_795_497_301, 123_500_000))),
            ("1795497301123456", 6, Some((1_795_497_301, 123_456_000))),
            ("1795497301123456789", 9, Some((1_795_497_301, 123_456_789))),
            ("-0.5", 0, Some((-1, 500_000_000))),
            ("", 0, None),
            ("-", 0, None),
            ("1.", 0, None),
            (".5", 0, None),
            ("1e9", 0, None),
            ("99999999999999999999999999999999999999999", 0, None),
        ] {
            let want = want.map(|(secs, nanos)| Timestamp { secs, nanos });
            assert_eq!(parse_unix(text.as_bytes(), scale), want, "{text}");
        }
    }
}
