//! Answers as real servers gave them, shortened where only length was cut.

#![expect(clippy::panic, reason = "tests")]

use bytes::Bytes;

use super::*;

fn answer(status: u16, body: &str) -> Result<Answer, Failure> {
    let body = Bytes::copy_from_slice(body.as_bytes());
    Ok(Answer {
        status,
        retry_after_ms: None,
        body,
    })
}

fn retry(reason: Reason) -> Verdict {
    Verdict::Retry {
        reason,
        after_ms: None,
    }
}

/// The words are `said`'s; here is what a status makes of them.
#[test]
fn loki_answers() {
    let stream = "entry with timestamp 2026-11-23 02:15:36 +0000 UTC ignored, reason: 'Per stream rate \
                  limit exceeded (limit: 1KB/sec) while', user 'fake', total ignored: 1 out of 2 for \
                  stream: {a=\"b\"}";
    let said = |have: &Verdict| matches!(have, Verdict::Said { .. });
    for (status, body) in [
        (
            400,
            "max entry size '1' bytes exceeded for stream '{a=\"b\"}' while adding an entry with length '2' bytes\n",
        ),
        (400, "couldn't parse labels: 1:6: parse error"),
        (400, "snappy: corrupt input\n"),
        (422, "error at least one valid stream is required"),
        (429, stream),
        (
            429,
            "ingestion rate limit exceeded for user fake (limit: 10 bytes/sec) while attempting to ingest '1' lines totaling '20' bytes",
        ),
        (
            429,
            "maximum active stream limit exceeded when trying to create stream {a=\"b\"}, reduce",
        ),
        (
            500,
            "failed to create stream: no schema config found for time 0",
        ),
    ] {
        let have = judge(Sink::Loki, 2, &answer(status, body));
        assert!(said(&have.verdict), "{status} {body}: {have:?}");
        assert!(!have.text.is_empty());
    }
    let large = "rpc error: code = ResourceExhausted desc = grpc: received message larger than max (2 vs 1)";
    for (status, body, want) in [
        (204, "", Verdict::Delivered),
        (200, "", Verdict::Delivered),
        (260, "ingestion blocked for user 't'", retry(Reason::Denied)),
        (
            400,
            "tenant ID 'a/b' contains unsupported character '/'",
            retry(Reason::Setup),
        ),
        (400, "mime: no media type", retry(Reason::Setup)),
        (
            400,
            "ingestion blocked for user 't' until",
            retry(Reason::Setup),
        ),
        (401, "no org id\n", retry(Reason::Denied)),
        (403, "", retry(Reason::Denied)),
        (404, "404 page not found", retry(Reason::NotFound)),
        (405, "", retry(Reason::Unexpected)),
        (413, "", Verdict::Halve(Reason::TooLarge)),
        (400, large, Verdict::Halve(Reason::TooLarge)),
        (500, large, Verdict::Halve(Reason::TooLarge)),
        (429, "slow down", retry(Reason::Busy)),
        (
            500,
            "at least 1 live replicas required, could only find 0",
            retry(Reason::ServerError),
        ),
        (
            503,
            "no schema config found for time 0",
            retry(Reason::ServerError),
        ),
        (503, "", retry(Reason::ServerError)),
        (308, "", retry(Reason::Redirect)),
        (101, "", retry(Reason::Unexpected)),
    ] {
        let have = judge(Sink::Loki, 2, &answer(status, body));
        assert_eq!(have.verdict, want, "{status} {body}");
        assert_eq!(
            have.text.is_empty(),
            want == Verdict::Delivered,
            "{status} {body}"
        );
    }
}

#[test]
fn whole_bulk_answers() {
    let coordination = r#"{"error":{"root_cause":[{"type":"es_rejected_execution_exception"}]}}"#;
    for (status, body, want) in [
        (
            400,
            r#"{"error":{"reason":"request body is required"}}"#,
            Verdict::Halve(Reason::BadRequest),
        ),
        (
            401,
            r#"{"error":{"type":"security_exception"},"status":401}"#,
            retry(Reason::Denied),
        ),
        (
            403,
            r#"{"error":{"type":"cluster_block_exception"}}"#,
            retry(Reason::Denied),
        ),
        (404, "", retry(Reason::NotFound)),
        (406, "", retry(Reason::Unexpected)),
        (413, "", Verdict::Halve(Reason::TooLarge)),
        (429, coordination, retry(Reason::Busy)),
        (500, "", retry(Reason::ServerError)),
        (502, "<html>", retry(Reason::ServerError)),
        (302, "", retry(Reason::Redirect)),
        (200, r#"{"errors":false}"#, Verdict::Delivered),
        (
            200,
            r#"{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":201}}]}"#,
            Verdict::Delivered,
        ),
        (
            200,
            r#"{"errors":false,"items":[]}"#,
            retry(Reason::Malformed),
        ),
        (
            200,
            r#"{"errors":false,"took":6,"items":[{"create":{"status":201}}]}"#,
            retry(Reason::Malformed),
        ),
    ] {
        assert_eq!(
            judge(Sink::Bulk, 2, &answer(status, body)).verdict,
            want,
            "{status} {body}"
        );
    }
}

#[test]
fn bulk_items_are_judged_one_by_one() {
    let item = |status: u16, kind: &str, reason: &str| {
        format!(
            r#"{{"index":{{"_id":null,"status":{status},"error":{{"type":"{kind}",
                "reason":"{reason}","caused_by":{{"type":"x"}}}}}}}}"#
        )
    };
    let parsing = "[1:66] failed to parse field [n] of type [long] in document with id 'f2'";
    let shards = "Validation Failed: 1: this action would add [1] shards, but this cluster \
                  currently has [6]/[1] maximum normal shards open;";
    for (status, kind, reason, want) in [
        (
            400,
            "document_parsing_exception",
            parsing,
            Fate::Plain(Reason::BadItem),
        ),
        (
            400,
            "mapper_parsing_exception",
            "",
            Fate::Plain(Reason::BadItem),
        ),
        (
            400,
            "illegal_argument_exception",
            "pipeline",
            Fate::Plain(Reason::BadItem),
        ),
        (
            400,
            "validation_exception",
            shards,
            Fate::RetryBounded(Reason::ShardLimit),
        ),
        (
            409,
            "version_conflict_engine_exception",
            "exists",
            Fate::Delivered,
        ),
        (
            403,
            "cluster_block_exception",
            "write (api)",
            Fate::Retry(Reason::Denied),
        ),
        (
            403,
            "security_exception",
            "unauthorized",
            Fate::Retry(Reason::Denied),
        ),
        (
            404,
            "index_not_found_exception",
            "none",
            Fate::RetryBounded(Reason::ItemNotFound),
        ),
        (
            429,
            "cluster_block_exception",
            "flood-stage",
            Fate::Retry(Reason::Busy),
        ),
        (
            429,
            "es_rejected_execution_exception",
            "",
            Fate::Retry(Reason::Busy),
        ),
        (
            503,
            "unavailable_shards_exception",
            "Timeout: [1s]",
            Fate::Retry(Reason::ServerError),
        ),
    ] {
        let bad = item(status, kind, reason);
        let body = format!(r#"{{"errors":true,"items":[{bad},{{"index":{{"status":201}}}}]}}"#);
        let have = judge(Sink::Bulk, 2, &answer(200, &body));
        let Verdict::Items { fates, words, .. } = &have.verdict else {
            panic!("{have:?}");
        };
        assert_eq!(*fates, [want, Fate::Delivered], "{status} {kind}");
        let may_be_rejected = matches!(want, Fate::Plain(_) | Fate::RetryBounded(_));
        assert_eq!(
            words[0].is_some(),
            may_be_rejected,
            "its own words: {words:?}"
        );
        assert_eq!(words[1], None);
        assert!(
            want == Fate::Delivered || have.text.contains(kind),
            "{}",
            have.text
        );
    }
}

#[test]
fn a_bulk_answer_that_cannot_be_trusted_means_again() {
    let deep = "[".repeat(100_000);
    for body in [
        "",
        "garbage",
        r#"{"errors":tru"#,
        r#"{"items":[]}"#,
        r#"{"errors":true}"#,
        r#"{"errors":true,"items":[]}"#,
        r#"{"errors":true,"items":[{"index":{"status":201}}]}"#,
        r#"{"errors":true,"items":[{},{}]}"#,
        r#"{"errors":true,"items":[{"index":{"error":{}}},{"index":{"status":201}}]}"#,
        r#"{"errors":true,"items":[{"index":{"status":70000}},{"index":{"status":201}}]}"#,
        &deep,
    ] {
        let have = judge(Sink::Bulk, 2, &answer(200, body));
        assert_eq!(have.verdict, retry(Reason::Malformed), "{body:.80}");
    }
}

#[test]
fn an_item_error_may_be_a_text() {
    let body = r#"{"errors":true,"items":[{"create":{"status":400,"error":"Mapper[é]"}}]}"#;
    let have = judge(Sink::Bulk, 1, &answer(200, body));
    assert!(matches!(&have.verdict, Verdict::Items { fates, .. }
        if fates[..] == [Fate::Plain(Reason::BadItem)]));
    assert!(have.text.contains("Mapper[é]"));
}

#[test]
fn failures_and_wishes() {
    for (failure, reason) in [
        (Failure::Connect("refused".to_owned()), Reason::Connect),
        (Failure::Timeout, Reason::Timeout),
        (Failure::Broken("eof".to_owned()), Reason::Broken),
    ] {
        assert_eq!(judge(Sink::Loki, 1, &Err(failure)).verdict, retry(reason));
    }
    let wish = Answer {
        status: 429,
        retry_after_ms: Some(7000),
        body: Bytes::new(),
    };
    let want = Verdict::Retry {
        reason: Reason::Busy,
        after_ms: Some(7000),
    };
    assert_eq!(judge(Sink::Bulk, 1, &Ok(wish)).verdict, want);
}
