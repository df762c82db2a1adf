//! One output's client: its connections, and what its calls are sent with.
//!
//! 1. Connections are kept and used again, for [`CONNECTION_AGE_MS`] at the most: a client older
//!    than that gives way to a new one, so that a name's new address and a new certificate take
//!    effect. What is in flight ends on the old one.
//! 2. No timer looks for old or idle connections, so that an idle agent sleeps; servers close them.
//! 3. Nothing is set up for `https` before the first call that needs it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use http_body_util::Full;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::ServerName;

use super::super::transport::Call;
use super::auth::{AuthSource, Identity, sensitive};
use super::connect::Connector;
use super::oauth2::{Fetch, Tokens};
use super::proxy;
use super::tls::{Roots, TlsSource};
use crate::base::time::{Clock as _, MachineClock, Mono};
use crate::plan::secret::Secret;
use crate::plan::{Auth, Output, Proxy};

/// A connection older than this is used no more once what is in flight has ended.
const CONNECTION_AGE_MS: u64 = 5 * 60_000;

/// Shorter than the idle timeout of common servers and balancers: an older connection is not used
/// again. No timer looks for them, so that an idle agent sleeps; the server closes them.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Idle connections kept, a host: as many lanes as an output usually has.
const IDLE_MAX: usize = 16;

/// A pool of connections.
pub(super) type Hyper = HyperClient<Connector, Full<Bytes>>;

/// What one call is sent with.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) hyper: Hyper,
    pub(super) identity: Identity,
    /// Where a token is fetched, and with what.
    pub(super) tokens: Option<(Arc<Tokens>, Fetch)>,
    /// Further headers.
    pub(super) headers: Arc<HeaderMap>,
    /// For a plain URL that goes through a proxy.
    pub(super) proxy_auth: Option<HeaderValue>,
    /// From the connection to the answer's head.
    pub(super) answer_timeout: Option<Duration>,
    /// What must not be printed beside the identity's words.
    pub(super) words: Arc<[Secret]>,
}

/// One output's client.
#[derive(Debug)]
pub(super) struct Client {
    auth: AuthSource,
    tls: TlsSource,
    tokens: Option<(Arc<Tokens>, Uri)>,
    server_name: Option<String>,
    proxies: Arc<Matcher>,
    connector: Connector,
    headers: Arc<HeaderMap>,
    words: Arc<[Secret]>,
    answer_timeout: Option<Duration>,
    /// Whether a token endpoint or a proxy is `https`, whatever the output's URL is.
    further_tls: bool,
    /// Whether a proxy stands before some URL.
    is_proxied: bool,
    pools: Option<Pools>,
    clock: MachineClock,
}

#[derive(Debug)]
struct Pools {
    calls: Hyper,
    /// Without the output's server name.
    tokens: Option<Hyper>,
    made: Mono,
    /// Which settings of TLS they have; `None` = none.
    tls: Option<u64>,
}

impl Client {
    pub(super) fn new(output: &Output, clock: MachineClock) -> Self {
        let http = &output.http;
        let proxies = Arc::new(proxy::matcher(&http.proxy));
        let tokens = match &http.auth {
            Auth::OAuth2(plan) => plan
                .token_url
                .parse::<Uri>()
                .ok()
                .map(|uri| (Arc::new(Tokens::new(plan)), uri)),
            Auth::None | Auth::Basic { .. } | Auth::Bearer { .. } | Auth::ApiKey { .. } => None,
        };
        let is_tls = |uri: &Uri| uri.scheme_str() == Some("https");
        let clean = |url: &String| super::super::redact::endpoint(url).0.parse::<Uri>().ok();
        let targets = output.urls().iter().filter_map(clean);
        let targets: Vec<Uri> = targets
            .chain(tokens.iter().map(|(_, uri)| uri.clone()))
            .collect();
        let through: Vec<Uri> = targets
            .iter()
            .filter_map(|uri| proxies.intercept(uri).map(|proxy| proxy.uri().clone()))
            .collect();
        if let Some(proxy) = through.first().and_then(Uri::authority) {
            // The environment may name one that nobody thinks of.
            tracing::info!(output = output.name, %proxy, "connections go through a proxy");
        }
        Self {
            auth: AuthSource::new(output),
            tls: TlsSource::new(&output.name, &http.tls),
            further_tls: tokens.iter().any(|(_, uri)| is_tls(uri)) || through.iter().any(is_tls),
            tokens,
            server_name: http.tls.server_name.clone(),
            connector: Connector::new(
                Arc::clone(&proxies),
                Duration::from_millis(http.connect_timeout_ms),
                Duration::from_millis(http.tls_timeout_ms),
            ),
            is_proxied: !through.is_empty(),
            words: words(output, &proxies, &targets),
            proxies,
            headers: Arc::new(headers(output)),
            answer_timeout: http.answer_timeout_ms.map(Duration::from_millis),
            pools: None,
            clock,
        }
    }

    /// What a call is sent with now.
    ///
    /// # Errors
    /// A file that it needs cannot be read, or makes no sense.
    pub(super) fn ready(&mut self, call: &Call, roots: &mut Roots) -> Result<Ready, String> {
        let now = self.clock.mono();
        let identity = self.auth.get(now, &call.url)?;
        let is_tls = call.url.starts_with("https:");
        self.refresh(now, is_tls, roots)?;
        let pools = self.pools.as_ref().ok_or("there is no client")?;
        let proxy_auth = |uri: &Uri| {
            let is_whole = uri.scheme_str() == Some("http");
            let proxy = self.proxies.intercept(uri).filter(|_| is_whole)?;
            proxy.basic_auth().cloned()
        };
        let tokens = match (&self.tokens, &pools.tokens, &identity.client_secret) {
            (Some((tokens, uri)), Some(hyper), Some(secret)) => {
                let fetch = Fetch {
                    hyper: hyper.clone(),
                    proxy_auth: proxy_auth(uri),
                    client_secret: secret.clone(),
                    limit: Duration::from_millis((call.timeout_ms / 2).max(1)),
                    clock: self.clock,
                };
                Some((Arc::clone(tokens), fetch))
            }
            _ => None,
        };
        let whole_auth = if is_tls || !self.is_proxied {
            None
        } else {
            call.url.parse().ok().as_ref().and_then(proxy_auth)
        };
        Ok(Ready {
            hyper: pools.calls.clone(),
            identity,
            tokens,
            headers: Arc::clone(&self.headers),
            proxy_auth: whole_auth,
            answer_timeout: self.answer_timeout,
            words: Arc::clone(&self.words),
        })
    }

    /// Makes the pools anew when they are old, or when settings of TLS have changed.
    fn refresh(&mut self, now: Mono, is_tls: bool, roots: &mut Roots) -> Result<(), String> {
        let had_tls = self.pools.as_ref().is_some_and(|pools| pools.tls.is_some());
        let tls = if is_tls || self.further_tls || had_tls {
            Some(self.tls.get(now, roots)?)
        } else {
            None
        };
        let version = tls.as_ref().map(|(_, version)| *version);
        let fits =
            |pools: &Pools| pools.tls == version && now.ms_since(pools.made) < CONNECTION_AGE_MS;
        if self.pools.as_ref().is_some_and(fits) {
            return Ok(());
        }
        let mut connector = self.connector.clone();
        connector.tls = tls.map(|(config, _)| config);
        let tokens = self.tokens.as_ref().map(|_| pool(connector.clone()));
        if let Some(name) = &self.server_name {
            let name = ServerName::try_from(name.clone());
            connector.server_name = Some(name.map_err(|why| format!("use `server_name`: {why}"))?);
        }
        self.pools = Some(Pools {
            calls: pool(connector),
            tokens,
            made: now,
            tls: version,
        });
        Ok(())
    }
}

fn pool(connector: Connector) -> Hyper {
    HyperClient::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_MAX)
        .build(connector)
}

fn headers(output: &Output) -> HeaderMap {
    let header = |(name, value): &(String, Secret)| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        Some((name, sensitive(value.expose()).ok()?))
    };
    output.http.headers.iter().filter_map(header).collect()
}

/// Values of headers, and what proxies are told.
fn words(output: &Output, proxies: &Matcher, targets: &[Uri]) -> Arc<[Secret]> {
    let mut words: Vec<Secret> = Vec::new();
    words.extend(output.http.headers.iter().map(|(_, value)| value.clone()));
    let urls: Vec<String> = match &output.http.proxy {
        Proxy::None => Vec::new(),
        Proxy::Url(url) => vec![url.expose().to_owned()],
        Proxy::Environment => proxy::of_environment(),
    };
    for url in urls {
        let (_, user) = super::super::redact::endpoint(&url);
        let user = user.map(|user| String::from_utf8_lossy(&user).into_owned());
        let password = user.as_deref().and_then(|user| user.split_once(':'));
        words.extend(password.map(|(_, password)| Secret::new(password)));
    }
    for proxy in targets.iter().filter_map(|uri| proxies.intercept(uri)) {
        let auth = proxy.basic_auth().and_then(|auth| auth.to_str().ok());
        words.extend(
            auth.and_then(|auth| auth.split(' ').nth(1))
                .map(Secret::new),
        );
        words.extend(proxy.raw_auth().map(|(_, password)| Secret::new(password)));
    }
    words.into()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::super::tests::output;
    use super::*;

    #[test]
    fn connections_are_kept_for_five_minutes_and_tls_is_set_up_when_it_is_needed() {
        let mut output = output("http://h/p");
        output.http.tls.insecure_skip_verify = true;
        let mut client = Client::new(&output, MachineClock::new());
        let mut pools = |ms, is_tls| {
            let now = Mono(0).plus_ms(ms);
            client.refresh(now, is_tls, &mut None).unwrap();
            let pools = client.pools.as_ref().unwrap();
            (pools.made, pools.tls)
        };
        let first = (Mono(0), None);
        assert_eq!(pools(0, false), first);
        assert_eq!(pools(CONNECTION_AGE_MS - 1, false), first);
        let second = (Mono(0).plus_ms(CONNECTION_AGE_MS), None);
        assert_eq!(pools(CONNECTION_AGE_MS, false), second);
        let third = (Mono(0).plus_ms(CONNECTION_AGE_MS + 1), Some(1));
        assert_eq!(pools(CONNECTION_AGE_MS + 1, true), third);
        // Both kinds go by it from now on.
        assert_eq!(pools(CONNECTION_AGE_MS + 2, false), third);
    }
}
