//! TLS with destinations: whom a host trusts, and what it shows.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::capabilities::hosts::Host;
use crate::secret::Secret;

/// Authorities in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorities(Arc<[u8]>);

impl Authorities {
    /// # Errors
    /// When there is none in it, or one that cannot be an authority.
    pub fn new(pem: &[u8]) -> Result<Self, String> {
        let authorities = Self(pem.into());
        authorities.roots()?;
        Ok(authorities)
    }

    pub(super) fn roots(&self) -> Result<Arc<RootCertStore>, String> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.0)? {
            roots
                .add(certificate)
                .map_err(|error| format!("it holds a certificate that is no authority: {error}"))?;
        }
        Ok(Arc::new(roots))
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({} bytes)", self.0.len())
    }
}

/// A certificate with its key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    chain: Arc<[u8]>,
    key: Secret,
}

impl Identity {
    /// # Errors
    /// When one of them is none, or they do not belong together.
    pub fn new(chain: &[u8], key: Secret) -> Result<Self, String> {
        let identity = Self {
            chain: chain.into(),
            key,
        };
        config(Arc::new(RootCertStore::empty()), Some(&identity))?;
        Ok(identity)
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| format!("it is not whole: {error}: write its PEM anew"))?;
    if found.is_empty() {
        return Err(
            "it holds no certificate: name a PEM file with `-----BEGIN CERTIFICATE-----`".into(),
        );
    }
    Ok(found)
}

/// What TLS with destinations of these authorities needs.
pub(super) fn config(
    roots: Arc<RootCertStore>,
    identity: Option<&Identity>,
) -> Result<ClientConfig, String> {
    // Not the one of the process: a test, or another library, has not set it.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { chain, key }) => {
            let key = PrivateKeyDer::from_pem_slice(key.reveal().as_bytes()).map_err(
                |_| "the key is none: name a PEM file with a private key that has no passphrase",
            )?;
            builder
                .with_client_auth_cert(certificates(chain)?, key)
                .map_err(|error| match error {
                    rustls::Error::InconsistentKeys(_) => {
                        "the key is not that of the certificate: name two that belong together"
                            .into()
                    }
                    error => format!("they cannot be used: {error}"),
                })?
        }
    };
    config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// What HTTP/2 is called in a handshake.
pub(super) const H2: &[u8] = b"h2";

/// Whose certificate it must be.
pub(super) fn name(host: &Host) -> Option<ServerName<'static>> {
    match host {
        Host::Address(address) => Some(ServerName::from(*address)),
        Host::Name(name) => ServerName::try_from(name.to_string()).ok(),
    }
}
