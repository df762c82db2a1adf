//! Bearer tokens by OAuth 2.0 client credentials.
//!
//! 1. A token is fetched when a call needs one and kept until shortly before its end; nothing wakes
//!    up for it. Calls that come meanwhile wait for the one fetch.
//! 2. One that a server answers with 401 is fetched anew, unless that has happened already.
//! 3. Of a token endpoint's refusal only its code (RFC 6749, section 5.2) is printed.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::super::redact;
use super::auth::sensitive;
use super::chain;
use super::client::Hyper;
use crate::base::time::{Clock as _, MachineClock, Mono};
use crate::plan::secret::Secret;
use crate::plan::{ClientAuth, OAuth2};

/// A token's last part of life is not used: clocks differ, and requests take time.
const EARLY_MS_MAX: u64 = 60_000;

/// A longer answer is no token's.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// The tokens of one output.
#[derive(Debug)]
pub(super) struct Tokens {
    plan: OAuth2,
    /// Held while one is fetched.
    kept: Mutex<Option<Token>>,
}

#[derive(Debug)]
struct Token {
    header: HeaderValue,
    /// None where the endpoint names no end: until it is refused.
    until: Option<Mono>,
}

/// What a token is fetched with.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) hyper: Hyper,
    /// For a plain URL that goes through a proxy.
    pub(super) proxy_auth: Option<HeaderValue>,
    pub(super) client_secret: Secret,
    /// How long a fetch may take.
    pub(super) limit: Duration,
    pub(super) clock: MachineClock,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    token_type: Option<String>,
    #[serde(default)]
    expires_in: Option<Seconds>,
}

/// Some endpoints write the number as a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

#[derive(Deserialize)]
struct Refused {
    error: String,
}

impl Tokens {
    pub(super) fn new(plan: &OAuth2) -> Self {
        Self {
            plan: plan.clone(),
            kept: Mutex::new(None),
        }
    }

    /// The header with a token; not `refused`.
    ///
    /// # Errors
    /// None could be fetched, and why.
    pub(super) async fn get(
        &self,
        fetch: &Fetch,
        refused: Option<&HeaderValue>,
    ) -> Result<HeaderValue, String> {
        let mut kept = self.kept.lock().await;
        let now = fetch.clock.mono();
        if let Some(token) = &*kept
            && token.until.is_none_or(|until| now < until)
            && refused != Some(&token.header)
        {
            return Ok(token.header.clone());
        }
        *kept = None;
        let told = |why: String| format!("fetch a token from {}: {why}", self.host());
        let token = match tokio::time::timeout(fetch.limit, self.fetch(fetch)).await {
            Ok(end) => end.map_err(told)?,
            Err(_) => return Err(told(format!("no answer in {} ms", fetch.limit.as_millis()))),
        };
        let header = token.header.clone();
        *kept = Some(token);
        Ok(header)
    }

    fn host(&self) -> &str {
        let rest = self.plan.token_url.split("://").nth(1).unwrap_or_default();
        rest.split(['/', '?']).next().unwrap_or_default()
    }

    async fn fetch(&self, fetch: &Fetch) -> Result<Token, String> {
        let begun = fetch.clock.mono();
        let request = self.request(fetch)?;
        let answer = fetch.hyper.request(request).await;
        let (head, body) = answer.map_err(|why| chain(&why))?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|why| chain(why.as_ref()))?.to_bytes();
        if !head.status.is_success() {
            let status = head.status.as_u16();
            return Err(match serde_json::from_slice::<Refused>(&body) {
                Ok(Refused { error }) if is_code(&error) => {
                    format!("it answers with status {status} and `{error}`")
                }
                Ok(_) | Err(_) => format!("it answers with status {status}"),
            });
        }
        // The parser's message could hold a part of the token.
        let granted: Granted = serde_json::from_slice(&body)
            .map_err(|_| "its answer holds no `access_token`".to_owned())?;
        let kind = granted.token_type.unwrap_or_else(|| "Bearer".to_owned());
        if !kind.eq_ignore_ascii_case("bearer") {
            return Err("its token is no bearer token".to_owned());
        }
        let life_ms = granted.expires_in.and_then(|secs| secs.millis());
        let used_ms = life_ms.map(|ms| ms - (ms / 10).min(EARLY_MS_MAX));
        Ok(Token {
            header: sensitive(&format!("Bearer {}", granted.access_token))?,
            until: used_ms.map(|ms| begun.plus_ms(ms)),
        })
    }

    fn request(&self, fetch: &Fetch) -> Result<Request<Full<Bytes>>, String> {
        let plan = &self.plan;
        let (id, secret) = (plan.client_id.as_str(), fetch.client_secret.expose());
        let mut form = String::from("grant_type=client_credentials");
        let mut add = |name: &str, value: &str| {
            form.push_str(&format!("&{}={}", encoded(name), encoded(value)));
        };
        if !plan.scopes.is_empty() {
            add("scope", &plan.scopes.join(" "));
        }
        for (name, value) in &plan.endpoint_params {
            add(name, value.expose());
        }
        if plan.client_auth == ClientAuth::Body {
            add("client_id", id);
            add("client_secret", secret);
        }
        let mut request = Request::post(plan.token_url.as_str())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .header(http::header::USER_AGENT, super::AGENT);
        if plan.client_auth == ClientAuth::Header {
            let both = format!("{}:{}", encoded(id), encoded(secret));
            let basic = format!("Basic {}", redact::base64(both.as_bytes()));
            request = request.header(AUTHORIZATION, sensitive(&basic)?);
        }
        if let Some(auth) = &fetch.proxy_auth {
            request = request.header(http::header::PROXY_AUTHORIZATION, auth);
        }
        request
            .body(Full::new(form.into()))
            .map_err(|why| format!("make the request: {why}"))
    }
}

impl Seconds {
    fn millis(&self) -> Option<u64> {
        let secs = match self {
            Self::Number(secs) => *secs,
            Self::Text(text) => text.trim().parse().ok()?,
        };
        // Saturates: a hostile number is a long life, and a negative one none.
        Some((secs * 1_000.0) as u64)
    }
}

/// Whether a text is an error code and can hold nothing else.
fn is_code(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c == '_';
    text.len() <= 40 && text.chars().all(fits)
}

/// Percent-encoded for a form; a space is `+`.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_codes_and_seconds() {
        assert_eq!(encoded("a b&c=é~"), "a+b%26c%3D%C3%A9%7E");
        assert!(is_code("invalid_client") && !is_code("s3cr3t") && !is_code("A b"));
        let millis = |text: &str| Seconds::Text(text.to_owned()).millis();
        assert_eq!(millis("3600"), Some(3_600_000));
        assert_eq!(millis("soon"), None);
        assert_eq!(Seconds::Number(-5.0).millis(), Some(0));
        assert_eq!(Seconds::Number(1e300).millis(), Some(u64::MAX));
    }
}
