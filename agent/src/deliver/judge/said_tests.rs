//! What Loki 3.7.8 was seen to say (`answers.json`: case, status, words, what is read of them), and what
//! it could say.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Deserialize, Serialize)]
struct Seen {
    case: String,
    status: u16,
    body: String,
    said: String,
}

/// `UPDATE_GOLDEN=1` writes what is read anew.
#[test]
fn all_refusals_of_a_real_server_are_read() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/deliver/judge/answers.json"
    );
    let mut seen: Vec<Seen> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for seen in &mut seen {
        let said = format!("{:?}", read(seen.body.as_bytes()));
        if update {
            seen.said = said;
        } else {
            assert_eq!(seen.said, said, "{}", seen.case);
        }
    }
    if update {
        std::fs::write(path, serde_json::to_string_pretty(&seen).unwrap()).unwrap();
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(own).collect()
}

#[test]
fn several_errors_come_with_their_counts() {
    let text = "3 errors like: max entry size '9' bytes exceeded for stream '{a=\"b; c\"}' while adding an \
                entry with length '10' bytes; 1 errors like: stream '{a=\"long\"}' has label value too \
                long: 'long'; 2 errors like: stream '{a=\"m\"}' includes structured metadata, but this \
                feature is disallowed. Please see `x` or contact your Loki administrator; really\n";
    let Said::Refused(faults) = read(text.as_bytes()) else {
        panic!("{:?}", read(text.as_bytes()));
    };
    let want = [
        (
            3,
            What::LineBytes {
                most: 9,
                length: 10,
            },
            "b; c",
        ),
        (1, What::LabelSet, "long"),
        (2, What::PairsOff, "m"),
    ];
    for (have, (count, what, value)) in faults.iter().zip(want) {
        let stream = Named::Set(labels(&[("a", value)]));
        assert_eq!(
            *have,
            Fault {
                count,
                what,
                stream
            }
        );
    }
    assert_eq!(faults.len(), 3);
}

/// A pod may choose its labels; the text of a value must not speak for Loki.
#[test]
fn a_value_that_looks_like_an_error_is_a_value() {
    let evil = "x'; 9 errors like: max entry size '0' bytes exceeded for stream '{}' while adding an entry with length '1' bytes";
    let text = format!("stream '{{a=\"{evil}\"}}' has label value too long: '{evil}'\n");
    let stream = Named::Set(labels(&[("a", evil)]));
    let want = Fault {
        count: 1,
        what: What::LabelSet,
        stream,
    };
    assert_eq!(read(text.as_bytes()), Said::Refused(vec![want]));
}

#[test]
fn label_sets_are_read_as_go_quotes_them() {
    let text = r#"{a="x\"y\\z", b="\n\x41\u00e9\U0001F600", c=""} rest"#;
    let (have, rest) = labels_at(text).unwrap();
    assert_eq!(
        have,
        labels(&[("a", "x\"y\\z"), ("b", "\nA\u{e9}\u{1f600}"), ("c", "")])
    );
    assert_eq!(rest, " rest");
    for bad in [
        "",
        "{a=",
        "{a=\"x",
        "{a=\"\\",
        "{a=\"\\xZZ\"}",
        "{a=\"\\UFFFFFFFF\"}",
        "{a=x}",
    ] {
        assert_eq!(labels_at(bad), None, "{bad}");
    }
}

#[test]
fn what_does_not_read_is_unknown() {
    for text in [
        "",
        "entry with timestamp now ignored, reason: 'entry too far behind', user 'f', total ignored: 1 out of 1 for stream: {a=\"b\"}",
        "entry with timestamp 2026-11-23 00:14:17 +0000 UTC ignored, reason: 'x', user 'f', total ignored: 1 out of 1 for stream: {a=\"b\"}",
        "user 'f', total ignored: 3 out of 2 for stream: {a=\"b\"}",
        "max entry size 'x' bytes exceeded for stream '{a=\"b\"}' while adding an entry with length '2' bytes",
        "stream '{a=\"b\"}' has a new kind of fault",
        "no schema config found for time NaN",
    ] {
        assert_eq!(read(text.as_bytes()), Said::Unknown, "{text}");
    }
    assert_eq!(read(&[0xff; 4096]), Said::Unknown);
}
