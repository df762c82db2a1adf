//! Who the agent says it is, and that it says it anew when files change and tokens end.

use std::path::Path;

use harness::fault::certificates::{Authority, Versions};
use harness::fault::{FaultServer, Manner};

use crate::agent::{Agent, Setup};
use crate::bed::Bed;
use crate::faults::{loki, texts};
use crate::sink::{self, Sink};
use crate::tls::put;

const LINES: usize = 300;

/// Everything comes, each request by who the agent is to be.
fn check(name: &str, auth: &str, demanded: &str) {
    let server = FaultServer::start(Manner::Good).unwrap();
    server.demand(demanded);
    let output = format!(
        "{}, auth: {{{auth}}}, headers: {{X-Extra: more}}",
        loki(&server)
    );
    check_output(name, &server, output);
    for request in server.taken() {
        assert_eq!(request.header("x-extra"), Some("more"), "{}", request.head);
    }
}

fn check_output(name: &str, server: &FaultServer, output: String) {
    let (bed, sink) = (Bed::new(name), Sink::start(sink::Manner::Good));
    let mut setup = Setup::to(&sink);
    setup.outputs = vec![("only", output)];
    let mut agent = Agent::start(&bed, &setup);
    let lines = bed.write("good", "good", LINES);
    agent.awaits("all of it has come", |_| texts(server, "good") == lines);
    assert_eq!(server.failed(), 0);
    agent.end();
}

#[test]
fn basic_bearer_api_key_and_url_make_their_header() {
    let basic = "Basic YWdlbnQ6czNjcjN0"; // agent:s3cr3t
    check("basic", "basic: {user: agent, password: s3cr3t}", basic);
    check("bearer", "bearer: {token: s3cr3t}", "Bearer s3cr3t");
    check("key", "api_key: {key: czNjcjN0}", "ApiKey czNjcjN0");
    check(
        "idkey",
        "api_key: {key: 'agent:s3cr3t'}",
        "ApiKey YWdlbnQ6czNjcjN0",
    );
    let server = FaultServer::start(Manner::Good).unwrap();
    server.demand(basic);
    check_output(
        "inurl",
        &server,
        loki(&server).replace("//", "//agent:s3cr3t@"),
    );
}

/// As kubelet does it: a new directory, and one link that is swapped.
fn project(volume: &Path, version: &str, name: &str, text: &str) {
    std::fs::create_dir_all(volume.join(version)).unwrap();
    std::fs::write(volume.join(version).join(name), text).unwrap();
    std::os::unix::fs::symlink(version, volume.join("..data_tmp")).unwrap();
    std::fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
}

#[test]
fn a_projected_token_is_read_again_when_kubelet_swaps_it() {
    let bed = Bed::new("projected");
    let volume = bed.path("volume");
    project(&volume, "..2026_1", "token", "first\n");
    std::os::unix::fs::symlink("..data/token", volume.join("token")).unwrap();
    let server = FaultServer::start(Manner::Good).unwrap();
    server.demand("Bearer first");
    let sink = Sink::start(sink::Manner::Good);
    let token = volume.join("token");
    let more = format!(
        "{}, auth: {{bearer: {{token_file: {}}}}}, retry: {{min: 50ms, max: 200ms}}",
        loki(&server),
        token.display()
    );
    let mut setup = Setup::to(&sink);
    setup.outputs = vec![("only", more)];
    let mut agent = Agent::start(&bed, &setup);
    let mut lines = bed.write("good", "first", LINES);
    agent.awaits("the first part has come", |_| {
        texts(&server, "good") == lines
    });
    // The server changes its mind before the token does: nothing is lost meanwhile.
    server.demand("Bearer second");
    lines.extend(bed.write("good", "second", LINES));
    agent.awaits("it is refused", |agent| {
        agent.metric("tailwake_request_retries_total", &["reason=\"denied\""]) >= 2
    });
    project(&volume, "..2026_2", "token", "second\n");
    std::fs::remove_dir_all(volume.join("..2026_1")).unwrap();
    agent.awaits("the rest has come", |_| texts(&server, "good") == lines);
    agent.end();
}

#[test]
fn a_secret_that_is_not_there_yet_is_waited_for_and_a_broken_one_keeps_the_old() {
    let bed = Bed::new("late");
    let server = FaultServer::start(Manner::Good).unwrap();
    server.demand("Basic YWdlbnQ6czNjcjN0");
    let sink = Sink::start(sink::Manner::Good);
    std::fs::create_dir_all(bed.path("secrets")).unwrap();
    let path = bed.path("secrets").join("password");
    let auth = format!(
        "{}, auth: {{basic: {{user: agent, password_file: {}}}}}, retry: {{min: 50ms, max: 200ms}}",
        loki(&server),
        path.display()
    );
    let mut setup = Setup::to(&sink);
    setup.outputs.push(("late", auth));
    let mut agent = Agent::start(&bed, &setup);
    let mut lines = bed.write("good", "one", LINES);
    agent.awaits_texts(&sink, "good", &lines);
    agent.awaits("it says that it lacks the file", |agent| {
        let said = agent.said();
        said.contains("`auth.basic.password_file` of the output `late` cannot be read")
            && said.contains("connect: read")
            && said.contains("password: No such file")
    });
    assert_eq!(server.accepted(), 0);
    put(&bed, "password", "s3cr3t\n");
    agent.awaits("all of it has come", |_| texts(&server, "good") == lines);
    put(&bed, "password", "\n");
    lines.extend(bed.write("good", "two", LINES));
    agent.awaits("the rest has come", |_| texts(&server, "good") == lines);
    assert_eq!(server.failed(), 0);
    agent.end();
}

#[test]
fn a_token_is_fetched_once_and_again_when_it_is_refused() {
    let (bed, server) = (Bed::new("oauth"), FaultServer::start(Manner::Good).unwrap());
    server.grant("token-one", 3_600);
    server.demand("Bearer token-one");
    let oauth2 = format!(
        "{}, batch_bytes: 2KiB, auth: {{oauth2: {{token_url: \"http://{}/token\", client_id: 'a b', \
         client_secret: 's3cr3t&', scopes: [write, logs], endpoint_params: {{audience: loki}}}}}}",
        loki(&server),
        server.address()
    );
    let sink = Sink::start(sink::Manner::Good);
    let mut setup = Setup::to(&sink);
    setup.outputs = vec![("only", oauth2)];
    let mut agent = Agent::start(&bed, &setup);
    let mut lines = bed.write("good", "one", LINES);
    agent.awaits("all of it has come", |_| texts(&server, "good") == lines);
    let (tokens, taken) = (server.tokens(), server.taken().len());
    assert!(
        tokens.len() == 1 && taken > 1,
        "{} for {taken}",
        tokens.len()
    );
    let form = String::from_utf8_lossy(&tokens[0].body).into_owned();
    assert_eq!(
        form,
        "grant_type=client_credentials&scope=write+logs&audience=loki"
    );
    // a+b:s3cr3t%26
    let basic = tokens[0].header("authorization");
    assert_eq!(basic, Some("Basic YStiOnMzY3IzdCUyNg=="));
    // One connection for the lane's calls and one for the endpoint's: they are kept.
    assert!(server.accepted() <= 4, "{} connections", server.accepted());
    // The old one is revoked: the next call fetches one and is sent again at once.
    server.grant("token-two", 3_600);
    server.demand("Bearer token-two");
    lines.extend(bed.write("good", "two", LINES));
    agent.awaits("the rest has come", |_| texts(&server, "good") == lines);
    assert_eq!(server.tokens().len(), 2);
    assert_eq!(agent.metric("tailwake_request_retries_total", &[]), 0);
    agent.end();
}

#[test]
fn a_token_whose_end_is_near_is_fetched_again_and_secrets_may_go_in_the_body() {
    let (bed, server) = (Bed::new("short"), FaultServer::start(Manner::Good).unwrap());
    let authority = Authority::new("ours").unwrap();
    let config = authority.sign("127.0.0.1").unwrap();
    let config = config.server(Versions::All).unwrap();
    let endpoint = FaultServer::start_tls(Manner::Good, config).unwrap();
    // No life at all: one for each request. The server's name is not the endpoint's.
    endpoint.grant("token", 0);
    let oauth2 = format!(
        "{}, batch_bytes: 2KiB, tls: {{ca: \"{}\", server_name: other.example.org}}, \
         auth: {{oauth2: {{token_url: \"https://{}/token\", client_id: me, \
         client_secret: s3cr3t, client_auth: body}}}}",
        loki(&server),
        authority.pem().replace('\n', "\\n"),
        endpoint.address()
    );
    let sink = Sink::start(sink::Manner::Good);
    let mut setup = Setup::to(&sink);
    setup.outputs = vec![("only", oauth2)];
    let mut agent = Agent::start(&bed, &setup);
    let lines = bed.write("good", "one", LINES);
    agent.awaits("all of it has come", |_| texts(&server, "good") == lines);
    agent.end();
    let (tokens, taken) = (endpoint.tokens(), server.taken());
    assert_eq!(tokens.len(), taken.len());
    let form = String::from_utf8_lossy(&tokens[0].body).into_owned();
    let want = "grant_type=client_credentials&client_id=me&client_secret=s3cr3t";
    assert_eq!(form, want);
    assert_eq!(tokens[0].header("authorization"), None);
}

#[test]
fn a_token_endpoint_that_fails_holds_its_output_and_no_other() {
    let (bed, server) = (
        Bed::new("endpoint"),
        FaultServer::start(Manner::Good).unwrap(),
    );
    let refusal = "{\"error\":\"invalid_client\",\"error_description\":\"bad s3cr3t\"}".to_owned();
    let manner = Manner::Answer("401 Unauthorized", String::new(), refusal);
    let endpoint = FaultServer::start(manner).unwrap();
    let oauth2 = format!(
        "{}, retry: {{min: 50ms, max: 200ms}}, auth: {{oauth2: {{token_url: \"http://{}/token\", \
         client_id: me, client_secret: s3cr3t}}}}",
        loki(&server),
        endpoint.address()
    );
    let sink = Sink::start(sink::Manner::Good);
    let mut setup = Setup::to(&sink);
    setup.outputs.push(("bad", oauth2));
    let mut agent = Agent::start(&bed, &setup);
    let lines = bed.write("good", "one", LINES);
    agent.awaits_texts(&sink, "good", &lines);
    let place = endpoint.address();
    let words = format!(
        "connect: fetch a token from {place}: it answers with status 401 and `invalid_client`"
    );
    agent.awaits("it says why", |agent| agent.said().contains(&words));
    assert_eq!(server.accepted(), 0);
    endpoint.behave(Manner::HangRead);
    agent.awaits("it was tried again", |_| endpoint.failed() >= 2);
    endpoint.behave(Manner::Good);
    agent.awaits("all of it has come", |_| texts(&server, "good") == lines);
    agent.end();
}
