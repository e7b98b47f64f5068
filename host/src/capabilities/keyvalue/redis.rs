//! Buckets in a Redis or Valkey, which several hosts may share.
//!
//! A bucket is four keys of the server: values, revisions with births, keys by birth, and totals. They are changed together,
//! by scripts, which the server runs one at a time. One connection carries all requests; one that breaks is made again by
//! the next request that comes, and whoever waited on it gets an error.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, RedisError, Script, ToRedisArgs, Value,
};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::answers::Watched;
use super::grant::Quota;
use super::store::{
    Answer, Change, Changed, Entry, Error, Listed, Place, Store, is_full, not_a_number, too_large,
};
use super::{too_much, unavailable};
use crate::limits;
use crate::observe::Seldom;
use crate::secret::Secret;

/// A store that is a server.
pub(super) struct Redis(Arc<Shared>);

struct Shared {
    name: Arc<str>,
    server: Server,
    scripts: Scripts,
    /// The runtime that drives the connection, whoever asks.
    runtime: Handle,
    connection: tokio::sync::Mutex<Connection>,
    /// When the last try to connect failed.
    failed: Mutex<Option<Instant>>,
    told: Seldom,
}

/// The connection of the moment.
#[derive(Default)]
struct Connection {
    /// None until it is made, and after it broke.
    current: Option<Link>,
    /// How many were made: the number of the last.
    made: u64,
}

/// A connection, for as long as somebody has it.
#[derive(Clone)]
struct Link {
    connection: MultiplexedConnection,
    _driver: Arc<Driver>,
}

/// What reads and writes for it: it would wait for a server that does not answer, also for nobody.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Scripts {
    read: Script,
    put: Script,
    delete: Script,
    increment: Script,
    swap: Script,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its URL has a password in it.
        f.debug_tuple("Redis").field(&self.0.name).finish()
    }
}

/// That a URL is one of a Redis.
///
/// # Errors
/// With what to write. It does not quote the URL, which may have a password in it.
pub(crate) fn check(url: &str) -> Result<(), String> {
    let hint = "not the URL of a Redis: write `redis://HOST:PORT`, or `rediss://` for TLS";
    let is_one = ["redis://", "rediss://"]
        .iter()
        .any(|it| url.starts_with(it));
    let client = Client::open(url).ok().filter(|_| is_one);
    match client.as_ref().map(|it| it.get_connection_info().addr()) {
        Some(ConnectionAddr::TcpTls { insecure: true, .. }) => Err(
            "`#insecure` would trust anybody: leave it out, and name an authority with `SSL_CERT_FILE`"
                .to_owned(),
        ),
        Some(_) => Ok(()),
        None => Err(hint.to_owned()),
    }
}

impl Redis {
    /// Nothing is connected to yet. Call it inside of the runtime that is to drive the connection.
    ///
    /// # Errors
    /// When the URL is none of a Redis.
    pub(super) fn new(name: &Arc<str>, url: &Secret) -> anyhow::Result<Self> {
        check(url.reveal()).map_err(|why| anyhow::anyhow!("the store `{name}`: {why}"))?;
        let shared = Arc::new(Shared {
            name: Arc::clone(name),
            server: Server::new(Client::open(url.reveal())?)?,
            scripts: Scripts::new(),
            runtime: Handle::current(),
            connection: tokio::sync::Mutex::default(),
            failed: Mutex::default(),
            told: Seldom::new(limits::KEYVALUE_PAUSE),
        });
        // Whoever reads the log learns at the start that it is not there; guests get errors until it is.
        let greeted = Arc::clone(&shared);
        shared.runtime.spawn(async move {
            let _ = greeted.connected().await;
        });
        Ok(Self(shared))
    }

    /// Runs a script, or a command, with so many bytes of keys and values.
    fn ask<T: Send + 'static>(
        &self,
        place: &Place,
        bytes: usize,
        asked: impl AsyncAsk + Send + 'static,
        understood: impl FnOnce(Value) -> Result<T, Error> + Send + 'static,
    ) -> Answer<T> {
        let (shared, room) = (Arc::clone(&self.0), place.room.clone());
        Box::pin(async move {
            let room = room.take(ROOM + bytes).await;
            let runtime = shared.runtime.clone();
            // A guest may be on threads of low priority, and the connection is everybody's.
            let answer = runtime.spawn(async move {
                let _room = room;
                let (mut link, number) = shared.connected().await?;
                match asked.ask(&shared.scripts, &mut link.connection).await {
                    Ok(value) => Ok(value),
                    Err(error) => {
                        shared.broken(number, &error).await;
                        Err(unavailable())
                    }
                }
            });
            understood(answer.await.unwrap_or_else(|_| Err(unavailable()))?)
        })
    }
}

/// Something that is asked of the server.
trait AsyncAsk {
    fn ask(
        self,
        scripts: &Scripts,
        connection: &mut MultiplexedConnection,
    ) -> impl Future<Output = Result<Value, RedisError>> + Send;
}

/// A script, by where it is, with its keys and arguments.
struct Run {
    script: fn(&Scripts) -> &Script,
    bucket: Arc<str>,
    arguments: Vec<Argument>,
}

/// What a script is given.
enum Argument {
    Text(String),
    Bytes(Vec<u8>),
}

impl ToRedisArgs for Argument {
    fn write_redis_args<W: ?Sized + redis::RedisWrite>(&self, out: &mut W) {
        match self {
            Self::Text(text) => out.write_arg(text.as_bytes()),
            Self::Bytes(bytes) => out.write_arg(bytes),
        }
    }
}

impl From<String> for Argument {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl AsyncAsk for Run {
    async fn ask(
        self,
        scripts: &Scripts,
        connection: &mut MultiplexedConnection,
    ) -> Result<Value, RedisError> {
        let mut run = (self.script)(scripts).prepare_invoke();
        for part in ["values", "revisions", "births", "totals"] {
            run.key(key(&self.bucket, part));
        }
        for argument in &self.arguments {
            run.arg(argument);
        }
        run.invoke_async(connection).await
    }
}

impl AsyncAsk for redis::Cmd {
    async fn ask(
        self,
        _: &Scripts,
        connection: &mut MultiplexedConnection,
    ) -> Result<Value, RedisError> {
        self.query_async(connection).await
    }
}

/// Where a part of a bucket is. What stands in braces decides on the server of a cluster.
fn key(bucket: &str, part: &str) -> String {
    format!("host:keyvalue:{{{bucket}}}:{part}")
}

impl Shared {
    /// The connection and its number, made if there is none. Only one at a time makes it.
    async fn connected(&self) -> Result<(Link, u64), Error> {
        let mut connection = self.connection.lock().await;
        if let Some(current) = &connection.current {
            return Ok((current.clone(), connection.made));
        }
        let failed = *self.failed();
        if failed.is_some_and(|at| at.elapsed() < limits::KEYVALUE_RECONNECT) {
            return Err(unavailable());
        }
        let connecting = tokio::time::timeout(limits::KEYVALUE_CONNECT, self.server.connect());
        let connected = connecting.await.unwrap_or_else(|_| {
            let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
            Err(late.into())
        });
        match connected {
            Ok(made) => {
                if self.failed().take().is_some() {
                    tracing::info!("the store `{}` is there again", self.name);
                }
                connection.current = Some(made.clone());
                connection.made += 1;
                Ok((made, connection.made))
            }
            Err(error) => {
                *self.failed() = Some(Instant::now());
                self.tell(&error);
                Err(unavailable())
            }
        }
    }

    /// An error of the connection of this number. What the server itself has said leaves the connection as it is.
    async fn broken(&self, number: u64, error: &RedisError) {
        self.tell(error);
        if error.kind() == redis::ErrorKind::Io || error.is_unrecoverable_error() {
            let mut connection = self.connection.lock().await;
            // One that was made anew meanwhile stays.
            if connection.made == number && connection.current.take().is_some() {
                *self.failed() = Some(Instant::now());
            }
        }
    }

    fn tell(&self, error: &RedisError) {
        if let Some(failed) = self.told.count() {
            tracing::warn!(
                failed,
                "the store `{}` does not answer: {error}: see whether its server runs; guests get errors until it does",
                self.name
            );
        }
    }

    fn failed(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a server is.
struct Server {
    client: Client,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// What a connection goes over.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Server {
    fn new(client: Client) -> anyhow::Result<Self> {
        let (host, port, is_tls) = match client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, port) => (host.clone(), *port, false),
            ConnectionAddr::TcpTls { host, port, .. } => (host.clone(), *port, true),
            _ => anyhow::bail!("not a server of the network: write `redis://HOST:PORT`"),
        };
        let tls = if is_tls {
            let mut roots = rustls::RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            let config = rustls::ClientConfig::builder()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let name = ServerName::try_from(host.clone())?;
            Some((TlsConnector::from(Arc::new(config)), name))
        } else {
            None
        };
        Ok(Self {
            client,
            host,
            port,
            tls,
        })
    }

    async fn connect(&self) -> Result<Link, RedisError> {
        let stream = TcpStream::connect((&*self.host, self.port)).await?;
        // Requests are written whole: waiting for more to send gains nothing.
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &self.tls {
            Some((tls, name)) => Box::new(tls.connect(name.clone(), stream).await?),
            None => Box::new(stream),
        };
        let settings = self.client.get_connection_info().redis_settings();
        let config =
            AsyncConnectionConfig::new().set_response_timeout(Some(limits::KEYVALUE_ANSWER));
        let watched = Watched::new(stream);
        let (connection, driver) =
            MultiplexedConnection::new_with_config(settings, watched, config).await?;
        Ok(Link {
            connection,
            _driver: Arc::new(Driver(tokio::spawn(driver).abort_handle())),
        })
    }
}

impl Store for Redis {
    fn read(&self, place: &Place, keys: Vec<String>) -> Answer<Vec<Option<Entry>>> {
        let bytes = keys.iter().map(String::len).sum();
        let most = limits::KEYVALUE_BATCH_BYTES.to_string().into();
        let asked = Run {
            script: |scripts| &scripts.read,
            bucket: Arc::clone(&place.bucket),
            arguments: std::iter::once(most)
                .chain(keys.into_iter().map(Argument::Text))
                .collect(),
        };
        self.ask(place, bytes, asked, |answer| {
            let mut parts = array(answer)?.into_iter();
            match &*text(parts.next())? {
                "ok" => parts.map(entry).collect(),
                _ => Err(too_much()),
            }
        })
    }

    fn has(&self, place: &Place, name: String) -> Answer<bool> {
        let mut asked = redis::cmd("HEXISTS");
        asked.arg(key(&place.bucket, "values")).arg(&name);
        self.ask(place, name.len(), asked, |answer| {
            Ok(answer == Value::Int(1))
        })
    }

    fn write(&self, place: &Place, change: Change) -> Answer<Changed> {
        let bytes = change.bytes();
        let Quota {
            keys, bytes: most, ..
        } = place.quota;
        let mut arguments: Vec<Argument> = vec![keys.to_string().into(), most.to_string().into()];
        let script: fn(&Scripts) -> &Script = match change {
            Change::Put(entries) => {
                for (key, value) in entries {
                    arguments.extend([Argument::Text(key), Argument::Bytes(value)]);
                }
                |scripts| &scripts.put
            }
            Change::Delete(keys) => {
                arguments.extend(keys.into_iter().map(Argument::Text));
                |scripts| &scripts.delete
            }
            Change::Increment { key, by, within } => {
                let Ok(by) = i64::try_from(by) else {
                    return Box::pin(std::future::ready(Err(too_large())));
                };
                let sign = if within.0 < 0 { "signed" } else { "unsigned" };
                let rest = [key, by.to_string(), sign.to_owned()];
                arguments.extend(rest.map(Argument::Text));
                |scripts| &scripts.increment
            }
            Change::Swap {
                key,
                revision,
                value,
            } => {
                arguments.extend([key, revision.to_string()].map(Argument::Text));
                arguments.push(Argument::Bytes(value));
                |scripts| &scripts.swap
            }
        };
        let quota = place.quota;
        let asked = Run {
            script,
            bucket: Arc::clone(&place.bucket),
            arguments,
        };
        self.ask(place, bytes, asked, move |answer| {
            let mut parts = array(answer)?.into_iter();
            match &*text(parts.next())? {
                "ok" => Ok(Changed::Done),
                "sum" => text(parts.next())?
                    .parse()
                    .map(Changed::Sum)
                    .map_err(|_| unavailable()),
                "stale" => Ok(Changed::Stale(match parts.next() {
                    Some(now) => entry(now)?,
                    None => None,
                })),
                "keys" => Err(quota.no_more_keys()),
                "bytes" => Err(quota.no_more_bytes()),
                "number" => Err(not_a_number()),
                "large" => Err(too_large()),
                _ => Err(unavailable()),
            }
        })
    }

    fn list(&self, place: &Place, before: u64) -> Answer<Listed> {
        let most = match before {
            u64::MAX => "+inf".to_owned(),
            before => format!("({before}"),
        };
        let mut asked = redis::cmd("ZREVRANGEBYSCORE");
        asked
            .arg(key(&place.bucket, "births"))
            .arg(most)
            .arg("-inf")
            .arg("WITHSCORES")
            .arg("LIMIT")
            .arg(0)
            .arg(limits::KEYVALUE_PAGE + 1);
        self.ask(place, 0, asked, move |answer| {
            let (mut listed, mut bytes, mut last) = (Listed::default(), 0, before);
            let mut parts = array(answer)?.into_iter();
            while let Some(key) = parts.next() {
                if is_full(&listed, bytes) {
                    listed.before = Some(last);
                    break;
                }
                let key = text(Some(key))?;
                last = text(parts.next())?.parse().map_err(|_| unavailable())?;
                bytes += key.len();
                listed.keys.push(key);
            }
            Ok(listed)
        })
    }
}

/// What a request takes besides keys and values.
const ROOM: usize = 256;

fn array(value: Value) -> Result<Vec<Value>, Error> {
    match value {
        Value::Array(values) => Ok(values),
        _ => Err(unavailable()),
    }
}

fn text(value: Option<Value>) -> Result<String, Error> {
    match value {
        Some(Value::BulkString(bytes)) => String::from_utf8(bytes).map_err(|_| unavailable()),
        Some(Value::SimpleString(text)) => Ok(text),
        _ => Err(unavailable()),
    }
}

/// A value with `REVISION:BORN`, or nothing.
fn entry(value: Value) -> Result<Option<Entry>, Error> {
    if !matches!(value, Value::Array(_)) {
        return Ok(None);
    }
    let mut parts = array(value)?.into_iter();
    let Some(Value::BulkString(value)) = parts.next() else {
        return Err(unavailable());
    };
    let numbers = text(parts.next())?;
    let (revision, born) = numbers.split_once(':').ok_or_else(unavailable)?;
    let number = |text: &str| text.parse().map_err(|_| unavailable());
    Ok(Some(Entry {
        revision: number(revision)?,
        born: number(born)?,
        value,
    }))
}

impl Scripts {
    fn new() -> Self {
        let with_put = |rest: &str| Script::new(&format!("{PUT}\n{rest}"));
        Self {
            read: Script::new(READ),
            put: with_put("return put(3)"),
            delete: Script::new(DELETE),
            increment: with_put(INCREMENT),
            swap: with_put(SWAP),
        }
    }
}

/// ARGV: most bytes, keys.
const READ: &str = r"
local sum = 0
for i = 2, #ARGV do sum = sum + redis.call('HSTRLEN', KEYS[1], ARGV[i]) end
if sum > tonumber(ARGV[1]) then return {'much'} end
local found = {'ok'}
for i = 2, #ARGV do
  local value = redis.call('HGET', KEYS[1], ARGV[i])
  found[i] = value and {value, redis.call('HGET', KEYS[2], ARGV[i])} or false
end
return found";

/// ARGV from `first` on: a key, a value, and so on; the first two are the quota of keys and of bytes. Two passes: what does
/// not fit changes nothing. Numbers in Lua are exact up to 2^53.
const PUT: &str = r"
local function bytes_now() return tonumber(redis.call('HGET', KEYS[4], 'bytes') or '0') end
local function fits(keys, bytes, was_keys, was_bytes)
  if keys > tonumber(ARGV[1]) and keys > was_keys then return 'keys' end
  if bytes > tonumber(ARGV[2]) and bytes > was_bytes then return 'bytes' end
end
local function note(key)
  local last = redis.call('HINCRBY', KEYS[4], 'last', 1)
  local former = redis.call('HGET', KEYS[2], key)
  local born = former and string.match(former, ':(%d+)$')
  if not born then
    born = string.format('%.0f', last)
    redis.call('ZADD', KEYS[3], born, key)
  end
  redis.call('HSET', KEYS[2], key, string.format('%.0f', last) .. ':' .. born)
end
local function put(first)
  local was_keys, was_bytes = redis.call('HLEN', KEYS[1]), bytes_now()
  local keys, bytes = was_keys, was_bytes
  for i = first, #ARGV, 2 do
    if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then
      bytes = bytes - redis.call('HSTRLEN', KEYS[1], ARGV[i])
    else
      keys, bytes = keys + 1, bytes + #ARGV[i]
    end
    bytes = bytes + #ARGV[i + 1]
  end
  local full = fits(keys, bytes, was_keys, was_bytes)
  if full then return {full} end
  for i = first, #ARGV, 2 do
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    note(ARGV[i])
  end
  redis.call('HSET', KEYS[4], 'bytes', string.format('%.0f', bytes))
  return {'ok'}
end";

/// ARGV: quota, key, delta, `signed` or not.
const INCREMENT: &str = r"
local key, delta, unsigned = ARGV[3], ARGV[4], ARGV[5] == 'unsigned'
local was = redis.call('HGET', KEYS[1], key)
if unsigned and was and string.sub(was, 1, 1) == '-' then return {'large'} end
local sum = redis.pcall('HINCRBY', KEYS[1], key, delta)
if type(sum) == 'table' then
  if string.find(sum.err, 'overflow') then return {'large'} end
  return {'number'}
end
local now = redis.call('HGET', KEYS[1], key)
local was_bytes = bytes_now()
local bytes, keys = was_bytes + #now, redis.call('HLEN', KEYS[1])
local was_keys = keys
if was then bytes = bytes - #was else bytes, was_keys = bytes + #key, keys - 1 end
local full = fits(keys, bytes, was_keys, was_bytes)
if full then
  if was then redis.call('HSET', KEYS[1], key, was) else redis.call('HDEL', KEYS[1], key) end
  return {full}
end
note(key)
redis.call('HSET', KEYS[4], 'bytes', string.format('%.0f', bytes))
return {'sum', now}";

/// ARGV: quota, key, revision, value. Its last two stand where [`PUT`] wants key and value, once the revision is right.
const SWAP: &str = r"
local numbers = redis.call('HGET', KEYS[2], ARGV[3])
local revision = numbers and string.match(numbers, '^(%d+):') or '0'
if revision ~= ARGV[4] then
  if not numbers then return {'stale'} end
  return {'stale', {redis.call('HGET', KEYS[1], ARGV[3]), numbers}}
end
ARGV[4], ARGV[5] = ARGV[5], nil
return put(3)";

/// ARGV: quota, which does not count here, and keys.
const DELETE: &str = r"
local bytes = tonumber(redis.call('HGET', KEYS[4], 'bytes') or '0')
for i = 3, #ARGV do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then
    bytes = bytes - #ARGV[i] - redis.call('HSTRLEN', KEYS[1], ARGV[i])
    redis.call('HDEL', KEYS[1], ARGV[i])
    redis.call('HDEL', KEYS[2], ARGV[i])
    redis.call('ZREM', KEYS[3], ARGV[i])
  end
end
redis.call('HSET', KEYS[4], 'bytes', string.format('%.0f', bytes))
return {'ok'}";
