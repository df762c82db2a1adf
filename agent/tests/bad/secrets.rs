//! No secret in what the agent says: its log at its loudest, /status, /metrics, `check`, errors.
//!
//! Each kind of secret, against servers that fail in each way and tell the agent what it has sent.

use std::process::Command;

use harness::fault::forward::Forward;
use harness::fault::{FaultServer, Manner};

use crate::agent::{Agent, Setup, config};
use crate::bed::Bed;
use crate::faults::loki;
use crate::sink::{self, Sink};
use crate::tls::put;

/// In each secret, and in nothing else.
const WORD: &str = "hUnTeR2";

/// What is looked for: the word, and beginnings of what `x:hUnTeR2...` is encoded as.
const WORDS: [&str; 4] = [WORD, "aFVuVGVSM", "h1blRlUj", "oVW5UZVIy"];

fn hidden(what: &str, text: &str) {
    for word in WORDS {
        let at = text.find(word);
        let near = at.map(|at| &text[text.floor_char_boundary(at.saturating_sub(200))..at + 10]);
        assert!(at.is_none(), "{word} in {what}: {near:?}");
    }
}

/// Fails in each way, with what it was sent in the answer.
fn manners(server: &FaultServer, echo: &str) -> Vec<Manner> {
    let echo = format!("you sent {echo}");
    let address = server.address();
    let word = echo.split(' ').nth(2).unwrap_or_default();
    let lead = format!("location: http://joe:{WORD}@{address}/{word}?a={WORD}\r\n");
    let none = String::new;
    let item = format!(
        "{{\"errors\":true,\"items\":[{{\"create\":{{\"status\":400,\"error\":\
         {{\"type\":\"x\",\"reason\":\"{echo}\"}}}}}}]}}"
    );
    vec![
        Manner::Answer("401 Unauthorized", none(), echo.clone()),
        Manner::Answer("403 Forbidden", none(), echo.clone()),
        Manner::Answer("500 Oh", none(), echo.clone()),
        Manner::Answer("429 Busy", none(), echo.clone()),
        Manner::Answer("418 Teapot", none(), echo),
        Manner::Answer("302 Found", lead, none()),
        Manner::Answer("200 OK", none(), item),
        Manner::ResetRequest,
        Manner::HalfAnswer,
        Manner::HangRead,
        Manner::HangAccepted,
    ]
}

/// `echo` is what the servers say again of what they were sent.
fn check(name: &str, bulk: bool, more: &str, url: Option<&str>, echo: &str) {
    check_in(name, bulk, more, url, echo, Vec::new());
}

fn check_in(
    name: &str,
    bulk: bool,
    more: &str,
    url: Option<&str>,
    echo: &str,
    variables: Vec<(&'static str, String)>,
) {
    let bed = Bed::new(&format!("secret-{name}"));
    let (sink, server) = (
        Sink::start(sink::Manner::Good),
        FaultServer::start(Manner::Good),
    );
    let server = server.unwrap();
    let output = if bulk {
        format!(
            "elasticsearch: {{urls: [\"http://{}\"], index: logs}}",
            server.address()
        )
    } else {
        loki(&server)
    };
    let output = match url {
        Some(user) => output.replace("//", &format!("//{user}@")),
        None => output,
    };
    let more = more
        .replace("SERVER", &server.address().to_string())
        .replace("SECRETS", &bed.path("secrets").display().to_string());
    put(&bed, "secret", &format!("{WORD}-token"));
    let mut setup = Setup::to(&sink).and(output + &more);
    setup.args = &["--log-level", "trace"];
    setup.variables = variables;
    let checked = Command::new(env!("CARGO_BIN_EXE_tailwake"))
        .args(["check", "--config"])
        .arg(config(&bed, &setup))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success(), "{errors}");
    hidden("check", &String::from_utf8_lossy(&checked.stdout));
    hidden("check's errors", &errors);
    let mut agent = Agent::start(&bed, &setup);
    for manner in manners(&server, echo) {
        server.behave(manner.clone());
        let before = server.failed();
        bed.write("good", "more", 20);
        agent.awaits(&format!("it meets {manner:?}"), |agent| {
            hidden("/status", &agent.get("/status").unwrap());
            server.failed() > before
        });
        hidden("/metrics", &agent.get("/metrics").unwrap());
        hidden("/status", &agent.get("/status").unwrap());
    }
    server.behave(Manner::Good);
    // Whatever was sent in the meantime, the secret came with it.
    let taken = server.taken().len();
    bed.write("good", "last", 20);
    agent.awaits("it is taken", |_| server.taken().len() > taken);
    let said = agent.said();
    assert!(
        said.contains("output=\"bad\"") || said.contains("bad"),
        "{said}"
    );
    hidden("its log", &said);
    agent.end();
}

const PASSWORD: &str = "hUnTeR2-password YWdlbnQ6aFVuVGVSMi1wYXNzd29yZA== agent:hUnTeR2-password";

#[test]
fn no_secret_of_any_kind_is_ever_printed() {
    let basic = ", auth: {basic: {user: agent, password: hUnTeR2-password}}";
    check("basic", false, basic, None, PASSWORD);
    let user = Some("agent:hUnTeR2-password");
    check("url", false, "", user, PASSWORD);
    check("bulk-url", true, "", user, PASSWORD);
    let token = ", auth: {bearer: {token_file: SECRETS/secret}}";
    check("bearer", true, token, None, "hUnTeR2-token");
    let key = ", auth: {api_key: {key: 'agent:hUnTeR2-password'}}";
    check("key", true, key, None, PASSWORD);
    let headers = ", headers: {X-Api-Key: hUnTeR2-header}";
    check("headers", false, headers, None, "hUnTeR2-header");
}

#[test]
fn no_secret_of_oauth2_is_ever_printed() {
    let oauth2 = ", auth: {oauth2: {token_url: 'http://SERVER/token', client_id: agent, \
                  client_secret: hUnTeR2-password, endpoint_params: {audience: hUnTeR2-header}}}";
    check(
        "oauth2",
        false,
        oauth2,
        None,
        "hUnTeR2-password hUnTeR2-header",
    );
    // The endpoint is fine, and the token is what the server says again.
    let endpoint = FaultServer::start(Manner::Good).unwrap();
    endpoint.grant("hUnTeR2-token", 3_600);
    let oauth2 = oauth2.replace("SERVER", &endpoint.address().to_string());
    check(
        "token",
        true,
        &oauth2,
        None,
        "hUnTeR2-token hUnTeR2-password",
    );
    assert!(!endpoint.tokens().is_empty());
}

#[test]
fn no_secret_of_a_proxy_is_ever_printed() {
    let proxy = Forward::start(None).unwrap();
    let more = format!(
        ", proxy: 'http://agent:hUnTeR2-password@{}'",
        proxy.address()
    );
    check("proxy", false, &more, None, PASSWORD);
    let url = format!("agent:hUnTeR2-password@{}", proxy.address());
    let variables = vec![("HTTP_PROXY", url), ("NO_PROXY", "localhost".to_owned())];
    let before = proxy.heads().len();
    check_in("environment", false, "", None, PASSWORD, variables);
    assert!(proxy.heads().len() > before);
}
