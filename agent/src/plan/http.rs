//! How an output's servers are spoken to: TLS, authentication, proxy, headers, time for each phase.
//!
//! 1. Secrets are [`Secret`]s or stand in files that are named here: nothing here prints one.
//! 2. What stands here is used for the output's servers and for its token endpoint alike, but for
//!    `Tls::server_name` and `headers`, which are for the output's servers alone.

use std::path::{Path, PathBuf};

use super::secret::Secret;

/// How an output's servers are spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// For `https` URLs.
    pub tls: Tls,
    /// What makes the `Authorization` header.
    pub auth: Auth,
    /// Through what connections go.
    pub proxy: Proxy,
    /// Sent with every request beside the agent's own; names are valid and not the agent's.
    pub headers: Vec<(String, Secret)>,
    /// Looking the name up and connecting may take this many milliseconds; so may a proxy's part.
    pub connect_timeout_ms: u64,
    /// A TLS handshake may take this many milliseconds.
    pub tls_timeout_ms: u64,
    /// From the connection to the answer's head, in milliseconds; `None` = as long as the whole.
    pub answer_timeout_ms: Option<u64>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            tls: Tls::default(),
            auth: Auth::None,
            proxy: Proxy::Environment,
            headers: Vec::new(),
            connect_timeout_ms: 5_000,
            tls_timeout_ms: 10_000,
            answer_timeout_ms: None,
        }
    }
}

impl HttpSettings {
    /// Every file that is read while the agent runs, with the key that names it.
    #[must_use]
    pub fn files(&self) -> Vec<(&'static str, &Path)> {
        let mut files = Vec::new();
        if let Some(Authority::File(path)) = &self.tls.ca {
            files.push(("tls.ca_file", path.as_path()));
        }
        if let Some(own) = &self.tls.certificate {
            files.push(("tls.cert_file", own.cert_file.as_path()));
            files.push(("tls.key_file", own.key_file.as_path()));
        }
        let (name, source) = match &self.auth {
            Auth::None => return files,
            Auth::Basic { password, .. } => ("auth.basic.password_file", password),
            Auth::Bearer { token } => ("auth.bearer.token_file", token),
            Auth::ApiKey { key } => ("auth.api_key.key_file", key),
            Auth::OAuth2(oauth2) => ("auth.oauth2.client_secret_file", &oauth2.client_secret),
        };
        if let SecretSource::File(path) = source {
            files.push((name, path));
        }
        files
    }
}

/// TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Who signs the servers' certificates; in place of the machine's roots.
    pub ca: Option<Authority>,
    /// The agent's own certificate, for servers that ask for one.
    pub certificate: Option<ClientCertificate>,
    /// The name that the servers' certificates must bear, instead of the URL's host.
    pub server_name: Option<String>,
    /// The least version that is spoken.
    pub min_version: TlsVersion,
    /// Whether any certificate is taken: whoever is on the way can read and change all.
    pub insecure_skip_verify: bool,
}

/// Certificates of authorities, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// In the config.
    Text(String),
    /// In a file.
    File(PathBuf),
}

/// A certificate and its key, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, then those of its signers.
    pub cert_file: PathBuf,
    /// Its private key, not encrypted.
    pub key_file: PathBuf,
}

/// Versions of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2 and 1.3.
    #[default]
    V1_2,
    /// 1.3.
    V1_3,
}

/// A secret, or where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In the config.
    Text(Secret),
    /// In a file, whose white space at both ends is left out.
    File(PathBuf),
}

/// What makes the `Authorization` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Nothing but user name and password of a URL.
    None,
    /// User name and password.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: SecretSource,
    },
    /// A bearer token.
    Bearer {
        /// The token.
        token: SecretSource,
    },
    /// Elasticsearch's API key.
    ApiKey {
        /// As the server gave it out (`encoded`), or `id:key`.
        key: SecretSource,
    },
    /// A bearer token that is fetched.
    OAuth2(OAuth2),
}

/// OAuth 2.0 client credentials (RFC 6749, section 4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuth2 {
    /// The token endpoint; bears no user name.
    pub token_url: String,
    /// Who asks.
    pub client_id: String,
    /// Its secret.
    pub client_secret: SecretSource,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// Further parameters of the request, such as `audience`.
    pub endpoint_params: Vec<(String, Secret)>,
    /// Where id and secret stand in it.
    pub client_auth: ClientAuth,
}

/// Where a client's id and secret stand in a token request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// In its `Authorization` header.
    #[default]
    Header,
    /// In its body.
    Body,
}

/// Through what connections go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// What `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` say.
    Environment,
    /// Nothing.
    None,
    /// This one, an `http` or `https` URL that may hold a user name and password.
    Url(Secret),
}
