#![expect(clippy::unwrap_used, reason = "tests")]
use std::collections::VecDeque;

use super::*;
use crate::base::bell::Bell;
use crate::base::outputs::OutputId;
use crate::base::size::ByteSize;
use crate::deliver::{Call, Deliverer, Transport};
use crate::encode::{Encoding, Outlet, Request};
use crate::plan::{Limits, OutputKind, Plan, Privileges, Retry, Shape, Wake};

fn output(overwrite: bool) -> (Output, ElasticsearchOutput) {
    let search = ElasticsearchOutput {
        urls: vec!["http://me:pw@h/base".into()],
        index: "logs".into(),
        data_stream: true,
        shape: Shape {
            fallback: "other".into(),
            ..Shape::default()
        },
        filter_path: true,
        template: Some(IndexTemplate {
            name: "t".into(),
            body: TemplateBody::BuiltIn,
            overwrite,
        }),
        compression: crate::plan::Compression::Gzip,
        gzip_level: 1,
    };
    let output = Output {
        name: "o".into(),
        kind: OutputKind::Elasticsearch(search.clone()),
        batch_bytes: ByteSize(1),
        linger_ms: 1,
        window_bytes: ByteSize(1),
        dead_letters: None,
        spool: crate::plan::Spool::Off,
        http: crate::plan::http::HttpSettings::default(),
        retry: Retry::default(),
        timeout_ms: 1,
    };
    (output, search)
}

fn setup(overwrite: bool) -> (Setup, Registry) {
    let (output, search) = output(overwrite);
    let registry = Registry::default();
    let made = Setup::new(&output, &search, &registry, 7).unwrap();
    (made, registry)
}

/// What is asked, one request after the other, when these statuses are answered (0 = none).
fn asked(overwrite: bool, statuses: &[u16]) -> (Vec<String>, bool, u64) {
    let (mut setup, _registry) = setup(overwrite);
    let (mut now, mut asked) = (Mono(0), Vec::new());
    for (call, status) in statuses.iter().enumerate() {
        let ask = setup.ready(now).unwrap();
        asked.push(format!("{} {}", ask.method, ask.path));
        setup.sent(CallId(call as u64), now.plus_ms(5));
        assert!(setup.ready(now).is_none() && setup.flies(CallId(call as u64)));
        let end = match status {
            0 => Err(Failure::Timeout),
            status => Ok(Answer {
                status: *status,
                retry_after_ms: None,
                body: Bytes::new(),
            }),
        };
        setup.end(now, &end);
        now = setup.deadline().unwrap_or(now);
    }
    (asked, setup.is_done(), setup.failures.get())
}

#[test]
fn a_template_is_put_once_and_what_is_there_is_left() {
    let (look, put) = (
        "HEAD /_index_template/t",
        "PUT /_index_template/t?create=true",
    );
    for (statuses, want, failures) in [
        (&[200][..], &[look][..], 0),
        (&[404, 200], &[look, put], 0),
        (&[503, 0, 404, 429, 200], &[look, look, look, put, put], 0),
        (&[404, 400, 200], &[look, put, look], 0),
        (&[404, 400, 404], &[look, put, look], 1),
        (&[403, 403, 0, 403], &[look, put, look, look], 1),
    ] {
        let (asked, done, failed) = asked(false, statuses);
        assert_eq!(
            (asked, done, failed),
            (want.iter().map(|&a| a.to_owned()).collect(), true, failures)
        );
    }
    let over = "PUT /_index_template/t";
    assert_eq!(asked(true, &[200]), (vec![over.to_owned()], true, 0));
    assert_eq!(
        asked(true, &[502, 400]),
        (vec![over.to_owned(); 2], true, 1)
    );
    assert!(!asked(true, &[502]).1);
}

#[test]
fn the_built_in_template_matches_what_is_written() {
    let (setup, _registry) = setup(false);
    let body: Value = serde_json::from_slice(&setup.body).unwrap();
    assert_eq!(body["index_patterns"], json!(["logs", "other"]));
    assert_eq!(body["data_stream"], json!({}));
    let mapped = &body["template"]["mappings"]["properties"];
    assert_eq!(mapped["@timestamp"], json!({"type": "date"}));
    assert_eq!(
        mapped["log"]["properties"]["offset"],
        json!({"type": "long"})
    );
}

#[derive(Default)]
struct Wire {
    sent: Vec<(CallId, Call)>,
    ended: VecDeque<(CallId, Result<Answer, Failure>)>,
}

impl Transport for Wire {
    fn send(&mut self, id: CallId, call: Call) {
        self.sent.push((id, call));
    }
    fn cancel(&mut self, _: CallId) {}
    fn poll(&mut self, ended: &mut Vec<(CallId, Result<Answer, Failure>)>) {
        ended.extend(self.ended.drain(..));
    }
}

#[test]
fn records_wait_for_the_template_and_no_longer() {
    let (output, _) = output(false);
    let plan = Plan {
        state: "/state".into(),
        admin: None,
        inputs: Vec::new(),
        pipelines: Vec::new(),
        entries: Vec::new(),
        outputs: vec![output],
        limits: Limits::default(),
        wake: Wake::default(),
        privileges: Privileges::default(),
    };
    let registry = Registry::default();
    let (id, bell) = (OutputId(0), Bell::silent());
    let outlet = Arc::new(Outlet::new(id, "o", 1 << 20, bell, Vec::new(), &registry));
    let outlets = vec![Arc::clone(&outlet)];
    let mut deliverer = Deliverer::new(
        &plan,
        outlets,
        &registry,
        7,
        super::super::Bodies::ENCODED,
        &Arc::default(),
    );
    let request = Request {
        output: id,
        tenant: None,
        encoder: 0,
        body: Bytes::from_static(b"x"),
        encoding: Encoding::Plain,
        inflated: 1,
        items: Vec::new(),
        groups: Vec::new(),
        tickets: Vec::new(),
        loan: None,
        opened: Mono(0),
    };
    outlet.put(request).unwrap();
    let (mut wire, mut now) = (Wire::default(), Mono(0));
    let mut seen = Vec::new();
    for status in [404, 0, 200, 200] {
        let turn = deliverer.turn(now, &mut wire);
        let (id, call) = wire.sent.pop().unwrap();
        assert!(wire.sent.is_empty(), "one after the other");
        seen.push(format!("{} {}", call.method, call.url));
        // The transport says who the agent is, by the output.
        assert_eq!(call.output, outlet.output);
        // A call that its transport forgets is given up.
        if status == 0 {
            now = turn.deadline.unwrap();
            deliverer.turn(now, &mut wire);
            now = deliverer.turn(now, &mut wire).deadline.unwrap();
            continue;
        }
        let body = Bytes::from_static(br#"{"errors":false}"#);
        let (retry_after_ms, end) = (None, &mut wire.ended);
        end.push_back((
            id,
            Ok(Answer {
                status,
                retry_after_ms,
                body,
            }),
        ));
    }
    deliverer.turn(now, &mut wire);
    assert!(deliverer.idle() && wire.sent.is_empty());
    let base = "http://h/base";
    assert_eq!(seen[0], format!("HEAD {base}/_index_template/t"));
    assert_eq!(seen[1], format!("PUT {base}/_index_template/t?create=true"));
    assert_eq!(seen[2], seen[1]);
    assert!(
        seen[3].starts_with(&format!("POST {base}/_bulk?")),
        "{seen:?}"
    );
}
