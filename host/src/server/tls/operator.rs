//! TLS of the operator's door, and of who knocks there.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
pub use tokio_rustls::TlsConnector;
use tokio_rustls::server::TlsStream;

use super::{CertificateFiles, H1, Tls, certificate_of, files};
use crate::client::ClientCertificate;

impl Tls {
    /// Shakes hands. What the client has shown of itself was verified. There is no deadline in it.
    ///
    /// # Errors
    /// When the client is gone, speaks something else, or shows what it should not.
    pub async fn accept<S>(
        &self,
        stream: S,
    ) -> io::Result<(TlsStream<S>, Option<ClientCertificate>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = TlsAcceptor::from(self.server()).accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates();
        let certificate = match shown.and_then(|chain| chain.first()) {
            Some(shown) => Some(certificate_of(shown).ok_or(io::ErrorKind::InvalidData)?),
            None => None,
        };
        Ok((stream, certificate))
    }
}

/// Shakes hands with who should be `name`, an address or a name of its certificate.
///
/// # Errors
/// When it is not, or does not like what it is shown.
pub async fn connect<S>(
    connector: &TlsConnector,
    name: &str,
    stream: S,
) -> anyhow::Result<tokio_rustls::client::TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(name.to_owned())?;
    Ok(connector.connect(name, stream).await?)
}

/// What reaches a door whose certificate `ca` has signed, and shows one of its own if there is one.
///
/// # Errors
/// When a file cannot be read, or holds something else than it should.
pub fn connector(ca: &Path, own: Option<&CertificateFiles>) -> anyhow::Result<TlsConnector> {
    let roots = files::authorities(ca, &files::read(ca)?)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("setting up TLS")?
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => builder
            .with_client_auth_cert(files::chain(&own.cert)?, files::key(&own.key)?)
            .with_context(|| {
                format!(
                    "`{}` and `{}` are no certificate and its key",
                    own.cert.display(),
                    own.key.display()
                )
            })?,
    };
    config.alpn_protocols = vec![H1.to_vec()];
    Ok(Arc::new(config).into())
}
