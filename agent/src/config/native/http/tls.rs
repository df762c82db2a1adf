//! TLS: authorities, the agent's own certificate, versions.

use super::file;
use crate::config::diagnostics::Report;
use crate::config::fields::Fields;
use crate::config::native::{SWITCH, keys};
use crate::config::tree::Node;
use crate::plan::{Authority, ClientCertificate, Tls, TlsVersion};

const VERSIONS: [(&str, TlsVersion); 2] = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];

pub(super) fn tls(node: &Node, report: &mut Report<'_>) -> Tls {
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
