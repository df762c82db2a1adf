//! Asks the real servers what they stored.
//!
//! ```text
//! Http (one request per connection) -> Loki: query_range, page by page
//!                                   -> search: refresh, count, scroll
//! ```
//!
//! 1. Every request ends in bounded time.
//! 2. Paging returns each stored entry once, Loki's in time order.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

/// A blocking HTTP/1.1 client for one server of the testbed.
#[derive(Debug)]
pub struct Http {
    runtime: Runtime,
    authority: String,
    limit: Duration,
}

/// Status and body of an answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; anything but a 2xx is an error that quotes the body.
    pub fn json(&self) -> Result<Value> {
        if !(200..300).contains(&self.status) {
            bail!(
                "status {}: {}",
                self.status,
                String::from_utf8_lossy(&self.body)
            );
        }
        serde_json::from_slice(&self.body).context("the answer is not JSON")
    }
}

impl Http {
    /// A client of `http://HOST:PORT`.
    pub fn new(url: &str) -> Result<Self> {
        let authority = url
            .strip_prefix("http://")
            .context("only http:// is spoken here")?;
        Ok(Self {
            runtime: Builder::new_current_thread().enable_all().build()?,
            authority: authority.trim_end_matches('/').to_owned(),
            limit: REQUEST_LIMIT,
        })
    }

    /// `GET path`.
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, None, Bytes::new())
    }

    /// `POST path` with a body of the given media type.
    pub fn post(&self, path: &str, media_type: &str, body: impl Into<Bytes>) -> Result<Answer> {
        self.send(Method::POST, path, Some(media_type), body.into())
    }

    /// Any request; the answer is returned whatever its status.
    pub fn send(
        &self,
        method: Method,
        path: &str,
        media_type: Option<&str>,
        body: Bytes,
    ) -> Result<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.authority);
        if let Some(media_type) = media_type {
            request = request.header("content-type", media_type);
        }
        let request = request
            .body(Full::new(body))
            .with_context(|| format!("request {path}"))?;
        self.runtime
            .block_on(async {
                tokio::time::timeout(self.limit, exchange(&self.authority, request)).await
            })
            .with_context(|| format!("{path}: no answer in {} s", self.limit.as_secs()))?
            .with_context(|| format!("{}{path}", self.authority))
    }
}

async fn exchange(authority: &str, request: Request<Full<Bytes>>) -> Result<Answer> {
    let stream = TcpStream::connect(authority).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    driver.abort();
    Ok(Answer { status, body })
}

/// One stored log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Nanoseconds since the epoch.
    pub ts_ns: u64,
    /// The stream's labels, with structured metadata merged in as Loki returns it.
    pub labels: BTreeMap<String, String>,
    /// The text.
    pub line: String,
}

/// Everything Loki stored for `selector` from `start_ns` up to, but without, `end_ns`.
pub fn loki_entries(http: &Http, selector: &str, start_ns: u64, end_ns: u64) -> Result<Vec<Entry>> {
    let mut found: Vec<Entry> = Vec::new();
    let (mut from, mut limit) = (start_ns, PAGE);
    while from < end_ns {
        let path = format!(
            "/loki/api/v1/query_range?query={}&start={from}&end={end_ns}&limit={limit}\
             &direction=forward",
            percent(selector)
        );
        let mut page = loki_page(&http.get(&path)?.json()?)?;
        let full = page.len() >= limit;
        page.sort_by_key(|entry| entry.ts_ns);
        let Some(last) = page.last().map(|entry| entry.ts_ns) else {
            break;
        };
        if !full {
            found.append(&mut page);
            break;
        }
        // The last instant may be cut in two: it belongs to the next page.
        page.retain(|entry| entry.ts_ns < last);
        if page.is_empty() {
            if limit >= PAGE_MAX {
                bail!("over {limit} entries at {last} ns: cannot page within one instant");
            }
            limit = PAGE_MAX;
            continue;
        }
        found.append(&mut page);
        from = last;
    }
    Ok(found)
}

/// Reads the streams of one `query_range` answer.
fn loki_page(answer: &Value) -> Result<Vec<Entry>> {
    let streams = answer["data"]["result"]
        .as_array()
        .context("no data.result in the answer")?;
    let mut entries = Vec::new();
    for stream in streams {
        let labels: BTreeMap<String, String> = serde_json::from_value(stream["stream"].clone())?;
        for value in stream["values"]
            .as_array()
            .context("a stream without values")?
        {
            let ts_ns = value[0].as_str().context("a value without time")?.parse()?;
            let line = value[1]
                .as_str()
                .context("a value without text")?
                .to_owned();
            entries.push(Entry {
                ts_ns,
                labels: labels.clone(),
                line,
            });
        }
    }
    Ok(entries)
}

/// Makes what was indexed visible to searches.
pub fn refresh(http: &Http, index: &str) -> Result<()> {
    http.post(&format!("/{index}/_refresh"), JSON, "")?
        .json()
        .map(drop)
}

/// How many documents an index, data stream or pattern holds.
pub fn count(http: &Http, index: &str) -> Result<u64> {
    let answer = http.get(&format!("/{index}/_count"))?.json()?;
    answer["count"].as_u64().context("no count in the answer")
}

/// The `_source` of every document of an index, data stream or pattern.
pub fn sources(http: &Http, index: &str) -> Result<Vec<Value>> {
    sources_of(http, index, &json!({"match_all": {}}))
}

/// The `_source` of every document that a query finds.
pub fn sources_of(http: &Http, index: &str, query: &Value) -> Result<Vec<Value>> {
    let opened = json!({"size": SCROLL, "sort": ["_doc"], "query": query}).to_string();
    let mut answer = http
        .post(&format!("/{index}/_search?scroll=1m"), JSON, opened)?
        .json()?;
    let mut found = Vec::new();
    loop {
        let id = answer["_scroll_id"]
            .as_str()
            .context("no _scroll_id in the answer")?
            .to_owned();
        let hits = answer["hits"]["hits"]
            .as_array_mut()
            .context("no hits in the answer")?;
        if hits.is_empty() {
            let closed = Bytes::from(json!({"scroll_id": id}).to_string());
            http.send(Method::DELETE, "/_search/scroll", Some(JSON), closed)?
                .json()?;
            return Ok(found);
        }
        found.extend(hits.iter_mut().map(|hit| hit["_source"].take()));
        let next = json!({"scroll": "1m", "scroll_id": id}).to_string();
        answer = http.post("/_search/scroll", JSON, next)?.json()?;
    }
}

/// Escapes a query value.
fn percent(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            other => drop(write!(out, "%{other:02X}")),
        }
    }
    out
}

const JSON: &str = "application/json";
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
// Loki's own default for the most entries of one answer is 5000.
const PAGE: usize = 2000;
const PAGE_MAX: usize = 5000;
const SCROLL: usize = 5000;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn selectors_are_escaped() {
        assert_eq!(percent("{a=\"b c\"}"), "%7Ba%3D%22b%20c%22%7D");
        assert_eq!(percent("é-~"), "%C3%A9-~");
    }

    #[test]
    fn a_page_gives_every_value_with_its_labels() {
        let page = loki_page(&json!({"data": {"result": [
            {"stream": {"app": "x"}, "values": [["2", "b"], ["1", "a"]]},
            {"stream": {}, "values": [["3", ""]]},
        ]}}))
        .unwrap();
        let short: Vec<(u64, &str, usize)> = page
            .iter()
            .map(|e| (e.ts_ns, e.line.as_str(), e.labels.len()))
            .collect();
        assert_eq!(short, [(2, "b", 1), (1, "a", 1), (3, "", 0)]);
        assert!(loki_page(&json!({"data": {}})).is_err());
    }
}
