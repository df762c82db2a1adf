//! How an output's servers are spoken to: TLS, authentication, proxy, headers, time for each phase.
//!
//! 1. No value of `auth`, `headers` and `proxy` stands in a message or in the source line below it,
//!    but for names of files.

use std::path::PathBuf;

use http::{HeaderName, HeaderValue};

use super::{SWITCH, keys, names};
use crate::config::diagnostics::Report;
use crate::config::fields::{self, Fields};
use crate::config::tree::{Node, Value};
use crate::plan::secret::Secret;
use crate::plan::{
    Auth, Authority, ClientAuth, ClientCertificate, HttpSettings, OAuth2, Proxy, SecretSource, Tls,
    TlsVersion,
};

const VERSIONS: [(&str, TlsVersion); 2] = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];

const CLIENT_AUTHS: [(&str, ClientAuth); 2] =
    [("header", ClientAuth::Header), ("body", ClientAuth::Body)];

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
        .and_then(|node| auth(node, report))
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
            .map_or_else(Tls::default, |node| tls(node, report)),
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

fn tls(node: &Node, report: &mut Report<'_>) -> Tls {
    let map = Fields::open(node, &keys::TLS, report);
    let ca = match (map.get("ca"), map.get("ca_file")) {
        (Some(_), Some(node)) => {
            report.error(
                node.span,
                "both `ca` and `ca_file` are given",
                "keep one of the two",
            );
            None
        }
        (Some(node), None) => {
            let text = map.text("ca", report);
            if text.is_some_and(|text| !text.contains("-----BEGIN CERTIFICATE-----")) {
                report.error(
                    node.span,
                    "`ca` holds no certificate as PEM",
                    "write `ca: |` and below it what begins with `-----BEGIN CERTIFICATE-----`, or \
                     name a file with `ca_file`",
                );
            }
            text.map(|text| Authority::Text(text.to_owned()))
        }
        (None, _) => file(&map, "ca_file", report).map(Authority::File),
    };
    let pair = (
        file(&map, "cert_file", report),
        file(&map, "key_file", report),
    );
    let certificate = match pair {
        (Some(cert_file), Some(key_file)) => Some(ClientCertificate {
            cert_file,
            key_file,
        }),
        (None, None) => None,
        (given, _) => {
            let (there, lacks) = match given {
                Some(_) => ("cert_file", "key_file"),
                None => ("key_file", "cert_file"),
            };
            report.error(
                map.get(there).map_or(map.span, |node| node.span),
                format!("`{there}` is given without `{lacks}`"),
                format!("add `{lacks}: /path/to/it.pem`; one file may hold both"),
            );
            None
        }
    };
    Tls {
        ca,
        certificate,
        server_name: server_name(&map, report),
        min_version: map.choice("min_version", &VERSIONS, TlsVersion::default(), report),
        insecure_skip_verify: map.choice("insecure_skip_verify", &SWITCH, false, report),
    }
}

fn server_name(map: &Fields<'_>, report: &mut Report<'_>) -> Option<String> {
    let node = map.get("server_name")?;
    let text = map.text("server_name", report)?;
    if rustls::pki_types::ServerName::try_from(text).is_err() {
        report.error(
            node.span,
            format!("`server_name` is no name of a host: `{}`", node.shown()),
            "write the name alone, without scheme, port and path, for example `loki.example.org`",
        );
    }
    Some(text.to_owned())
}

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

fn auth(node: &Node, report: &mut Report<'_>) -> Option<Auth> {
    let map = Fields::open(node, &keys::AUTH, report);
    let mut kinds = map.known();
    let Some((key, node)) = kinds.next() else {
        if map.is_map {
            report.error(
                map.span,
                "`auth` has no kind",
                "add `basic`, `bearer`, `api_key` or `oauth2`, or remove `auth`",
            );
        }
        return None;
    };
    if let Some((second, _)) = kinds.next() {
        report.error(
            second.span,
            format!(
                "`auth` is of two kinds, `{}` and `{}`",
                key.text, second.text
            ),
            "keep one of the two",
        );
        return None;
    }
    match key.text.as_str() {
        "basic" => {
            let map = Fields::open(node, &keys::BASIC, report);
            let user = map.need("user", "agent", report)?;
            let user = fields::text(user, "user", report).map(str::to_owned);
            if let (Some(node), Some(user)) = (map.get("user"), &user)
                && (user.is_empty() || user.contains(':') || user.chars().any(char::is_control))
            {
                report.error(
                    node.span,
                    "`user` is empty, or holds `:` or a control character",
                    "write the user name alone, and the password below it",
                );
            }
            let password = source(&map, "password", report)?;
            Some(Auth::Basic {
                user: user?,
                password,
            })
        }
        "bearer" => {
            let map = Fields::open(node, &keys::BEARER, report);
            let token = source(&map, "token", report)?;
            Some(Auth::Bearer { token })
        }
        "api_key" => {
            let map = Fields::open(node, &keys::API_KEY, report);
            let key = source(&map, "key", report)?;
            Some(Auth::ApiKey { key })
        }
        _ => oauth2(node, report).map(Auth::OAuth2),
    }
}

fn oauth2(node: &Node, report: &mut Report<'_>) -> Option<OAuth2> {
    let map = Fields::open(node, &keys::OAUTH2, report);
    let url = map.need("token_url", "https://login.example.org/token", report);
    let token_url = url.and_then(|node| {
        let text = fields::text(node, "token_url", report)?;
        if let Err(cause) = names::url(text) {
            report.error(
                node.span,
                format!("`token_url` is no URL, {cause}: `{}`", node.shown()),
                "write the whole token endpoint, for example `https://login.example.org/token`",
            );
        } else if has_user(text) {
            report.error(
                node.span,
                "`token_url` holds a user name",
                "write it as `client_id` and `client_secret`",
            );
        }
        Some(text.to_owned())
    });
    let client_id = map.need("client_id", "tailwake", report);
    let client_id = client_id.and_then(|_| map.text("client_id", report));
    let client_secret = source(&map, "client_secret", report);
    let items = map
        .get("scopes")
        .map_or(&[][..], |node| fields::list(node, "scopes", report));
    let scopes = items
        .iter()
        .filter_map(|item| fields::text(item, "scopes", report).map(str::to_owned))
        .collect();
    let entries = map
        .get("endpoint_params")
        .map_or(&[][..], |node| fields::map(node, "endpoint_params", report));
    let endpoint_params = entries
        .iter()
        .filter_map(|(key, node)| {
            let text = fields::text(node, &key.text, report)?;
            Some((key.text.clone(), Secret::new(text)))
        })
        .collect();
    Some(OAuth2 {
        token_url: token_url?,
        client_id: client_id?.to_owned(),
        client_secret: client_secret?,
        scopes,
        endpoint_params,
        client_auth: map.choice("client_auth", &CLIENT_AUTHS, ClientAuth::default(), report),
    })
}

/// A secret at `name`, or in a file at `name_file`.
fn source(map: &Fields<'_>, name: &str, report: &mut Report<'_>) -> Option<SecretSource> {
    let in_file = format!("{name}_file");
    match (map.get(name), map.get(&in_file)) {
        (Some(node), None) => {
            let text = map.text(name, report)?;
            if text.chars().any(char::is_control) {
                report.error(
                    node.span,
                    format!("`{name}` holds a line break or another control character"),
                    "write it on one line",
                );
            }
            Some(SecretSource::Text(Secret::new(text)))
        }
        (None, Some(_)) => file(map, &in_file, report).map(SecretSource::File),
        (Some(_), Some(node)) => {
            report.error(
                node.span,
                format!("both `{name}` and `{in_file}` are given"),
                "keep one of the two",
            );
            None
        }
        (None, None) => {
            if map.is_map {
                report.error(
                    map.span,
                    format!("neither `{name}` nor `{in_file}` is given"),
                    format!("add for example `{in_file}: /etc/tailwake/secrets/{name}`"),
                );
            }
            None
        }
    }
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
