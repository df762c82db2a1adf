//! A plain encoder in place of the stage room: lines, joined records, claims. No batches.

use std::collections::{BTreeMap, VecDeque};

use super::writer::{LAST, STREAMS};
use crate::base::outputs::{OutputId, OutputSet};
use crate::ticket::{Chunk, Feed, LogId, PassId, Ticket};

/// A record on its way to one output.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) log: usize,
    pub(super) output: OutputId,
    pub(super) stream: usize,
    pub(super) text: String,
    pub(super) claims: Vec<Ticket>,
    pub(super) due: u64,
}

#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    claims: Vec<Ticket>,
}

type Key = (LogId, PassId);

/// The encoder of all logs.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    lines: BTreeMap<Key, Held>,
    records: BTreeMap<(LogId, PassId, usize), Held>,
}

impl Encoder {
    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.records.is_empty()
    }

    /// Takes one feed; whole records go to `out`. `detached` outputs are given up.
    pub(super) fn take(
        &mut self,
        feed: Feed,
        detached: OutputSet,
        out: &mut VecDeque<Delivery>,
    ) -> Result<(), String> {
        match feed {
            Feed::Chunk(chunk) => self.chunk(chunk, detached, out),
            Feed::Merged { log, pass, .. } => {
                let key = (log, pass);
                let held = self.records.keys().any(|have| (have.0, have.1) == key);
                if held || self.lines.contains_key(&key) {
                    return Err(format!("{pass:?} of {log:?} merged while it held a record"));
                }
                Ok(())
            }
            Feed::Abandoned { log, pass } => {
                let _ = self.lines.remove(&(log, pass));
                self.records
                    .retain(|have, _| (have.0, have.1) != (log, pass));
                Ok(())
            }
            Feed::Left { .. } => Ok(()),
            Feed::Ended { log } => {
                let held = self.records.keys().any(|have| have.0 == log);
                if held || self.lines.keys().any(|have| have.0 == log) {
                    return Err(format!("{log:?} ended while it held a record"));
                }
                Ok(())
            }
        }
    }

    fn chunk(
        &mut self,
        chunk: Chunk,
        detached: OutputSet,
        out: &mut VecDeque<Delivery>,
    ) -> Result<(), String> {
        let key = (chunk.source.log, chunk.pass);
        let bytes = chunk.bytes();
        let (mut at, all) = (0, chunk.ticket.outputs());
        while at < bytes.len() {
            let newline = bytes[at..].iter().position(|&byte| byte == b'\n');
            let end = newline.map_or(bytes.len(), |newline| at + newline + 1);
            let line = self.lines.entry(key).or_default();
            line.bytes.extend_from_slice(&bytes[at..end]);
            line.claims.push(chunk.ticket.split(all));
            at = end;
            if newline.is_none() && chunk.open_tail {
                break;
            }
            let line = self.lines.remove(&key).unwrap_or_default();
            self.line(key, line, all.without(detached), out)?;
        }
        if bytes.is_empty()
            && !chunk.open_tail
            && let Some(mut line) = self.lines.remove(&key)
        {
            line.claims.push(chunk.ticket.split(all));
            self.line(key, line, all.without(detached), out)?;
        }
        chunk.ticket.settle();
        Ok(())
    }

    fn line(
        &mut self,
        key: Key,
        line: Held,
        covered: OutputSet,
        out: &mut VecDeque<Delivery>,
    ) -> Result<(), String> {
        let text = String::from_utf8_lossy(&line.bytes).into_owned();
        let torn = || format!("a torn line of {key:?}: {text:?}");
        let rest = text.strip_prefix("2026-11-24T05:00:00.123456789Z ");
        let rest = rest
            .and_then(|rest| rest.strip_suffix('\n').or(rest.strip_suffix(LAST)))
            .ok_or_else(torn)?;
        let stream = STREAMS
            .iter()
            .position(|name| rest.starts_with(name))
            .ok_or_else(torn)?;
        let (tag, part) = (rest.as_bytes().get(7), rest.get(9..).ok_or_else(torn)?);
        let record = (key.0, key.1, stream);
        let held = self.records.entry(record).or_default();
        held.bytes.extend_from_slice(part.as_bytes());
        held.claims.extend(line.claims);
        if tag != Some(&b'F') {
            return Ok(());
        }
        let held = self.records.remove(&record).unwrap_or_default();
        let text = String::from_utf8_lossy(&held.bytes).into_owned();
        for output in covered.iter() {
            let one = OutputSet::one(output);
            out.push_back(Delivery {
                log: key.0.0 as usize,
                output,
                stream,
                text: text.clone(),
                claims: held.claims.iter().map(|claim| claim.split(one)).collect(),
                due: 0,
            });
        }
        for mut claim in held.claims {
            claim.forsake(claim.outputs().without(covered));
            claim.settle();
        }
        Ok(())
    }
}
