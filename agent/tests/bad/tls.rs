//! TLS: certificates that are wrong, or missing, and files that change while the agent runs.

use std::path::PathBuf;

use harness::fault::certificates::{Authority, Certificate, Versions};
use harness::fault::{FaultServer, Manner};

use crate::agent::{Agent, Setup};
use crate::bed::Bed;
use crate::faults::texts;
use crate::sink::{self, Sink};

const LINES: usize = 300;
const HOST: &str = "127.0.0.1";

/// An output below `https`, with settings of TLS.
pub(crate) fn loki(server: &FaultServer, tls: &str) -> String {
    format!(
        "loki: {{url: \"https://{}/loki/api/v1/push\"}}, retry: {{min: 50ms, max: 200ms}}, \
         tls: {{{tls}}}",
        server.address()
    )
}

/// A file that takes its place as a whole.
pub(crate) fn put(bed: &Bed, name: &str, text: &str) -> PathBuf {
    let directory = bed.path("secrets");
    std::fs::create_dir_all(&directory).unwrap();
    let new = directory.join(format!("{name}.new"));
    std::fs::write(&new, text).unwrap();
    let path = directory.join(name);
    std::fs::rename(new, &path).unwrap();
    path
}

fn retries(agent: &Agent, reason: &str) -> u64 {
    let reason = format!("reason=\"{reason}\"");
    agent.metric(
        "tailwake_request_retries_total",
        &["output=\"bad\"", &reason],
    )
}

/// A server that is not to be trusted gets nothing, and the agent says why; another output goes on.
fn check_refused(name: &str, server: &FaultServer, tls: &str, words: &str) {
    let (bed, sink) = (Bed::new(name), Sink::start(sink::Manner::Good));
    let mut setup = Setup::to(&sink);
    setup.outputs.push(("bad", loki(server, tls)));
    let mut agent = Agent::start(&bed, &setup);
    let lines = bed.write("good", "good", LINES);
    agent.awaits_texts(&sink, "good", &lines);
    agent.awaits("it was tried again", |agent| retries(agent, "connect") >= 2);
    agent.awaits(words, |agent| agent.said().contains(words));
    assert!(agent.get("/healthz").is_ok());
    assert!(server.taken().is_empty());
    agent.kill();
}

fn start(certificate: &Certificate, versions: Versions) -> FaultServer {
    FaultServer::start_tls(Manner::Good, certificate.server(versions).unwrap()).unwrap()
}

fn inline(authority: &Authority) -> String {
    format!(
        "ca: \"{}\"",
        authority.pem().replace('\r', "").replace('\n', "\\n")
    )
}

#[test]
fn a_certificate_that_is_not_right_gets_nothing() {
    let authority = Authority::new("ours").unwrap();
    let ca = inline(&authority);
    for (name, certificate, words) in [
        (
            "other",
            authority.sign("other.example.org"),
            "certificate not valid for name",
        ),
        (
            "expired",
            authority.sign_expired(HOST),
            "certificate expired",
        ),
        ("self", Certificate::self_signed(HOST), "certificate"),
        (
            "foreign",
            Authority::new("theirs").unwrap().sign(HOST),
            "UnknownIssuer",
        ),
    ] {
        let server = start(&certificate.unwrap(), Versions::All);
        check_refused(name, &server, &ca, words);
    }
    let server = start(&authority.sign(HOST).unwrap(), Versions::Only12);
    check_refused("old", &server, &format!("{ca}, min_version: 1.3"), "TLS");
    // The machine's roots do not know ours.
    let server = start(&authority.sign(HOST).unwrap(), Versions::All);
    check_refused("roots", &server, "", "certificate");
}

#[test]
fn a_handshake_that_hangs_is_given_up_and_says_so() {
    let certificate = Authority::new("ours").unwrap().sign(HOST).unwrap();
    let tls = certificate.server(Versions::All).unwrap();
    let server = FaultServer::start_tls(Manner::HangAccepted, tls).unwrap();
    let more = "insecure_skip_verify: true}, tls_timeout: 100ms, headers: {x-a: b";
    check_refused(
        "hands",
        &server,
        more,
        "no end of the TLS handshake in 100 ms",
    );
}

/// Delivers everything to the one output.
fn check_delivers(name: &str, server: &FaultServer, tls: &str) -> String {
    let (bed, sink) = (Bed::new(name), Sink::start(sink::Manner::Good));
    let mut setup = Setup::to(&sink);
    setup.outputs = vec![("bad", loki(server, tls))];
    let mut agent = Agent::start(&bed, &setup);
    let lines = bed.write("good", "good", LINES);
    agent.awaits("all of it has come", |_| texts(server, "good") == lines);
    let said = agent.said();
    agent.end();
    said
}

#[test]
fn own_authority_server_name_versions_and_none_of_it() {
    let authority = Authority::new("ours").unwrap();
    let ca = inline(&authority);
    let server = start(&authority.sign(HOST).unwrap(), Versions::All);
    check_delivers("ca", &server, &format!("{ca}, min_version: 1.3"));
    let server = start(&authority.sign(HOST).unwrap(), Versions::Only12);
    check_delivers("twelve", &server, &ca);
    let server = start(&authority.sign("loki.example.org").unwrap(), Versions::All);
    check_delivers(
        "name",
        &server,
        &format!("{ca}, server_name: loki.example.org"),
    );
    let server = start(&Certificate::self_signed("x").unwrap(), Versions::All);
    let said = check_delivers("insecure", &server, "insecure_skip_verify: true");
    assert!(said.contains("takes any certificate"), "{said}");
}

#[test]
fn an_authority_and_the_own_certificate_are_read_again_when_they_change() {
    let (ours, theirs) = (
        Authority::new("ours").unwrap(),
        Authority::new("theirs").unwrap(),
    );
    let server = ours.demanding(&ours.sign(HOST).unwrap()).unwrap();
    let server = FaultServer::start_tls(Manner::Good, server).unwrap();
    let (bed, sink) = (Bed::new("reread"), Sink::start(sink::Manner::Good));
    let wrong = theirs.sign("agent").unwrap();
    let ca = put(&bed, "ca.pem", theirs.pem());
    let cert = put(&bed, "cert.pem", &wrong.cert);
    let key = put(&bed, "key.pem", &wrong.key);
    let tls = format!(
        "ca_file: {}, cert_file: {}, key_file: {}",
        ca.display(),
        cert.display(),
        key.display()
    );
    let mut setup = Setup::to(&sink);
    setup.outputs.push(("bad", loki(&server, &tls)));
    let mut agent = Agent::start(&bed, &setup);
    let lines = bed.write("good", "good", LINES);
    agent.awaits_texts(&sink, "good", &lines);
    agent.awaits("the authority is wrong", |agent| {
        agent.said().contains("UnknownIssuer") && retries(agent, "connect") >= 2
    });
    // Nonsense keeps what was there, and is said.
    put(&bed, "ca.pem", "no certificate");
    agent.awaits("it says what is wrong", |agent| {
        agent
            .said()
            .contains("(`tls.ca_file`): no certificate as PEM in it")
    });
    put(&bed, "ca.pem", ours.pem());
    // The server refuses the agent's certificate now.
    let before = retries(&agent, "connect") + retries(&agent, "broken");
    agent.awaits("the certificate is wrong", |agent| {
        retries(agent, "connect") + retries(agent, "broken") >= before + 3
    });
    assert!(server.taken().is_empty());
    // A certificate whose key has not come yet is not used.
    let right = ours.sign("agent").unwrap();
    put(&bed, "cert.pem", &right.cert);
    agent.awaits("the pair does not fit", |agent| {
        agent.said().contains("cert.pem with the key in")
    });
    put(&bed, "key.pem", &right.key);
    agent.awaits("all of it has come", |_| texts(&server, "good") == lines);
    assert!(server.taken().iter().all(|request| request.certified));
    agent.end();
}
