//! A Loki and a bulk server: they decode what comes, store it in the books, and answer as the real
//! ones were seen to.
//!
//! ```text
//! body -> harness::wire (shares no code with the agent's encoders) -> items
//!   mood: well | busy | odd | picky -> what is stored, and the answer
//! ```
//!
//! 1. A body that does not decode fails the run.
//! 2. 2xx means stored; a bulk stores each item by its own status; a picky Loki stores what its limits
//!    let through (`harness::limits`), and any other refused request stores nothing.
//! 3. An item that is refused for good is excused in the books. What is stored beside it may come again,
//!    where Loki's words leave that open.
//! 4. A picky bulk server refuses a log's own fields, and takes its text.

use harness::limits::{self, Limits, Loki};
use harness::wire::{self, Arrived};
use serde_json::{Value, json};
use tailwake::deliver::{Answer, Call};

use crate::books::{Books, Id};
use crate::rng::Rng;

/// How a server feels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// It stores everything.
    Well,
    /// It refuses most, to be sent again.
    Busy,
    /// Nobody is at home, but some calls arrive late.
    Down,
    /// Nothing arrives, ever.
    Dead,
    /// It stores, and answers or carries answers badly.
    Odd,
    /// It has limits, and refuses what is beyond them.
    Picky,
}

/// A line with this in it is refused for good by a picky server, in words that nobody knows.
pub(crate) const SPOILT: &str = "SPOILT";

/// What became of a call at the server.
#[derive(Debug)]
pub(crate) struct Handled {
    pub(crate) answer: Answer,
    /// Records of a request that is too large, for the trace.
    pub(crate) seen: Vec<Id>,
    /// Records that it holds and whose answer must reach the agent, or they come again.
    pub(crate) stored: Vec<Id>,
}

/// An item of a body.
struct Item {
    ids: Vec<Id>,
    /// A document that bears a log's own fields.
    merged: bool,
    spoilt: bool,
}

/// One server.
#[derive(Debug)]
pub(crate) struct Server {
    output: usize,
    pub(crate) mood: Mood,
    /// Larger requests are answered with 413.
    items_max: usize,
    /// What it is picky about.
    pub(crate) limits: Limits,
    loki: Loki,
    /// What arrives must bear its pod's label.
    pub(crate) labelled: bool,
    rng: Rng,
}

impl Server {
    /// The server of this output.
    pub(crate) fn new(output: usize, mut rng: Rng) -> Self {
        let items_max = if rng.chance(30) { 3 } else { usize::MAX };
        // Its own numbers: what it is picky about moves nothing else of a seed.
        let mut own = rng.clone();
        let limits = Limits {
            line_bytes: own.chance(50).then_some(100),
            stream_rate: own.chance(50).then_some((2_000, 2_000)),
            whole_stream: true,
            streams: own.chance(30).then_some(3),
            rate: own.chance(30).then_some((20_000, 4_000)),
            unknown: Some(SPOILT.to_owned()),
            ..Limits::default()
        };
        Self {
            output,
            mood: Mood::Well,
            items_max,
            limits,
            loki: Loki::default(),
            labelled: false,
            rng,
        }
    }

    /// Takes a call at a time in milliseconds; `late` = its agent has given it up and sent it again.
    pub(crate) fn handle(
        &mut self,
        call: &Call,
        (now, late): (u64, bool),
        books: &mut Books,
    ) -> Result<Handled, String> {
        let items = self.decode(call, books)?;
        if late {
            items
                .iter()
                .for_each(|item| books.may_repeat(&item.ids, self.output));
        }
        if items.is_empty() {
            return Err(format!("an empty request: {call:?}"));
        }
        // A lone item is never too large: it would be given up.
        if items.len() > self.items_max {
            let mut refused = refused(413, None);
            refused.seen = items.into_iter().flat_map(|item| item.ids).collect();
            return Ok(refused);
        }
        if self.mood == Mood::Busy && self.rng.chance(60) {
            return Ok(self.refuse());
        }
        if self.output == 0 {
            return self.push(now, call, items, books);
        }
        self.bulk(items, books)
    }

    fn decode(&self, call: &Call, books: &Books) -> Result<Vec<Item>, String> {
        let header = |name: &str| {
            let found = call.headers.iter().find(|(have, _)| *have == name);
            found.map(|(_, value)| value.to_string())
        };
        let wrong = |error| format!("a body that cannot be read: {error:#}");
        let kind = header("content-type").unwrap_or_default();
        let mut labels: Vec<(String, String)> = Vec::new();
        let arrived: Vec<Arrived> = if self.output == 0 {
            for set in wire::loki::label_sets(&call.body).map_err(wrong)? {
                let of = |name: &str| set.iter().find(|(have, _)| have == name);
                let of = |name| of(name).map(|(_, value)| value.clone()).unwrap_or_default();
                labels.push((of("pod"), of("app")));
            }
            wire::loki::decode(&kind, &call.body).map_err(wrong)?
        } else {
            let plain = wire::inflate(header("content-encoding").as_deref(), &call.body);
            let plain = plain.map_err(wrong)?;
            for line in plain.split(|byte| *byte == b'\n').skip(1).step_by(2) {
                let document: Value = serde_json::from_slice(line).unwrap_or_default();
                let of = &document["kubernetes"];
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                labels.push((text(&of["pod"]), text(&of["labels"]["app"])));
            }
            wire::bulk::decode("/_bulk", &plain).map_err(wrong)?
        };
        let is_own = |(pod, app): &(String, String)| app.starts_with(&format!("{pod}."));
        if let Some(bare) = labels.iter().find(|both| self.labelled && !is_own(both)) {
            return Err(format!("arrived without its pod's label: {bare:?}"));
        }
        let item = |arrived: &Arrived| {
            Ok(Item {
                ids: books.read(arrived)?,
                merged: arrived.merged,
                spoilt: arrived.text.contains(SPOILT),
            })
        };
        arrived.iter().map(item).collect()
    }

    /// A push, by the limits that Loki has in this mood.
    fn push(
        &mut self,
        now: u64,
        call: &Call,
        items: Vec<Item>,
        books: &mut Books,
    ) -> Result<Handled, String> {
        self.loki.limits = match self.mood {
            Mood::Picky => self.limits.clone(),
            Mood::Well | Mood::Busy | Mood::Down | Mood::Dead | Mood::Odd => Limits::default(),
        };
        let push = limits::read(&call.body).map_err(|error| error.to_string())?;
        // Long after the lines' own time.
        let now_ns = 1_900_000_000_000_000_000 + now * 1_000_000;
        let verdict = self.loki.push(now_ns, &push);
        let (mut stored, mut seen) = (Vec::new(), Vec::new());
        for (at, item) in items.into_iter().enumerate() {
            if verdict.stored[at] {
                self.store(&item.ids, books)?;
                stored.extend(item.ids);
            } else {
                if verdict.refused[at] {
                    books.excuse(&item.ids, self.output);
                }
                seen.extend(item.ids);
            }
        }
        if verdict.status != 204 {
            // What is said leaves open what else is stored.
            books.may_repeat(&stored, self.output);
        }
        Ok(Handled {
            answer: answer(verdict.status, None, verdict.words),
            seen,
            stored,
        })
    }

    /// A whole request is refused.
    fn refuse(&mut self) -> Handled {
        let wait = self.rng.chance(50).then_some(1_000);
        match self.rng.below(7) {
            0 => refused(500, None),
            1 => refused(503, None),
            2 => refused(401, None),
            3 => refused(404, None),
            _ => refused(429, wait),
        }
    }

    fn store(&mut self, ids: &[Id], books: &mut Books) -> Result<(), String> {
        let mut ids = ids.iter();
        ids.try_for_each(|id| books.store(*id, self.output))
    }

    fn bulk(&mut self, items: Vec<Item>, books: &mut Books) -> Result<Handled, String> {
        let (mut stored, mut said, mut errors) = (Vec::new(), Vec::new(), false);
        let (few, picky) = (self.mood == Mood::Busy, self.mood == Mood::Picky);
        for item in items {
            let (ids, refuses) = (item.ids, item.merged || item.spoilt);
            let status = match self.rng.below(100) {
                _ if books.has(&ids, self.output) && self.rng.chance(50) => 409,
                _ if picky && refuses && !books.has(&ids, self.output) => 400,
                0..20 if few => 429,
                20..25 if few => 503,
                25 if few => 400,
                _ => 201,
            };
            said.push(outcome(status));
            errors |= status != 201;
            match status {
                201 => self.store(&ids, books)?,
                // It comes again as text, after others.
                400 if item.merged => books.may_be_late(&ids, self.output),
                400 => books.excuse(&ids, self.output),
                409 => {}
                _ => books.may_be_late(&ids, self.output),
            }
            if matches!(status, 201 | 409) {
                stored.extend(ids);
            }
        }
        let body = if errors {
            json!({"errors": true, "items": said})
        } else {
            json!({"errors": false})
        };
        let (mut body, mut status) = (body.to_string(), 200);
        if self.mood == Mood::Odd && self.rng.chance(20) {
            // A gateway's words, an answer that was cut, one about another request.
            (body, status) = match self.rng.below(3) {
                0 => ("<html>502 bad gateway</html>".to_owned(), 502),
                1 => (body[..body.len() - 2].to_owned(), 200),
                _ => (json!({"errors": true, "items": []}).to_string(), 200),
            };
            books.may_repeat(&stored, self.output);
        }
        let answer = answer(status, None, body);
        Ok(Handled {
            answer,
            seen: Vec::new(),
            stored,
        })
    }
}

fn outcome(status: u16) -> Value {
    let (kind, reason) = match status {
        201 => return json!({"create": {"status": 201}}),
        400 => ("document_parsing_exception", "failed to parse"),
        409 => ("version_conflict_engine_exception", "exists already"),
        429 => ("es_rejected_execution_exception", "write queue full"),
        _ => ("unavailable_shards_exception", "primary not assigned"),
    };
    json!({"create": {"status": status, "error": {"type": kind, "reason": reason}}})
}

fn refused(status: u16, retry_after_ms: Option<u64>) -> Handled {
    Handled {
        answer: answer(status, retry_after_ms, "not now".to_owned()),
        seen: Vec::new(),
        stored: Vec::new(),
    }
}

fn answer(status: u16, retry_after_ms: Option<u64>, body: String) -> Answer {
    Answer {
        status,
        retry_after_ms,
        body: body.into(),
    }
}
