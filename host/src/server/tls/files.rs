//! Certificates, keys and authorities as they lie on disk: PEM.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::limits;

/// All that is in a file, if it is not more than it may be.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let mut bytes = Vec::new();
    let file = crate::files::open(path).with_context(|| format!("`{shown}` cannot be read"))?;
    file.take(limits::TLS_FILE as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("`{shown}` cannot be read"))?;
    if bytes.len() > limits::TLS_FILE {
        bail!(
            "`{shown}` has more than {} bytes: name a file of certificates",
            limits::TLS_FILE
        );
    }
    Ok(bytes)
}

/// A certificate and those that lead from it to an authority.
pub(super) fn chain(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    certificates(path, &read(path)?)
}

/// The first private key of a file.
pub(super) fn key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| {
        anyhow::anyhow!(
            "`{}` holds no private key: name a PEM file with one that has no passphrase",
            path.display()
        )
    })
}

/// Who signs the certificates of clients.
pub(super) fn authorities(path: &Path, text: &[u8]) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, text)? {
        roots.add(certificate).with_context(|| {
            format!(
                "`{}` holds a certificate that cannot be an authority",
                path.display()
            )
        })?;
    }
    Ok(roots)
}

/// There is at least one.
fn certificates(path: &Path, text: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let shown = path.display();
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found = found
        .map_err(|error| anyhow::anyhow!("`{shown}` is not whole: {error}: write its PEM anew"))?;
    if found.is_empty() {
        bail!("`{shown}` holds no certificate: name a PEM file with `-----BEGIN CERTIFICATE-----`");
    }
    Ok(found)
}
