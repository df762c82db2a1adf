//! Proxies, by the config and by the environment.

use harness::fault::certificates::{Authority, Versions};
use harness::fault::forward::Forward;
use harness::fault::{FaultServer, Manner};

use crate::agent::{Agent, Setup};
use crate::bed::Bed;
use crate::faults::{loki, texts};
use crate::sink::{self, Sink};
use crate::tls;

const LINES: usize = 300;

/// joe:s3cr3t
const JOE: &str = "Basic am9lOnMzY3IzdA==";

fn setup(output: String, variables: Vec<(&'static str, String)>) -> Setup {
    let sink = Sink::start(sink::Manner::Good);
    let mut setup = Setup::to(&sink);
    setup.outputs = vec![("only", output)];
    setup.variables = variables;
    setup
}

fn check(name: &str, server: &FaultServer, setup: &Setup) {
    let bed = Bed::new(name);
    let mut agent = Agent::start(&bed, setup);
    let lines = bed.write("good", "good", LINES);
    agent.awaits("all of it has come", |_| texts(server, "good") == lines);
    agent.end();
}

#[test]
fn a_plain_url_goes_through_a_proxy_as_a_whole() {
    let (server, proxy) = (
        FaultServer::start(Manner::Good).unwrap(),
        Forward::start(Some(JOE)),
    );
    let proxy = proxy.unwrap();
    let more = format!(", proxy: \"http://joe:s3cr3t@{}\"", proxy.address());
    check("whole", &server, &setup(loki(&server) + &more, Vec::new()));
    let heads = proxy.heads();
    assert!(!heads.is_empty());
    let begins = format!(
        "POST http://{}/loki/api/v1/push HTTP/1.1\r\n",
        server.address()
    );
    assert!(
        heads.iter().all(|head| head.starts_with(&begins)),
        "{heads:?}"
    );
    for request in server.taken() {
        assert_eq!(request.header("proxy-authorization"), None);
    }
}

#[test]
fn an_https_url_goes_through_a_tunnel() {
    let authority = Authority::new("ours").unwrap();
    let config = authority
        .sign("127.0.0.1")
        .unwrap()
        .server(Versions::All)
        .unwrap();
    let server = FaultServer::start_tls(Manner::Good, config).unwrap();
    let proxy = Forward::start(Some(JOE)).unwrap();
    let tls = format!("ca: \"{}\"", authority.pem().replace('\n', "\\n"));
    let more = format!(", proxy: \"http://joe:s3cr3t@{}\"", proxy.address());
    check(
        "tunnel",
        &server,
        &setup(tls::loki(&server, &tls) + &more, Vec::new()),
    );
    let begins = format!("CONNECT {} HTTP/1.1\r\n", server.address());
    assert!(proxy.heads().iter().all(|head| head.starts_with(&begins)));
    assert!(!proxy.heads().is_empty());
}

#[test]
fn the_environment_names_a_proxy_and_what_does_not_go_through_it() {
    let proxy = Forward::start(None).unwrap();
    let url = format!("http://{}", proxy.address());
    for (name, value, through) in [
        ("HTTP_PROXY", "localhost", true),
        ("http_proxy", "localhost", true),
        ("ALL_PROXY", "", true),
        ("HTTPS_PROXY", "", false),
        ("HTTP_PROXY", "127.0.0.0/8", false),
    ] {
        let server = FaultServer::start(Manner::Good).unwrap();
        let before = proxy.heads().len();
        let variables = vec![(name, url.clone()), ("NO_PROXY", value.to_owned())];
        check("variables", &server, &setup(loki(&server), variables));
        assert_eq!(proxy.heads().len() > before, through, "{name} {value}");
    }
    let server = FaultServer::start(Manner::Good).unwrap();
    let before = proxy.heads().len();
    let variables = vec![("HTTP_PROXY", url), ("NO_PROXY", String::new())];
    check(
        "none",
        &server,
        &setup(loki(&server) + ", proxy: none", variables),
    );
    assert_eq!(proxy.heads().len(), before);
}

#[test]
fn a_proxy_that_wants_to_know_who_it_is_is_named() {
    let authority = Authority::new("ours").unwrap();
    let config = authority
        .sign("127.0.0.1")
        .unwrap()
        .server(Versions::All)
        .unwrap();
    let server = FaultServer::start_tls(Manner::Good, config).unwrap();
    let proxy = Forward::start(Some(JOE)).unwrap();
    let more = format!(", proxy: \"http://joe:wrong-one@{}\"", proxy.address());
    let output = tls::loki(&server, "insecure_skip_verify: true") + &more;
    let bed = Bed::new("who");
    let mut agent = Agent::start(&bed, &setup(output, Vec::new()));
    bed.write("good", "good", LINES);
    let words = format!(
        "by the proxy {}: tunnel error: proxy authorization",
        proxy.address()
    );
    agent.awaits("it says which proxy", |agent| agent.said().contains(&words));
    let words = format!(
        "connections go through a proxy output=\"only\" proxy={}",
        proxy.address()
    );
    assert!(agent.said().contains(&words), "{}", agent.said());
    assert!(!agent.said().contains("wrong-one"));
    agent.kill();
}

#[test]
fn an_https_proxy_is_spoken_to_in_tls_and_looks_the_name_up() {
    let authority = Authority::new("ours").unwrap();
    let config = authority
        .sign("127.0.0.1")
        .unwrap()
        .server(Versions::All)
        .unwrap();
    // Proxy and server in one.
    let server = FaultServer::start_tls(Manner::Good, config).unwrap();
    let output = format!(
        "loki: {{url: \"http://nowhere.invalid:3100/loki/api/v1/push\"}}, \
         proxy: \"https://joe:s3cr3t@{}\", tls: {{ca: \"{}\"}}",
        server.address(),
        authority.pem().replace('\n', "\\n")
    );
    check("secure", &server, &setup(output, Vec::new()));
    for request in server.taken() {
        assert_eq!(
            request.target(),
            "http://nowhere.invalid:3100/loki/api/v1/push"
        );
        assert_eq!(request.header("proxy-authorization"), Some(JOE));
    }
}

#[test]
fn a_proxy_that_does_not_answer_to_connect_is_given_up_and_named() {
    let proxy = FaultServer::start(Manner::HangRead).unwrap();
    let output = format!(
        "loki: {{url: \"https://nowhere.invalid/loki/api/v1/push\"}}, connect_timeout: 100ms, \
         proxy: \"http://{}\"",
        proxy.address()
    );
    let bed = Bed::new("silent-proxy");
    let mut agent = Agent::start(&bed, &setup(output, Vec::new()));
    bed.write("good", "good", LINES);
    let place = proxy.address();
    let words = format!("by the proxy {place}: no answer to CONNECT in 100 ms");
    agent.awaits("it says which proxy", |agent| agent.said().contains(&words));
    agent.kill();
}
