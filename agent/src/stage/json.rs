//! What a text is as JSON: a tape whose memory is used again from text to text.
//!
//! ```text
//! text --copy--> scratch --simd-json--> tape --> Object: get, keys, write
//!                             '-- refused --> serde_json, which takes more (huge integers)
//! ```
//!
//! 1. The text itself is never touched: simd-json unescapes in the copy.
//! 2. Nothing here recurses on input; the slow path is bounded by its parser's own limit.
//! 3. The last of several equal keys wins, in `get` and in `write`.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use simd_json::{Buffers, INPUT_PADDING, Node, StaticNode, Tape, fill_tape_padded};
use smallvec::SmallVec;

use super::record::{Json, Record, Value};

/// Top-level keys that are ours in a bulk document. A body that has one of them, or one that
/// begins with one of them and a dot, cannot be spliced as it is.
pub const RESERVED: [&str; 5] = ["@timestamp", "kubernetes", "stream", "log", "labels"];

/// Deeper bodies are not spliced: servers refuse them or recurse over them.
pub const DEPTH_MAX: usize = 64;

/// Scratch that grew past this for one long text is given back before the next, in bytes.
const KEEP_BYTES: usize = 256 << 10;

/// Reused memory for parsing one text at a time.
pub struct JsonScratch {
    copy: Vec<u8>,
    buffers: Buffers,
    tape: Tape<'static>,
}

impl JsonScratch {
    /// Empty scratch.
    #[must_use]
    pub fn new() -> Self {
        Self {
            copy: Vec::new(),
            buffers: Buffers::new(0),
            tape: Tape(Vec::new()),
        }
    }

    /// The text as an object; none when it is no JSON or another kind of JSON.
    pub fn object<'a>(&'a mut self, text: &[u8]) -> Option<Object<'a>> {
        if text.iter().find(|byte| !is_space(**byte)) != Some(&b'{') {
            return None;
        }
        if self.copy.len() > KEEP_BYTES {
            *self = Self::new();
        }
        self.copy.clear();
        self.copy.extend_from_slice(text);
        self.copy.resize(text.len() + INPUT_PADDING, 0);
        let base = self.copy.as_ptr().addr();
        let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        match fill_tape_padded(&mut self.copy, text.len(), &mut self.buffers, &mut tape) {
            Ok(()) => Some(Object(Kind::Fast {
                tape,
                home: &mut self.tape,
                base,
            })),
            Err(_) => {
                self.tape = tape.reset();
                object_slow(text)
            }
        }
    }
}

impl Default for JsonScratch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for JsonScratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonScratch({} bytes)", self.copy.capacity())
    }
}

/// Looks at the record's text as JSON, unless somebody has, and says so in the record.
pub fn classify(record: &mut Record<'_>, scratch: &mut JsonScratch) -> Json {
    if record.json == Json::Unknown {
        record.json = scratch
            .object(&record.text)
            .map_or(Json::Other, |object| object.json());
    }
    record.json
}

/// Whether a top-level key is ours, or begins with one of ours and a dot.
#[must_use]
pub fn is_reserved(key: &str) -> bool {
    matches!(key.as_bytes().first(), Some(b'@' | b'k' | b's' | b'l'))
        && RESERVED.iter().any(|ours| {
            key.strip_prefix(ours)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
}

/// A parsed object. Lives until the scratch is used for the next text.
#[derive(Debug)]
pub struct Object<'a>(Kind<'a>);

#[derive(Debug)]
enum Kind<'a> {
    /// Fast path: simd-json's tape over the scratch copy.
    Fast {
        tape: Tape<'a>,
        /// Where the tape's memory goes when the object is done with.
        home: &'a mut Tape<'static>,
        /// Address of the copy's first byte.
        base: usize,
    },
    /// What simd-json refuses and `serde_json` accepts.
    Slow(Vec<(String, serde_json::Value)>),
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        if let Kind::Fast { tape, home, .. } = &mut self.0 {
            **home = std::mem::replace(tape, Tape(Vec::new())).reset();
        }
    }
}

impl Object<'_> {
    /// The value at a path of keys. Null where an object or array stands.
    #[must_use]
    pub fn get(&self, path: &[Arc<str>]) -> Option<Value<'_>> {
        match &self.0 {
            Kind::Fast { tape, .. } => get_fast(&tape.0, path).map(value_of),
            Kind::Slow(members) => get_slow(members, path),
        }
    }

    /// As [`Object::get`], but text that stands unescaped in `text`, of which this object was
    /// made, is borrowed from there, so that it outlives the scratch.
    #[must_use]
    pub fn get_from<'t>(&self, path: &[Arc<str>], text: &'t [u8]) -> Option<Value<'t>> {
        Some(match self.get(path)? {
            Value::Text(value) => Value::Text(match self.place_in(&value, text) {
                Some(same) => Cow::Borrowed(same),
                None => Cow::Owned(value.into_owned()),
            }),
            Value::Int(number) => Value::Int(number),
            Value::Float(number) => Value::Float(number),
            Value::Bool(truth) => Value::Bool(truth),
            Value::Null => Value::Null,
        })
    }

    /// simd-json unescapes in place, so that a string begins in the copy where it begins in the
    /// text. The bytes are compared: nothing hangs on this but speed.
    fn place_in<'t>(&self, value: &[u8], text: &'t [u8]) -> Option<&'t [u8]> {
        let Kind::Fast { base, .. } = &self.0 else {
            return None;
        };
        let start = value.as_ptr().addr().checked_sub(*base)?;
        let same = text.get(start..start.checked_add(value.len())?)?;
        (same == value).then_some(same)
    }

    /// The top-level keys in order, equal ones too.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let (fast, slow) = match &self.0 {
            Kind::Fast { tape, .. } => (members(&tape.0), &[][..]),
            Kind::Slow(members) => (Members(&[]), members.as_slice()),
        };
        fast.map(|(key, _)| key)
            .chain(slow.iter().map(|(key, _)| key.as_str()))
    }

    /// What to write down in [`Record::json`].
    #[must_use]
    pub fn json(&self) -> Json {
        let mut seen: SmallVec<[&str; 32]> = SmallVec::new();
        // A filter of one word: only keys alike in length and ends are compared.
        let (mut marks, mut reserved, mut rough, mut ecs) = (0u64, false, false, false);
        for key in self.keys() {
            let bytes = key.as_bytes();
            let ends = bytes.first().unwrap_or(&0).wrapping_mul(7) ^ bytes.last().unwrap_or(&0);
            let mark = 1u64 << ((usize::from(ends) ^ (bytes.len() * 11)) & 63);
            // Past 32 keys nearly every mark is set: sorting is cheaper than comparing.
            rough |= marks & mark != 0 && seen.len() <= 32 && seen.contains(&key);
            reserved |= is_reserved(key);
            ecs |= key == "ecs" || key.starts_with("ecs.");
            marks |= mark;
            seen.push(key);
        }
        if seen.len() > 32 && !rough {
            seen.sort_unstable();
            rough = seen.windows(2).any(|pair| pair[0] == pair[1]);
        }
        Json::Object {
            reserved,
            rough: rough || self.is_deep(),
            ecs,
        }
    }

    fn is_deep(&self) -> bool {
        match &self.0 {
            Kind::Fast { tape, .. } => members(&tape.0)
                .any(|(_, nodes)| nodes.len() >= DEPTH_MAX && depth(nodes) >= DEPTH_MAX),
            // Rare and already slow: as deep as the parser allows.
            Kind::Slow(members) => members.iter().any(|(_, value)| depth_slow(value)),
        }
    }

    /// Writes the members whose keys `keep` accepts as `"key":value,...`, without braces, and
    /// says whether any was written. The last of several equal keys is the one that is written.
    pub fn write(&self, out: &mut Vec<u8>, mut keep: impl FnMut(&str) -> bool) -> bool {
        let keys: Vec<&str> = self.keys().collect();
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by_key(|at| keys[*at]);
        let mut last = vec![true; keys.len()];
        for pair in order.windows(2) {
            // The sort is stable: of equal keys the later one stands later.
            last[pair[0]] = keys[pair[0]] != keys[pair[1]];
        }
        let start = out.len();
        let mut place = 0;
        let mut begin = |out: &mut Vec<u8>, key: &str| {
            place += 1;
            if !last[place - 1] || !keep(key) {
                return false;
            }
            if out.len() > start {
                out.push(b',');
            }
            write_text(out, key);
            out.push(b':');
            true
        };
        match &self.0 {
            Kind::Fast { tape, .. } => {
                for (key, nodes) in members(&tape.0) {
                    if begin(out, key) {
                        write_nodes(out, nodes);
                    }
                }
            }
            Kind::Slow(members) => {
                for (key, value) in members {
                    if begin(out, key) {
                        // Writing to memory does not fail.
                        let _ = serde_json::to_writer(&mut *out, value);
                    }
                }
            }
        }
        out.len() > start
    }
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The members of the object that begins a run of nodes.
struct Members<'t, 'a>(&'t [Node<'a>]);

fn members<'t, 'a>(nodes: &'t [Node<'a>]) -> Members<'t, 'a> {
    match nodes.first() {
        Some(Node::Object { .. }) => Members(&nodes[1..span(nodes)]),
        _ => Members(&[]),
    }
}

impl<'t, 'a> Iterator for Members<'t, 'a> {
    type Item = (&'a str, &'t [Node<'a>]);

    fn next(&mut self) -> Option<Self::Item> {
        let (Node::String(key), rest) = self.0.split_first()? else {
            return None;
        };
        let (value, rest) = rest.split_at(span(rest));
        self.0 = rest;
        Some((key, value))
    }
}

/// How many nodes the first value takes.
fn span(nodes: &[Node<'_>]) -> usize {
    match nodes.first() {
        Some(Node::Object { count, .. } | Node::Array { count, .. }) => {
            (count + 1).min(nodes.len())
        }
        Some(_) => 1,
        None => 0,
    }
}

fn get_fast<'t, 'a>(mut nodes: &'t [Node<'a>], path: &[Arc<str>]) -> Option<&'t Node<'a>> {
    for want in path {
        let found = members(nodes).filter(|(key, _)| *key == &**want);
        nodes = found.last()?.1;
    }
    nodes.first()
}

fn value_of<'a>(node: &Node<'a>) -> Value<'a> {
    match node {
        Node::String(text) => Value::Text(Cow::Borrowed(text.as_bytes())),
        Node::Static(StaticNode::I64(number)) => Value::Int(*number),
        Node::Static(StaticNode::U64(number)) => int_or_text(*number),
        Node::Static(StaticNode::F64(number)) => Value::Float(*number),
        Node::Static(StaticNode::Bool(truth)) => Value::Bool(*truth),
        Node::Static(StaticNode::Null) | Node::Object { .. } | Node::Array { .. } => Value::Null,
    }
}

/// Numbers past `i64` keep their digits.
fn int_or_text(number: u64) -> Value<'static> {
    i64::try_from(number).map_or_else(
        |_| Value::Text(Cow::Owned(number.to_string().into_bytes())),
        Value::Int,
    )
}

/// How deep the first value nests; 0 for a plain one.
fn depth(nodes: &[Node<'_>]) -> usize {
    let mut ends: SmallVec<[usize; DEPTH_MAX]> = SmallVec::new();
    let mut deepest = 0;
    for (at, node) in nodes.iter().enumerate() {
        while ends.last().is_some_and(|end| at >= *end) {
            ends.pop();
        }
        if let Node::Object { count, .. } | Node::Array { count, .. } = node {
            ends.push(at + 1 + count);
            deepest = deepest.max(ends.len());
        }
    }
    deepest
}

fn depth_slow(value: &serde_json::Value) -> bool {
    let mut open = vec![(value, 1)];
    while let Some((value, depth)) = open.pop() {
        let inner = depth + 1;
        match value {
            serde_json::Value::Array(values) if depth < DEPTH_MAX => {
                open.extend(values.iter().map(|value| (value, inner)));
            }
            serde_json::Value::Object(members) if depth < DEPTH_MAX => {
                open.extend(members.values().map(|value| (value, inner)));
            }
            serde_json::Value::Array(_) | serde_json::Value::Object(_) => return true,
            _ => {}
        }
    }
    false
}

fn get_slow<'t>(
    members: &'t [(String, serde_json::Value)],
    path: &[Arc<str>],
) -> Option<Value<'t>> {
    let (first, rest) = path.split_first()?;
    let mut value = &members.iter().rev().find(|(key, _)| key == &**first)?.1;
    for want in rest {
        value = value.get(&**want)?;
    }
    Some(match value {
        serde_json::Value::String(text) => Value::Text(Cow::Borrowed(text.as_bytes())),
        serde_json::Value::Bool(truth) => Value::Bool(*truth),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => int_or_text(number),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
            Value::Null
        }
    })
}

/// Writes the first value; nested ends are kept in a list, not on the stack.
fn write_nodes(out: &mut Vec<u8>, nodes: &[Node<'_>]) {
    // (end, closing bracket, whether a key comes next)
    let mut open: Vec<(usize, u8, bool)> = Vec::new();
    let mut fresh = true;
    for (at, node) in nodes.iter().enumerate() {
        fresh = close(out, &mut open, at, fresh);
        let mut is_key = false;
        if let Some((_, bracket, key_next)) = open.last_mut() {
            is_key = *bracket == b'}' && *key_next;
            if !fresh && (is_key || *bracket == b']') {
                out.push(b',');
            }
            *key_next = !*key_next;
        }
        fresh = false;
        match node {
            Node::String(text) => write_text(out, text),
            Node::Static(value) => write_static(out, *value),
            Node::Object { count, .. } => {
                out.push(b'{');
                open.push((at + 1 + count, b'}', true));
                fresh = true;
            }
            Node::Array { count, .. } => {
                out.push(b'[');
                open.push((at + 1 + count, b']', false));
                fresh = true;
            }
        }
        if is_key {
            out.push(b':');
        }
    }
    close(out, &mut open, nodes.len(), fresh);
}

/// Closes what ends before `at`; says whether nothing stands yet in what is open.
fn close(out: &mut Vec<u8>, open: &mut Vec<(usize, u8, bool)>, at: usize, fresh: bool) -> bool {
    let mut fresh = fresh;
    while let Some((_, bracket, _)) = open.pop_if(|(end, ..)| at >= *end) {
        out.push(bracket);
        fresh = false;
    }
    fresh
}

fn write_static(out: &mut Vec<u8>, value: StaticNode) {
    // Writing to memory does not fail; a float that JSON cannot say is written as null.
    let _ = match value {
        StaticNode::I64(number) => serde_json::to_writer(out, &number),
        StaticNode::U64(number) => serde_json::to_writer(out, &number),
        StaticNode::F64(number) => serde_json::to_writer(out, &number),
        StaticNode::Bool(truth) => serde_json::to_writer(out, &truth),
        StaticNode::Null => serde_json::to_writer(out, &()),
    };
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(out, text);
}

#[cold]
fn object_slow(text: &[u8]) -> Option<Object<'static>> {
    serde_json::from_slice::<Top>(text)
        .ok()
        .map(|top| Object(Kind::Slow(top.0)))
}

/// An object whose equal keys are all kept.
struct Top(Vec<(String, serde_json::Value)>);

impl<'de> Deserialize<'de> for Top {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct TopVisitor;
        impl<'de> Visitor<'de> for TopVisitor {
            type Value = Top;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Top, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Top(members))
            }
        }
        from.deserialize_map(TopVisitor)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn json(text: &str) -> Json {
        let mut scratch = JsonScratch::new();
        scratch
            .object(text.as_bytes())
            .map_or(Json::Other, |object| object.json())
    }

    #[test]
    fn texts_are_told_apart() {
        let deep = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        let many: Vec<String> = (0..100).map(|n| format!("\"k{n}\":{n}")).collect();
        let (many, twice) = (
            format!("{{{}}}", many.join(",")),
            format!("{{{},\"k7\":1}}", many.join(",")),
        );
        let (shallow, deep) = (deep(DEPTH_MAX), deep(DEPTH_MAX + 1));
        let object = |reserved, rough, ecs| Json::Object {
            reserved,
            rough,
            ecs,
        };
        let (free, ours) = (object(false, false, false), object(true, false, false));
        let rough = object(false, true, false);
        for (text, want) in [
            ("", Json::Other),
            ("plain", Json::Other),
            ("[1]", Json::Other),
            ("{", Json::Other),
            ("{}", free),
            (" \t{\"a\":1}\r", free),
            ("{\"a\":1} x", Json::Other),
            (r#"{"logger":1,"stream_id":2}"#, free),
            (r#"{"log":1}"#, ours),
            (r#"{"log.level":"x"}"#, ours),
            (r#"{"\u006cog":1}"#, ours),
            (r#"{"a":{"log":1}}"#, free),
            (r#"{"@timestamp":1}"#, ours),
            (r#"{"kubernetes.pod":1}"#, ours),
            (r#"{"ecs":1,"ecsx":2}"#, object(false, false, true)),
            (r#"{"ecs.version":"1","log":1}"#, object(true, false, true)),
            (r#"{"ecsx":2,"@time":3}"#, free),
            (r#"{"a":1,"b":2,"a":3}"#, rough),
            (r#"{"log":1,"log":2}"#, object(true, true, false)),
            (r#"{"n":123456789012345678901234567890}"#, free),
            (r#"{"n":123456789012345678901234567890,"n":1}"#, rough),
            (&many, free),
            (&twice, rough),
            (&shallow, free),
            (&deep, rough),
        ] {
            assert_eq!(json(text), want, "{text}");
        }
        assert!(JsonScratch::new().object(b"{\"a\":\"\xff\"}").is_none());
    }

    #[test]
    fn values_are_found_by_path_and_borrowed_where_they_stand_unescaped() {
        let text = br#" {"a":"x","b":{"c":-7,"d":"q\"q"},"e":1.5,"f":true,"g":[1],"a":"y",
            "u":18446744073709551615}"#;
        let mut scratch = JsonScratch::new();
        for _ in 0..2 {
            let object = scratch.object(text).unwrap();
            for (path, want) in [
                ("a", Some(Value::Text(Cow::Borrowed(&b"y"[..])))),
                ("b.c", Some(Value::Int(-7))),
                ("b.d", Some(Value::Text(Cow::Borrowed(b"q\"q")))),
                ("e", Some(Value::Float(1.5))),
                ("f", Some(Value::Bool(true))),
                ("g", Some(Value::Null)),
                ("b", Some(Value::Null)),
                (
                    "u",
                    Some(Value::Text(Cow::Borrowed(b"18446744073709551615"))),
                ),
                ("x", None),
                ("a.b", None),
            ] {
                let keys: Vec<Arc<str>> = path.split('.').map(Arc::from).collect();
                let got = object.get_from(&keys, text);
                assert_eq!(got, want, "{path}");
                if path == "a" {
                    assert!(matches!(got, Some(Value::Text(Cow::Borrowed(_)))));
                }
            }
        }
    }

    #[test]
    fn members_are_written_once_and_as_they_were() {
        let mut scratch = JsonScratch::new();
        for (text, want) in [
            ("{}", ""),
            (r#"{"log":1}"#, ""),
            (
                r#"{"a":[],"b":{},"c":[[1,{"x":[2,3],"y":"\n"}],"z"],"log":{"q":[1]},"d":null}"#,
                r#""a":[],"b":{},"c":[[1,{"x":[2,3],"y":"\n"}],"z"],"d":null"#,
            ),
            (r#"{"a":1,"b":2,"a":3}"#, r#""b":2,"a":3"#),
            (
                r#"{"n":1e2,"h":100000000000000000000000000000000,"n":true}"#,
                r#""h":1e+32,"n":true"#,
            ),
        ] {
            let mut out = Vec::new();
            let object = scratch.object(text.as_bytes()).unwrap();
            assert_eq!(
                object.write(&mut out, |key| !is_reserved(key)),
                !want.is_empty()
            );
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }
}
