//! What a call says who the agent is by: the `Authorization` header.
//!
//! ```text
//! user and password of the URL | basic | bearer | api_key -> the header of now
//! oauth2 -> the client's secret of now, with which a token is fetched (oauth2.rs)
//! ```
//!
//! 1. Secrets in files are read again when they change (files.rs).
//! 2. Whoever sends something knows the words that must not be printed ([`Identity::words`]).

use std::sync::Arc;

use http::HeaderValue;

use super::super::redact;
use super::files::Watched;
use crate::base::time::Mono;
use crate::plan::secret::Secret;
use crate::plan::{Auth, Output, SecretSource};

/// Who the agent is, for one call.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// Sent with the call.
    pub(super) header: Option<HeaderValue>,
    /// The secret that a token is fetched with.
    pub(super) client_secret: Option<Secret>,
    /// What must not be printed of it.
    pub(super) words: Arc<[Secret]>,
}

/// Makes identities.
#[derive(Debug)]
pub(super) struct AuthSource {
    auth: Auth,
    /// By the URL that the user name was taken out of.
    urls: Vec<(String, Identity)>,
    identity: Watched<Identity>,
    nobody: Identity,
}

impl AuthSource {
    pub(super) fn new(output: &Output) -> Self {
        let auth = output.http.auth.clone();
        let file = match secret_of(&auth) {
            Some(SecretSource::File(path)) => vec![path.clone()],
            Some(SecretSource::Text(_)) | None => Vec::new(),
        };
        let what = format!("`auth` of the output `{}`", output.name);
        Self {
            urls: output.urls().iter().filter_map(|url| of_url(url)).collect(),
            auth,
            identity: Watched::new(what, file),
            nobody: Identity {
                header: None,
                client_secret: None,
                words: Arc::from([]),
            },
        }
    }

    /// Who the agent is for a call to `url`.
    ///
    /// # Errors
    /// The file of the secret cannot be read, or holds none.
    pub(super) fn get(&mut self, now: Mono, url: &str) -> Result<Identity, String> {
        if self.auth == Auth::None {
            let found = self.urls.iter().find(|(base, _)| is_below(url, base));
            return Ok(found.map_or(&self.nobody, |(_, identity)| identity).clone());
        }
        let auth = &self.auth;
        let (identity, _) = self.identity.get(now, |files| of_auth(auth, files))?;
        Ok(identity)
    }
}

fn secret_of(auth: &Auth) -> Option<&SecretSource> {
    match auth {
        Auth::None => None,
        Auth::Basic { password, .. } => Some(password),
        Auth::Bearer { token } => Some(token),
        Auth::ApiKey { key } => Some(key),
        Auth::OAuth2(oauth2) => Some(&oauth2.client_secret),
    }
}

/// Whether `url` is `base` or goes on with a path or a query.
fn is_below(url: &str, base: &str) -> bool {
    let base = base.trim_end_matches('/');
    url.strip_prefix(base)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}

fn of_url(url: &str) -> Option<(String, Identity)> {
    let (clean, user) = redact::endpoint(url);
    let user = user?;
    let password = String::from_utf8_lossy(&user);
    let password = password
        .split_once(':')
        .map_or("", |(_, password)| password);
    let identity = basic(&user, password).ok()?;
    Some((clean, identity))
}

fn basic(user: &[u8], password: &str) -> Result<Identity, String> {
    let encoded = redact::base64(user);
    identity(&format!("Basic {encoded}"), &[password, &encoded])
}

fn of_auth(auth: &Auth, files: &[Vec<u8>]) -> Result<Identity, String> {
    let secret = match (secret_of(auth), files.first()) {
        (Some(SecretSource::Text(secret)), _) => secret.expose(),
        (Some(SecretSource::File(path)), Some(bytes)) => {
            let told = |why| format!("read {}: {why}", path.display());
            let text = std::str::from_utf8(bytes).map_err(|_| told("it is not UTF-8"))?;
            let text = text.trim();
            if text.is_empty() {
                return Err(told("it is empty"));
            }
            if text.chars().any(char::is_control) {
                return Err(told("it holds more than one line, or a control character"));
            }
            text
        }
        (Some(SecretSource::File(_)) | None, _) => "",
    };
    match auth {
        Auth::None => identity("", &[]),
        Auth::Basic { user, .. } => basic(format!("{user}:{secret}").as_bytes(), secret),
        Auth::Bearer { .. } => identity(&format!("Bearer {secret}"), &[secret]),
        Auth::ApiKey { .. } => match secret.split_once(':') {
            Some((_, key)) => {
                let encoded = redact::base64(secret.as_bytes());
                identity(&format!("ApiKey {encoded}"), &[key, &encoded])
            }
            None => identity(&format!("ApiKey {secret}"), &[secret]),
        },
        Auth::OAuth2(oauth2) => Ok(Identity {
            header: None,
            client_secret: Some(Secret::new(secret)),
            words: std::iter::once(Secret::new(secret))
                .chain(
                    oauth2
                        .endpoint_params
                        .iter()
                        .map(|(_, value)| value.clone()),
                )
                .collect(),
        }),
    }
}

fn identity(header: &str, words: &[&str]) -> Result<Identity, String> {
    Ok(Identity {
        header: Some(sensitive(header)?),
        client_secret: None,
        words: words.iter().map(|word| Secret::new(word)).collect(),
    })
}

/// A header's value that is not printed by `Debug`.
///
/// # Errors
/// It cannot stand in a header.
pub(super) fn sensitive(text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| "a secret holds a character that cannot stand in a header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}
