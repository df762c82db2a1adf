//! The texts of the demo node: JSON and plain, long, cut, coloured, empty, broken.

use crate::journal::Stream;
use crate::text::Random;

/// One record before it is cut into CRI lines.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its stream.
    pub stream: Stream,
    /// Its number within container and stream; `None` when the text is empty.
    pub sequence: Option<u64>,
    /// Its text.
    pub text: Vec<u8>,
    trailing_part: bool,
}

impl Record {
    /// The text in parts of at most 16,384 bytes; an empty last part where a runtime writes one.
    #[must_use]
    pub fn parts(&self) -> Vec<&[u8]> {
        let mut parts: Vec<&[u8]> = self.text.chunks(PART_BYTES).collect();
        if self.trailing_part || parts.is_empty() {
            parts.push(b"");
        }
        parts
    }
}

/// Makes the records of one container, in order, from a seed.
#[derive(Debug)]
pub struct Recorder {
    random: Random,
    next: [u64; 2],
    made: u64,
    invalid_utf8: bool,
}

impl Recorder {
    /// Starts a container's texts.
    #[must_use]
    pub const fn new(seed: u64, invalid_utf8: bool) -> Self {
        Self {
            random: Random::new(seed),
            next: [0, 0],
            made: 0,
            invalid_utf8,
        }
    }

    /// How many records were asked for.
    pub const fn made(&self) -> u64 {
        self.made
    }

    /// The next record; one in 997 is of 300 KiB, one in 199 of several parts.
    pub fn next_record(&mut self) -> Record {
        self.made += 1;
        let stream = if self.random.below(5) == 0 {
            Stream::Stderr
        } else {
            Stream::Stdout
        };
        let kind = self.random.below(100);
        if self.made.is_multiple_of(997) {
            return self.long(stream, 300 * 1024);
        }
        if self.made.is_multiple_of(199) {
            let extra = self.random.below(40_000);
            return self.long(stream, PART_BYTES + usize::try_from(extra).unwrap_or(0));
        }
        if self.made.is_multiple_of(251) {
            return self.exact(stream);
        }
        match kind {
            0 => Record {
                stream,
                sequence: None,
                text: Vec::new(),
                trailing_part: false,
            },
            1..=3 if self.invalid_utf8 => self.broken(stream),
            1..=8 => self.coloured(stream),
            9..=60 => self.json(stream),
            _ => self.short_record_on(stream),
        }
    }

    /// A plain record of the other stream, to stand between two parts.
    pub fn short_record(&mut self, beside: Stream) -> Record {
        let other = if beside == Stream::Stdout {
            Stream::Stderr
        } else {
            Stream::Stdout
        };
        self.short_record_on(other)
    }

    /// Whether a record of the other stream comes between two parts.
    pub const fn interrupts(&mut self) -> bool {
        self.random.below(3) == 0
    }

    fn short_record_on(&mut self, stream: Stream) -> Record {
        let sequence = self.take(stream);
        let words = self.words(4 + self.made % 12);
        plain(
            stream,
            sequence,
            format!("seq={sequence} level=info {words}").into_bytes(),
        )
    }

    fn json(&mut self, stream: Stream) -> Record {
        let sequence = self.take(stream);
        let level = ["debug", "info", "info", "info", "warn", "error"];
        let level = level[usize::try_from(self.random.below(6)).unwrap_or(0)];
        let (words, took) = (self.words(6), self.random.below(5000));
        let user = self.random.below(1 << 40);
        let text = format!(
            "{{\"seq\":{sequence},\"level\":\"{level}\",\"msg\":\"{words}\",\"took_ms\":{took},\
             \"user\":{{\"id\":{user},\"name\":\"J\\u00fcrgen \\\"quoted\\\" 株\"}},\
             \"tags\":[\"a\",\"b\",null,true],\"ratio\":0.5}}"
        );
        plain(stream, sequence, text.into_bytes())
    }

    fn coloured(&mut self, stream: Stream) -> Record {
        let sequence = self.take(stream);
        let text = format!("\x1b[32mseq={sequence} \x1b[0m\tok  {}  ", self.words(5));
        plain(stream, sequence, text.into_bytes())
    }

    fn broken(&mut self, stream: Stream) -> Record {
        let sequence = self.take(stream);
        let mut text = format!("seq={sequence} broken ").into_bytes();
        text.extend_from_slice(b"\xff\xfe caf\xe9 \xe6\xa0 \xf0\x9f\x98 end");
        plain(stream, sequence, text)
    }

    /// A long text of multi-byte characters, so that a part ends within one.
    fn long(&mut self, stream: Stream, bytes: usize) -> Record {
        let sequence = self.take(stream);
        let mut text = format!("seq={sequence} ").into_bytes();
        while text.len() < bytes {
            text.extend_from_slice(LONG_WORDS[usize::from(self.random.below(3) == 0)].as_bytes());
        }
        plain(stream, sequence, text)
    }

    /// A text of exactly one part; some runtimes write an empty last part after it.
    fn exact(&mut self, stream: Stream) -> Record {
        let sequence = self.take(stream);
        let mut text = format!("seq={sequence} ").into_bytes();
        text.resize(PART_BYTES, b'x');
        let trailing_part = self.random.below(2) == 0;
        Record {
            stream,
            sequence: Some(sequence),
            text,
            trailing_part,
        }
    }

    fn words(&mut self, count: u64) -> String {
        let mut out = String::new();
        for index in 0..count {
            if index > 0 {
                out.push(' ');
            }
            let word = self.random.below(WORDS.len() as u64);
            out.push_str(WORDS[usize::try_from(word).unwrap_or(0)]);
        }
        out
    }

    const fn take(&mut self, stream: Stream) -> u64 {
        let next = match stream {
            Stream::Stdout => &mut self.next[0],
            Stream::Stderr => &mut self.next[1],
        };
        let sequence = *next;
        *next += 1;
        sequence
    }
}

/// The sequence number that stands in a text: after `seq=` or `"seq":` near its beginning.
#[must_use]
pub fn sequence_of(text: &[u8]) -> Option<u64> {
    let head = &text[..text.len().min(64)];
    let at = [&b"seq="[..], b"\"seq\":"]
        .iter()
        .find_map(|mark| memchr::memmem::find(head, mark).map(|at| at + mark.len()))?;
    let digits = head[at..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    std::str::from_utf8(&head[at..at + digits])
        .ok()?
        .parse()
        .ok()
}

/// A JSON object's text with sorted keys and no blanks; `None` for what is no object.
#[must_use]
pub fn canonical(text: &str) -> Option<String> {
    if !text.starts_with('{') {
        return None;
    }
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    value.is_object().then(|| value.to_string())
}

const fn plain(stream: Stream, sequence: u64, text: Vec<u8>) -> Record {
    Record {
        stream,
        sequence: Some(sequence),
        text,
        trailing_part: false,
    }
}

/// Where container runtimes cut.
const PART_BYTES: usize = 16_384;
const LONG_WORDS: [&str; 2] = ["naïve 株式会社 🦀 ", "plain words here "];
const WORDS: [&str; 12] = [
    "GET",
    "/api/v1/items",
    "cache",
    "miss",
    "retry",
    "日本語",
    "naïve",
    "checkout",
    "done",
    "timeout",
    "a=1",
    "🦀",
];
