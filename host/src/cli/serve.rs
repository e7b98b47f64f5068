//! `host serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::task::JoinSet;

use super::check::BAD_CONFIGURATION;
use super::guest::GuestArgs;
use super::{say, values};
use crate::app::{self, Follower, Settings, Subject};
use crate::catalog::{Deployer, HandlerSpec, Rollout};
use crate::config;
use crate::gate::Gate;
use crate::limits::{self, DoorLimits, HandlerLimits};
use crate::observe::access_log::Format;
use crate::observe::log;

/// Serve a component over HTTP, a directory of them, or all that a file says.
///
/// Of a directory, each `NAME.wasm` is served at `/NAME/`, and `index.wasm` at `/`. A file that is put there, replaced
/// or deleted is deployed, replaced or undeployed, without a request that fails.
///
/// The file of a host says the rest itself: see `host schema`, and `host check HOST.TOML`. What it says of handlers is
/// taken up when it changes.
///
/// Prints `Serving HTTP on http://ADDRESS/` on stderr once it listens. The access log goes to stdout,
/// what the guest prints and what the host says to stderr. SIGTERM and SIGINT let requests in flight
/// finish; a second signal does not.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The component's file, a directory of them, or the file of a whole host.
    #[arg(value_name = "GUEST.WASM|DIRECTORY|HOST.TOML")]
    guest: PathBuf,
    #[command(flatten)]
    door: DoorArgs,
    #[command(flatten)]
    of_guest: GuestArgs,
}

/// Where and how to serve.
#[derive(Debug, Args)]
pub(super) struct DoorArgs {
    /// Where to listen; port 0 takes any free one [default: 127.0.0.1:8080, or PORT of it].
    #[arg(long, env = "HOST_ADDR", value_name = "ADDRESS", value_parser = values::address)]
    addr: Option<SocketAddr>,
    /// Connections open at once; more wait to be accepted.
    #[arg(long, value_name = "COUNT", value_parser = values::count, default_value = "10000", help_heading = "Limits of connections")]
    max_concurrent_connections: usize,
    /// Bytes of a request's head, its first line included.
    #[arg(long, value_name = "SIZE", value_parser = values::head, default_value = "64KiB", help_heading = "Limits of connections")]
    max_request_head: usize,
    /// Header fields of a request.
    #[arg(long, value_name = "COUNT", value_parser = values::fields, default_value = "100", help_heading = "Limits of connections")]
    max_request_headers: usize,
    /// How long a new connection may send nothing.
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "10s", help_heading = "Limits of connections")]
    first_byte_timeout: Duration,
    /// How long a request's head may take, from its first byte to its last.
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "10s", help_heading = "Limits of connections")]
    header_timeout: Duration,
    /// How long a connection may rest between requests.
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "60s", help_heading = "Limits of connections")]
    idle_timeout: Duration,
    /// How long a client may take none of the bytes that wait for it.
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "30s", help_heading = "Limits of connections")]
    write_timeout: Duration,
    /// The form of the access log.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "combined")]
    access_log: AccessLogFormat,
    /// How long requests in flight have to finish after a signal.
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "30s")]
    drain_timeout: Duration,
    /// The port of the default address, as platforms set it.
    #[arg(long, env = "PORT", hide = true, value_parser = values::port, default_value_t = limits::PORT)]
    port: u16,
}

/// The words for [`Format`].
#[derive(Debug, Clone, Copy, ValueEnum)]
enum AccessLogFormat {
    /// As Apache and nginx write it, then duration, CPU time, label and request id.
    Combined,
    /// One JSON object a line, with OpenTelemetry's names.
    Json,
    /// Nothing.
    Off,
}

impl From<AccessLogFormat> for Format {
    fn from(format: AccessLogFormat) -> Self {
        match format {
            AccessLogFormat::Combined => Self::Combined,
            AccessLogFormat::Json => Self::Json,
            AccessLogFormat::Off => Self::Off,
        }
    }
}

impl DoorArgs {
    pub(super) fn settings(&self) -> Settings {
        Settings {
            address: self
                .addr
                .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], self.port))),
            limits: DoorLimits {
                connections: self.max_concurrent_connections,
                request_head: self.max_request_head,
                request_headers: self.max_request_headers,
                first_byte: self.first_byte_timeout,
                header_read: self.header_timeout,
                idle: self.idle_timeout,
                write_stall: self.write_timeout,
            },
            access_log: self.access_log.into(),
            drain: self.drain_timeout,
        }
    }
}

impl Serve {
    /// `given` are the names of the flags that were typed.
    pub(super) async fn run(self, given: &[String]) -> anyhow::Result<ExitCode> {
        let is_file = self.guest.extension().is_some_and(|it| it == "toml");
        if is_file {
            return self.serve_file(given).await;
        }
        let settings = self.door.settings();
        let deployer = Arc::new(self.of_guest.deployer());
        let gate = self.of_guest.gate();
        if self.guest.is_dir() {
            let subject = Subject::Directory {
                template: Box::new(self.of_guest.template()),
                path: self.guest,
            };
            return serve_many(settings, deployer, gate, subject).await;
        }
        deploy(&deployer, self.of_guest.spec(&self.guest)).await?;
        let door = app::open(&settings)?;
        say(&format!("Serving HTTP on http://{}/", door.address));
        app::serve(door, settings, deployer.catalog(), gate, None).await
    }

    async fn serve_file(self, given: &[String]) -> anyhow::Result<ExitCode> {
        let file = self.guest.display();
        for flag in given {
            if !WITH_FILE.contains(&flag.as_str()) {
                let flag = flag.replace('_', "-");
                say(&format!(
                    "error: `--{flag}` is for one component or a directory: say it in `{file}`, `host schema` lists its keys"
                ));
                return Ok(ExitCode::from(USAGE));
            }
        }
        let config = match config::load(&self.guest) {
            Ok(config) => config,
            Err(mistakes) => {
                say(&mistakes.render(log::has_colours()));
                return Ok(ExitCode::from(BAD_CONFIGURATION));
            }
        };
        if config.admin.is_some() || config.state.directory.is_some() {
            say(&format!(
                "error: `{file}`: there is no `[admin]` and no `[state]` yet: leave them out"
            ));
            return Ok(ExitCode::from(BAD_CONFIGURATION));
        }
        let mut settings = Settings {
            address: config.door.address,
            limits: config.door.limits.clone(),
            access_log: config.door.access_log,
            drain: config.door.drain,
        };
        if let Some(address) = self.door.addr {
            settings.address = address;
        }
        let requests = config.door.concurrent_requests;
        let gate = Gate::new(requests, requests, HandlerLimits::default().permit_wait);
        // What a handler may start with is its own limit, which it is tried under.
        let components = self.of_guest.compiling.components(usize::MAX);
        let deployer = Deployer::new(components, requests, HandlerLimits::default().memory);
        let subject = Subject::File {
            path: self.guest,
            config: Box::new(config),
        };
        serve_many(settings, Arc::new(deployer), Arc::new(gate), subject).await
    }
}

/// The command line is wrong, as clap says it.
const USAGE: u8 = 2;

/// The flags that mean something beside a file.
const WITH_FILE: [&str; 11] = [
    "guest",
    "addr",
    "cache",
    "no_cache",
    "max_component_size",
    "compile_cpu",
    "compile_timeout",
    "compile_memory",
    "quiet",
    "verbose",
    "port",
];

async fn serve_many(
    settings: Settings,
    deployer: Arc<Deployer>,
    gate: Arc<Gate>,
    subject: Subject,
) -> anyhow::Result<ExitCode> {
    let mut follower = Follower::new(subject, Rollout::new(Arc::clone(&deployer)));
    follower.start().await?;
    let door = app::open(&settings)?;
    say(&format!("Serving HTTP on http://{}/", door.address));
    let catalog = deployer.catalog();
    // Ended with what is served.
    let mut following = JoinSet::new();
    following.spawn(follower.follow());
    following.spawn(async move { deployer.fall_back().await });
    app::serve(door, settings, catalog, gate, None).await
}

/// Deploys, and says what takes so long if it does.
async fn deploy(deployer: &Deployer, spec: HandlerSpec) -> anyhow::Result<()> {
    let file = spec.source.path().display().to_string();
    let deploy = std::pin::pin!(deployer.deploy(spec));
    let patience = std::pin::pin!(tokio::time::sleep(Duration::from_secs(1)));
    match futures_util::future::select(deploy, patience).await {
        futures_util::future::Either::Left((deployed, _)) => deployed,
        futures_util::future::Either::Right(((), deploy)) => {
            tracing::info!("compiling `{file}`: it is kept, so that the next start is quick");
            deploy.await
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Words {
        #[command(flatten)]
        door: DoorArgs,
    }

    #[test]
    fn what_is_not_said_is_what_limits_says() {
        let settings = Words::parse_from(["host"]).door.settings();
        assert_eq!(settings.limits, DoorLimits::default());
        assert_eq!(settings.drain, limits::DRAIN);
    }
}
