//! The text of a record in its document: merged, nested or as `message`.
//!
//! 1. A JSON object is copied as it stands, without a look at its bytes but for newlines.
//! 2. Where it cannot be (a key stands twice, it nests too deep, or a merged key is ours), it is
//!    written anew; the last of equal keys wins.

use super::super::text::push_json;
use super::head::collides;
use crate::plan::{FieldShape, JsonBody};
use crate::stage::json::JsonScratch;
use crate::stage::{Json, Record};

/// Writes the text, with a comma before it.
pub(super) fn push(
    out: &mut Vec<u8>,
    record: &Record<'_>,
    body: &JsonBody,
    fields: FieldShape,
    scratch: &mut JsonScratch,
) {
    let Json::Object {
        reserved, rough, ..
    } = record.json
    else {
        return push_message(out, &record.text);
    };
    let start = out.len();
    let done = match body {
        JsonBody::Text => false,
        JsonBody::Merge if reserved || rough => {
            rewrite_slow(out, record, scratch, |key| !collides(key, fields))
        }
        JsonBody::Merge => splice(out, &record.text),
        JsonBody::Nest(key) => {
            out.push(b',');
            push_json(out, key.as_bytes());
            out.push(b':');
            nest(out, record, rough, scratch)
        }
    };
    if !done {
        out.truncate(start);
        push_message(out, &record.text);
    }
}

fn nest(out: &mut Vec<u8>, record: &Record<'_>, rough: bool, scratch: &mut JsonScratch) -> bool {
    let start = out.len();
    let done = if rough {
        rewrite_slow(out, record, scratch, |_| true)
    } else {
        splice(out, &record.text)
    };
    // In place of the comma that members begin with.
    match out.get_mut(start) {
        Some(comma) => *comma = b'{',
        None => out.push(b'{'),
    }
    out.push(b'}');
    done
}

fn push_message(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(b",\"message\":");
    push_json(out, text);
}

/// Copies the members of an object, braces apart, with a comma before the first. Says that it did.
fn splice(out: &mut Vec<u8>, text: &[u8]) -> bool {
    let object = text.trim_ascii();
    let members = object
        .strip_prefix(b"{")
        .and_then(|rest| rest.strip_suffix(b"}"));
    let members = members.unwrap_or_default().trim_ascii();
    if members.is_empty() {
        return true;
    }
    out.push(b',');
    let start = out.len();
    out.extend_from_slice(members);
    // Valid JSON has raw newlines between its tokens only.
    if memchr::memchr2(b'\n', b'\r', members).is_some() {
        for byte in &mut out[start..] {
            if matches!(*byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }
    true
}

/// Writes the members whose keys `keep` accepts, with a comma before the first; false where the text
/// is no object after all.
#[cold]
fn rewrite_slow(
    out: &mut Vec<u8>,
    record: &Record<'_>,
    scratch: &mut JsonScratch,
    keep: impl FnMut(&str) -> bool,
) -> bool {
    let Some(object) = scratch.object(&record.text) else {
        return false;
    };
    let start = out.len();
    out.push(b',');
    if !object.write(out, keep) {
        out.truncate(start);
    }
    true
}
