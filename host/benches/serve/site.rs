//! A host of a file, with a door for its operator and its tenants.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::contender::{Contender, Installed};

/// What a tenant shows at the door; in `tenant.token`.
pub(crate) const TOKEN: &str = "tenanttenanttenant";

/// Its files go with it.
pub(crate) struct Site {
    pub(crate) host: Contender,
    pub(crate) door: Door,
    _here: TempDir,
}

impl Site {
    /// `text` is what its file says besides the door.
    pub(crate) fn new(
        case: &'static str,
        text: &str,
        installed: &Installed,
    ) -> anyhow::Result<Self> {
        let here = tempfile::tempdir().context("making a temporary directory")?;
        let file = here.path().join("host.toml");
        let text =
            format!("[admin]\nsocket = \"admin.sock\"\n[state]\ndirectory = \"state\"\n{text}");
        fs::write(&file, text).with_context(|| format!("writing `{}`", file.display()))?;
        fs::write(here.path().join("tenant.token"), TOKEN).context("writing a token")?;
        Ok(Self {
            host: installed.host(case, &file, &[]),
            door: Door(here.path().join("admin.sock")),
            _here: here,
        })
    }
}

/// The door, by its socket.
#[derive(Clone)]
pub(crate) struct Door(PathBuf);

impl Door {
    /// Deploys to `target`, a handler's path with a query, as the operator or as whose the token is: the answer's status.
    pub(crate) async fn deploy(
        &self,
        target: &str,
        token: Option<&str>,
        component: &[u8],
    ) -> anyhow::Result<u16> {
        let token = token.map_or_else(String::new, |token| {
            format!("authorization: Bearer {token}\r\n")
        });
        let answer = self
            .ask(&format!("PUT {target}"), &token, component)
            .await?;
        let status = answer
            .split(' ')
            .nth(1)
            .context("an answer without a status")?;
        Ok(status.parse()?)
    }

    pub(crate) async fn metrics(&self) -> anyhow::Result<Metrics> {
        let page = self.ask("GET /metrics", "", &[]).await?;
        ensure!(page.starts_with("HTTP/1.1 200"), "answered `{page}`");
        Ok(Metrics(page))
    }

    async fn ask(&self, what: &str, headers: &str, body: &[u8]) -> anyhow::Result<String> {
        let mut stream = UnixStream::connect(&self.0).await?;
        let length = body.len();
        let head = format!(
            "{what} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        // Who is refused is answered before all is sent, and then the connection closes.
        stream.write_all(body).await.ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        ensure!(!answer.is_empty(), "the operator's door does not answer");
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

/// The page with all metrics.
pub(crate) struct Metrics(String);

impl Metrics {
    /// Of a metric as it stands there, with its labels.
    pub(crate) fn value(&self, metric: &str) -> anyhow::Result<f64> {
        let said = self
            .0
            .lines()
            .find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
        let value = said.with_context(|| format!("no `{metric}` among the metrics"))?;
        Ok(value.trim().parse()?)
    }
}
