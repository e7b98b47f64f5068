//! The host itself: its doors, its memory, its tenants.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use super::keys::{ACCESS_LOG, ADMIN, LOG_FORMATS};
use super::listener::tls;
use super::name::name;
use super::reader::{Named, Needed, Table, Value};
use crate::admin::Token;
use crate::catalog::{Route, TenantSpec};
use crate::limits::{self, DoorLimits, HandlerLimits};
use crate::networks::{Network, Networks};
use crate::observe::access_log::Format;
use crate::observe::log;
use crate::server::{ListenerConfig, Place, TlsConfig};
use crate::values;

/// The public door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// Where clients come in. There is at least one.
    pub listeners: Vec<ListenerConfig>,
    /// What they let in, all together.
    pub limits: DoorLimits,
    /// Requests that all handlers serve at once.
    pub concurrent_requests: usize,
    /// The access log's format, on stdout.
    pub access_log: Format,
    /// From the request to stop until what is in flight is cut.
    pub drain: Duration,
    /// The proxies that are believed.
    pub trusted_proxies: Networks,
}

impl Default for Door {
    fn default() -> Self {
        Self {
            listeners: vec![ListenerConfig::at(Place::Address(SocketAddr::from((
                [127, 0, 0, 1],
                limits::PORT,
            ))))],
            limits: DoorLimits::default(),
            concurrent_requests: HandlerLimits::default().concurrent_requests,
            access_log: Format::default(),
            drain: limits::DRAIN,
            trusted_proxies: Networks::default(),
        }
    }
}

impl Door {
    /// This one, with what another says of TLS at the same places: that is taken up without a restart.
    #[must_use]
    pub fn with_tls_of(&self, other: &Self) -> Self {
        let mut door = self.clone();
        for listener in &mut door.listeners {
            let mut others = other.listeners.iter();
            if let Some(tls) = &mut listener.tls
                && let Some(new) = others.find(|it| it.place == listener.place)
                && let Some(new) = &new.tls
            {
                tls.clone_from(new);
            }
        }
        door
    }

    /// What `[listen]` says; where clients come in is said elsewhere too.
    pub(super) fn read(table: &Table<'_>) -> Self {
        let unsaid = Self::default();
        Self {
            listeners: unsaid.listeners,
            limits: door_limits(table, &unsaid.limits),
            concurrent_requests: table
                .parsed("max_concurrent_requests", values::count)
                .unwrap_or(unsaid.concurrent_requests),
            access_log: table
                .parsed("access_log", access_log)
                .unwrap_or(unsaid.access_log),
            drain: table
                .parsed("drain_timeout", values::duration)
                .unwrap_or(unsaid.drain),
            trusted_proxies: networks(table, "trusted_proxies"),
        }
    }
}

fn door_limits(table: &Table<'_>, unsaid: &DoorLimits) -> DoorLimits {
    let duration = |key, unsaid| table.parsed(key, values::duration).unwrap_or(unsaid);
    DoorLimits {
        connections: table
            .parsed("max_connections", values::count)
            .unwrap_or(unsaid.connections),
        connections_per_address: table
            .parsed("max_connections_per_address", values::count)
            .or(unsaid.connections_per_address),
        request_head: table
            .parsed("max_request_head", values::head)
            .unwrap_or(unsaid.request_head),
        request_headers: table
            .parsed("max_request_headers", values::fields)
            .unwrap_or(unsaid.request_headers),
        first_byte: duration("first_byte_timeout", unsaid.first_byte),
        handshake: duration("handshake_timeout", unsaid.handshake),
        header_read: duration("header_timeout", unsaid.header_read),
        body_rate: table
            .parsed("min_body_rate", values::rate)
            .unwrap_or(unsaid.body_rate),
        idle: duration("idle_timeout", unsaid.idle),
        write_stall: duration("write_timeout", unsaid.write_stall),
    }
}

fn access_log(word: &str) -> Result<Format, String> {
    match word {
        "combined" => Ok(Format::Combined),
        "json" => Ok(Format::Json),
        "off" => Ok(Format::Off),
        _ => Err(format!(
            "no form of the access log: write one of `{}`",
            ACCESS_LOG.join("`, `")
        )),
    }
}

/// The operator's door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admin {
    /// There is none.
    Off,
    /// A Unix socket: who may open the file may enter.
    Socket(PathBuf),
    /// An address: who shows the token, or a certificate that is known, may enter.
    Address {
        /// Where to listen.
        address: SocketAddr,
        /// What must be shown by who has no certificate that is known. None: only such certificates are known.
        token: Option<Token>,
        /// None: in the clear.
        tls: Option<TlsConfig>,
    },
}

impl Admin {
    pub(super) fn read(said: Value<'_>) -> Option<Self> {
        if !said.is_table() {
            return said.parsed(|word| match word {
                "off" => Ok(Self::Off),
                _ => Err("neither `\"off\"` nor a table: write `[admin]` with a `socket` or an `address`"),
            });
        }
        let table = &said.table(&ADMIN)?;
        match (table.has("socket"), table.has("address")) {
            (true, false) => {
                if let Some(token) = table.value("token") {
                    token.mistake("nobody is asked for it at a `socket`, where the rights of the file say who may enter: leave it out");
                }
                if let Some(tls) = table.value("tls") {
                    tls.mistake("it is for an `address`: leave it out");
                }
                let socket = table.value("socket")?;
                let path = socket.path()?;
                let needed = Needed::AdminSocket(path.clone());
                socket.reader.needs(socket.place(), needed);
                Some(Self::Socket(path))
            }
            (false, true) => {
                let token = table.value("token").map(|it| token(&it));
                let address = table.parsed("address", values::address);
                let tls = table.value("tls").map(tls);
                let knows = |tls: &TlsConfig| tls.client_certificates.is_some();
                // Of TLS that is wrong it is not known.
                let knows_certificates = tls
                    .as_ref()
                    .is_some_and(|tls| tls.as_ref().is_none_or(knows));
                if token.is_none() && !knows_certificates {
                    let message = "an `address` that anyone can reach needs a `token`: write `token = { from_file = \"…\" }`, or a `socket` in its place; or `client_certificates` in its `tls`";
                    table.mistake(message);
                    return None;
                }
                Some(Self::Address {
                    address: address?,
                    token: given(token)?,
                    tls: given(tls)?,
                })
            }
            _ => {
                table.mistake(
                    "the operator's door is a `socket` or an `address`: write one of them",
                );
                None
            }
        }
    }
}

/// Where and how the host writes what it says, and its access log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    /// The host's own log.
    pub own: log::Settings,
    /// A file for the access log. None: stdout.
    pub access_log_file: Option<PathBuf>,
}

impl Log {
    pub(super) fn read(table: &Table<'_>) -> Self {
        Self {
            own: log::Settings {
                format: table.parsed("format", log_format).unwrap_or_default(),
                file: log_file(table, "file"),
            },
            access_log_file: log_file(table, "access_log_file"),
        }
    }
}

fn log_file(table: &Table<'_>, key: &str) -> Option<PathBuf> {
    let said = table.value(key)?;
    let path = said.path()?;
    let possible = values::may_be_file(&path);
    possible.map_err(|why| said.mistake(why)).ok()?;
    Some(path)
}

fn log_format(word: &str) -> Result<log::Format, String> {
    match word {
        "text" => Ok(log::Format::Text),
        "json" => Ok(log::Format::Json),
        _ => Err(format!(
            "no form of the log: write one of `{}`",
            LOG_FORMATS.join("`, `")
        )),
    }
}

/// What the host remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Where. None: where systemd or the XDG rules put it.
    pub directory: Option<PathBuf>,
}

impl State {
    pub(super) fn read(table: &Table<'_>) -> Self {
        let said = table.value("directory");
        let directory = said.and_then(|said| {
            let path = said.path()?;
            let possible = values::may_be_directory(&path);
            possible.map_err(|why| said.mistake(why)).ok()?;
            Some(path)
        });
        Self { directory }
    }
}

/// Someone who owns handlers. What is None has no ceiling but those of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its name.
    pub name: Arc<str>,
    /// Bytes of all instances of its handlers together.
    pub max_memory: Option<u64>,
    /// Requests that its handlers serve at once.
    pub max_concurrent_requests: Option<usize>,
    /// Requests a second to its handlers.
    pub requests_per_second: Option<usize>,
    /// What its clocks show at least between two steps.
    pub coarse_clocks: Option<Duration>,
    /// Handlers that it may have, those of the file and those that are deployed together.
    pub max_handlers: Option<usize>,
    /// Bytes of the components of all its versions that are kept.
    pub max_stored_bytes: Option<u64>,
    /// The routes that it may take with its tokens: those within one of these.
    pub routes: Vec<Route>,
    /// Who shows one of these at the admin door is this tenant.
    pub admin_tokens: Vec<Token>,
    /// Where each of them is written.
    pub(super) token_places: Vec<Range<usize>>,
}

impl Tenant {
    /// What its handlers may use together, of which the file has so many.
    #[must_use]
    pub(super) fn spec(&self, handlers_of_files: usize) -> TenantSpec {
        let rate = self.requests_per_second;
        TenantSpec {
            name: Arc::clone(&self.name),
            memory: self.max_memory,
            concurrent_requests: self.max_concurrent_requests,
            coarse_clocks: self.coarse_clocks,
            requests_per_second: rate.map(|most| u32::try_from(most).unwrap_or(u32::MAX)),
            handlers: self.max_handlers,
            handlers_of_files,
            stored_bytes: self.max_stored_bytes,
            routes: self.routes.clone(),
        }
    }

    pub(super) fn read(named: &Named<'_>, table: &Table<'_>) -> Option<Self> {
        let tokens = list(table, "admin_tokens", limits::TENANT_TOKENS);
        let tokens = tokens
            .iter()
            .filter_map(|it| Some((token(it)?, it.place())));
        let (admin_tokens, token_places) = tokens.unzip();
        let routes = list(table, "routes", limits::TENANT_ROUTES);
        let tenant = Self {
            name: name(named)?,
            max_memory: table.parsed("max_memory", tenant_memory),
            max_concurrent_requests: table.parsed("max_concurrent_requests", values::count),
            requests_per_second: table.parsed("requests_per_second", values::count),
            coarse_clocks: table.parsed("coarse_clocks", values::grain),
            max_handlers: table.parsed("max_handlers", values::count),
            max_stored_bytes: table.parsed("max_stored_bytes", values::size),
            routes: routes.iter().filter_map(pattern).collect(),
            admin_tokens,
            token_places,
        };
        Some(tenant)
    }
}

/// What was said, if it had no mistake. None comes of a mistake only.
fn given<T>(said: Option<Option<T>>) -> Option<Option<T>> {
    match said {
        Some(value) => value.map(Some),
        None => Some(None),
    }
}

pub(super) fn networks(table: &Table<'_>, key: &str) -> Networks {
    let all = list(table, key, limits::NETWORKS);
    let networks = all.iter().filter_map(|it| it.parsed(str::parse::<Network>));
    networks.collect()
}

/// A list of at most so many.
fn list<'a>(table: &Table<'a>, key: &str, most: usize) -> Vec<Value<'a>> {
    let list = table.list(key);
    if let Some(value) = table.value(key).filter(|_| list.len() > most) {
        value.mistake(format_args!(
            "{} are more than can be: write at most {most}",
            list.len()
        ));
    }
    list
}

fn token(value: &Value<'_>) -> Option<Token> {
    Token::new(value.secret()?, "it")
        .map_err(|error| value.mistake(error))
        .ok()
}

/// Which requests may be asked for: neither methods nor what the guest sees of a path are part of it.
fn pattern(value: &Value<'_>) -> Option<Route> {
    let text = value.text()?;
    Route::from_str(&text)
        .map_err(|error| value.mistake(error))
        .ok()
}

/// Any size with room for one small instance.
fn tenant_memory(text: &str) -> Result<u64, String> {
    match values::size(text)? {
        bytes if bytes < 64 << 10 => Err("a memory of less than 64KiB is not possible".to_owned()),
        bytes => Ok(bytes),
    }
}
