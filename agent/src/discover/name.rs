//! Names in kubelet's tree.

use super::{Place, Rotated};
use crate::base::time::Timestamp;

/// `<namespace>_<pod>_<uid>`; a pod's name may hold dots, never an underscore.
#[must_use]
pub fn pod_directory(name: &str) -> Option<(&str, &str, &str)> {
    let (namespace, rest) = name.split_once('_')?;
    let (pod, uid) = rest.rsplit_once('_')?;
    let good = !namespace.is_empty() && !pod.is_empty() && !uid.is_empty();
    good.then_some((namespace, pod, uid))
}

/// `<attempt>.log`, `<attempt>.log.<YYYYmmdd-HHMMSS>`, or the latter with `.gz`, which takes the place
/// of what it was made of. Temporary copies are none.
#[must_use]
pub fn log_file(name: &str) -> Option<Place> {
    let (attempt, rest) = name.split_once(".log")?;
    let attempt = attempt.parse().ok()?;
    if rest.is_empty() {
        return Some(Place {
            attempt,
            rotated: Rotated::Current,
        });
    }
    let time = rest.strip_prefix('.')?;
    let time = time.strip_suffix(".gz").unwrap_or(time);
    let digits: Vec<i64> = time.bytes().map(|byte| i64::from(byte) - 48).collect();
    if digits.len() != 15 || time.as_bytes()[8] != b'-' {
        return None;
    }
    let number = |from: usize, to: usize| {
        digits[from..to].iter().try_fold(0i64, |number, digit| {
            (0..10).contains(digit).then_some(number * 10 + digit)
        })
    };
    let date = jiff::civil::DateTime::new(
        number(0, 4)? as i16,
        number(4, 6)? as i8,
        number(6, 8)? as i8,
        number(9, 11)? as i8,
        number(11, 13)? as i8,
        number(13, 15)? as i8,
        0,
    );
    let time = date
        .ok()?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()?
        .timestamp();
    let at = Timestamp {
        secs: time.as_second(),
        nanos: 0,
    };
    Some(Place {
        attempt,
        rotated: Rotated::At(at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelets_names_are_read_and_others_are_not() {
        assert_eq!(
            pod_directory("kube-system_a.b-1_0a-1b"),
            Some(("kube-system", "a.b-1", "0a-1b"))
        );
        for bad in ["nothing", "a_b", "_b_c", "a__c", "a_b_"] {
            assert_eq!(pod_directory(bad), None, "{bad}");
        }
        assert_eq!(
            log_file("3.log"),
            Some(Place {
                attempt: 3,
                rotated: Rotated::Current
            })
        );
        let at = Timestamp {
            secs: 1_795_489_381,
            nanos: 0,
        };
        let place = Place {
            attempt: 0,
            rotated: Rotated::At(at),
        };
        assert_eq!(log_file("0.log.20261124-030301"), Some(place));
        assert_eq!(log_file("0.log.20261124-030301.gz"), Some(place));
        for bad in [
            "x.log",
            "0.log.gz",
            "0.log.20261124-030301.tmp",
            "0.log.1",
            "0.logs",
            "0.log.20261324-030301",
        ] {
            assert_eq!(log_file(bad), None, "{bad}");
        }
    }
}
