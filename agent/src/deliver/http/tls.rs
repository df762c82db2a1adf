//! What TLS is spoken with: authorities, the agent's own certificate, the least version.
//!
//! 1. An authority that is given stands in place of the machine's roots, which are then not read.
//! 2. The machine's roots are read once, at the first connection that needs them, for all outputs.
//! 3. Only `insecure_skip_verify` turns the check of certificates off, and signatures of the
//!    handshake are checked even then.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};

use super::files::Watched;
use crate::base::time::Mono;
use crate::plan::{Authority, Tls, TlsVersion};

/// The machine's roots, once they are read.
pub(super) type Roots = Option<Arc<RootCertStore>>;

/// An output's settings of TLS, read again when their files change.
#[derive(Debug)]
pub(super) struct TlsSource {
    plan: Tls,
    config: Watched<Arc<ClientConfig>>,
}

impl TlsSource {
    pub(super) fn new(output: &str, plan: &Tls) -> Self {
        let mut paths: Vec<PathBuf> = Vec::new();
        if let Some(Authority::File(path)) = &plan.ca {
            paths.push(path.clone());
        }
        if let Some(own) = &plan.certificate {
            paths.extend([own.cert_file.clone(), own.key_file.clone()]);
        }
        Self {
            plan: plan.clone(),
            config: Watched::new(format!("`tls` of the output `{output}`"), paths),
        }
    }

    /// The settings of now, and how often they were made.
    ///
    /// # Errors
    /// Which file cannot be read, or makes no sense.
    pub(super) fn get(
        &mut self,
        now: Mono,
        roots: &mut Roots,
    ) -> Result<(Arc<ClientConfig>, u64), String> {
        let plan = &self.plan;
        self.config.get(now, |files| config(plan, files, roots))
    }
}

/// `files` are those that [`TlsSource::new`] lists.
fn config(plan: &Tls, files: &[Vec<u8>], roots: &mut Roots) -> Result<Arc<ClientConfig>, String> {
    let mut files = files.iter();
    let roots = match &plan.ca {
        None if plan.insecure_skip_verify => Arc::new(RootCertStore::empty()),
        None => machine_roots(roots)?,
        Some(Authority::Text(text)) => authorities(text.as_bytes(), "`tls.ca`")?,
        Some(Authority::File(path)) => {
            let bytes = files.next().map_or(&[][..], Vec::as_slice);
            authorities(bytes, &format!("{} (`tls.ca_file`)", path.display()))?
        }
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(plan.min_version))
        .map_err(|why| format!("set up TLS: {why}"))?;
    let builder = if plan.insecure_skip_verify {
        let verifier = Arc::new(Unverified(provider));
        builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
    } else {
        builder.with_root_certificates(roots)
    };
    let Some(own) = &plan.certificate else {
        return Ok(Arc::new(builder.with_no_client_auth()));
    };
    let (cert, key) = (own.cert_file.display(), own.key_file.display());
    let mut next = || files.next().map_or(&[][..], Vec::as_slice);
    let certs = certificates(next(), &format!("{cert} (`tls.cert_file`)"))?;
    // What the parser says could hold a line of the file.
    let secret = PrivateKeyDer::from_pem_slice(next())
        .map_err(|_| format!("read {key} (`tls.key_file`): no private key as PEM in it"))?;
    let config = builder
        .with_client_auth_cert(certs, secret)
        .map_err(|why| format!("use {cert} with the key in {key}: {why}"))?;
    Ok(Arc::new(config))
}

fn versions(least: TlsVersion) -> Vec<&'static SupportedProtocolVersion> {
    match least {
        TlsVersion::V1_2 => vec![&TLS13, &TLS12],
        TlsVersion::V1_3 => vec![&TLS13],
    }
}

fn machine_roots(roots: &mut Roots) -> Result<Arc<RootCertStore>, String> {
    if let Some(roots) = roots {
        return Ok(Arc::clone(roots));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let why = found
            .errors
            .first()
            .map_or("there are none".to_owned(), ToString::to_string);
        return Err(format!("read the machine's root certificates: {why}"));
    }
    Ok(Arc::clone(roots.insert(Arc::new(store))))
}

fn authorities(pem: &[u8], what: &str) -> Result<Arc<RootCertStore>, String> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem, what)? {
        store
            .add(certificate)
            .map_err(|why| format!("read {what}: {why}"))?;
    }
    Ok(Arc::new(store))
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certs = certs.map_err(|why| format!("read {what}: no certificate as PEM: {why}"))?;
    if certs.is_empty() {
        return Err(format!("read {what}: no certificate as PEM in it"));
    }
    Ok(certs)
}

/// Takes whatever certificate a server shows.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
