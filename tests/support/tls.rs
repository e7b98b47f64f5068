//! Authorities, certificates and clients of TLS.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ALL_VERSIONS, ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore,
    StreamOwned, SupportedProtocolVersion,
};

use super::h1::{Connection, Stream};
use super::{PATIENCE, TestHost};

/// Who signs.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key, in PEM.
pub(crate) struct Signed {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).expect("an authority"),
        }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// For a server of these names.
    pub(crate) fn sign(&self, names: &[&str]) -> Signed {
        self.sign_params(params(names))
    }

    /// For a client, or whoever has a subject.
    pub(crate) fn sign_subject(&self, subject: &[(DnType, &str)]) -> Signed {
        let mut params = params(&[]);
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        self.sign_params(params)
    }

    /// For a server of this name, until the last of a year.
    pub(crate) fn sign_until(&self, name: &str, year: i32) -> Signed {
        let mut params = params(&[name]);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(year, 12, 31);
        self.sign_params(params)
    }

    fn sign_params(&self, params: CertificateParams) -> Signed {
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("signed");
        Signed {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).expect("names")
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

impl Signed {
    /// Writes `NAME.pem` and `NAME.key`, each whole in one step.
    pub(crate) fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let cert = directory.join(format!("{name}.pem"));
        let key = directory.join(format!("{name}.key"));
        for (file, text) in [(&key, &self.key), (&cert, &self.cert)] {
            let new = file.with_extension("new");
            std::fs::write(&new, text).expect("written");
            std::fs::rename(&new, file).expect("renamed");
        }
        (cert, key)
    }
}

/// A client of TLS. It keeps its sessions, and takes them up.
pub(crate) struct TlsClient {
    config: Arc<ClientConfig>,
}

/// What a client has come to know.
pub(crate) struct Shaken {
    pub(crate) connection: Connection,
    pub(crate) is_resumed: bool,
    pub(crate) version: ProtocolVersion,
    pub(crate) protocol: Option<Vec<u8>>,
    /// The certificate that it was shown.
    pub(crate) certificate: CertificateDer<'static>,
}

impl TlsClient {
    /// It trusts `authority` and speaks HTTP/1.1.
    pub(crate) fn trusting(authority: &Authority) -> Self {
        Self::trusting_only(&authority.pem())
    }

    /// It trusts this certificate, in PEM.
    pub(crate) fn trusting_only(pem: &str) -> Self {
        Self::of(pem, ALL_VERSIONS, None)
    }

    /// The same with TLS of these versions alone.
    pub(crate) fn of_versions(
        authority: &Authority,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        Self::of(&authority.pem(), versions, None)
    }

    /// The same with a certificate of its own.
    pub(crate) fn with_certificate(authority: &Authority, own: &Signed) -> Self {
        Self::of(&authority.pem(), ALL_VERSIONS, Some(own))
    }

    fn of(
        trusted: &str,
        versions: &[&'static SupportedProtocolVersion],
        own: Option<&Signed>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(trusted.as_bytes()).expect("PEM");
        roots.add(ca).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let cert = CertificateDer::from_pem_slice(own.cert.as_bytes()).expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("PEM");
                let pair = builder.with_client_auth_cert(vec![cert], key);
                pair.expect("a certificate and its key")
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self {
            config: Arc::new(config),
        }
    }

    pub(crate) fn speaking(mut self, protocols: &[&str]) -> Self {
        let protocols = protocols.iter();
        let config = Arc::make_mut(&mut self.config);
        config.alpn_protocols = protocols.map(|it| it.as_bytes().to_vec()).collect();
        self
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// Shakes hands with who is at `address` and should be `name`.
    pub(crate) fn try_connect(&self, address: SocketAddr, name: &str) -> io::Result<Shaken> {
        let stream = TcpStream::connect(address)?;
        self.try_over(stream, name)
    }

    /// The same on a connection that is open.
    pub(crate) fn try_over(&self, mut stream: TcpStream, name: &str) -> io::Result<Shaken> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut tls = ClientConnection::new(self.config(), name).expect("a client");
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        Ok(Shaken {
            is_resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
            version: tls.protocol_version().expect("shaken"),
            protocol: tls.alpn_protocol().map(<[u8]>::to_vec),
            certificate: tls.peer_certificates().expect("shown")[0]
                .clone()
                .into_owned(),
            connection: Connection::over(Stream::Tls(Box::new(StreamOwned::new(tls, stream)))),
        })
    }

    pub(crate) fn connect(&self, host: &TestHost, name: &str) -> Shaken {
        self.try_connect(host.address, name).expect("a handshake")
    }
}
