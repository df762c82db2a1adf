//! What both kinds of output share of HTTP.

use super::messages::check_bad;
use super::*;
use crate::plan::{Auth, ClientAuth, HttpSettings, Proxy, TlsVersion};

/// A config whose one output ends with what is under test, on line 1.
fn output(rest: &str) -> String {
    format!(
        "outputs: {{o: {{loki: {{url: https://h/p}}, {rest}}}}}\ninputs: {{i: {{pods: {{}}}}}}\n\
         pipelines: {{p: {{from: i, to: o}}}}\n"
    )
}

const ALL: &str = "
inputs: {i: {pods: {}}}
pipelines: {p: {from: i, to: [a, b, c, d]}}
limits: {memory: 80MiB}
outputs:
  a:
    loki: {url: 'https://h/p'}
    connect_timeout: 1s
    tls_timeout: 2s
    answer_timeout: 3s
    proxy: http://joe:s3cr3t@proxy:3128
    headers: {X-Key: s3cr3t, x-other: s3cr3t}
    tls:
      ca: |
        -----BEGIN CERTIFICATE-----
        AAAA
        -----END CERTIFICATE-----
      cert_file: /etc/c.pem
      key_file: /etc/k.pem
      server_name: loki.example.org
      min_version: 1.3
      insecure_skip_verify: true
    auth: {basic: {user: agent, password: '${PASSWORD}'}}
  b:
    elasticsearch: {urls: ['https://h'], index: i}
    proxy: none
    tls: {ca_file: /etc/ca.pem}
    auth: {api_key: {key: s3cr3t}}
  c:
    loki: {url: 'http://h/p'}
    auth: {bearer: {token_file: /var/run/token}}
  d:
    loki: {url: 'http://h/p'}
    auth:
      oauth2:
        token_url: https://login/token
        client_id: id
        client_secret: s3cr3t
        scopes: [one, two]
        endpoint_params: {audience: s3cr3t}
        client_auth: body
";

#[test]
fn every_setting_is_read_printed_without_secrets_and_read_again() {
    let plan = plan(ALL);
    let http = &plan.outputs[0].http;
    assert_eq!(http.answer_timeout_ms, Some(3_000));
    assert_eq!(http.headers.len(), 2);
    assert_eq!(http.tls.min_version, TlsVersion::V1_3);
    assert!(matches!(&http.proxy, Proxy::Url(url) if url.expose().contains("joe")));
    assert_eq!(plan.outputs[1].http.proxy, Proxy::None);
    assert!(matches!(
        &plan.outputs[3].http.auth,
        Auth::OAuth2(oauth2) if oauth2.client_auth == ClientAuth::Body && oauth2.scopes.len() == 2
    ));
    let printed = print::yaml(&plan);
    let again = parse("printed", &printed, &env)
        .map_err(|found| format!("{found}\n{printed}"))
        .unwrap();
    assert_eq!(print::yaml(&again), printed);
    // `Debug` hides the same, so that it is the same but for the secrets.
    assert_eq!(
        format!("{plan:?}").replace("joe:s3cr3t", "***"),
        format!("{again:?}")
    );
    for text in [printed, format!("{plan:?}"), check(&plan, 1).unwrap()] {
        for word in ["s3cr3t", "joe", "hunter2"] {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }
}

#[test]
fn without_the_keys_nothing_is_set() {
    let plan = plan(&output("linger: 1s"));
    assert_eq!(plan.outputs[0].http, HttpSettings::default());
    assert_eq!(warnings(&plan), Vec::<String>::new());
}

#[test]
fn what_is_allowed_but_worth_a_word_is_said() {
    let plan = plan(&output(
        "tls: {insecure_skip_verify: true, ca_file: /none/ca.pem}, auth: {bearer: {token_file: /none/t}}",
    ));
    let said = warnings(&plan);
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].contains("takes any certificate"), "{said:?}");
    assert!(
        said[1].contains("`tls.ca_file` of the output `o` cannot be read, /none/ca.pem"),
        "{said:?}"
    );
    assert!(said[2].contains("`auth.bearer.token_file`"), "{said:?}");
}

#[test]
fn tls_mistakes() {
    for (rest, cause, cure) in [
        (
            "tls: {cert_file: /c.pem}",
            "1:58: `cert_file` is given without `key_file`",
            "add `key_file: /path/to/it.pem`; one file may hold both",
        ),
        (
            "tls: {key_file: /k.pem}",
            "1:57: `key_file` is given without `cert_file`",
            "add `cert_file: /path/to/it.pem`; one file may hold both",
        ),
        (
            "tls: {ca_file: ca.pem}",
            "1:56: `ca_file` is no absolute path of a file: `ca.pem`",
            "write for example `ca_file: /etc/tailwake/secrets/ca_file`",
        ),
        (
            "tls: {ca: x, ca_file: /ca.pem}",
            "1:63: both `ca` and `ca_file` are given",
            "keep one of the two",
        ),
        (
            "tls: {server_name: 'http://h'}",
            "1:60: `server_name` is no name of a host: `http://h`",
            "write the name alone, without scheme, port and path, for example `loki.example.org`",
        ),
        (
            "tls: {min_version: 1.1}",
            "1:60: `min_version` does not know `1.1`",
            "did you mean `1.2`?",
        ),
        (
            "tls: {insecure_skip: true}",
            "1:47: unknown key `insecure_skip` in `outputs.NAME.tls`",
            "keys here: `ca`, `ca_file`, `cert_file`, `key_file`, `server_name`, `min_version`, \
             `insecure_skip_verify`",
        ),
    ] {
        check_bad(&output(rest), cause, cure);
    }
    check_bad(
        &output("tls: {server_name: x}").replace("https:", "http:"),
        "1:45: `tls` is given, but no URL of the output is `https`",
        "write `https://` in the URL, or remove `tls`",
    );
}

#[test]
fn auth_proxy_and_header_mistakes() {
    for (rest, cause, cure) in [
        (
            "auth: {}",
            "1:47: `auth` has no kind",
            "add `basic`, `bearer`, `api_key` or `oauth2`, or remove `auth`",
        ),
        (
            "auth: {bearer: {token: a}, api_key: {key: b}}",
            "1:68: `auth` is of two kinds, `bearer` and `api_key`",
            "keep one of the two",
        ),
        (
            "auth: {basic: {user: 'a:b', password: p}}",
            "1:62: `user` is empty, or holds `:` or a control character",
            "write the user name alone, and the password below it",
        ),
        (
            "auth: {basic: {user: a}}",
            "1:55: neither `password` nor `password_file` is given",
            "add for example `password_file: /etc/tailwake/secrets/password`",
        ),
        (
            "auth: {bearer: {token: a, token_file: /t}}",
            "1:79: both `token` and `token_file` are given",
            "keep one of the two",
        ),
        (
            "auth: {oauth2: {client_id: a, client_secret: b}}",
            "1:56: `outputs.NAME.auth.oauth2` needs the key `token_url`",
            "add for example `token_url: https://login.example.org/token`",
        ),
        (
            "proxy: proxy:3128",
            "1:48: `proxy` is neither `environment` nor `none` nor a URL, it has no scheme",
            "write scheme, host and port, for example `http://proxy:3128`",
        ),
        (
            "proxy: 'socks5://p:1'",
            "1:48: `proxy` is neither `environment` nor `none` nor a URL, its scheme is neither \
             http nor https",
            "write scheme, host and port, for example `http://proxy:3128`",
        ),
        (
            "headers: {Authorization: x}",
            "1:51: the header `Authorization` is made by `auth`",
            "use `auth` in place of it",
        ),
        (
            "headers: {Content-Type: x}",
            "1:51: the header `Content-Type` is set by the agent itself",
            "remove it",
        ),
        (
            "headers: {x-a: x, X-A: y}",
            "1:59: the header `X-A` stands twice",
            "keep one of the two; letters of both cases are the same",
        ),
        (
            "headers: {x-a: \"a\\nb\"}",
            "1:56: the value of `x-a` cannot stand in a header",
            "write it on one line, in ASCII",
        ),
        (
            "connect_timeout: 0",
            "1:58: `connect_timeout` is out of range: `0`",
            "it may be from 1ms to 365d",
        ),
    ] {
        check_bad(&output(rest), cause, cure);
    }
    check_bad(
        &output("auth: {bearer: {token: a}}").replace("//h", "//u:p@h"),
        "1:51: both `auth` and the output's URL say who the agent is",
        "remove `user:password@` from the URL, or `auth`",
    );
}

#[test]
fn no_message_shows_a_secret_whatever_is_wrong_about_it() {
    for rest in [
        "auth: {basic: {user: a, password: s3cr3t, x: s3cr3t}}",
        "auth: {bearer: s3cr3t}",
        "auth: s3cr3t",
        "auth: [s3cr3t]",
        "auth: {bearer: {token: [s3cr3t]}}",
        "auth: {bearer: {tken: s3cr3t}}",
        "auth: {bearer: {token: \"s3cr3t\\n\"}}",
        "auth: {api_key: {key: s3cr3t, key: s3cr3t}}",
        "auth: {oauth2: {client_secret: s3cr3t, endpoint_params: {a: s3cr3t}}}",
        "headers: {x-key: s3cr3t, host: s3cr3t}",
        "headers: s3cr3t",
        "headers: {x-key: \"s3cr3t\\n\"}",
        "proxy: http://joe:s3cr3t@h/path",
        "proxy: 'joe:s3cr3t'",
        "proxy: [s3cr3t]",
        "headers: {x-key: s3cr3t}, linger: no",
    ] {
        let found = refused(&output(rest));
        assert!(!found.contains("s3cr3t"), "{rest}:\n{found}");
    }
    let lines = output("auth: {api_key: {\nkey: s3cr3t\n, x: 1}}, linger: no");
    let found = refused(&lines);
    assert!(!found.contains("s3cr3t"), "{found}");
}
