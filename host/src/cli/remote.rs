//! A running host, as the subcommands that change it reach it: HTTP/1.1 to its admin door.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

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

use super::{print, say};
use crate::admin::{Address, Problem, Token};

/// Which host.
#[derive(Debug, Args)]
pub(super) struct RemoteArgs {
    /// Its admin door, as `host serve --admin` has it [default: `$XDG_RUNTIME_DIR/host/admin.sock`, or
    /// `/run/host/admin.sock`].
    #[arg(long, env = "HOST_ADMIN", value_name = "SOCKET|ADDRESS")]
    admin: Option<Address>,
    /// The file with its token, for an address.
    #[arg(long, env = "HOST_ADMIN_TOKEN_FILE", value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// Print what the host answers, as JSON.
    #[arg(long)]
    json: bool,
}

/// A running host.
pub(super) struct Remote {
    address: Address,
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
        Ok(Remote {
            address: self.admin.clone().unwrap_or_else(default_address),
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
            print(text.trim_end());
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
                self.address
            );
        };
        if self.is_json {
            print(String::from_utf8_lossy(body).trim_end());
        }
        say(&format!("error: {}", problem.detail));
        Ok(ExitCode::FAILURE)
    }

    /// A request with what every one has.
    pub(super) fn request(&self, method: Method, target: &str) -> http::request::Builder {
        let host = match &self.address {
            Address::Unix(_) => "localhost".to_owned(),
            Address::Tcp(address) => address.to_string(),
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
                self.address
            )
        };
        match &self.address {
            Address::Unix(path) => {
                exchange(
                    UnixStream::connect(path).await.with_context(absent)?,
                    request,
                )
                .await
            }
            Address::Tcp(address) => {
                exchange(
                    TcpStream::connect(address).await.with_context(absent)?,
                    request,
                )
                .await
            }
        }
    }
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
    for row in rows {
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
