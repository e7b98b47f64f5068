//! A running host, as the subcommands that change it reach it: HTTP/1.1 to its admin door.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::{print, print_exactly, say};
use crate::admin::{Address, Problem, Token};
use crate::names::legible;
use crate::server::{CertificateFiles, TlsConnector, connect, connector};

/// Which host.
#[derive(Debug, Args)]
pub(super) struct RemoteArgs {
    /// Its admin door, as `host serve --admin` has it [default: `$XDG_RUNTIME_DIR/host/admin.sock`, or
    /// `/run/host/admin.sock`].
    #[arg(
        long,
        env = "HOST_ADMIN",
        value_name = "SOCKET|ADDRESS|https://NAME:PORT"
    )]
    admin: Option<Place>,
    /// The file with its token, for an address.
    #[arg(long, env = "HOST_ADMIN_TOKEN_FILE", value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// The authorities that sign the certificate of `https://NAME:PORT`, or that certificate itself, in PEM.
    #[arg(long, env = "HOST_ADMIN_CA", value_name = "FILE")]
    admin_ca: Option<PathBuf>,
    /// The certificate that is shown there, in PEM.
    #[arg(
        long,
        env = "HOST_ADMIN_CERT",
        value_name = "FILE",
        requires = "admin_key"
    )]
    admin_cert: Option<PathBuf>,
    /// Its private key, in PEM.
    #[arg(
        long,
        env = "HOST_ADMIN_KEY",
        value_name = "FILE",
        requires = "admin_cert"
    )]
    admin_key: Option<PathBuf>,
    /// Print what the host answers, as JSON.
    #[arg(long)]
    json: bool,
}

/// Where an admin door is, for who knocks there.
#[derive(Debug, Clone)]
enum Place {
    Clear(Address),
    /// A name, which its certificate has, and a port.
    Https(String, u16),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(place) = text.strip_prefix("https://") else {
            return text.parse().map(Self::Clear);
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        let parts = place.rsplit_once(':');
        let parts = parts.and_then(|(name, port)| Some((name, port.parse().ok()?)));
        match parts {
            Some((name, port)) if !name.is_empty() && !name.contains('/') => {
                Ok(Self::Https(name.to_owned(), port))
            }
            _ => Err("not a place: write `https://NAME:PORT`".to_owned()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clear(address) => address.fmt(f),
            Self::Https(name, port) => write!(f, "https://{name}:{port}/"),
        }
    }
}

/// A running host.
pub(super) struct Remote {
    place: Place,
    connector: Option<TlsConnector>,
    token: Option<Token>,
    is_json: bool,
}

/// Where a host has its admin door if nobody says another place.
pub(super) fn default_address() -> Address {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty());
    let runtime = runtime.unwrap_or_else(|| "/run".into());
    Address::Unix(Path::new(&runtime).join("host/admin.sock"))
}

impl RemoteArgs {
    pub(super) fn remote(&self) -> anyhow::Result<Remote> {
        let place = self.admin.clone();
        let place = place.unwrap_or_else(|| Place::Clear(default_address()));
        let connector = match &place {
            Place::Clear(_) => None,
            Place::Https(..) => {
                let ca = self.admin_ca.as_deref().with_context(|| {
                    format!("nobody is trusted to sign the certificate of `{place}`: name an authority, or that certificate, with `--admin-ca`")
                })?;
                let own = self.admin_cert.clone().zip(self.admin_key.clone());
                let own = own.map(|(cert, key)| CertificateFiles { cert, key });
                Some(connector(ca, own.as_ref())?)
            }
        };
        Ok(Remote {
            place,
            connector,
            token: self
                .admin_token_file
                .as_deref()
                .map(Token::read)
                .transpose()?,
            is_json: self.json,
        })
    }
}

impl Remote {
    /// Whether what the host says is to be printed as it is.
    pub(super) fn is_json(&self) -> bool {
        self.is_json
    }

    /// Asks, and prints the answer: as JSON, or as `show` makes of it.
    pub(super) async fn print<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        show: impl FnOnce(T) -> String,
    ) -> anyhow::Result<ExitCode> {
        let request = self.request(method, target).body(Full::default())?;
        let response = self.send(request).await?;
        self.print_response(response, show).await
    }

    /// Prints an answer that has come. One that says no is told, and is exit code 1.
    pub(super) async fn print_response<T: DeserializeOwned>(
        &self,
        response: Response<Incoming>,
        show: impl FnOnce(T) -> String,
    ) -> anyhow::Result<ExitCode> {
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .context("reading what the host answers")?
            .to_bytes();
        if !status.is_success() {
            return self.refused(status, &body);
        }
        let text = String::from_utf8_lossy(&body);
        if self.is_json {
            print_exactly(text.trim_end());
        } else {
            print(&show(
                serde_json::from_str(&text).context("what answers is no admin door of a `host`")?,
            ));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Says why not.
    pub(super) fn refused(&self, status: StatusCode, body: &[u8]) -> anyhow::Result<ExitCode> {
        let Ok(problem) = serde_json::from_slice::<Problem>(body) else {
            bail!(
                "the host answers {status}: what is at {} is no admin door",
                self.place
            );
        };
        if self.is_json {
            print_exactly(String::from_utf8_lossy(body).trim_end());
        }
        say(&format!("error: {}", problem.detail));
        Ok(ExitCode::FAILURE)
    }

    /// A request with what every one has.
    pub(super) fn request(&self, method: Method, target: &str) -> http::request::Builder {
        let host = match &self.place {
            Place::Clear(Address::Unix(_)) => "localhost".to_owned(),
            Place::Clear(Address::Tcp(address)) => address.to_string(),
            Place::Https(name, port) => format!("{name}:{port}"),
        };
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, host);
        match &self.token {
            Some(token) => {
                request.header(header::AUTHORIZATION, format!("Bearer {}", token.reveal()))
            }
            None => request,
        }
    }

    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> anyhow::Result<Response<Incoming>> {
        let absent = || {
            format!(
                "no host answers at `{}`: start one with `host serve --admin`, or say where it is with `--admin`",
                self.place
            )
        };
        match &self.place {
            Place::Clear(Address::Unix(path)) => {
                exchange(
                    UnixStream::connect(path).await.with_context(absent)?,
                    request,
                )
                .await
            }
            Place::Clear(Address::Tcp(address)) => {
                exchange(
                    TcpStream::connect(address).await.with_context(absent)?,
                    request,
                )
                .await
            }
            Place::Https(name, port) => {
                let stream = TcpStream::connect((bare(name), *port)).await;
                let stream = stream.with_context(absent)?;
                let connector = self.connector.as_ref().context("there is no TLS")?;
                let shaken = connect(connector, bare(name), stream).await;
                let stream =
                    shaken.with_context(|| format!("`{}` is not who it should be", self.place))?;
                exchange(stream, request).await
            }
        }
    }
}

/// An address of IPv6 without what it has around it in a URL.
fn bare(name: &str) -> &str {
    let inner = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    inner.unwrap_or(name)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<Response<Incoming>> {
    const TALKING: &str = "talking to the host";
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .context(TALKING)?;
    // What goes wrong with it is told to who reads the answer.
    tokio::spawn(connection);
    sender.send_request(request).await.context(TALKING)
}

/// A target with a query.
pub(super) fn target(path: &str, parameters: &[(&str, String)]) -> String {
    if parameters.is_empty() {
        return path.to_owned();
    }
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(parameters)
        .finish();
    format!("{path}?{query}")
}

/// A digest, as far as people read it.
pub(super) fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// `1.4 MiB`.
#[allow(clippy::cast_precision_loss, reason = "for people")]
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}

/// Columns with two spaces between them.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    // A longer cell moves the rest of its own row only.
    const WIDEST: usize = 24;
    let cells = |row: &Vec<String>| row.iter().map(|cell| legible(cell)).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
            .min(WIDEST)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut lines = Vec::new();
    for row in &rows {
        let padded = row
            .iter()
            .zip(&widths)
            .map(|(text, &width)| format!("{text:width$}  "));
        let line: String = padded.collect();
        lines.push(line.trim_end().to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_whole_and_a_long_cell_moves_its_own_row_only() {
        let row = |name: &str, route: &str| vec![name.to_owned(), route.to_owned()];
        let long = "n".repeat(63);
        let shown = table(&[
            row("NAME", "ROUTE"),
            row("shop", "/shop/*"),
            row(&long, "/long/*"),
        ]);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0].find("ROUTE"), lines[1].find("/shop/*"));
        assert!(lines[1].len() < 40, "{shown}");
        assert_eq!(lines[2], format!("{long}  /long/*"));
    }

    #[test]
    fn a_query_holds_anything() {
        let target = target(
            "/handlers/shop",
            &[
                ("route", "a.b/x/*".to_owned()),
                ("env", "A=b&c=d e".to_owned()),
            ],
        );
        assert_eq!(
            target,
            "/handlers/shop?route=a.b%2Fx%2F*&env=A%3Db%26c%3Dd+e"
        );
    }
}
