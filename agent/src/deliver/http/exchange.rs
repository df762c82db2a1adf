//! One call on the wire: request, answer's head, answer, inflated; what it says is made fit to print.
//!
//! 1. A redirect is not followed: bodies and credentials go where the config says and nowhere else.
//! 2. Never is more than [`ANSWER_BYTES_MAX`] of an answer held, before or after inflating.
//! 3. A server may say anything, the call's own secrets too: they are taken out of answers and
//!    failures before anybody else sees them.

use std::io::Read as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, DATE, LOCATION, PROXY_AUTHORIZATION, RETRY_AFTER, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Error;
use hyper_util::client::legacy::connect::capture_connection;
use memchr::memmem;

use super::super::transport::{ANSWER_BYTES_MAX, Answer, Call, Failure};
use super::client::Ready;
use super::{AGENT, chain};
use crate::base::time::Timestamp;
use crate::plan::secret::{self, HIDDEN};

/// A shorter secret is not looked for in what servers say: it would be found in every other word.
const WORD_BYTES_MIN: usize = 4;

/// The same for the answer of a success, in which names of fields have up to seven letters.
const GOOD_WORD_BYTES_MIN: usize = 8;

/// Sends the call and gives what came back; `now` is the wall clock's.
///
/// # Errors
/// Why nothing came back, without secrets.
pub(super) async fn exchange(ready: Ready, call: Call, now: Timestamp) -> Result<Answer, Failure> {
    let mut header = ready.identity.header.clone();
    let end = attempts(&ready, &call, now, &mut header).await;
    let token = header.as_ref().map_or(&[][..], |header| {
        let bytes = header.as_bytes();
        let space = memchr::memchr(b' ', bytes);
        space.map_or(bytes, |at| &bytes[at + 1..])
    });
    let words = ready.identity.words.iter().chain(&*ready.words);
    let words: Vec<&[u8]> = words
        .map(|word| word.expose().as_bytes())
        .chain([token])
        .collect();
    match end {
        Ok(answer) => {
            let least = if (200..=299).contains(&answer.status) {
                GOOD_WORD_BYTES_MIN
            } else {
                WORD_BYTES_MIN
            };
            let body = without(answer.body, &words, least);
            Ok(Answer { body, ..answer })
        }
        Err(failure) => Err(hushed(failure, &words)),
    }
}

/// Sends it; once more with a fresh token if the one there was is refused.
async fn attempts(
    ready: &Ready,
    call: &Call,
    now: Timestamp,
    header: &mut Option<HeaderValue>,
) -> Result<Answer, Failure> {
    let Some((tokens, fetch)) = &ready.tokens else {
        return attempt(ready, call, now, header.as_ref()).await;
    };
    let token = tokens.get(fetch, None).await.map_err(Failure::Connect)?;
    *header = Some(token.clone());
    let answer = attempt(ready, call, now, Some(&token)).await?;
    if answer.status != StatusCode::UNAUTHORIZED.as_u16() {
        return Ok(answer);
    }
    let fresh = tokens.get(fetch, Some(&token)).await;
    let fresh = fresh.map_err(Failure::Connect)?;
    *header = Some(fresh.clone());
    attempt(ready, call, now, Some(&fresh)).await
}

async fn attempt(
    ready: &Ready,
    call: &Call,
    now: Timestamp,
    authorization: Option<&HeaderValue>,
) -> Result<Answer, Failure> {
    let request = request(ready, call, authorization)?;
    let (head, body) = answered(ready, request).await?.into_parts();
    let body = match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(too_large()),
        Err(error) => return Err(Failure::Broken(chain(error.as_ref()))),
    };
    let body = if head.status.is_redirection() {
        refused_redirect(&head.headers).into()
    } else {
        inflated(&head.headers, body)?
    };
    Ok(Answer {
        status: head.status.as_u16(),
        retry_after_ms: retry_after_ms(&head.headers, now),
        body,
    })
}

fn request(
    ready: &Ready,
    call: &Call,
    authorization: Option<&HeaderValue>,
) -> Result<Request<Full<Bytes>>, Failure> {
    let told = |why: &dyn std::fmt::Display| Failure::Connect(format!("make the request: {why}"));
    let mut request = Request::builder()
        .method(call.method.clone())
        .uri(&*call.url)
        .body(Full::new(call.body.clone()))
        .map_err(|why| told(&why))?;
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    for (name, value) in ready.headers.iter() {
        headers.insert(name, value.clone());
    }
    for (name, value) in &call.headers {
        let value = HeaderValue::from_str(value).map_err(|why| told(&why))?;
        headers.insert(HeaderName::from_static(name), value);
    }
    if let Some(value) = authorization {
        headers.insert(AUTHORIZATION, value.clone());
    }
    if let Some(value) = &ready.proxy_auth {
        headers.insert(PROXY_AUTHORIZATION, value.clone());
    }
    Ok(request)
}

/// The answer's head.
async fn answered(
    ready: &Ready,
    mut request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, Failure> {
    let failed = |error: Error| {
        let text = chain(&error);
        if error.is_connect() {
            Failure::Connect(text)
        } else {
            Failure::Broken(text)
        }
    };
    let Some(limit) = ready.answer_timeout else {
        return ready.hyper.request(request).await.map_err(failed);
    };
    let mut connection = capture_connection(&mut request);
    let mut answer = ready.hyper.request(request);
    tokio::select! {
        biased;
        end = &mut answer => return end.map_err(failed),
        _ = connection.wait_for_connection_metadata() => {}
    }
    match tokio::time::timeout(limit, answer).await {
        Ok(end) => end.map_err(failed),
        Err(_) => Err(Failure::Timeout),
    }
}

/// Where a redirect leads, without what could be a secret.
fn refused_redirect(headers: &HeaderMap) -> String {
    let Some(location) = headers.get(LOCATION) else {
        return "redirects are not followed, and this one leads nowhere".to_owned();
    };
    let location = String::from_utf8_lossy(location.as_bytes());
    let (plain, rest) = match location.find(['?', '#']) {
        Some(at) => (&location[..at], "?..."),
        None => (&*location, ""),
    };
    let plain = secret::hide(plain);
    format!("redirects are not followed, and this one leads to {plain}{rest}")
}

/// Seconds, or a date: from the server's own clock where it tells it, else from ours.
fn retry_after_ms(headers: &HeaderMap, now: Timestamp) -> Option<u64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(secs) = text.parse::<u64>() {
        return Some(secs.saturating_mul(1000));
    }
    let then = httpdate::parse_http_date(text).ok()?;
    let theirs = headers.get(DATE).and_then(|date| date.to_str().ok());
    let theirs = theirs.and_then(|date| httpdate::parse_http_date(date).ok());
    let ours = || {
        let secs = u64::try_from(now.secs).ok()?;
        UNIX_EPOCH.checked_add(Duration::from_secs(secs))
    };
    let wait = |now: SystemTime| then.duration_since(now).unwrap_or_default();
    let wait = wait(theirs.or_else(ours)?);
    Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
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

/// `body` without the words of at least `least` bytes.
fn without(body: Bytes, words: &[&[u8]], least: usize) -> Bytes {
    let mut body = body;
    for word in words.iter().filter(|word| word.len() >= least) {
        if memmem::find(&body, word).is_none() {
            continue;
        }
        let mut clean = Vec::with_capacity(body.len());
        let mut from = 0;
        for at in memmem::find_iter(&body, word) {
            clean.extend_from_slice(&body[from..at]);
            clean.extend_from_slice(HIDDEN.as_bytes());
            from = at + word.len();
        }
        clean.extend_from_slice(&body[from..]);
        body = clean.into();
    }
    body
}

fn hushed(failure: Failure, words: &[&[u8]]) -> Failure {
    let clean = |text: String| {
        let bytes = without(text.into(), words, WORD_BYTES_MIN);
        String::from_utf8_lossy(&bytes).into_owned()
    };
    match failure {
        Failure::Connect(text) => Failure::Connect(clean(text)),
        Failure::Timeout => Failure::Timeout,
        Failure::Broken(text) => Failure::Broken(clean(text)),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_nonsense_is_none() {
        let now = Timestamp {
            secs: 784_111_777, // Sun, 06 Nov 1994 08:49:37 GMT
            nanos: 0,
        };
        for (text, date, want) in [
            ("3", "", Some(3_000)),
            (" 0 ", "", Some(0)),
            ("18446744073709551615", "", Some(u64::MAX)),
            ("-5", "", None),
            ("99999999999999999999", "", None),
            ("1.5", "", None),
            ("soon", "", None),
            ("", "", None),
            ("Sun, 06 Nov 1994 08:50:37 GMT", "", Some(60_000)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", "", Some(60_000)),
            ("Sun Nov  6 08:50:37 1994", "", Some(60_000)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", "", Some(0)),
            (
                "Tue, 15 Nov 1994 08:12:41 GMT",
                "Tue, 15 Nov 1994 08:12:31 GMT",
                Some(10_000),
            ),
            (
                "Sat, 06 Nov 9999 08:50:37 GMT",
                "",
                Some(252_613_382_460_000),
            ),
            ("Sun, 99 Nov 1994 08:50:37 GMT", "", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            if !date.is_empty() {
                headers.insert(DATE, date.parse().unwrap());
            }
            assert_eq!(retry_after_ms(&headers, now), want, "{text}");
        }
        assert_eq!(retry_after_ms(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_redirect_is_told_without_secrets() {
        for (location, want) in [
            ("/x", "leads to /x"),
            ("https://me:pw@h/x?sig=abc", "leads to https://***@h/x?..."),
            ("", "leads to "),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, location.parse().unwrap());
            let said = refused_redirect(&headers);
            assert!(said.ends_with(want), "{said}");
        }
    }

    #[test]
    fn words_are_taken_out_unless_they_are_short() {
        let words: [&[u8]; 3] = [b"s3cr3t", b"abc", b"verysecret"];
        let clean = |body: &'static str, least| {
            let clean = without(Bytes::from_static(body.as_bytes()), &words, least);
            String::from_utf8(clean.to_vec()).unwrap()
        };
        assert_eq!(clean("s3cr3t abc s3cr3ts3cr3t.", 4), "*** abc ******.");
        assert_eq!(clean("s3cr3t verysecret", 8), "s3cr3t ***");
        assert_eq!(clean("nothing", 4), "nothing");
    }
}
