//! `wasi:sockets`: connections and datagrams to where a rule lets them, and names that a rule names. Listening is for
//! nobody. What wasmtime asks before it uses an address is answered here, and addresses are judged as those of HTTP are.
//!
//! A name grants the addresses that it was looked up to have, by this instance, and only those that are public; others
//! are granted by network. So it does not matter to what a name leads later.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::{fmt, vec};

use ipnet::IpNet;
use tokio::sync::Semaphore;
use tokio::sync::oneshot::{self, error::TryRecvError};
use wasmtime::component::{
    Access, Accessor, FutureConsumer, FutureReader, HasData, Linker, Resource, Source, StreamReader,
};
use wasmtime::{AsContextMut as _, StoreContextMut};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p2::bindings::sockets::network::{
    self, IpAddress, IpAddressFamily, Network as WasiNetwork,
};
use wasmtime_wasi::p2::bindings::sockets::{
    ip_name_lookup as p2, tcp_create_socket, udp_create_socket,
};
use wasmtime_wasi::p2::{DynPollable, Pollable, SocketError, subscribe};
use wasmtime_wasi::p3::bindings::sockets::{ip_name_lookup as p3, types};
use wasmtime_wasi::p3::sockets::SocketError as P3Error;
use wasmtime_wasi::sockets::{
    SocketAddrUse, TcpSocket, UdpSocket, WasiSockets, WasiSocketsCtx, WasiSocketsCtxView,
    WasiSocketsView,
};

use super::Granted;
use super::descriptors::{Count, OneOpen};
use super::hosts::{self, Names};
use super::judge::judge;
use super::refusals::Refusals;
use super::share::Share;
use crate::limits;
use crate::names::short;
use crate::networks::{Network, Networks, is_too_wide};

/// What is spoken over a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Where a guest may send something: `tcp://db.example.com:5432`, `udp://10.0.0.0/8:53`, `tcp://[fd00::/8]:*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketRule {
    protocol: Protocol,
    host: Host,
    /// None: any.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Network(IpNet),
    Names(Names),
}

impl Host {
    fn is_name(&self, name: &str) -> bool {
        match self {
            Self::Network(_) => false,
            Self::Names(names) => names.hold(name),
        }
    }
}

impl SocketRule {
    fn is_for(&self, protocol: Protocol, port: u16) -> bool {
        self.protocol == protocol && self.port.is_none_or(|own| own == port)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl fmt::Display for SocketRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.protocol)?;
        match &self.host {
            Host::Network(net) => {
                let net = match net.prefix_len() == net.max_prefix_len() {
                    true => net.addr().to_string(),
                    false => net.to_string(),
                };
                match net.contains(':') {
                    true => write!(f, "[{net}]")?,
                    false => f.write_str(&net)?,
                }
            }
            Host::Names(names) => write!(f, "{names}")?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => f.write_str(":*"),
        }
    }
}

const EXAMPLES: &str = "write `tcp://db.example.com:5432`, `tcp://10.0.0.0/8:6379`, `udp://[fd00::53]:53` or `*` for any port";

impl FromStr for SocketRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let none = |what: &str| format!("{what}: {EXAMPLES}");
        let (protocol, rest) = text
            .split_once("://")
            .ok_or_else(|| none("not a place for sockets"))?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(none("neither `tcp` nor `udp`")),
        };
        let (host, port) = rest
            .rsplit_once(':')
            .ok_or_else(|| none("no port is said"))?;
        let port = match port {
            "*" => None,
            port => match port.parse() {
                Ok(port) if port > 0 => Some(port),
                _ => return Err(none("not a port")),
            },
        };
        let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let host = match bare.unwrap_or(host).parse::<Network>() {
            Ok(Network::Addresses(net)) if is_too_wide(&net) => {
                let (v4, v6) = (limits::GRANTED_V4_BITS, limits::GRANTED_V6_BITS);
                return Err(none(&format!(
                    "a network of all addresses there are, or of many of them, for the widest is a `/{v4}`, or a `/{v6}` of IPv6"
                )));
            }
            Ok(Network::Addresses(net)) => Host::Network(net),
            Ok(Network::Unix) => return Err(none("a guest has no Unix sockets")),
            // Only networks have `/`.
            Err(error) if host.contains(['/', '[', ']']) => return Err(error.to_string()),
            Err(_) => Host::Names(names(host).map_err(|why| none(&why))?),
        };
        Ok(Self {
            protocol,
            host,
            port,
        })
    }
}

fn names(text: &str) -> Result<Names, String> {
    let (is_below, own) = match text.strip_prefix("*.") {
        Some(parent) => (true, parent),
        None => (false, text),
    };
    let Some(hosts::Host::Name(name)) = hosts::Host::parse(own) else {
        return Err("not a name, an address or a network".to_owned());
    };
    match is_below {
        false => Ok(Names::One(name)),
        true => Names::below(name)
            .map_err(|name| format!("`*.{name}` would be every host below `{name}`")),
    }
}

/// Where the guests of a handler may send something.
#[derive(Debug)]
pub struct SocketGrant {
    rules: Vec<SocketRule>,
    refused: Refusals,
    lookups: Share,
}

impl SocketGrant {
    /// For the guest of this handler, with its share of look-ups.
    pub(super) fn new(handler: Arc<str>, rules: Vec<SocketRule>, lookups: Share) -> Self {
        Self {
            rules,
            refused: Refusals::of(handler),
            lookups,
        }
    }

    fn has(&self, protocol: Protocol) -> bool {
        self.rules.iter().any(|rule| rule.protocol == protocol)
    }

    fn has_names(&self) -> bool {
        let is_network = |rule: &SocketRule| matches!(rule.host, Host::Network(_));
        !self.rules.iter().all(is_network)
    }

    /// Whether something may be sent there. `names` are those that were looked up to have the address.
    fn permits(
        &self,
        protocol: Protocol,
        to: SocketAddr,
        names: &[Arc<str>],
    ) -> Result<(), String> {
        let rules = self
            .rules
            .iter()
            .filter(|rule| rule.is_for(protocol, to.port()));
        let address = to.ip().to_canonical();
        let granted: Networks = rules
            .clone()
            .filter_map(|rule| match rule.host {
                Host::Network(net) => Some(Network::Addresses(net)),
                _ => None,
            })
            .collect();
        let is_named = rules
            .clone()
            .any(|rule| names.iter().any(|name| rule.host.is_name(name)));
        if !is_named && !granted.hold_address(address) {
            return Err(String::new());
        }
        judge(address, &granted).map_err(|denied| format!(": {denied}"))
    }

    fn tell(&self, what: fmt::Arguments<'_>, rule: fmt::Arguments<'_>) {
        self.refused.tell(format_args!(
            "may not {what}: add `{rule}` to its `sockets`, or say `--allow-socket {rule}`"
        ));
    }
}

/// The sockets of an instance.
pub struct Sockets {
    granted: Arc<Granted>,
    /// Places for its look-ups on their way.
    lookups: Arc<Semaphore>,
    /// What was found, the oldest first.
    looked_up: Mutex<VecDeque<(IpAddr, Arc<str>)>>,
    /// Of 0.3, on their way: see [`Datagram`].
    datagrams: AtomicUsize,
    count: Count,
    /// What connections of 0.3 have open, by the numbers of their sockets: their streams may outlive those.
    connections: Mutex<HashMap<u32, Weak<OneOpen>>>,
}

/// A datagram of 0.3 on its way, for which the host has room ready, also while none comes.
struct Datagram(Arc<Sockets>);

impl Drop for Datagram {
    fn drop(&mut self) {
        self.0.datagrams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Addresses of a name.
struct LookUp {
    name: Arc<str>,
    addresses: Addresses,
}

enum Addresses {
    Coming(oneshot::Receiver<Vec<IpAddr>>),
    Here(vec::IntoIter<IpAddr>),
    None,
}

impl Sockets {
    /// For an instance that has none yet.
    #[must_use]
    pub fn new(granted: Arc<Granted>) -> Arc<Self> {
        Arc::new(Self {
            granted,
            lookups: Arc::new(Semaphore::new(limits::LOOKUPS_AT_ONCE)),
            looked_up: Mutex::default(),
            datagrams: AtomicUsize::new(0),
            count: Count::default(),
            connections: Mutex::default(),
        })
    }

    /// Bytes that the host holds for its datagrams of 0.3. In 0.2 a stream in the table of its resources stands for them.
    #[must_use]
    pub fn holds(&self) -> usize {
        self.datagrams.load(Ordering::Relaxed) * limits::DATAGRAM
    }

    /// Sockets that it has open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.count.count()
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<u32, Weak<OneOpen>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What this has open.
    fn connection(&self, socket: &Resource<TcpSocket>) -> Option<Arc<OneOpen>> {
        self.connections().get(&socket.rep())?.upgrade()
    }

    /// None: as many are on their way as there may be.
    fn datagram(self: &Arc<Self>) -> Option<Datagram> {
        let before = self.datagrams.fetch_add(1, Ordering::Relaxed);
        let one_more = Datagram(Arc::clone(self));
        (before < limits::DATAGRAMS_AT_ONCE).then_some(one_more)
    }

    /// What wasmtime makes one socket with. It asks here what that may do, and so keeps what it has open for as long as it is there.
    fn context(self: &Arc<Self>, one: Arc<OneOpen>) -> WasiSocketsCtx {
        let grant = &self.granted.sockets;
        let sockets = Arc::clone(self);
        let mut wasi = WasiCtxBuilder::new();
        wasi.allow_tcp(grant.has(Protocol::Tcp))
            .allow_udp(grant.has(Protocol::Udp))
            .socket_addr_check(move |address, what| {
                let _one = &one;
                let is_permitted = sockets.permits(address, what);
                Box::pin(std::future::ready(is_permitted))
            });
        wasi.build().sockets().clone()
    }

    fn permits(&self, address: SocketAddr, what: SocketAddrUse) -> bool {
        let protocol = match what {
            SocketAddrUse::TcpConnect => Protocol::Tcp,
            SocketAddrUse::UdpSend | SocketAddrUse::UdpReceive => Protocol::Udp,
            // Whatever is bound so is bound by the way, to send something.
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => {
                return address.ip().is_unspecified() && address.port() == 0;
            }
            SocketAddrUse::TcpListen | SocketAddrUse::TcpAccept => return false,
        };
        let ip = address.ip().to_canonical();
        let names: Vec<Arc<str>> = self
            .looked_up()
            .iter()
            .filter(|(found, _)| *found == ip)
            .map(|(_, name)| Arc::clone(name))
            .collect();
        let grant = &self.granted.sockets;
        match grant.permits(protocol, address, &names) {
            Ok(()) => true,
            // What comes from elsewhere is not the guest's doing.
            Err(_) if matches!(what, SocketAddrUse::UdpReceive) => false,
            Err(why) => {
                grant.tell(
                    format_args!("reach `{protocol}://{address}`{why}"),
                    format_args!("{protocol}://{address}"),
                );
                false
            }
        }
    }

    /// A socket is about to be made: what with, and what it will have open; none if there are too many. One that no rule is for is
    /// told: it is refused when it is made, and where it was to lead is not known.
    fn opens(self: &Arc<Self>, protocol: Protocol) -> Option<(WasiSocketsCtx, Weak<OneOpen>)> {
        let grant = &self.granted.sockets;
        if !grant.has(protocol) {
            grant.tell(
                format_args!("open a socket of `{protocol}`"),
                format_args!("{protocol}://HOST:PORT"),
            );
        }
        let one = Arc::new(self.count.one(&self.granted.descriptors)?);
        let kept = Arc::downgrade(&one);
        Some((self.context(one), kept))
    }

    /// The name, if it may be looked up.
    fn name(&self, name: &str) -> Option<Arc<str>> {
        let grant = &self.granted.sockets;
        let plain = name.trim_end_matches('.').to_ascii_lowercase();
        if plain.parse::<IpAddr>().is_ok() || grant.rules.iter().any(|it| it.host.is_name(&plain)) {
            return Some(plain.into());
        }
        let shown = short(name).escape_debug().to_string();
        grant.tell(
            format_args!("look up `{shown}`"),
            format_args!("tcp://{shown}:PORT"),
        );
        None
    }

    /// Begins to look up a name.
    fn look_up(&self, name: String) -> Result<LookUp, network::ErrorCode> {
        let plain = self.name(&name).ok_or(network::ErrorCode::AccessDenied)?;
        if !self.granted.sockets.has_names() {
            return Err(network::ErrorCode::PermanentResolverFailure);
        }
        let addresses = match plain.parse::<IpAddr>() {
            Ok(address) => Addresses::Here(vec![address].into_iter()),
            Err(_) if !plain.split('.').all(hosts::is_label) => {
                return Err(network::ErrorCode::InvalidArgument);
            }
            Err(_) => Addresses::Coming(
                self.ask(name)
                    .ok_or(network::ErrorCode::TemporaryResolverFailure)?,
            ),
        };
        Ok(LookUp {
            name: plain,
            addresses,
        })
    }

    /// Asks the resolver, when there is a place for that. None: this instance waits for too many answers.
    fn ask(&self, name: String) -> Option<oneshot::Receiver<Vec<IpAddr>>> {
        let of_instance = Arc::clone(&self.lookups).try_acquire_owned().ok()?;
        let lookups = self.granted.sockets.lookups.clone();
        let (mut answer, coming) = oneshot::channel::<Vec<IpAddr>>();
        tokio::spawn(async move {
            let addresses = lookups.run(move || {
                // Whoever gives up waiting leaves the thread to the resolver, and its places with it.
                let _of_instance = of_instance;
                (name.as_str(), 0).to_socket_addrs()
            });
            tokio::select! {
                found = addresses => if let Ok(Ok(found)) = found {
                    let _ = answer.send(found.map(|it| it.ip().to_canonical()).collect());
                },
                () = answer.closed() => {}
            }
        });
        Some(coming)
    }

    fn found(&self, name: &Arc<str>, address: IpAddr) {
        let found = (address.to_canonical(), Arc::clone(name));
        let mut looked_up = self.looked_up();
        if looked_up.contains(&found) {
            return;
        }
        if looked_up.len() >= limits::ADDRESSES_LOOKED_UP {
            looked_up.pop_front();
        }
        looked_up.push_back(found);
    }

    fn looked_up(&self) -> MutexGuard<'_, VecDeque<(IpAddr, Arc<str>)>> {
        self.looked_up
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Option<Vec<IpAddr>>> for Addresses {
    fn from(found: Option<Vec<IpAddr>>) -> Self {
        found.map_or(Self::None, |found| Self::Here(found.into_iter()))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LookUp {
    async fn ready(&mut self) {
        if let Addresses::Coming(coming) = &mut self.addresses {
            let found = coming.await;
            self.addresses = found.ok().into();
        }
    }
}

/// What an instance has of names and sockets.
pub struct NamesView<'a> {
    /// Its sockets.
    pub sockets: &'a Arc<Sockets>,
    /// Wasmtime's view of them.
    pub wasi: WasiSocketsCtxView<'a>,
}

impl NamesView<'_> {
    /// Wasmtime's view for one socket.
    fn with<'a>(&'a mut self, ctx: &'a mut WasiSocketsCtx) -> WasiSocketsCtxView<'a> {
        WasiSocketsCtxView {
            ctx,
            table: self.wasi.table,
        }
    }
}

struct HasNames;

impl HasData for HasNames {
    type Data<'a> = NamesView<'a>;
}

/// Puts the look-up of names and the making of sockets, of 0.2, and of 0.3 if that `is_p3`, in place of those that are linked;
/// of 0.3, what sends and receives datagrams too.
///
/// # Errors
/// When the linker does not allow that.
pub fn link<T: WasiSocketsView + 'static>(
    linker: &mut Linker<T>,
    is_p3: bool,
    view: fn(&mut T) -> NamesView<'_>,
) -> wasmtime::Result<()> {
    p2::add_to_linker::<T, HasNames>(linker, view)?;
    tcp_create_socket::add_to_linker::<T, HasNames>(linker, view)?;
    udp_create_socket::add_to_linker::<T, HasNames>(linker, view)?;
    if is_p3 {
        p3::add_to_linker::<T, HasNames>(linker, view)?;
        link_some_p3(linker, view)?;
    }
    Ok(())
}

/// Six functions of an interface of many, which stay wasmtime's: hence by their names.
fn link_some_p3<T: WasiSocketsView + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> NamesView<'_>,
) -> wasmtime::Result<()> {
    let mut interface = linker.instance("wasi:sockets/types@0.3.0")?;
    interface.func_wrap(
        "[static]tcp-socket.create",
        move |mut store: StoreContextMut<'_, T>, (family,): (types::IpAddressFamily,)| {
            let mut names = view(store.data_mut());
            let Some((mut ctx, kept)) = names.sockets.opens(Protocol::Tcp) else {
                return Ok((Err(types::ErrorCode::OutOfMemory),));
            };
            let made = types::HostTcpSocket::create(&mut names.with(&mut ctx), family);
            if let Ok(socket) = &made {
                let mut connections = names.sockets.connections();
                connections.retain(|_, open| open.strong_count() > 0);
                connections.insert(socket.rep(), kept);
            }
            answered(made)
        },
    )?;
    interface.func_wrap(
        "[method]tcp-socket.send",
        move |mut store: StoreContextMut<'_, T>,
              (socket, data): (Resource<TcpSocket>, StreamReader<u8>)| {
            let open = view(store.data_mut()).sockets.connection(&socket);
            let access = Access::<T, WasiSockets>::new(store.as_context_mut(), T::sockets);
            let end = types::HostTcpSocketWithStore::send(access, socket, data)?;
            Ok((open_until(store, open, end)?,))
        },
    )?;
    interface.func_wrap(
        "[method]tcp-socket.receive",
        move |mut store: StoreContextMut<'_, T>, (socket,): (Resource<TcpSocket>,)| {
            let open = view(store.data_mut()).sockets.connection(&socket);
            let access = Access::<T, WasiSockets>::new(store.as_context_mut(), T::sockets);
            let (data, end) = types::HostTcpSocketWithStore::receive(access, socket)?;
            Ok(((data, open_until(store, open, end)?),))
        },
    )?;
    interface.func_wrap_async(
        "[static]udp-socket.create",
        move |mut store: StoreContextMut<'_, T>, (family,): (types::IpAddressFamily,)| {
            Box::new(async move {
                let mut names = view(store.data_mut());
                let Some((mut ctx, _)) = names.sockets.opens(Protocol::Udp) else {
                    return Ok((Err(types::ErrorCode::OutOfMemory),));
                };
                answered(types::HostUdpSocket::create(&mut names.with(&mut ctx), family).await)
            })
        },
    )?;
    interface.func_wrap_concurrent(
        "[method]udp-socket.send",
        move |store: &Accessor<T>, (socket, data, to): Sending| {
            Box::pin(async move {
                let Some(_on_its_way) = datagram(store, view) else {
                    return Ok((Err(types::ErrorCode::OutOfMemory),));
                };
                let store = store.with_getter::<WasiSockets>(T::sockets);
                let sent = types::HostUdpSocketWithStore::send(&store, socket, data, to);
                answered(sent.await)
            })
        },
    )?;
    interface.func_wrap_concurrent(
        "[method]udp-socket.receive",
        move |store: &Accessor<T>, (socket,): (Resource<UdpSocket>,)| {
            Box::pin(async move {
                let Some(_on_its_way) = datagram(store, view) else {
                    return Ok((Err(types::ErrorCode::OutOfMemory),));
                };
                let store = store.with_getter::<WasiSockets>(T::sockets);
                let received = types::HostUdpSocketWithStore::receive(&store, socket);
                answered(received.await)
            })
        },
    )
}

/// How a stream of a connection ends.
type End = FutureReader<Result<(), types::ErrorCode>>;

/// The same end, until which this is open.
fn open_until<T: 'static>(
    mut store: StoreContextMut<'_, T>,
    open: Option<Arc<OneOpen>>,
    end: End,
) -> wasmtime::Result<End> {
    let (tell, told) = oneshot::channel();
    let ending = Ending {
        open,
        tell: Some(tell),
    };
    end.pipe(&mut store, ending)?;
    FutureReader::new(&mut store, told)
}

/// Takes how a stream ends, lets go of what it had open, and tells the guest.
struct Ending {
    open: Option<Arc<OneOpen>>,
    tell: Option<oneshot::Sender<Result<(), types::ErrorCode>>>,
}

impl<D: 'static> FutureConsumer<D> for Ending {
    type Item = Result<(), types::ErrorCode>;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        store: StoreContextMut<'_, D>,
        mut source: Source<'_, Self::Item>,
        _: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let mut end = None;
        source.read(store, &mut end)?;
        self.open = None;
        if let (Some(end), Some(tell)) = (end, self.tell.take()) {
            // The guest may not care.
            let _ = tell.send(end);
        }
        Poll::Ready(Ok(()))
    }
}

type Sending = (Resource<UdpSocket>, Vec<u8>, Option<types::IpSocketAddress>);

fn datagram<T: 'static>(
    store: &Accessor<T>,
    view: fn(&mut T) -> NamesView<'_>,
) -> Option<Datagram> {
    store.with(|mut store| view(store.data_mut()).sockets.datagram())
}

/// As a function of 0.3 gives it.
fn answered<R>(answer: Result<R, P3Error>) -> wasmtime::Result<(Result<R, types::ErrorCode>,)> {
    match answer {
        Ok(answer) => Ok((Ok(answer),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

impl tcp_create_socket::Host for NamesView<'_> {
    fn create_tcp_socket(
        &mut self,
        family: IpAddressFamily,
    ) -> Result<Resource<tcp_create_socket::TcpSocket>, SocketError> {
        let opens = self.sockets.opens(Protocol::Tcp);
        let (mut ctx, _) = opens.ok_or(network::ErrorCode::NewSocketLimit)?;
        tcp_create_socket::Host::create_tcp_socket(&mut self.with(&mut ctx), family)
    }
}

impl udp_create_socket::Host for NamesView<'_> {
    async fn create_udp_socket(
        &mut self,
        family: IpAddressFamily,
    ) -> Result<Resource<udp_create_socket::UdpSocket>, SocketError> {
        let opens = self.sockets.opens(Protocol::Udp);
        let (mut ctx, _) = opens.ok_or(network::ErrorCode::NewSocketLimit)?;
        udp_create_socket::Host::create_udp_socket(&mut self.with(&mut ctx), family).await
    }
}

impl network::HostNetwork for NamesView<'_> {
    fn drop(&mut self, network: Resource<WasiNetwork>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.wasi, network)
    }
}

impl network::Host for NamesView<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<network::ErrorCode> {
        network::Host::convert_error_code(&mut self.wasi, error)
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<network::ErrorCode>> {
        network::Host::network_error_code(&mut self.wasi, error)
    }
}

impl p2::Host for NamesView<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<WasiNetwork>,
        name: String,
    ) -> Result<Resource<p2::ResolveAddressStream>, SocketError> {
        self.wasi.table.get(&network)?;
        let look_up = self.sockets.look_up(name)?;
        let stream = self.wasi.table.push(look_up)?;
        Ok(Resource::new_own(stream.rep()))
    }
}

/// What a stream of addresses is here: only its type in the linker is wasmtime's.
fn own(stream: &Resource<p2::ResolveAddressStream>) -> Resource<LookUp> {
    Resource::new_borrow(stream.rep())
}

impl p2::HostResolveAddressStream for NamesView<'_> {
    fn resolve_next_address(
        &mut self,
        stream: Resource<p2::ResolveAddressStream>,
    ) -> Result<Option<IpAddress>, SocketError> {
        let look_up = self.wasi.table.get_mut(&own(&stream))?;
        if let Addresses::Coming(coming) = &mut look_up.addresses {
            let found = coming.try_recv();
            if matches!(found, Err(TryRecvError::Empty)) {
                return Err(network::ErrorCode::WouldBlock.into());
            }
            look_up.addresses = found.ok().into();
        }
        let Addresses::Here(addresses) = &mut look_up.addresses else {
            return Err(network::ErrorCode::NameUnresolvable.into());
        };
        let next = addresses.next();
        if let Some(next) = next {
            self.sockets.found(&look_up.name, next);
        }
        Ok(next.map(IpAddress::from))
    }

    fn subscribe(
        &mut self,
        stream: Resource<p2::ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.wasi.table, own(&stream))
    }

    fn drop(&mut self, stream: Resource<p2::ResolveAddressStream>) -> wasmtime::Result<()> {
        let stream = Resource::<LookUp>::new_own(stream.rep());
        self.wasi.table.delete(stream)?;
        Ok(())
    }
}

impl p3::Host for NamesView<'_> {}

impl<T: WasiSocketsView + 'static> p3::HostWithStore<T> for HasNames {
    async fn resolve_addresses(
        store: &Accessor<T, Self>,
        name: String,
    ) -> wasmtime::Result<Result<Vec<types::IpAddress>, p3::ErrorCode>> {
        let sockets = store.with(|mut store| Arc::clone(store.get().sockets));
        let mut look_up = match sockets.look_up(name) {
            Ok(look_up) => look_up,
            Err(error) => return Ok(Err(of_p3(error))),
        };
        look_up.ready().await;
        let Addresses::Here(found) = look_up.addresses else {
            return Ok(Err(p3::ErrorCode::NameUnresolvable));
        };
        let granted = found.inspect(|address| sockets.found(&look_up.name, *address));
        Ok(Ok(granted.map(types::IpAddress::from).collect()))
    }
}

fn of_p3(error: network::ErrorCode) -> p3::ErrorCode {
    match error {
        network::ErrorCode::AccessDenied => p3::ErrorCode::AccessDenied,
        network::ErrorCode::InvalidArgument => p3::ErrorCode::InvalidArgument,
        network::ErrorCode::TemporaryResolverFailure => p3::ErrorCode::TemporaryResolverFailure,
        _ => p3::ErrorCode::PermanentResolverFailure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::lookups::Lookups;
    use crate::capabilities::share::Sharer;
    use crate::capabilities::{Grants, Services};

    fn rule(text: &str) -> SocketRule {
        text.parse().expect(text)
    }

    #[test]
    fn rules_are_read_as_they_are_written() {
        for text in [
            "tcp://db.example.com:5432",
            "tcp://*.example.com:5432",
            "tcp://10.0.0.0/8:6379",
            "udp://10.0.0.53:53",
            "udp://[fd00::53]:53",
            "tcp://[fd00::/8]:*",
            "tcp://localhost:*",
        ] {
            assert_eq!(rule(text).to_string(), text);
        }
        for written in ["tcp://DB.example:1", "tcp://db.example.:1"] {
            assert_eq!(rule(written).to_string(), "tcp://db.example:1");
        }
    }

    #[test]
    fn what_is_no_rule_says_how_to_write_one() {
        for (text, why) in [
            ("db.example.com:5432", "not a place"),
            ("http://db.example.com:80", "neither `tcp` nor `udp`"),
            ("tcp://db.example.com", "no port"),
            ("tcp://db.example.com:0", "not a port"),
            ("tcp://db.example.com:70000", "not a port"),
            ("tcp://*:80", "not a name"),
            ("tcp://*.:80", "not a name"),
            ("tcp://:80", "not a name"),
            ("tcp://1.2.3:80", "not a name"),
            ("tcp://*.com:80", "every host below `com`"),
            ("tcp://me@db:80", "not a name"),
            ("tcp://0.0.0.0/0:80", "all addresses"),
            ("tcp://[::/0]:80", "all addresses"),
            ("tcp://128.0.0.0/1:80", "all addresses"),
            ("tcp://[8000::/1]:80", "all addresses"),
            ("tcp://unix:80", "no Unix sockets"),
            ("tcp://10.0.0.1/8:80", "10.0.0.0/8"),
        ] {
            let refused = text.parse::<SocketRule>().expect_err(text);
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }

    #[test]
    fn an_address_is_reached_by_its_network_or_by_a_name_that_has_it() {
        let rules = [
            "tcp://db.example.com:5432",
            "tcp://*.example.org:80",
            "tcp://127.0.0.0/8:6379",
            "udp://1.1.1.1:53",
        ];
        let shop = Arc::from("shop");
        let lookups = Lookups::default().share(&Sharer::of(&shop, None));
        let grant = SocketGrant::new(shop, rules.map(rule).to_vec(), lookups);
        let may = |protocol, to: &str, name: &str| {
            let to = to.parse().expect(to);
            grant.permits(protocol, to, &[Arc::from(name)]).is_ok()
        };
        for (protocol, to, name, is_permitted) in [
            (Protocol::Tcp, "8.8.8.8:5432", "db.example.com", true),
            (Protocol::Tcp, "8.8.8.8:5432", "x.example.com", false),
            (Protocol::Tcp, "8.8.8.8:5433", "db.example.com", false),
            (Protocol::Udp, "8.8.8.8:5432", "db.example.com", false),
            (Protocol::Tcp, "8.8.8.8:80", "a.b.example.org", true),
            (Protocol::Tcp, "8.8.8.8:80", "example.org", false),
            (Protocol::Tcp, "8.8.8.8:80", "badexample.org", false),
            // A name that leads inside is no way in, other than to what is granted by network.
            (Protocol::Tcp, "127.0.0.1:5432", "db.example.com", false),
            (Protocol::Tcp, "10.0.0.1:5432", "db.example.com", false),
            (Protocol::Tcp, "169.254.169.254:80", "a.example.org", false),
            (Protocol::Tcp, "127.0.0.1:6379", "", true),
            (Protocol::Tcp, "[::ffff:127.0.0.1]:6379", "", true),
            (Protocol::Tcp, "[::1]:6379", "", false),
            (Protocol::Udp, "1.1.1.1:53", "", true),
            (Protocol::Tcp, "1.1.1.1:53", "", false),
            (Protocol::Udp, "1.1.1.2:53", "", false),
        ] {
            assert_eq!(
                may(protocol, to, name),
                is_permitted,
                "{protocol} {to} {name}"
            );
        }
    }

    // None of the look-ups begins: the test does not wait.
    #[tokio::test]
    async fn an_instance_looks_up_so_many_names_at_once_and_no_more() {
        let grants = Grants {
            sockets: vec![rule("tcp://*.example.com:80")],
            ..Grants::default()
        };
        let granted = Granted::new("shop".into(), None, &grants, &Services::default());
        let granted = Arc::new(granted.expect("granted"));
        let look_up = |sockets: &Sockets| sockets.look_up("a.example.com".to_owned());
        let sockets = Sockets::new(Arc::clone(&granted));
        let held: Vec<_> = (0..limits::LOOKUPS_AT_ONCE)
            .map(|_| look_up(&sockets))
            .collect();
        assert!(held.iter().all(Result::is_ok));
        let refused = look_up(&sockets);
        assert!(matches!(
            refused,
            Err(network::ErrorCode::TemporaryResolverFailure)
        ));
        assert!(look_up(&Sockets::new(granted)).is_ok(), "another instance");
    }
}
