//! A document once more, with the body of its log as plain text: for a server that refuses a member
//! which the log's own JSON has brought along (a mapping conflict, too many fields).
//!
//! ```text
//! {"@timestamp":..,"kubernetes":{..},"log":{..}, "a":1,"b":"x"}
//!   -> {"@timestamp":..,"kubernetes":{..},"log":{..}, "message":"{\"a\":1,\"b\":\"x\"}"}
//! ```
//!
//! 1. Ours are the members in front, up to the first that is not ours: the encoder writes them first
//!    and takes what collides out of the body. The rest is the log's text, byte for byte.
//! 2. A document whose rest is a `message` alone has no members to give up: it stays as it is.

use std::fmt;
use std::ops::Range;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::bulk::{ECS, OWN_MEMBERS};
use super::compress::{Compressor, inflate};
use super::loki::slice;
use super::request::{Encoding, Item};
use super::seal::place;
use super::subset::Recomposed;
use super::text::push_json;

/// The items `keep` (places in `items`, ascending) of a bulk body alone, each document with the
/// log's text as `message`. Those that could not be changed are left out: the places that were kept
/// come first.
///
/// # Errors
/// When the body does not inflate or an item lies outside of it.
pub fn plain(
    encoding: Encoding,
    body: &[u8],
    items: &[Item],
    keep: &[usize],
) -> Result<(Vec<usize>, Recomposed), String> {
    let whole = inflate(encoding, body).map_err(|error| error.to_string())?;
    let (mut raw, mut kept, mut changed) = (Vec::new(), Vec::new(), Vec::new());
    for at in keep {
        let item = items.get(*at).ok_or("no such item")?;
        let bytes = slice(&whole, &item.range).ok_or("an item lies outside of the body")?;
        let start = raw.len();
        if !push_plain(&mut raw, bytes) {
            raw.truncate(start);
            continue;
        }
        changed.push(*at);
        kept.push(Item {
            range: place(start)..place(raw.len()),
            ..item.clone()
        });
    }
    let body = Compressor::of(encoding)
        .compress(&raw)
        .map_err(|error| error.to_string())?;
    Ok((changed, (body, kept, Vec::<Range<u32>>::new())))
}

/// Writes both lines of an item; says whether the document is another one now.
fn push_plain(out: &mut Vec<u8>, item: &[u8]) -> bool {
    let Some(end) = memchr::memchr(b'\n', item) else {
        return false;
    };
    let (action, document) = item.split_at(end + 1);
    let Ok(Members(members)) = serde_json::from_slice(document) else {
        return false;
    };
    // `,"ecs":{..}`, without what stands before its value.
    let schema = |value: &RawValue| ECS.ends_with(value.get().as_bytes());
    let own = |(name, value): &(String, &RawValue)| {
        OWN_MEMBERS.contains(&name.as_str()) || name == "ecs" && schema(value)
    };
    let ours = members.iter().take_while(|member| own(member)).count();
    let (ours, rest) = members.split_at(ours);
    let is_text = |value: &RawValue| value.get().starts_with('"');
    match rest {
        [] => return false,
        [(name, value)] if name == "message" && is_text(value) => return false,
        _ => {}
    }
    out.extend_from_slice(action);
    out.push(b'{');
    for (name, value) in ours {
        push_json(out, name.as_bytes());
        out.push(b':');
        out.extend_from_slice(value.get().as_bytes());
        out.push(b',');
    }
    // Where ours end: values are slices of the document.
    let start = document.as_ptr() as usize;
    let from = ours.last().map_or(1, |(_, value)| {
        let value = value.get().as_bytes();
        value.as_ptr() as usize - start + value.len()
    });
    let rest = document.get(from..).unwrap_or_default().trim_ascii();
    let rest = rest.strip_prefix(b",").unwrap_or(rest);
    out.extend_from_slice(b"\"message\":");
    push_json(out, &[b"{", rest].concat());
    out.extend_from_slice(b"}\n");
    true
}

/// An object's members in order, twins too.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<String, &'de RawValue>()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn made(document: &str) -> Option<String> {
        let item = format!("{{\"index\":{{}}}}\n{document}\n");
        let items = [Item {
            range: 0..place(item.len()),
            group: 0,
            ticket: 0,
            held: 0,
            lines: 1,
        }];
        let (changed, (body, kept, _)) =
            plain(Encoding::Plain, item.as_bytes(), &items, &[0]).unwrap();
        assert_eq!(changed.len(), kept.len());
        let body = String::from_utf8(body.to_vec()).unwrap();
        let (action, document) = body.split_once('\n')?;
        assert_eq!(action, "{\"index\":{}}");
        Some(document.strip_suffix('\n').unwrap().to_owned())
    }

    #[test]
    fn the_members_of_the_log_become_its_text() {
        let ours =
            r#""@timestamp":"t","stream":"stdout","kubernetes":{"pod":"p"},"log":{"offset":7}"#;
        for (rest, want) in [
            (
                r#","n":"x","m":1.10"#,
                Some(r#""{\"n\":\"x\",\"m\":1.10}""#),
            ),
            (r#","a":1,"a":2"#, Some(r#""{\"a\":1,\"a\":2}""#)),
            (
                r#","a" : 1,  "b":[ ]"#,
                Some(r#""{\"a\" : 1,  \"b\":[ ]}""#),
            ),
            (
                r#","message":{"a":1}"#,
                Some(r#""{\"message\":{\"a\":1}}""#),
            ),
            (
                r#","message":"m","a":[]"#,
                Some(r#""{\"message\":\"m\",\"a\":[]}""#),
            ),
            // The log's own: ours stand in front alone.
            (
                r#","a":1,"log.level":"x""#,
                Some(r#""{\"a\":1,\"log.level\":\"x\"}""#),
            ),
            (r#","message":"m""#, None),
            ("", None),
            (r#","broken"#, None),
        ] {
            let want = want.map(|text| format!("{{{ours},\"message\":{text}}}"));
            assert_eq!(made(&format!("{{{ours}{rest}}}")), want, "{rest}");
        }
    }
}
