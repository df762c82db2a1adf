//! The real transport: hyper over TCP and TLS.
//!
//! ```text
//! send -> one task a call: connect, POST, read (capped), inflate (capped) -> channel -> bell
//! poll <- channel
//! ```
//!
//! 1. HTTP/1.1 with kept connections; a redirect is an answer like any other and is not followed.
//! 2. Never is more than [`ANSWER_BYTES_MAX`] of an answer held, before or after inflating.
//! 3. Every task is owned: `cancel` and drop abort it. There are as many as lanes fly.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::io::Read as _;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier, crypto::ring};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::transport::{ANSWER_BYTES_MAX, Answer, Call, CallId, Failure, Transport};
use crate::base::bell::Bell;

/// A node's neighbour answers in a few ms; past this it is another try.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Shorter than the idle timeout of common servers and balancers: an older connection is not used
/// again. No timer looks for them, so that an idle agent sleeps; the server closes them.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections kept, a host: as many lanes as an output usually has.
const IDLE_MAX: usize = 16;
const AGENT: &str = concat!("tailwake/", env!("CARGO_PKG_VERSION"));

type Hyper = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;
type End = (CallId, Result<Answer, Failure>);

/// Carries calls over the network.
#[derive(Debug)]
pub struct HttpTransport {
    handle: Handle,
    bell: Bell,
    plain: Hyper,
    /// Made at the first `https` call: reading the machine's roots takes time and memory.
    tls: Option<Hyper>,
    tasks: BTreeMap<CallId, AbortHandle>,
    ends: mpsc::Receiver<End>,
    /// Given to each task; unbounded, but there is one message a call at most.
    sender: mpsc::Sender<End>,
}

impl HttpTransport {
    /// A transport whose tasks run on `handle` (I/O and time enabled); `bell` rings at each end.
    ///
    /// # Errors
    /// The TLS library refuses its own defaults.
    pub fn new(handle: Handle, bell: Bell) -> Result<Self, rustls::Error> {
        let (sender, ends) = mpsc::channel();
        // Trusts nobody: it is used for `http` alone.
        let config = builder()?.with_root_certificates(RootCertStore::empty());
        let plain = client(config.with_no_client_auth());
        Ok(Self {
            handle,
            bell,
            plain,
            tls: None,
            tasks: BTreeMap::new(),
            ends,
            sender,
        })
    }

    fn client(&mut self, call: &Call) -> Result<Hyper, Failure> {
        if !call.url.starts_with("https:") {
            return Ok(self.plain.clone());
        }
        if let Some(tls) = &self.tls {
            return Ok(tls.clone());
        }
        let tls = client(trusting_config().map_err(Failure::Connect)?);
        Ok(self.tls.insert(tls).clone())
    }
}

impl Transport for HttpTransport {
    fn send(&mut self, id: CallId, call: Call) {
        let (sender, bell) = (self.sender.clone(), self.bell.clone());
        let client = self.client(&call);
        let task = self.handle.spawn(async move {
            let end = match client {
                Ok(client) => {
                    let limit = Duration::from_millis(call.timeout_ms);
                    match tokio::time::timeout(limit, exchange(client, call)).await {
                        Ok(end) => end,
                        Err(_) => Err(Failure::Timeout),
                    }
                }
                Err(failure) => Err(failure),
            };
            // The receiver is gone only when the transport is being dropped.
            let _ = sender.send((id, end));
            bell.ring();
        });
        self.tasks.insert(id, task.abort_handle());
    }

    fn cancel(&mut self, id: CallId) {
        if let Some(task) = self.tasks.remove(&id) {
            task.abort();
        }
    }

    fn poll(&mut self, ended: &mut Vec<End>) {
        while let Ok((id, end)) = self.ends.try_recv() {
            if self.tasks.remove(&id).is_some() {
                ended.push((id, end));
            }
        }
    }
}

impl Drop for HttpTransport {
    fn drop(&mut self) {
        self.tasks.values().for_each(AbortHandle::abort);
    }
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
}

/// Trusts what the machine trusts.
fn trusting_config() -> Result<ClientConfig, String> {
    let builder = builder().map_err(|why| why.to_string())?;
    let builder = builder
        .with_native_roots()
        .map_err(|why| format!("read the machine's root certificates: {why}"))?;
    Ok(builder.with_no_client_auth())
}

fn client(config: ClientConfig) -> Hyper {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_MAX)
        .build(connector)
}

async fn exchange(client: Hyper, call: Call) -> Result<Answer, Failure> {
    let request = request(call)?;
    let answer = client.request(request).await.map_err(|error| {
        let text = chain(&error);
        if error.is_connect() {
            Failure::Connect(text)
        } else {
            Failure::Broken(text)
        }
    })?;
    let (head, body) = answer.into_parts();
    let body = match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(too_large()),
        Err(error) => return Err(Failure::Broken(chain(error.as_ref()))),
    };
    Ok(Answer {
        status: head.status.as_u16(),
        retry_after_ms: retry_after_ms(&head.headers),
        body: inflated(&head.headers, body)?,
    })
}

fn request(call: Call) -> Result<Request<Full<Bytes>>, Failure> {
    let mut request = Request::builder()
        .method(call.method)
        .uri(&*call.url)
        .header(USER_AGENT, HeaderValue::from_static(AGENT));
    for (name, value) in &call.headers {
        request = request.header(*name, &**value);
    }
    let body = Full::new(call.body);
    request
        .body(body)
        .map_err(|why| Failure::Connect(format!("make the request: {why}")))
}

fn retry_after_ms(headers: &HeaderMap) -> Option<u64> {
    let secs: u64 = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(secs.saturating_mul(1000))
}

fn inflated(headers: &HeaderMap, body: Bytes) -> Result<Bytes, Failure> {
    let gzip = headers
        .get(CONTENT_ENCODING)
        .is_some_and(|value| value.as_bytes() == b"gzip");
    if !gzip {
        return Ok(body);
    }
    let mut plain = Vec::new();
    let capped = flate2::read::MultiGzDecoder::new(&*body).take(ANSWER_BYTES_MAX as u64 + 1);
    match { capped }.read_to_end(&mut plain) {
        Ok(bytes) if bytes > ANSWER_BYTES_MAX => Err(too_large()),
        Ok(_) => Ok(plain.into()),
        Err(why) => Err(Failure::Broken(format!("inflate the answer: {why}"))),
    }
}

fn too_large() -> Failure {
    Failure::Broken(format!(
        "the answer is larger than {ANSWER_BYTES_MAX} bytes"
    ))
}

/// An error with its causes: the outermost alone says nothing ("client error (Connect)").
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
