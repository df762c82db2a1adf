//! What an output's servers are spoken to with, as native YAML.

use std::path::Path;

use super::{Page, bracketed, duration, key, scalar};
use crate::plan::secret::{self, HIDDEN};
use crate::plan::{
    Auth, Authority, ClientAuth, HttpSettings, OAuth2, Proxy, SecretSource, Tls, TlsVersion,
};

/// Where keys of an output stand.
const OUTPUT: usize = 4;
/// Where those below them stand.
const BELOW: usize = 6;

impl Page<'_> {
    pub(super) fn http(&mut self, http: &HttpSettings) {
        let phases = [
            ("connect_timeout", Some(http.connect_timeout_ms)),
            ("tls_timeout", Some(http.tls_timeout_ms)),
            ("answer_timeout", http.answer_timeout_ms),
        ];
        for (name, ms) in phases {
            if let Some(ms) = ms {
                self.line(OUTPUT, format!("{name}: {}", duration(ms)));
            }
        }
        let proxy = match &http.proxy {
            Proxy::Environment => "environment".to_owned(),
            Proxy::None => "none".to_owned(),
            Proxy::Url(url) => scalar(&secret::hide(url.expose())),
        };
        self.line(OUTPUT, format!("proxy: {proxy}"));
        self.tls(&http.tls);
        self.auth(&http.auth);
        if !http.headers.is_empty() {
            self.line(OUTPUT, "headers:");
        }
        for (name, _) in &http.headers {
            self.line(BELOW, format!("{}: {}", key(name), scalar(HIDDEN)));
        }
    }

    fn tls(&mut self, tls: &Tls) {
        self.line(OUTPUT, "tls:");
        match &tls.ca {
            Some(Authority::Text(text)) => self.line(BELOW, format!("ca: {}", scalar(text))),
            Some(Authority::File(path)) => self.file("ca_file", path),
            None => {}
        }
        if let Some(own) = &tls.certificate {
            self.file("cert_file", &own.cert_file);
            self.file("key_file", &own.key_file);
        }
        if let Some(name) = &tls.server_name {
            self.line(BELOW, format!("server_name: {}", scalar(name)));
        }
        let version = match tls.min_version {
            TlsVersion::V1_2 => "1.2",
            TlsVersion::V1_3 => "1.3",
        };
        self.line(BELOW, format!("min_version: \"{version}\""));
        let insecure = tls.insecure_skip_verify;
        self.line(BELOW, format!("insecure_skip_verify: {insecure}"));
    }

    fn auth(&mut self, auth: &Auth) {
        let name = match auth {
            Auth::None => return,
            Auth::Basic { .. } => "basic",
            Auth::Bearer { .. } => "bearer",
            Auth::ApiKey { .. } => "api_key",
            Auth::OAuth2(_) => "oauth2",
        };
        self.line(OUTPUT, "auth:");
        self.line(BELOW, format!("{name}:"));
        match auth {
            Auth::None => {}
            Auth::Basic { user, password } => {
                self.line(BELOW + 2, format!("user: {}", scalar(user)));
                self.secret("password", password);
            }
            Auth::Bearer { token } => self.secret("token", token),
            Auth::ApiKey { key } => self.secret("key", key),
            Auth::OAuth2(oauth2) => self.oauth2(oauth2),
        }
    }

    fn oauth2(&mut self, oauth2: &OAuth2) {
        let below = BELOW + 2;
        self.line(
            below,
            format!("token_url: {}", scalar(&secret::hide(&oauth2.token_url))),
        );
        self.line(below, format!("client_id: {}", scalar(&oauth2.client_id)));
        self.secret("client_secret", &oauth2.client_secret);
        let scopes = oauth2.scopes.iter().map(|scope| scope.into());
        self.line(below, format!("scopes: {}", bracketed(scopes)));
        if !oauth2.endpoint_params.is_empty() {
            self.line(below, "endpoint_params:");
        }
        for (name, _) in &oauth2.endpoint_params {
            self.line(below + 2, format!("{}: {}", key(name), scalar(HIDDEN)));
        }
        let place = match oauth2.client_auth {
            ClientAuth::Header => "header",
            ClientAuth::Body => "body",
        };
        self.line(below, format!("client_auth: {place}"));
    }

    fn secret(&mut self, name: &str, source: &SecretSource) {
        let line = match source {
            SecretSource::Text(_) => format!("{name}: {}", scalar(HIDDEN)),
            SecretSource::File(path) => {
                format!("{name}_file: {}", scalar(&path.to_string_lossy()))
            }
        };
        self.line(BELOW + 2, line);
    }

    fn file(&mut self, name: &str, path: &Path) {
        let path = scalar(&path.to_string_lossy());
        self.line(BELOW, format!("{name}: {path}"));
    }
}
