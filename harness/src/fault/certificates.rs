//! Certificates of tests: an authority, and what it signs, good and bad.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, crypto::ring};

/// Who signs.
#[derive(Debug)]
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub cert: String,
    /// Its key.
    pub key: String,
}

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// 1.2 and 1.3.
    All,
    /// 1.2 alone.
    Only12,
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self { pem, issuer })
    }

    /// Its certificate.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Signs a certificate for a name or an address.
    pub fn sign(&self, name: &str) -> Result<Certificate> {
        self.sign_until(name, 2100)
    }

    /// One whose time is over.
    pub fn sign_expired(&self, name: &str) -> Result<Certificate> {
        self.sign_until(name, 2020)
    }

    fn sign_until(&self, name: &str, year: i32) -> Result<Certificate> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.not_before = date_time_ymd(2010, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?.pem();
        let key = key.serialize_pem();
        Ok(Certificate { cert, key })
    }

    /// What a server speaks that demands a certificate of this authority.
    pub fn demanding(&self, own: &Certificate) -> Result<Arc<ServerConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes())?)?;
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier.build()?);
        let (certs, key) = own.read()?;
        Ok(Arc::new(builder.with_single_cert(certs, key)?))
    }
}

impl Certificate {
    /// One that signs itself.
    pub fn self_signed(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec![name.to_owned()])?;
        let cert = params.self_signed(&key)?.pem();
        let key = key.serialize_pem();
        Ok(Self { cert, key })
    }

    /// What a server speaks that shows this.
    pub fn server(&self, versions: Versions) -> Result<Arc<ServerConfig>> {
        let versions = match versions {
            Versions::All => &[&TLS13, &TLS12][..],
            Versions::Only12 => &[&TLS12],
        };
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)?
            .with_no_client_auth();
        let (certs, key) = self.read()?;
        Ok(Arc::new(builder.with_single_cert(certs, key)?))
    }

    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let certs: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(self.cert.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).context("read the key")?;
        Ok((certs?, key))
    }
}
