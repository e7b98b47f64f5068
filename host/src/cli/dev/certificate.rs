//! A certificate of one's own, for HTTPS on one's own machine.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use jiff::{Span, Zoned};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};

use crate::server::{CertificateFiles, Tls, TlsConfig};

/// The names of one's own machine.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// How long one is good. Browsers refuse those of more than two years.
const DAYS: i64 = 365;
/// One that ends sooner is made anew.
const LEFT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where it is. It is kept, so that whoever has told a browser to trust it need not do so again.
pub(super) fn own() -> anyhow::Result<CertificateFiles> {
    let directory = directory().context(
        "there is no place for a certificate: set HOME or XDG_STATE_HOME, or name one with `--tls-cert` and `--tls-key`",
    )?;
    let files = CertificateFiles {
        cert: directory.join("localhost.pem"),
        key: directory.join("localhost.key"),
    };
    if !is_good(&files) {
        make(&directory, &files)
            .with_context(|| format!("making a certificate in `{}`", directory.display()))?;
    }
    Ok(files)
}

fn directory() -> Option<PathBuf> {
    let path = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let state = path("XDG_STATE_HOME").or_else(|| Some(path("HOME")?.join(".local/state")))?;
    Some(state.join("host/dev"))
}

fn is_good(files: &CertificateFiles) -> bool {
    let tls = Tls::load(TlsConfig {
        certificates: vec![files.clone()],
        client_certificates: None,
    });
    tls.is_ok_and(|tls| {
        let lasts = |end: SystemTime| {
            end.duration_since(SystemTime::now())
                .is_ok_and(|it| it > LEFT)
        };
        tls.certificates().iter().all(|one| lasts(one.not_after))
    })
}

fn make(directory: &Path, files: &CertificateFiles) -> anyhow::Result<()> {
    let mut params = CertificateParams::new(NAMES.map(str::to_owned))?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "host dev");
    params.distinguished_name = name;
    let day = |days: i64| -> anyhow::Result<_> {
        let day = Zoned::now()
            .date()
            .checked_add(Span::new().try_days(days)?)?;
        let (month, of_month) = (u8::try_from(day.month())?, u8::try_from(day.day())?);
        Ok(date_time_ymd(i32::from(day.year()), month, of_month))
    };
    (params.not_before, params.not_after) = (day(-1)?, day(DAYS)?);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    fs::create_dir_all(directory)?;
    write(directory, &files.key, &key.serialize_pem())?;
    write(directory, &files.cert, &certificate.pem())
}

/// Whole or not at all, and for its owner alone.
fn write(directory: &Path, file: &Path, text: &str) -> anyhow::Result<()> {
    let mut written = tempfile::NamedTempFile::new_in(directory)?;
    written.write_all(text.as_bytes())?;
    written.persist(file)?;
    Ok(())
}
