//! Authentication: one kind, and where its secret stands.

use super::{file, has_user};
use crate::config::diagnostics::Report;
use crate::config::fields::{self, Fields};
use crate::config::native::{keys, names};
use crate::config::tree::Node;
use crate::plan::secret::Secret;
use crate::plan::{Auth, ClientAuth, OAuth2, SecretSource};

const CLIENT_AUTHS: [(&str, ClientAuth); 2] =
    [("header", ClientAuth::Header), ("body", ClientAuth::Body)];

pub(super) fn auth(node: &Node, report: &mut Report<'_>) -> Option<Auth> {
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
