//! An output's index template, put before its first request.
//!
//! ```text
//! overwrite:  PUT ---2xx, or 4xx said once---> done
//! otherwise:  HEAD --200--> done   --else--> PUT?create=true --2xx--> done
//!                                                --4xx--> HEAD --200--> done, else said once: done
//! no answer, 408, 429, 5xx: again after a wait
//! ```
//!
//! 1. Records wait for it, for an index that was made without its template stays as it is. They do not
//!    wait for ever: what the server refuses is said once, counted, and they go on without.
//! 2. Agents of many nodes start together: one that finds that another was first is content.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::redact::quote;
use super::transport::{Answer, CallId, Failure};
use crate::base::backoff::Backoff;
use crate::base::count::{Counter, Registry};
use crate::base::quiet::Quiet;
use crate::base::time::Mono;
use crate::plan::{
    ElasticsearchOutput, FieldShape, IndexTemplate, Output, TemplateBody, TimestampKind,
};

/// What is asked of the server next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Path and query, after the base URL.
    pub(crate) path: String,
    pub(crate) body: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Is it there?
    Look,
    Put,
    /// Was another first? What the server said to us stands here.
    LookAgain(String),
    Done,
}

/// A template on its way.
#[derive(Debug)]
pub(crate) struct Setup {
    output: String,
    template: String,
    body: Bytes,
    overwrite: bool,
    step: Step,
    flight: Option<(CallId, Mono)>,
    retry_at: Option<Mono>,
    backoff: Backoff,
    quiet: Quiet,
    failures: Arc<Counter>,
}

impl Setup {
    /// The template of an output, if it has one; `seed` decides the jitter.
    pub(crate) fn new(
        output: &Output,
        search: &ElasticsearchOutput,
        registry: &Registry,
        seed: u64,
    ) -> Option<Self> {
        let template = search.template.as_ref()?;
        let body = match &template.body {
            TemplateBody::BuiltIn => Bytes::from(built_in(search).to_string()),
            TemplateBody::File { text, .. } => Bytes::copy_from_slice(text.as_bytes()),
        };
        let IndexTemplate {
            name, overwrite, ..
        } = template;
        Some(Self {
            output: output.name.clone(),
            template: name.clone(),
            body,
            overwrite: *overwrite,
            step: if *overwrite { Step::Put } else { Step::Look },
            flight: None,
            retry_at: None,
            backoff: Backoff::new(output.retry.min_ms, output.retry.max_ms, seed),
            quiet: Quiet::default(),
            failures: registry.counter(
                "tailwake_template_failures_total",
                "Index templates that the output's server refused.",
                &[("output", &output.name)],
            ),
        })
    }

    /// Whether records need wait no longer.
    pub(crate) fn is_done(&self) -> bool {
        self.step == Step::Done
    }

    /// Whether this call is its own.
    pub(crate) fn flies(&self, id: CallId) -> bool {
        self.flight.is_some_and(|(flying, _)| flying == id)
    }

    /// Its call, if it should have ended by now.
    pub(crate) fn late(&self, now: Mono) -> Option<CallId> {
        let (id, give_up) = self.flight?;
        (give_up <= now).then_some(id)
    }

    /// When it wants to be looked at again.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.flight.map(|(_, give_up)| give_up).or(self.retry_at)
    }

    /// What to ask now, if anything.
    pub(crate) fn ready(&self, now: Mono) -> Option<Ask> {
        if self.flight.is_some() || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        let path = format!("/_index_template/{}", self.template);
        match self.step {
            Step::Done => None,
            Step::Look | Step::LookAgain(_) => Some(Ask {
                method: Method::HEAD,
                path,
                body: Bytes::new(),
            }),
            Step::Put => Some(Ask {
                method: Method::PUT,
                path: path + if self.overwrite { "" } else { "?create=true" },
                body: self.body.clone(),
            }),
        }
    }

    /// It was asked.
    pub(crate) fn sent(&mut self, id: CallId, give_up: Mono) {
        self.flight = Some((id, give_up));
    }

    /// The call has ended.
    pub(crate) fn end(&mut self, now: Mono, end: &Result<Answer, Failure>) {
        (self.flight, self.retry_at) = (None, None);
        let (status, why) = match end {
            Ok(answer) => {
                let why = format!("status {}: {}", answer.status, quote(&answer.body));
                (answer.status, why)
            }
            Err(Failure::Timeout) => (0, "no answer in time".to_owned()),
            Err(Failure::Connect(why) | Failure::Broken(why)) => (0, quote(why.as_bytes())),
        };
        self.step = match (&self.step, status) {
            (step, 0 | 408 | 429 | 500..=599) => {
                let step = step.clone();
                self.wait(now, &why);
                step
            }
            (_, 200..=299) | (Step::Done, _) => Step::Done,
            (Step::Look, _) => Step::Put,
            (Step::Put, _) if !self.overwrite => Step::LookAgain(why),
            (Step::Put, _) => self.give_up(&why),
            (Step::LookAgain(said), _) => self.give_up(said),
        };
    }

    fn wait(&mut self, now: Mono, why: &str) {
        let wait_ms = self.backoff.next_ms();
        self.retry_at = Some(now.plus_ms(wait_ms));
        if let Some(suppressed) = self.quiet.allow(now, "wait") {
            let (output, template) = (self.output.as_str(), self.template.as_str());
            tracing::warn!(
                output,
                template,
                wait_ms,
                suppressed,
                "put the index template: {why}; asked again, and records of this output wait until \
                 the server answers"
            );
        }
    }

    fn give_up(&self, why: &str) -> Step {
        self.failures.add(1);
        let (output, template) = (self.output.as_str(), self.template.as_str());
        tracing::error!(
            output,
            template,
            "put the index template: {why}; records go on without it, into indices of the server's \
             own mappings: put the template by hand, or correct `template` and start again"
        );
        Step::Done
    }
}

/// The template for what this output writes. Its priority is above that of the servers' own, 100.
fn built_in(search: &ElasticsearchOutput) -> Value {
    let keyword = || json!({"type": "keyword", "ignore_above": 1024});
    let inner = |members: &[&str]| {
        let members = members.iter().map(|name| ((*name).to_owned(), keyword()));
        json!({"properties": members.collect::<serde_json::Map<_, _>>()})
    };
    let shape = &search.shape;
    let (kubernetes, log) = match shape.fields {
        FieldShape::Flat => (
            inner(&["namespace", "pod", "uid", "container", "node"]),
            json!({"properties": {"file": keyword(), "offset": {"type": "long"},
                "cut": {"type": "boolean"}}}),
        ),
        FieldShape::Ecs => (
            json!({"properties": {"namespace": keyword(), "pod": inner(&["name", "uid"]),
                "container": inner(&["name"]), "node": inner(&["name"])}}),
            json!({"properties": {"file": inner(&["path"]), "offset": {"type": "long"},
                "flags": keyword()}}),
        ),
    };
    let timestamp = match shape.timestamp {
        TimestampKind::Date => "date",
        TimestampKind::DateNanos => "date_nanos",
    };
    let mut patterns = vec![search.index.wildcard()];
    // Where it is made of the pattern, the pattern matches it. A second one could stand in the template
    // of another output too, and servers refuse two that match the same name.
    if *shape.fallback != search.index.fallback() {
        patterns.push(shape.fallback.to_string());
    }
    let labels = json!({"labels": {"path_match": "labels.*", "mapping": keyword()}});
    let mut template = json!({
        "index_patterns": patterns,
        "priority": 200,
        "_meta": {"managed_by": "tailwake"},
        "template": {"mappings": {
            "dynamic_templates": [labels],
            "properties": {
                "@timestamp": {"type": timestamp}, "message": {"type": "text"},
                "stream": keyword(), "kubernetes": kubernetes, "log": log,
            },
        }},
    });
    if search.data_stream {
        template["data_stream"] = json!({});
    }
    template
}

#[cfg(test)]
#[path = "setup_tests.rs"]
mod tests;
