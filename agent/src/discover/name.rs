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

/// `<pod>_<namespace>_<container>-<container id>.log`, a link of `/var/log/containers`: pod,
/// namespace, container.
#[must_use]
pub fn container_link(name: &str) -> Option<(&str, &str, &str)> {
    let (pod, rest) = name.strip_suffix(".log")?.split_once('_')?;
    let (namespace, rest) = rest.split_once('_')?;
    let (container, id) = rest.rsplit_once('-')?;
    let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let good = is_id && !pod.is_empty() && !namespace.is_empty() && !container.is_empty();
    good.then_some((pod, namespace, container))
}

/// The name that a rotated file had before, by the suffix that rotation gave it: `.1` to `.999`
/// (logrotate, docker), or a date (`-20261124`, `.2026-11-24T03:03:01`).
#[must_use]
pub fn before_rotation(name: &str) -> Option<(&str, Rotated)> {
    let suffix = |c: char| c.is_ascii_digit() || matches!(c, '-' | '_' | '.' | 'T' | ':');
    let text = name.trim_end_matches(suffix);
    let tail = &name[text.len()..];
    let number = tail.strip_prefix('.').filter(|tail| tail.len() <= 3);
    if let Some(number) = number.and_then(|tail| tail.parse::<i64>().ok()) {
        // A higher number is an older file: they lie before every date, in falling order.
        return (number > 0 && !text.is_empty()).then(|| (text, rotated_at(-number)));
    }
    let date = tail.strip_prefix(['.', '-'])?;
    let digits: String = date.chars().filter(char::is_ascii_digit).take(14).collect();
    if text.is_empty() || digits.len() < 8 || !date.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let order = format!("{digits:0<14}").parse().ok()?;
    Some((text, rotated_at(order)))
}

const fn rotated_at(secs: i64) -> Rotated {
    Rotated::At(Timestamp { secs, nanos: 0 })
}

/// Whether a name says that its file is compressed; what is in it is no text.
#[must_use]
pub fn is_compressed(name: &str) -> bool {
    let ends = [".gz", ".zst", ".bz2", ".xz", ".lz4", ".zip"];
    ends.iter().any(|end| name.ends_with(end))
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

    #[test]
    fn links_of_containers_bear_pod_namespace_and_container() {
        let name = format!("web-1_shop_app-x-{}.log", "0a".repeat(32));
        assert_eq!(container_link(&name), Some(("web-1", "shop", "app-x")));
        let short = format!("web-1_shop_app-{}.log", "0".repeat(63));
        for bad in ["x.log", "a_b_c-d.log", &short, &name[..name.len() - 4]] {
            assert_eq!(container_link(bad), None, "{bad}");
        }
    }

    #[test]
    fn rotated_names_lead_back_and_stand_in_order() {
        let stem = |name| before_rotation(name).map(|(stem, _)| stem);
        for rotated in [
            "a.log.1",
            "a.log.20",
            "a.log-20261124",
            "a.log.2026-11-24T03:03:01",
        ] {
            assert_eq!(stem(rotated), Some("a.log"), "{rotated}");
        }
        for own in [
            "a.log",
            "a-1",
            "a.1234",
            ".1",
            "a.log.0",
            "a.log.1.gz",
            "v1.2.log",
        ] {
            assert_eq!(stem(own), None, "{own}");
        }
        let place = |name| before_rotation(name).map(|(_, place)| place);
        assert!(place("a.2") < place("a.1") && place("a.1") < place("a-20261124"));
        assert!(place("a-20261124") < place("a-20261124-01"));
    }
}
