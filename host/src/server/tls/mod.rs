//! TLS at a listener: what it is set up with, and that it can be set up anew while connections are open.
//!
//! rustls does the protocol, with ring; nothing of either is chosen elsewhere. A connection takes what holds when it
//! comes, so files that have changed concern the next one and no other. `files` reads them, `certificates` chooses one by
//! the name that a client asks for, `handshake` is the beginning of a connection, and `session` what it goes on with. The operator's door has less to do: `operator`.

mod certificates;
mod client;
mod files;
mod handshake;
mod operator;
mod session;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};

pub use certificates::Certificate;
pub(super) use client::certificate_of;
pub(super) use handshake::{Fault, IN_THE_CLEAR, shake_hands};
pub use operator::{TlsConnector, connect, connector};
pub(super) use session::Session;

use certificates::{ByName, Certified};

/// What a listener has for TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The first is shown to who asks for no name, or for one that none of them has. There is at least one.
    pub certificates: Vec<CertificateFiles>,
    /// Whether clients show one too. None: they are not asked.
    pub client_certificates: Option<ClientCertificates>,
}

/// Where a certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, then those that lead to an authority, in PEM.
    pub cert: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// Which clients are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The authorities that sign theirs, in PEM.
    pub ca: PathBuf,
    /// Who shows none is not let in. Otherwise it only must not be a wrong one.
    pub required: bool,
}

/// TLS of one listener, as it is now.
pub struct Tls {
    /// What is wanted. It is what there is, unless its files are bad.
    wanted: ArcSwap<TlsConfig>,
    protocols: &'static [&'static [u8]],
    now: ArcSwap<Loaded>,
    changing: Mutex<()>,
}

struct Loaded {
    server: Arc<ServerConfig>,
    certificates: Vec<Certificate>,
    /// Which clients are known, and the file of their authorities as it was.
    clients: Option<(ClientCertificates, Vec<u8>)>,
}

impl Tls {
    /// Reads all the files.
    ///
    /// # Errors
    /// When one cannot be read, or holds something else than it should.
    pub fn load(config: TlsConfig) -> anyhow::Result<Self> {
        Self::load_for(config, &[H2, H1])
    }

    /// The same for a door that speaks HTTP/1.1 alone.
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub fn load_for_http_1(config: TlsConfig) -> anyhow::Result<Self> {
        Self::load_for(config, &[H1])
    }

    fn load_for(config: TlsConfig, protocols: &'static [&'static [u8]]) -> anyhow::Result<Self> {
        let loaded = Loaded::read(&config, protocols, None)?;
        Ok(Self {
            wanted: ArcSwap::from_pointee(config),
            protocols,
            now: ArcSwap::from_pointee(loaded),
            changing: Mutex::default(),
        })
    }

    /// Reads them again. Connections that come from now on get what is in them; those that are open keep what they have.
    ///
    /// # Errors
    /// As [`Tls::load`]; then nothing has changed.
    pub fn reload(&self) -> anyhow::Result<()> {
        let changing = self.changing.lock();
        self.read(&changing.unwrap_or_else(PoisonError::into_inner))
    }

    /// One at a time: what is wanted and what is read of it belong together.
    fn read(&self, _: &MutexGuard<'_, ()>) -> anyhow::Result<()> {
        let loaded = Loaded::read(&self.wanted.load(), self.protocols, Some(&self.now.load()))?;
        self.now.store(Arc::new(loaded));
        Ok(())
    }

    /// Other files are wanted from now on, or the same. Says whether anything has changed by that.
    ///
    /// # Errors
    /// As [`Tls::load`]; then what there was stays until they are good.
    pub fn want(&self, config: &TlsConfig) -> anyhow::Result<bool> {
        let changing = self.changing.lock();
        let changing = changing.unwrap_or_else(PoisonError::into_inner);
        if **self.wanted.load() == *config {
            return Ok(false);
        }
        self.wanted.store(Arc::new(config.clone()));
        self.read(&changing).map(|()| true)
    }

    /// The files that it should be made of.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let wanted = self.wanted.load();
        let certificates = wanted.certificates.iter();
        let authorities = wanted.client_certificates.iter();
        certificates
            .flat_map(|files| [files.cert.clone(), files.key.clone()])
            .chain(authorities.map(|clients| clients.ca.clone()))
            .collect()
    }

    /// What it shows to clients now.
    #[must_use]
    pub fn certificates(&self) -> Vec<Certificate> {
        self.now.load().certificates.clone()
    }

    /// For a connection that comes now.
    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.now.load().server)
    }
}

impl Loaded {
    fn read(
        config: &TlsConfig,
        protocols: &[&[u8]],
        former: Option<&Self>,
    ) -> anyhow::Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let certified = config.certificates.iter();
        let certified = certified
            .map(|files| Certified::read(files, &provider))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let certificates = certified.iter().map(|it| it.about.clone()).collect();
        let clients = match &config.client_certificates {
            Some(clients) => Some((clients.clone(), files::read(&clients.ca)?)),
            None => None,
        };
        // A ticket stands for a certificate that was looked at once, or for none: where others are known, or must be, none
        // of the old ones holds.
        let tickets = former
            .filter(|former| former.clients == clients)
            .map(|former| Arc::clone(&former.server.ticketer));
        let tickets = match tickets {
            Some(tickets) => tickets,
            None => ring::Ticketer::new().context("making the keys of TLS sessions")?,
        };
        let mut server = server(provider, certified, clients.as_ref())?;
        server.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
        // A session is in its ticket, which the client keeps; clients of TLS 1.2 that have no tickets shake hands anew.
        server.ticketer = tickets;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self {
            server: Arc::new(server),
            certificates,
            clients,
        })
    }
}

fn server(
    provider: Arc<CryptoProvider>,
    certified: Vec<Certified>,
    clients: Option<&(ClientCertificates, Vec<u8>)>,
) -> anyhow::Result<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .context("setting up TLS")?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some((clients, authorities)) => {
            let roots = files::authorities(&clients.ca, authorities)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if clients.required {
                verifier
            } else {
                verifier.allow_unauthenticated()
            };
            let verifier = verifier.build().with_context(|| {
                format!("`{}` cannot tell who a client is", clients.ca.display())
            })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    Ok(builder.with_cert_resolver(Arc::new(ByName::new(certified))))
}

/// What HTTP/2 is called in ALPN (RFC 9113, 3.2).
const H2: &[u8] = b"h2";
/// And HTTP/1.1 (RFC 7301, 6).
const H1: &[u8] = b"http/1.1";
