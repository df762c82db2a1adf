//! Which proxy a URL goes through, by the config or by the environment.
//!
//! The rules of `NO_PROXY` are hyper-util's, which are curl's: names with all below them, addresses,
//! networks, `*`.

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

use super::super::redact;
use crate::plan::{Auth, Output, Proxy};

/// Variables that name proxies.
const VARIABLES: [&str; 6] = [
    "ALL_PROXY",
    "all_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
];

/// What the environment names, for the secrets in it.
pub(super) fn of_environment() -> Vec<String> {
    let named = VARIABLES.iter().filter_map(|name| std::env::var(name).ok());
    // A scheme may be left out there.
    let whole = |url: String| {
        if url.contains("://") {
            url
        } else {
            format!("http://{url}")
        }
    };
    named.map(whole).collect()
}

/// What says which proxy a URL goes through.
pub(super) fn matcher(proxy: &Proxy) -> Matcher {
    match proxy {
        Proxy::Environment => Matcher::from_env(),
        Proxy::None => Matcher::builder().build(),
        Proxy::Url(url) => Matcher::builder().all(url.expose()).build(),
    }
}

/// Ports of proxies and of the token endpoint that the output's calls need beside those of its
/// own URLs; what cannot be read is left out.
#[must_use]
pub fn further_ports(output: &Output) -> Vec<u16> {
    let matcher = matcher(&output.http.proxy);
    let clean = |url: &String| redact::endpoint(url).0.parse::<Uri>().ok();
    let mut uris: Vec<Uri> = output.urls().iter().filter_map(clean).collect();
    let mut ports = Vec::new();
    if let Auth::OAuth2(oauth2) = &output.http.auth
        && let Ok(uri) = oauth2.token_url.parse::<Uri>()
    {
        ports.extend(port(&uri));
        uris.push(uri);
    }
    let proxies = uris.iter().filter_map(|uri| matcher.intercept(uri));
    ports.extend(proxies.filter_map(|proxy| port(proxy.uri())));
    ports
}

/// The port of a URL, or its scheme's.
#[must_use]
pub fn port(uri: &Uri) -> Option<u16> {
    let default = match uri.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        Some(_) | None => None,
    };
    uri.port_u16().or(default)
}
