//! `host serve`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::{PathBufValueParser, TypedValueParser as _};
use clap::{Args, ValueEnum};
use http::HeaderValue;

use super::check::BAD_CONFIGURATION;
use super::guest::GuestArgs;
use super::state::state_directory;
use super::{guest, remote, say, say_mistakes, values};
use crate::admin::{Address, Token};
use crate::app::{self, AdminPlan, Plan, Serves, Settings, Subject};
use crate::catalog::{Cors, Deployer, HandlerSpec, Origins, Policy};
use crate::config::{self, Config};
use crate::engine::Guests;
use crate::gate::Gate;
use crate::limits::{self, DoorLimits, HandlerLimits};
use crate::networks::Network;
use crate::observe::access_log::Format;
use crate::observe::log;
use crate::server::{CertificateFiles, ClientCertificates, ListenerConfig, Place, TlsConfig};

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
/// finish; a second signal does not. SIGHUP opens logs that are files anew.
///
/// A directory and the file of a host have a second door, for the operator: `host deploy` and its like. What is deployed
/// there is kept in the state directory and is back at the next start. One component has it with `--admin`.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The component's file, a directory of them, or the file of a whole host.
    #[arg(
        value_name = "GUEST.WASM|DIRECTORY|HOST.TOML",
        required_unless_present = "admin"
    )]
    guest: Option<PathBuf>,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    door: DoorArgs,
    #[command(flatten)]
    around: AroundArgs,
    #[command(flatten)]
    of_guest: GuestArgs,
}

/// What the host does around the guest's answers.
#[derive(Debug, Args)]
struct AroundArgs {
    /// Compress answers for clients that take it, with zstd, brotli or gzip.
    #[arg(long)]
    compress: bool,
    /// Let pages of another origin use it, such as `https://app.example.com`; `*` is every one. Several are given by several
    /// flags.
    #[arg(long, value_name = "ORIGIN", value_parser = values::origin)]
    cors_origin: Vec<HeaderValue>,
}

impl AroundArgs {
    fn policy(&self) -> Option<Arc<Policy>> {
        let origins = match self.cors_origin.iter().any(|origin| origin == "*") {
            true => Origins::Any,
            false => Origins::These(self.cors_origin.clone()),
        };
        let policy = Policy {
            cors: (!self.cors_origin.is_empty()).then(|| Cors::of(origins)),
            compress: self.compress,
            ..Policy::default()
        };
        (policy != Policy::default()).then(|| Arc::new(policy))
    }
}

/// Where and how to serve.
#[derive(Debug, Args)]
pub(super) struct DoorArgs {
    /// Where to listen, perhaps several times: an address, where port 0 is any free one, a Unix socket as in
    /// `unix:/run/host.sock`, or a socket of systemd's as in `systemd:NAME` [default: 127.0.0.1:8080, or PORT of it].
    #[arg(long, env = "HOST_ADDR", value_name = "ADDRESS")]
    addr: Vec<Place>,
    /// HTTPS with this certificate, and those that lead from it to an authority, in PEM. A new one is taken up.
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key",
        help_heading = "HTTPS and listeners"
    )]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_cert",
        help_heading = "HTTPS and listeners"
    )]
    tls_key: Option<PathBuf>,
    /// Clients must show a certificate that one of these authorities has signed, in PEM. The guest sees it in
    /// `client-cert`, and its subject in `x-client-cert-subject`.
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_cert",
        help_heading = "HTTPS and listeners"
    )]
    tls_client_ca: Option<PathBuf>,
    /// Whoever connects is one of the trusted proxies, and says first for whom it does, by the PROXY protocol, version 1 or 2.
    #[arg(long, requires = "trusted_proxy", help_heading = "HTTPS and listeners")]
    proxy_protocol: bool,
    /// Connections open at once; more wait to be accepted.
    #[arg(long, value_name = "COUNT", value_parser = values::count, default_value = "10000", help_heading = "Limits of connections")]
    max_concurrent_connections: usize,
    /// Connections of one address open at once, and of one /64 of IPv6; more are closed [default: no ceiling].
    #[arg(long, value_name = "COUNT", value_parser = values::count, help_heading = "Limits of connections")]
    max_connections_per_address: Option<usize>,
    /// Bytes of a request's head, its first line included.
    #[arg(long, value_name = "SIZE", value_parser = values::head, default_value = "64KiB", help_heading = "Limits of connections")]
    max_request_head: usize,
    /// Header fields of a request.
    #[arg(long, value_name = "COUNT", value_parser = values::fields, default_value = "100", help_heading = "Limits of connections")]
    max_request_headers: usize,
    /// How long a new connection may send nothing.
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "10s", help_heading = "Limits of connections")]
    first_byte_timeout: Duration,
    /// How long the handshake of TLS may take.
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "10s", help_heading = "Limits of connections")]
    handshake_timeout: Duration,
    /// How long a request's head may take, from its first byte to its last.
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "10s", help_heading = "Limits of connections")]
    header_timeout: Duration,
    /// Bytes of a request's body that must come each second, over 20 s and until the answer begins; 0 for no minimum.
    #[arg(long, value_name = "SIZE", value_parser = values::rate, default_value = "240", help_heading = "Limits of connections")]
    min_body_rate: u32,
    /// How long a connection may rest between requests.
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "60s", help_heading = "Limits of connections")]
    idle_timeout: Duration,
    /// How long a client may take none of the bytes that wait for it.
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "30s", help_heading = "Limits of connections")]
    write_timeout: Duration,
    /// The form of the access log.
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "combined",
        help_heading = "Logs"
    )]
    access_log: AccessLogFormat,
    /// A file for the access log, opened anew at SIGHUP [default: stdout].
    #[arg(long, value_name = "FILE", help_heading = "Logs")]
    access_log_file: Option<PathBuf>,
    /// The form of the host's own log, in which is also what guests print.
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Logs"
    )]
    log_format: LogFormat,
    /// A file for the host's own log, opened anew at SIGHUP [default: stderr].
    #[arg(long, value_name = "FILE", help_heading = "Logs")]
    log_file: Option<PathBuf>,
    /// A proxy that is believed what it says of its clients in `forwarded` and `x-forwarded-*`, by network or address; `unix` is
    /// every client of a Unix socket. Several are given by several flags.
    #[arg(long, value_name = "CIDR")]
    trusted_proxy: Vec<Network>,
    /// How long requests in flight have to finish after a signal.
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "30s")]
    drain_timeout: Duration,
    /// The port of the default address, as platforms set it.
    #[arg(long, env = "PORT", hide = true, value_parser = values::port, default_value_t = limits::PORT)]
    port: u16,
}

/// The operator's door.
#[derive(Debug, Args)]
struct AdminArgs {
    /// Where the door for `host deploy`, `host list` and the like is: a Unix socket, or an address with a token or certificates. A directory
    /// and the file of a host have one unless this is `off`, one component only if this is given [default place:
    /// `$XDG_RUNTIME_DIR/host/admin.sock`, or `/run/host/admin.sock`].
    #[arg(long, value_name = "SOCKET|ADDRESS|off", num_args = 0..=1, help_heading = "Admin door")]
    admin: Option<Option<Admin>>,
    /// The file with the token that a client of an address must show.
    #[arg(
        long,
        value_name = "FILE",
        requires = "admin",
        help_heading = "Admin door"
    )]
    admin_token_file: Option<PathBuf>,
    /// HTTPS at an address of the admin door, with this certificate, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        requires_all = ["admin", "admin_tls_key"],
        help_heading = "Admin door"
    )]
    admin_tls_cert: Option<PathBuf>,
    /// The private key of that certificate, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        requires = "admin_tls_cert",
        help_heading = "Admin door"
    )]
    admin_tls_key: Option<PathBuf>,
    /// Who shows a certificate that one of these authorities has signed, in PEM, is the operator. Without a token nobody
    /// else comes in.
    #[arg(
        long,
        value_name = "FILE",
        requires = "admin_tls_cert",
        help_heading = "Admin door"
    )]
    admin_client_ca: Option<PathBuf>,
    /// Where versions are kept, and what guests keep [default: `$STATE_DIRECTORY`, or a directory for what is served in
    /// `$XDG_STATE_HOME/host`].
    #[arg(
        long,
        value_name = "DIRECTORY",
        value_parser = PathBufValueParser::new().try_map(values::directory_to_be),
        help_heading = "Admin door"
    )]
    state: Option<PathBuf>,
    /// How long a start waits for deployed handlers that must be compiled anew. What takes longer gives way to the rest
    /// of the start, and is served when it is made.
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "60s", help_heading = "Admin door")]
    restore_timeout: Duration,
}

#[derive(Debug, Clone)]
enum Admin {
    Off,
    At(Address),
}

impl FromStr for Admin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            place => place.parse().map(Self::At),
        }
    }
}

impl AdminArgs {
    /// What the flags say of it; if they say nothing, `unsaid`. None if there is none.
    fn plan(&self, unsaid: Unsaid) -> anyhow::Result<Option<AdminPlan>> {
        let token = self.admin_token_file.as_deref().map(Token::read);
        let token = token.transpose()?;
        let is_asked = self.state.is_some() || unsaid.state.is_some();
        let tls = match (&self.admin_tls_cert, &self.admin_tls_key) {
            (Some(cert), Some(key)) => {
                let authorities = self.admin_client_ca.as_deref();
                Some(tls(cert, key, authorities, token.is_none()))
            }
            _ => None,
        };
        let (address, token, tls, is_asked) = match (&self.admin, unsaid.door) {
            (Some(Some(Admin::Off)), _) | (None, Door::Off) => return Ok(None),
            (Some(Some(Admin::At(address))), _) => (address.clone(), token, tls, true),
            (Some(None), _) => (remote::default_address(), token, tls, true),
            (None, Door::Default) => (remote::default_address(), None, None, is_asked),
            (None, Door::At(address, token, tls)) => (address, token, tls, true),
        };
        Ok(Some(AdminPlan {
            address,
            token,
            tls,
            is_asked,
            state: state_directory(
                self.state.clone().or(unsaid.state),
                unsaid.subject.as_deref(),
            ),
            template: unsaid.template,
            component_bytes: unsaid.component_bytes,
            restore: self.restore_timeout,
        }))
    }
}

/// What holds of the operator's door where no flag says it.
struct Unsaid {
    door: Door,
    state: Option<PathBuf>,
    /// What is served.
    subject: Option<PathBuf>,
    template: HandlerSpec,
    component_bytes: u64,
}

enum Door {
    Off,
    Default,
    At(Address, Option<Token>, Option<TlsConfig>),
}

/// One certificate, and perhaps those of clients.
fn tls(cert: &Path, key: &Path, authorities: Option<&Path>, required: bool) -> TlsConfig {
    TlsConfig {
        certificates: vec![CertificateFiles {
            cert: cert.to_owned(),
            key: key.to_owned(),
        }],
        client_certificates: authorities.map(|ca| ClientCertificates {
            ca: ca.to_owned(),
            required,
        }),
    }
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

/// The words for [`log::Format`].
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, with OpenTelemetry's names.
    Json,
}

impl From<LogFormat> for log::Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
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
    /// The listeners that were asked for, or the default one.
    fn listeners(&self) -> Vec<ListenerConfig> {
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Some(TlsConfig {
                certificates: vec![CertificateFiles {
                    cert: cert.clone(),
                    key: key.clone(),
                }],
                client_certificates: self
                    .tls_client_ca
                    .clone()
                    .map(|ca| ClientCertificates { ca, required: true }),
            }),
            _ => None,
        };
        let unsaid = || Place::Address(SocketAddr::from(([127, 0, 0, 1], self.port)));
        let places = match &*self.addr {
            [] => vec![unsaid()],
            places => places.to_vec(),
        };
        places
            .into_iter()
            .map(|place| ListenerConfig {
                place,
                proxy_protocol: self.proxy_protocol,
                tls: tls.clone(),
            })
            .collect()
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            listeners: self.listeners(),
            limits: DoorLimits {
                connections: self.max_concurrent_connections,
                connections_per_address: self.max_connections_per_address,
                request_head: self.max_request_head,
                request_headers: self.max_request_headers,
                first_byte: self.first_byte_timeout,
                handshake: self.handshake_timeout,
                header_read: self.header_timeout,
                body_rate: self.min_body_rate,
                idle: self.idle_timeout,
                write_stall: self.write_timeout,
            },
            access_log: self.access_log.into(),
            access_log_file: self.access_log_file.clone(),
            log: log::Settings {
                format: self.log_format.into(),
                file: self.log_file.clone(),
            },
            drain: self.drain_timeout,
            trusted_proxies: self.trusted_proxy.iter().copied().collect(),
        }
    }
}

impl Serve {
    /// `given` are the names of the flags that were typed.
    pub(super) async fn run(self, given: &[String]) -> anyhow::Result<ExitCode> {
        app::raise_open_files();
        let path = self.guest.clone();
        if let Some(file) = path
            .as_ref()
            .filter(|path| path.extension().is_some_and(|it| it == "toml"))
        {
            return self.serve_file(file, given).await;
        }
        let is_directory = path.as_ref().is_some_and(|path| path.is_dir());
        if let Some(path) = path
            .as_ref()
            .filter(|path| path.join("Cargo.toml").is_file())
        {
            let path = path.display();
            say(&format!(
                "error: `{path}` is a crate and not a directory of components: `host dev {path}` builds and serves it, and `host build {path}` makes its component"
            ));
            return Ok(ExitCode::from(USAGE));
        }
        if let Some(mistake) = self.of_guest.mistake(is_directory) {
            say(&format!("error: {mistake}"));
            return Ok(ExitCode::from(USAGE));
        }
        let unsaid = Unsaid {
            door: if is_directory {
                Door::Default
            } else {
                Door::Off
            },
            state: None,
            subject: path.clone(),
            template: self.of_guest.template(),
            component_bytes: self.of_guest.compiling.max_component_size,
        };
        let admin = self.admin.plan(unsaid)?;
        if admin.is_none() && path.is_none() {
            say(
                "error: there is nothing to serve: name a component, a directory or the file of a host",
            );
            return Ok(ExitCode::from(USAGE));
        }
        let has_state = admin.is_some() || is_directory || self.of_guest.has_state();
        if !has_state && self.admin.state.is_some() {
            say(
                "error: `--state` is for a host with an admin door, or with `--keyvalue` or `--blobstore`: give one of them too",
            );
            return Ok(ExitCode::from(USAGE));
        }
        let guests = if is_directory || admin.is_some() {
            Guests::Many
        } else {
            Guests::One
        };
        let state = state_directory(self.admin.state.clone(), path.as_deref());
        let services = self.of_guest.services(state.as_deref());
        let plan = Plan {
            settings: self.door.settings(),
            deployer: Arc::new(
                self.of_guest
                    .deployer(guests, services)
                    .with_policy(self.around.policy()),
            ),
            gate: self.of_guest.gate(),
            admin,
            serves: match path {
                Some(path) if is_directory => Serves::Files(Subject::Directory {
                    path,
                    template: Box::new(self.of_guest.template()),
                    every: self.around.policy(),
                }),
                Some(file) => Serves::Component(Box::new(self.of_guest.spec(&file))),
                None => Serves::Nothing,
            },
        };
        app::start(plan, say).await
    }

    async fn serve_file(self, path: &Path, given: &[String]) -> anyhow::Result<ExitCode> {
        let file = path.display();
        for flag in given {
            if !WITH_FILE.contains(&flag.as_str()) {
                let flag = flag.replace('_', "-");
                say(&format!(
                    "error: `--{flag}` is for one component or a directory: say it in `{file}`, `host schema` lists its keys"
                ));
                return Ok(ExitCode::from(USAGE));
            }
        }
        let config = match config::load(path) {
            Ok(config) => config,
            Err(mistakes) => {
                say_mistakes(&mistakes);
                return Ok(ExitCode::from(BAD_CONFIGURATION));
            }
        };
        let mut settings = Settings {
            listeners: config.door.listeners.clone(),
            limits: config.door.limits.clone(),
            access_log: config.door.access_log,
            access_log_file: config.log.access_log_file.clone(),
            log: config.log.own.clone(),
            drain: config.door.drain,
            trusted_proxies: config.door.trusted_proxies.clone(),
        };
        if !self.door.addr.is_empty() {
            let is_simple = |it: &ListenerConfig| it.tls.is_none() && !it.proxy_protocol;
            if settings.listeners.len() > 1 || !settings.listeners.iter().all(is_simple) {
                say(&format!(
                    "error: `--addr`, or the variable HOST_ADDR, is for a file without `[listeners]`: say it in `{file}`"
                ));
                return Ok(ExitCode::from(USAGE));
            }
            settings.listeners = self.door.listeners();
        }
        let state = self.admin.state.clone().or(config.state.directory.clone());
        let state = state_directory(state, Some(path));
        let buckets = config
            .handlers
            .iter()
            .flat_map(|it| &it.guest.grants.keyvalue);
        let needed = buckets.map(|bucket| Arc::clone(&bucket.store)).collect();
        let services = guest::services(state.as_deref(), config.stores.clone(), needed);
        let requests = config.door.concurrent_requests;
        let gate = Gate::new(requests, requests, HandlerLimits::default().permit_wait);
        // What a handler may start with is its own limit, which it is tried under.
        let components = self.of_guest.compiling.components(usize::MAX);
        let deployer = Arc::new(Deployer::new(
            components,
            requests,
            Guests::Many,
            Arc::new(services),
        ));
        let plan = Plan {
            settings,
            deployer,
            gate: Arc::new(gate),
            admin: self.admin_of(path, &config)?,
            serves: Serves::Files(Subject::File {
                path: path.to_owned(),
                config: Box::new(config),
            }),
        };
        app::start(plan, say).await
    }

    /// What the flags say, or else the file.
    fn admin_of(&self, path: &Path, config: &Config) -> anyhow::Result<Option<AdminPlan>> {
        let door = match config.admin.as_ref().filter(|_| self.admin.admin.is_none()) {
            None => Door::Default,
            Some(config::Admin::Off) => Door::Off,
            Some(config::Admin::Socket(path)) => Door::At(Address::Unix(path.clone()), None, None),
            Some(config::Admin::Address {
                address,
                token,
                tls,
            }) => Door::At(Address::Tcp(*address), token.clone(), tls.clone()),
        };
        self.admin.plan(Unsaid {
            door,
            state: config.state.directory.clone(),
            subject: Some(path.to_owned()),
            template: config.template(),
            component_bytes: self.of_guest.compiling.max_component_size,
        })
    }
}

/// The command line is wrong, as clap says it.
pub(super) const USAGE: u8 = 2;

/// The flags that mean something beside a file.
const WITH_FILE: [&str; 18] = [
    "guest",
    "admin",
    "admin_token_file",
    "admin_tls_cert",
    "admin_tls_key",
    "admin_client_ca",
    "state",
    "restore_timeout",
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Words {
        #[command(flatten)]
        door: DoorArgs,
        #[command(flatten)]
        admin: AdminArgs,
    }

    #[test]
    fn what_is_not_said_is_what_limits_says() {
        let words = Words::parse_from(["host"]);
        let settings = words.door.settings();
        assert_eq!(words.admin.restore_timeout, limits::RESTORE);
        assert_eq!(settings.limits, DoorLimits::default());
        assert_eq!(settings.drain, limits::DRAIN);
    }
}
