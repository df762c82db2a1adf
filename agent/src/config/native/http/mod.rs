//! How an output's servers are spoken to: TLS, authentication, proxy, headers, time for each phase.
//!
//! 1. No value of `auth`, `headers` and `proxy` stands in a message or in the source line below it,
//!    but for names of files.

mod auth;
mod tls;

use std::path::PathBuf;

use http::{HeaderName, HeaderValue};

use super::names;
use crate::config::diagnostics::Report;
use crate::config::fields::{self, Fields};
use crate::config::tree::{Node, Value};
use crate::plan::secret::Secret;
use crate::plan::{Auth, HttpSettings, Proxy, Tls};

/// Headers that the agent sets, or that belong to the connection.
const OWN_HEADERS: [&str; 16] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-scope-orgid",
];

/// Keys below `auth` whose values may be shown.
const OPEN_KEYS: [&str; 8] = [
    "user",
    "password_file",
    "token_file",
    "key_file",
    "token_url",
    "client_id",
    "client_secret_file",
    "client_auth",
];

/// Reads what both kinds of output share of HTTP; `urls` are the output's.
pub(super) fn settings(map: &Fields<'_>, urls: &[String], report: &mut Report<'_>) -> HttpSettings {
    for name in ["auth", "headers", "proxy"] {
        if let Some(node) = map.given(name) {
            hide(node, report);
        }
    }
    let default = HttpSettings::default();
    let auth = map
        .get("auth")
        .and_then(|node| auth::auth(node, report))
        .unwrap_or(Auth::None);
    if let (Some(node), true) = (map.get("auth"), urls.iter().any(|url| has_user(url))) {
        report.error(
            node.span,
            "both `auth` and the output's URL say who the agent is",
            "remove `user:password@` from the URL, or `auth`",
        );
    }
    let proxy = map.get("proxy").map(|node| proxy(node, report));
    let settings = HttpSettings {
        tls: map
            .get("tls")
            .map_or_else(Tls::default, |node| tls::tls(node, report)),
        auth,
        proxy: proxy.unwrap_or(default.proxy),
        headers: map
            .get("headers")
            .map_or_else(Vec::new, |node| headers(node, report)),
        connect_timeout_ms: map.duration("connect_timeout", default.connect_timeout_ms, 1, report),
        tls_timeout_ms: map.duration("tls_timeout", default.tls_timeout_ms, 1, report),
        answer_timeout_ms: map
            .get("answer_timeout")
            .map(|_| map.duration("answer_timeout", 0, 1, report)),
    };
    refuse_idle_tls(map, &settings, urls, report);
    settings
}

/// Hides every value at and below `node` that may be a secret.
fn hide(node: &Node, report: &mut Report<'_>) {
    let mut left = vec![node];
    while let Some(node) = left.pop() {
        match &node.value {
            Value::Null => {}
            Value::Text { .. } => report.hide(node.span),
            Value::List(items) => left.extend(items),
            Value::Map(entries) => {
                let closed = entries
                    .iter()
                    .filter(|(key, _)| !OPEN_KEYS.contains(&key.text.as_str()));
                left.extend(closed.map(|(_, node)| node));
            }
        }
    }
}

fn has_user(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.contains('@')
}

/// Settings of TLS without a URL that they are for are a URL that lacks its `s`.
fn refuse_idle_tls(
    map: &Fields<'_>,
    settings: &HttpSettings,
    urls: &[String],
    report: &mut Report<'_>,
) {
    let is_tls = |url: &str| url.starts_with("https:");
    let further = match (&settings.auth, &settings.proxy) {
        (Auth::OAuth2(oauth2), _) if is_tls(&oauth2.token_url) => true,
        (_, Proxy::Url(url)) => is_tls(url.expose()),
        (_, Proxy::Environment | Proxy::None) => false,
    };
    let used = further || urls.is_empty() || urls.iter().any(|url| is_tls(url));
    if let Some(node) = map.get("tls")
        && settings.tls != Tls::default()
        && !used
    {
        report.error(
            node.span,
            "`tls` is given, but no URL of the output is `https`",
            "write `https://` in the URL, or remove `tls`",
        );
    }
}

/// An absolute path.
fn file(map: &Fields<'_>, name: &str, report: &mut Report<'_>) -> Option<PathBuf> {
    let node = map.get(name)?;
    let text = map.text(name, report)?;
    if !text.starts_with('/') || text.ends_with('/') {
        report.error(
            node.span,
            format!("`{name}` is no absolute path of a file: `{}`", node.shown()),
            format!("write for example `{name}: /etc/tailwake/secrets/{name}`"),
        );
    }
    Some(PathBuf::from(text))
}

fn proxy(node: &Node, report: &mut Report<'_>) -> Proxy {
    match fields::text(node, "proxy", report) {
        Some("environment") | None => Proxy::Environment,
        Some("none") => Proxy::None,
        Some(text) => {
            let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
            let is_bare = !rest.trim_end_matches('/').contains(['/', '?']);
            if let Err(cause) = names::url(text) {
                report.error(
                    node.span,
                    format!("`proxy` is neither `environment` nor `none` nor a URL, {cause}"),
                    "write scheme, host and port, for example `http://proxy:3128`",
                );
            } else if !is_bare {
                report.error(
                    node.span,
                    "`proxy` has a path",
                    "write scheme, host and port alone, for example `http://proxy:3128`",
                );
            }
            Proxy::Url(Secret::new(text))
        }
    }
}

fn headers(node: &Node, report: &mut Report<'_>) -> Vec<(String, Secret)> {
    let mut out: Vec<(String, Secret)> = Vec::new();
    for (key, node) in fields::map(node, "headers", report) {
        let name = key.text.to_ascii_lowercase();
        let (cause, cure) = if HeaderName::from_bytes(name.as_bytes()).is_err() {
            ("is no name of a header", "use letters, digits and `-`")
        } else if name == "authorization" {
            ("is made by `auth`", "use `auth` in place of it")
        } else if name == "x-scope-orgid" {
            (
                "is made by `tenant`",
                "use `loki: {tenant: ...}` in place of it",
            )
        } else if OWN_HEADERS.contains(&name.as_str()) {
            ("is set by the agent itself", "remove it")
        } else if out.iter().any(|(other, _)| *other == name) {
            (
                "stands twice",
                "keep one of the two; letters of both cases are the same",
            )
        } else {
            ("", "")
        };
        if !cause.is_empty() {
            let shown = crate::plan::secret::hide(&key.text);
            report.error(key.span, format!("the header `{shown}` {cause}"), cure);
        }
        let Some(text) = fields::text(node, "headers", report) else {
            continue;
        };
        if HeaderValue::from_str(text).is_err() {
            report.error(
                node.span,
                format!("the value of `{name}` cannot stand in a header"),
                "write it on one line, in ASCII",
            );
        }
        out.push((name, Secret::new(text)));
    }
    out
}
