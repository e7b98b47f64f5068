//! Which certificate a client is shown, by the name that it asks for, and what is in it for people to know.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, anyhow};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::{CertificateFiles, files};

/// A certificate that is shown to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Where it was read.
    pub file: PathBuf,
    /// The names that it is for, as it says them; `*.example.com` is one.
    pub names: Vec<String>,
    /// From when on it is good.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
}

/// One with its key.
pub(super) struct Certified {
    pub(super) about: Certificate,
    key: Arc<CertifiedKey>,
}

impl Certified {
    pub(super) fn read(of: &CertificateFiles, provider: &CryptoProvider) -> anyhow::Result<Self> {
        let chain = files::chain(&of.cert)?;
        let key = files::key(&of.key)?;
        let about = about(of, chain.first().map_or(&[], |first| first))?;
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => anyhow!(
                "`{}` is not the key of the certificate in `{}`: name two that belong together",
                of.key.display(),
                of.cert.display()
            ),
            error => anyhow!("`{}` cannot be used: {error}", of.key.display()),
        })?;
        Ok(Self {
            about,
            key: Arc::new(key),
        })
    }
}

fn about(of: &CertificateFiles, der: &[u8]) -> anyhow::Result<Certificate> {
    let read = || -> Result<_, x509_cert::der::Error> {
        let certificate = x509_cert::Certificate::from_der(der)?.tbs_certificate;
        let names = certificate.get::<SubjectAltName>()?;
        let names = names.map(|(_, names)| names.0).unwrap_or_default();
        Ok((certificate.validity, names))
    };
    let (validity, names) =
        read().with_context(|| format!("`{}` holds no valid certificate", of.cert.display()))?;
    Ok(Certificate {
        file: of.cert.clone(),
        names: names.iter().filter_map(name).collect(),
        not_before: validity.not_before.to_system_time(),
        not_after: validity.not_after.to_system_time(),
    })
}

fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
        GeneralName::IpAddress(bytes) => match bytes.as_bytes() {
            &[a, b, c, d] => Some(std::net::Ipv4Addr::new(a, b, c, d).to_string()),
            bytes => <[u8; 16]>::try_from(bytes)
                .ok()
                .map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    }
}

/// All certificates of a listener, by the names that they are for.
#[derive(Debug)]
pub(super) struct ByName {
    all: Vec<Arc<CertifiedKey>>,
    /// Places in `all`, in the order of the configuration.
    names: HashMap<String, Vec<usize>>,
}

impl ByName {
    pub(super) fn new(certified: Vec<Certified>) -> Self {
        let mut names: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, one) in certified.iter().enumerate() {
            for name in &one.about.names {
                names.entry(name.clone()).or_default().push(place);
            }
        }
        Self {
            all: certified.into_iter().map(|one| one.key).collect(),
            names,
        }
    }

    /// Those for a name: its own, or else those for all names beside it. Of what nobody has, all.
    fn of(&self, name: Option<&str>) -> Vec<&Arc<CertifiedKey>> {
        let places = name.and_then(|name| {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            let beside = || {
                let (_, parent) = name.split_once('.')?;
                self.names.get(&format!("*.{parent}"))
            };
            self.names.get(&name).or_else(beside)
        });
        match places {
            Some(places) => places.iter().filter_map(|at| self.all.get(*at)).collect(),
            None => self.all.iter().collect(),
        }
    }
}

impl ResolvesServerCert for ByName {
    /// Of several for one name, the first with a key that the client can verify.
    fn resolve(&self, client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let those = self.of(client.server_name());
        let can_verify = |one: &&&Arc<CertifiedKey>| {
            let schemes = client.signature_schemes();
            one.key.choose_scheme(schemes).is_some()
        };
        let one = those.iter().find(can_verify).or_else(|| those.first());
        one.map(|one| Arc::clone(one))
    }
}
