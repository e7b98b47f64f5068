//! Every ceiling of the host: its name, unit, default, and the reason for the number.
//!
//! A queue, map or wait anywhere in the crate takes its ceiling from here, so that the whole
//! answer to "how much can this take?" is one page.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// KiB, in bytes.
pub const KIB: usize = 1024;
/// MiB, in bytes.
pub const MIB: usize = 1024 * KIB;

/// What one handler may use. All of it is settable.
///
/// Versions of files are kept with it, by the names of its fields: see [`Reuse`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandlerLimits {
    /// From the request's arrival to the response's headers: queue, instantiation and guest.
    pub deadline: Duration,
    /// How long a body, either way, may go without a byte moving.
    pub body_deadline: Duration,
    /// CPU time of one exchange, in the start function, the handler and after the headers. Bytes that move add to it:
    /// [`BYTE_EARNS`].
    pub cpu: Duration,
    /// Bytes of one instance: its linear memories and tables, and what the host holds for it.
    pub memory: usize,
    /// Bytes of a request's body, counted as it streams through.
    pub request_body: u64,
    /// Exchanges that hold a permit at once.
    pub concurrent_requests: usize,
    /// Requests that wait for a permit at once; the next is refused.
    pub waiting_requests: usize,
    /// How long a request waits for a permit.
    pub permit_wait: Duration,
}

impl Default for HandlerLimits {
    fn default() -> Self {
        Self {
            // What people wait for a page before they leave; gateways use 30 s or 60 s.
            deadline: Duration::from_secs(30),
            body_deadline: Duration::from_secs(30),
            // Hundreds of times what a handler needs, and short enough to end a loop soon.
            cpu: Duration::from_secs(5),
            // Python and JavaScript guests start with 20–40 MiB.
            memory: 128 * MIB,
            request_body: 64 * MIB as u64,
            // Bounded by memory: 1,000 instances at a typical 1–2 MiB.
            concurrent_requests: 1_000,
            // One more for each that runs: a burst is absorbed, a backlog is not.
            waiting_requests: 1_000,
            // Longer than a burst of short requests takes to pass, shorter than a client's patience.
            permit_wait: Duration::from_secs(5),
        }
    }
}

impl HandlerLimits {
    /// Whether as many may run and wait, for as long.
    pub(crate) fn are_the_same_places(&self, other: &Self) -> bool {
        (
            self.concurrent_requests,
            self.waiting_requests,
            self.permit_wait,
        ) == (
            other.concurrent_requests,
            other.waiting_requests,
            other.permit_wait,
        )
    }
}

/// What one door lets in. All of it is settable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorLimits {
    /// Connections open at once.
    pub connections: usize,
    /// The same of one address, or of one /64 of IPv6; unsaid, as many as there are.
    pub connections_per_address: Option<usize>,
    /// Bytes of a request's head: request line and headers.
    pub request_head: usize,
    /// Header fields of a request.
    pub request_headers: usize,
    /// From the connection to its first byte.
    pub first_byte: Duration,
    /// From the connection to the end of its handshake, over TLS.
    pub handshake: Duration,
    /// From a head's first byte to its last.
    pub header_read: Duration,
    /// Bytes of a request's body that must come for each second that its handler waits for them, over [`BODY_GRACE`], until
    /// the answer begins; 0 for no minimum.
    pub body_rate: u32,
    /// How long a kept-alive connection may rest between requests.
    pub idle: Duration,
    /// How long a client may take no byte while we have some for it.
    pub write_stall: Duration,
}

impl Default for DoorLimits {
    fn default() -> Self {
        Self {
            // Some 24 KB each when idle: a quarter of a gigabyte.
            connections: 10_000,
            // Behind one address can be a whole office, or the proxy that everybody comes by.
            connections_per_address: None,
            // What browsers and proxies stay under with all their cookies.
            request_head: 64 * KIB,
            // Each becomes an object in the guest, so the count matters too. Browsers send 15 to 30.
            request_headers: 100,
            // Ten round trips of a bad mobile network, for what takes one.
            first_byte: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            header_read: Duration::from_secs(10),
            // As Kestrel has it, half of Apache's: a modem's twentieth.
            body_rate: BODY_RATE,
            // What browsers and load balancers expect to find open again.
            idle: Duration::from_secs(60),
            // A network that is away for a moment comes back; a client that has stopped reading does not.
            write_stall: Duration::from_secs(30),
        }
    }
}

/// How long a client may send its body more slowly than [`DoorLimits::body_rate`]: Apache's. A phone in a tunnel comes back.
pub const BODY_GRACE: Duration = Duration::from_secs(20);

/// How long a request that has a place must have waited for its client before it gives up the place to one that has none: many
/// round trips, and short beside [`HandlerLimits::permit_wait`].
pub const IDLE_PLACE: Duration = Duration::from_millis(500);
/// The same where more than half of all who hold places, and more than [`IDLE_MANY`], have waited so long for clients that have
/// moved less than [`IDLE_FEW_BYTES`], for each of these: whoever comes behind a crowd that has just taken all of them waits no longer.
/// What a client has sent before earns it more here only if it came at [`IDLE_RATE`]. Who talks, since the answer has begun, is not
/// of these.
pub const IDLE_PLACE_OF_MANY: Duration = Duration::from_millis(40);
/// Bytes per second since an upload began, to keep what they earn it in a crowd. Sixteen times [`BODY_RATE`]: a phone at the edge of its network has that.
pub const IDLE_RATE: u32 = 16 * BODY_RATE;
/// How long after that it is still taken to be so: of a crowd that comes anew many have only just begun to wait.
pub const IDLE_SIEGE: Duration = Duration::from_secs(1);
/// More than the kernel and hyper take of an answer that nobody reads. A client that has taken more reads, however slowly,
/// see [`IDLE_TAKEN`].
pub const IDLE_FEW_BYTES: u64 = 512 * KIB as u64;
/// See [`IDLE_PLACE_OF_MANY`]. Fewer may have come together by chance.
pub const IDLE_MANY: usize = 32;
/// Default of [`DoorLimits::body_rate`], in bytes per second: what Kestrel has.
pub const BODY_RATE: u32 = 240;
/// The most that a client earns in addition by what it has sent, at [`BODY_RATE`]: as long as a pause in a talk may be.
pub const IDLE_EARNED: Duration = Duration::from_secs(10);
/// The most that a client earns in addition that has taken [`IDLE_FEW_BYTES`] of its answer: a kernel wakes who writes when a third
/// of its buffer is free, which a reader of 250 KB/s takes seconds for.
pub const IDLE_TAKEN: Duration = Duration::from_millis(4_500);
/// Bytes that must have moved meanwhile for it not to have waited: a small message, and more than a byte now and then.
pub const IDLE_BYTES: u64 = 32;
/// How long it is until the next looks for one who is to give up his place, when there was none.
pub const IDLE_PAUSE: Duration = Duration::from_millis(2);
/// How long who is to give up his place has for it, before who waits for one asks another: one who needs a place is not to
/// cost several theirs.
pub const IDLE_LEAVES: Duration = Duration::from_millis(100);
/// How often who waits for a place looks whether another is to give up his.
pub const IDLE_LOOK: Duration = Duration::from_millis(20);

/// The port of the default address.
pub const PORT: u16 = 8080;

/// Bytes of a route's path. It is in messages, logs and the labels of metrics.
pub const ROUTE_PATH: usize = KIB;

/// How often an instance may be used again.
///
/// The state directory keeps it with versions of files. A field under a new name has its default in all that are kept:
/// rename with `#[serde(alias)]`, or count up the format of the state directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reuse {
    /// Requests that one instance serves before it is dropped. `None`: 1 for wasi:http 0.2,
    /// whose guests were written for a fresh instance each time, 128 for 0.3.
    pub requests: Option<u32>,
    /// Requests that one wasi:http 0.3 instance serves at the same time.
    pub concurrent: u32,
    /// How long an unused instance is kept.
    pub idle: Duration,
}

impl Default for Reuse {
    fn default() -> Self {
        Self {
            requests: None,
            concurrent: 1,
            idle: Duration::from_secs(1),
        }
    }
}

/// Default of [`Reuse::requests`] for wasi:http 0.3, as `wasmtime serve` has it.
pub const REUSED_REQUESTS_P3: u32 = 128;

/// Requests that a handler must serve well after a fault before one of its instances may serve twice as many again, see
/// [`Reuse`]: who fails once in so many has its instances to itself, and others are trusted again within a second or an hour.
pub const REUSE_RECOVERS: u32 = 1_000;
/// How often it is said that instances of a handler serve fewer requests after a fault, or as many again.
pub const REUSE_PAUSE: Duration = Duration::from_secs(10);

/// Idle instances kept, of all handlers of one [`crate::engine::Target`], with those that may be shared and that nobody is in: no
/// more than requests may be served at once. More than this were never in use at once on a small machine.
pub const IDLE_INSTANCES: usize = 256;

/// Places in the pool beyond those that permits and idle instances take: for instances that are
/// being cleared away after their permit has gone to the next.
pub const SPARE_INSTANCES: usize = 64;

/// Host objects (streams, fields, pollables) that one instance may hold. What they take counts
/// against [`HandlerLimits::memory`].
pub const RESOURCES: usize = 1_024;

/// Files and directories in a scratch directory. Each takes a block of the disk, however short it is.
pub const SCRATCH_FILES: u64 = 1_000;
/// Directories in it, one in another: who removes them holds as many open.
pub const SCRATCH_DIRECTORIES: u64 = 100;
/// Threads that one instance's writes into it may take at once: there are some hundred for everybody.
pub const SCRATCH_WRITERS: u32 = 4;
/// Scratch directories of all instances together, those included that are being removed; of one tenant, or handler without one, a
/// [`SHARE`]th.
pub const SCRATCHES: usize = 4_096;

/// Threads that wait for disks on behalf of guests that use files; of one tenant, or handler without one, a [`SHARE`]th. A runtime
/// has 512 of them for everything that may wait.
pub const FILE_WORK: usize = 64;
/// Bytes of a path, with its end: Linux takes no more. A guest of 0.3 may have thousands of calls wait, each with its path.
pub const PATH: usize = 4 * KIB;
/// Bytes of a page of a directory's listing, as the kernel gives it: several hundred names.
pub const LISTING_PAGE: usize = 32 * KIB;
/// Names that one instance looks up at once: each takes a thread for as long as a server of names leaves it waiting.
pub const LOOKUPS_AT_ONCE: usize = 8;
/// Addresses that an instance has looked up and may connect to. Of more, the oldest is forgotten.
pub const ADDRESSES_LOOKED_UP: usize = 256;

/// Files, directories and sockets that one instance may have open: descriptors are everybody's, and a process has some
/// thousands.
pub const OPEN_FILES: usize = 256;
/// All guests together have one in so many of the process's descriptors. Half of them are for loaded components, the rest is for
/// connections. One tenant, or handler without one, has at most [`FAIR`] times what he leaves.
pub const OPEN_FILES_PART: usize = 4;

/// Those of the process that connections of clients leave to the operator's door, and to what he deploys there. Where the process
/// may have few it is one in [`OPEN_FILES_PART`].
pub const OPEN_FILES_KEPT: usize = 32;
/// How often it is looked whether there are others again.
pub const OPEN_FILES_LOOK: Duration = Duration::from_millis(100);

/// Datagrams that one instance of wasi:http 0.3 sends and receives at once; the next is refused. One for each socket that it may
/// have open.
pub const DATAGRAMS_AT_ONCE: usize = OPEN_FILES;
/// Bytes that the host has ready for each: a datagram has no more. They count against [`HandlerLimits::memory`], as does what
/// a socket of 0.2 reads and writes.
pub const DATAGRAM: usize = 64 * KIB;

/// Handles of one instance, to host objects and its own, and tasks, streams and futures of
/// wasi:http 0.3: some hundred bytes of the host's each, which no memory limit counts.
pub const HANDLES: usize = 10_000;

/// Bytes of one set of header fields that a guest builds, and so of a response's head. Settable. What
/// browsers accept is twice this.
pub const FIELDS_BYTES: usize = 128 * KIB;

/// Bytes that one call from guest to host may copy (a list, a string).
pub const HOSTCALL_BYTES: usize = 16 * MIB;

/// Calls of handlers inside one another. Services that call services go three or four deep; what goes deeper goes round.
pub const CALL_DEPTH: u32 = 8;
/// Calls that one instance has on their way at once. Each takes a place of the host's, and pieces of its bodies count
/// against [`HandlerLimits::memory`].
pub const CALLS_AT_ONCE: usize = 16;
/// How long a guest may leave what another answers unread before the other is given up. It may wait for a client of its
/// own, who takes [`BODY_CHUNK`] at a kilobyte a second.
pub const CALL_STALL: Duration = Duration::from_secs(5 * 60);
/// How often it is said what a guest was refused, for each kind of thing that it can ask for.
pub const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// How long a secret in a file is taken to be what it was. Who makes an instance later looks again.
pub const SECRETS_PAUSE: Duration = Duration::from_secs(1);
/// How long a new instance waits for that look. A disk that takes longer gives what it has to later ones.
pub const SECRETS_WAIT: Duration = Duration::from_millis(200);
/// Default of the objects of a container of `wasi:blobstore`: counting or listing them all takes a disk part of a second. Settable,
/// as are the next two.
pub const BLOBS: u64 = 10_000;
/// Default of the bytes of one object.
pub const BLOB_BYTES: u64 = 256 * MIB as u64;
/// Default of the bytes of all objects of a container. As many of a handler may be on their way in besides.
pub const BLOBS_BYTES: u64 = 1024 * MIB as u64;
/// Bytes of an object's name: in base64 it is that of a file, which has 255.
pub const BLOB_NAME: usize = 190;
/// Values and listings that one instance has open at once. Each is a file, and a piece of [`BODY_CHUNK`], which counts against
/// [`HandlerLimits::memory`].
pub const BLOBS_OPEN: usize = 16;
/// Bytes of a value that a guest may take in one list. What is larger is read as a stream.
pub const BLOB_AT_ONCE: usize = 4 * MIB;
/// Names of a page of a listing, and of objects that one call deletes.
pub const BLOB_NAMES: usize = 1_000;
/// Bytes that are copied from object to object before others have their turn: some milliseconds of a disk.
pub const BLOB_COPY: u64 = 8 * MIB as u64;
/// Threads that may wait for the disk of the containers; of one tenant, or handler without one, a [`SHARE`]th.
pub const BLOB_WORK: usize = 16;
/// How long the disk of the containers may take for one thing: a slow one syncs the largest objects in that time, and a guest has
/// [`HandlerLimits::deadline`]. Work that has begun is finished all the same.
pub const BLOB_TIME: Duration = Duration::from_secs(20);
/// How often it is said that the disk of the containers fails.
pub const BLOB_PAUSE: Duration = Duration::from_secs(10);
/// Requests to elsewhere that one instance has on their way at once, or whose response it has not done with; the next is refused.
/// A page is made of some dozens.
pub const OUTBOUND_AT_ONCE: usize = 64;
/// Bytes that the host holds for each: a piece of either body, a head, and what lies unread on a connection. They count against
/// [`HandlerLimits::memory`].
pub const OUTBOUND_REQUEST_BYTES: usize =
    2 * BODY_CHUNK + OUTBOUND_HEAD + OUTBOUND_H2_WINDOW as usize;
/// The same of all instances of a handler, and to one host and port: as many as it serves at once.
pub const OUTBOUND_REQUESTS: usize = 1_000;
/// Connections that are open for one handler at once, if it does not say otherwise.
pub const OUTBOUND_CONNECTIONS: usize = 256;
/// Those to one host and port: servers have some hundreds of places for everybody.
pub const OUTBOUND_HOST_CONNECTIONS: usize = 100;
/// Those of all handlers: each is an open file, so they are no more than one in [`OPEN_FILES_PART`] of those that the process may
/// have. A tenant has one [`SHARE`]th of them, as has a handler of nobody.
pub const OUTBOUND_CONNECTIONS_OF_ALL: usize = 4_096;
/// Hosts and ports to which a handler has connections, or requests on their way.
pub const OUTBOUND_SITES: usize = 256;
/// Until there is a connection, if a destination does not say otherwise: a SYN that was lost comes again after one second and
/// after three.
pub const OUTBOUND_CONNECT: Duration = Duration::from_secs(5);
/// Until there is the head of a response.
pub const OUTBOUND_FIRST_BYTE: Duration = Duration::from_secs(30);
/// Between two pieces of its body.
pub const OUTBOUND_BETWEEN_BYTES: Duration = Duration::from_secs(30);
/// How long a connection waits for its next request. Servers close theirs after a minute or so, and it is better to be first.
pub const OUTBOUND_IDLE: Duration = Duration::from_secs(30);
/// How long one is used: what its name stands for may have changed.
pub const OUTBOUND_AGE: Duration = Duration::from_secs(10 * 60);
/// How long a request may go on being written whose response has ended.
pub const OUTBOUND_LINGER: Duration = Duration::from_secs(5);
/// How long a request waits for a connection whose response has just ended, before it looks for another: the task that drives it
/// is a few microseconds behind, or a slice on a busy machine.
pub const OUTBOUND_RETURN: Duration = Duration::from_millis(2);
/// Bytes of the head of a response, or of its trailers.
pub const OUTBOUND_HEAD: usize = 64 * KIB;
/// Fields of one.
pub const OUTBOUND_FIELDS: usize = 100;
/// Destinations that one handler may be granted, one by one.
pub const DESTINATIONS: usize = 1_000;
/// Bytes that may come on a connection from one thing that is delivered to the next: more than all that may lie unread.
pub const OUTBOUND_IDLE_BYTES: usize = 2 * MIB;
/// Bytes of a response in flight on one stream of HTTP/2, and of all streams of a connection.
pub const OUTBOUND_H2_WINDOW: u32 = 128 * KIB as u32;
/// See [`OUTBOUND_H2_WINDOW`].
pub const OUTBOUND_H2_CONNECTION_WINDOW: u32 = MIB as u32;
/// Requests on one connection of HTTP/2 at once; its server may allow fewer.
pub const OUTBOUND_H2_STREAMS: usize = 100;
/// Names that are looked up at once: each holds a thread until its resolver has answered. Of one tenant, or handler without one, a
/// [`SHARE`]th: whose names are slow leaves the others some.
pub const LOOKUPS: usize = 64;
/// Addresses of a name that are tried.
pub const ADDRESSES_TRIED: usize = 8;
/// How long the next is not tried while one has not answered (RFC 8305, section 5).
pub const ADDRESS_HEAD_START: Duration = Duration::from_millis(250);

/// Random bytes that one call may ask for.
pub const RANDOM_BYTES: u64 = 4 * MIB as u64;

/// Bytes that a body passes on in one piece, and so what is held of a body at once (twice this).
pub const BODY_CHUNK: usize = 256 * KIB;

/// A response of at most this size whose guest has already finished is sent with a
/// `content-length` instead of in chunks.
pub const BUFFERED_RESPONSE: usize = 2 * BODY_CHUNK;

/// Elements of one table in the pool. Rust, Go and Python guests have under 20,000 function pointers.
pub const TABLE_ELEMENTS: usize = 200_000;

/// Tables of one component in the pool, which has as many for each instance, so that none takes another's. A Rust guest
/// has two, and one that is composed of others has two of each.
pub const TABLES: u32 = 16;
/// Memories of one component in the pool; see [`TABLES`].
pub const MEMORIES: u32 = 4;
/// Core instances of one component in the pool. A Python guest has about 30 modules.
pub const CORE_INSTANCES: u32 = 200;

/// Bytes that wasmtime keeps for one instance beside its memories and tables: its functions, globals and imports, in all its core
/// instances.
pub const INSTANCE_BYTES: usize = 4 * MIB;

/// Memories and stacks of all instances that are made on demand, because their components do not fit into the pool; of one tenant,
/// or handler without one, a [`SHARE`]th. Each memory is 4 GiB of address space, of which Linux gives a process 128 TiB.
pub const LARGE_REGIONS: usize = 4_096;
/// Memories of one component that does not fit into the pool: its share of [`LARGE_REGIONS`].
pub const LARGE_MEMORIES: u32 = 1_024;
/// Bytes of one memory: all that 32 bits can name.
pub const LARGE_MEMORY: usize = 4096 * MIB;
/// Tables of one component that does not fit into the pool, some hundred bytes of the host's each.
pub const LARGE_TABLES: u32 = 4_096;
/// Elements of one of them. They count against [`HandlerLimits::memory`] too, 8 bytes each.
pub const LARGE_TABLE_ELEMENTS: usize = 10_000_000;
/// Tables of one core module. WebAssembly's validation allows no more.
pub const MODULE_TABLES: u32 = 100;
/// Core instances of one component that does not fit into the pool. What they take is bounded by [`INSTANCE_BYTES`].
pub const LARGE_CORE_INSTANCES: u32 = 10_000;

/// Bytes of data of a 0.2 component that are copied into the memories of each instance rather than mapped. A request of one with 45 KB
/// costs 6 % more when they are copied, of one with 3 KB nothing that could be told from noise; where there are thousands of
/// handlers, a request costs 14 % less.
pub const COPIED_DATA: u64 = 32 * KIB as u64;

/// Unused places of the pool that stay as their last guest had them, mapped to its data, where there are many guests: the
/// next instance of that guest then costs half. Of one guest alone as many would only be cold places in the processor's cache.
/// So many for each thread that serves: wasmtime's pool is in as many parts, and a thread looks for its guest's places in one.
pub const WARM_PLACES: u32 = 1_500;
/// The part of the machine's memory that such places may keep, each up to [`KEPT_MEMORY`].
pub const WARM_SHARE: u64 = 8;
/// Bytes of a memory that stay in an unused place: without them the kernel takes and gives each page anew, which costs more
/// than the guest.
pub const KEPT_MEMORY: usize = MIB;

/// Components that a wasi:http 0.3 component in the pool is composed of. Each can hold a stack while it waits for something,
/// and the pool has a stack for every one of them. A handler behind a chain of middleware has three or four.
pub const PARTS: u32 = 8;
/// The same of one that does not fit into the pool: its share of [`LARGE_REGIONS`] is enough for one.
pub const LARGE_PARTS: u32 = 1_000;

/// Bytes of the stack that a guest's own calls may take: a place in the pool has 2 MiB, of which host functions have the rest.
pub const WASM_STACK: usize = 512 * KIB;
/// Stacks in the pool, unless there are so many instances that two for each are more. A stack and its guard are two
/// mappings, and Linux gives a process 65,530 of them.
pub const STACKS: u32 = 16_000;

/// How many handlers it takes to fill the host: each of many has the host's places divided by this.
pub const SHARE: usize = 4;
/// Bytes of a handler's name.
pub const NAME: usize = 63;
/// Handlers that are made at once; of one tenant, or under the name of a handler without one, a [`SHARE`]th. Most of the time of
/// each goes by in a compiler's process or on a disk.
pub const DEPLOYS: usize = 8;
/// How long files must be left alone before they are deployed: editors, `cp` and `git checkout` write in bursts.
pub const FILES_SETTLE: Duration = Duration::from_millis(100);
/// How often a served directory is looked at although nothing was heard of a change: network file systems tell
/// nothing, and a kernel's queue of events can overflow.
pub const FILES_LOOK: Duration = Duration::from_secs(10);
/// Failures of a new handler that has never answered, before it is quarantined.
pub const FIRST_FAILURES: u32 = 10;
/// Failures in a row of one that has. Who finds a request that makes it trap must send as many, and nobody else one
/// that is answered.
pub const FAILURES_IN_A_ROW: u32 = 100;
/// Answers of a new version, after which the one before it is kept no more to fall back to: as many as the failures that
/// would undo it. What fails later is seldom the version's own.
pub const PROVEN_ANSWERS: u32 = 100;
/// Or so long after its first answer, with the next one: of a handler that few ask, whose memory of the one before would last
/// for days. Time alone proves nothing.
pub const PROVEN_AFTER: Duration = Duration::from_secs(60);
/// How long a quarantine lasts before one request tries again; twice as long each time that it fails.
pub const QUARANTINE: Duration = Duration::from_secs(1);
/// See [`QUARANTINE`].
pub const QUARANTINE_MOST: Duration = Duration::from_secs(60);
/// How long it is until a fall back is tried again that could not be done, because somebody changes the handler just now or
/// a disk is full; twice as long each time.
pub const FALL_BACK_PAUSE: Duration = Duration::from_secs(1);
/// See [`FALL_BACK_PAUSE`].
pub const FALL_BACK_PAUSE_MOST: Duration = Duration::from_secs(60);
/// Times that one is tried: in a quarter of an hour a component has arrived or is given up, see [`ADMIN_CONNECTION`].
pub const FALL_BACKS: u32 = 20;
/// Guests that are loaded at once, each with about 80 KiB and what it touches of its code. Loading one costs as much as twenty requests, so a
/// host that is asked for all of ten thousand is better off with the memory.
pub const HOT_HANDLERS: usize = 10_000;
/// Loads between two looks at how many mappings are left to this process, at least: the kernel lists tens of thousands of them in
/// as many microseconds.
pub const LOADS_LOOK: usize = 256;
/// Mappings that a load takes, in the worst case: four of the component's file, and of each memory that an instance gets.
pub const LOAD_MAPPINGS: usize = 16;
/// How long a guest stays loaded that nobody asks for.
pub const HANDLER_COOLS: Duration = Duration::from_secs(60);
/// Bytes that instances may have left in a pool from which no guest is loaded any more, if each has written all that stays: 1.5 MiB
/// for most, so that of some twenty. A pool with more is given up, and the next guest waits some 10 ms for another.
pub const LEFTOVERS: usize = 32 * MIB;
/// How often it is looked whether a pool has more than [`LEFTOVERS`].
pub const LEFTOVERS_LOOK: Duration = Duration::from_secs(10);
/// Directories that are watched; changes in others are seen at the next look.
pub const WATCHED: usize = 1_000;
/// Handlers of one directory or file.
pub const HANDLERS: usize = 20_000;

/// Versions of a handler that are kept to go back to: some weeks of work. A component has up to [`COMPONENT_BYTES`].
pub const VERSIONS: usize = 10;
/// Versions of files that are written down in one transaction: a few megabytes of it, and no turn is held for long.
pub const VERSIONS_BATCH: usize = 256;
/// How long a rollback waits for such a transaction that its handler is part of.
pub const VERSIONS_WAIT: Duration = Duration::from_secs(10);
/// Times that such a transaction is tried while the state directory takes nothing: a quarter of an hour.
pub const VERSIONS_TRIES: u32 = 20;
/// How long it is until it is tried again; twice as long each time.
pub const VERSIONS_PAUSE: Duration = Duration::from_secs(1);
/// See [`VERSIONS_PAUSE`].
pub const VERSIONS_PAUSE_MOST: Duration = Duration::from_secs(60);
/// Handlers whose files are gone, with versions that are kept in case a file comes back. Of those whose files are there and
/// are not served, [`HANDLERS`].
pub const GONE_HANDLERS: usize = 100;
/// Lines of the audit log: some megabytes. The oldest goes first: that of a tenant with more than a [`SHARE`]th of them, if it
/// is his change that is one too many.
pub const AUDIT_LINES: usize = 10_000;
/// Lines of it in one answer.
pub const AUDIT_ANSWER: usize = 1_000;
/// How long a start waits for deployed handlers that have to be compiled anew: some hundreds of small ones, on a small
/// machine. The rest comes later. Settable.
pub const RESTORE: Duration = Duration::from_secs(60);
/// How long it is until a handler is tried again that could not be brought back with its tenant; twice as long each time. It may
/// have to be compiled, and who would mend it waits for his turn meanwhile.
pub const BRING_BACK_PAUSE: Duration = Duration::from_secs(10);
/// See [`BRING_BACK_PAUSE`]: several times [`COMPILE_CPU`].
pub const BRING_BACK_PAUSE_MOST: Duration = Duration::from_secs(10 * 60);
/// Connections that the admin door has open at once: operators and their scripts, not clients.
pub const ADMIN_CONNECTIONS: usize = 32;
/// Components that arrive there at once. Fewer than connections, so that a look is always possible.
pub const ADMIN_UPLOADS: usize = 8;
/// Bytes of the head of a request to it. Settings are in its query.
pub const ADMIN_HEAD: usize = 64 * KIB;
/// How long the head of a request to it may take, and how long a connection may rest.
pub const ADMIN_HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a component that arrives may pause.
pub const ADMIN_BODY_PAUSE: Duration = Duration::from_secs(10);
/// How long one of its connections may live: longer than sending and compiling the largest component.
pub const ADMIN_CONNECTION: Duration = Duration::from_secs(15 * 60);
/// Bytes of an admin door's token: fewer can be guessed.
pub const ADMIN_TOKEN: usize = 16;
/// Tokens of one tenant: two while one is replaced, for each of a few people or machines.
pub const TENANT_TOKENS: usize = 8;
/// Patterns of routes that one tenant may take: its domains, with some to spare.
pub const TENANT_ROUTES: usize = 100;
/// Deploys and rollbacks that go on at once for one tenant, and for all tenants together: the operator always has a place.
pub const TENANT_DEPLOYS: usize = 2;
/// See [`TENANT_DEPLOYS`].
pub const TENANTS_DEPLOYS: usize = ADMIN_UPLOADS / 2;
/// How long one of them waits for a place that others have: most deploys take less.
pub const TENANTS_DEPLOYS_WAIT: Duration = Duration::from_secs(5);

/// The period of the epoch: how often a running guest is looked at, and the slice it gets.
pub const TICK: Duration = Duration::from_millis(1);

/// From one answer of a thread to the next, on average: where it is less, an answer is written when the others that are ready have
/// had their turn. That saves some 2 µs of each, and nothing that matters of those that take longer.
pub const BATCH_PACE: Duration = Duration::from_micros(100);
/// As long as an answer may wait for that. After a turn that was longer [`UNBATCHED`] answers of its thread are written at once.
pub const BATCH_TURN: Duration = Duration::from_millis(2);
/// See [`BATCH_TURN`]: of a thousand answers one may wait for longer.
pub const UNBATCHED: u32 = 1_000;

/// Nanoseconds of CPU time that each byte of a body adds to the budget of its request when it has moved, either way: 8 ms a MiB,
/// some ten times what a guest takes that hands bodies on. So a transfer may be as long as it likes, and a loop may not.
pub const BYTE_EARNS: u64 = 8;

/// CPU time that a guest may use on the threads that serve, without once waiting for something,
/// before it moves to the background threads. Above what nearly every request needs, and small
/// beside a client's round trip. A transfer waits at every chunk and stays.
pub const FRONT_TIME: Duration = Duration::from_millis(3);
/// By so much are background threads, compilers and whoever looks through a component nicer than the threads that serve. Where one of
/// those wants the same core all the time, one of these has a tenth of it. With 19 it would be a seventieth, and on a machine that
/// is busy with other programs requests that were to take some tens of milliseconds there did not end in 30 s.
pub const NICENESS: i32 = 10;
/// The same of who checks passwords, of which clients choose how many there are: the most there is, whatever the host's own is.
pub const NICEST: i32 = 39;
/// CPU time without a wait that costs an account none of its [`FRONT_CREDIT`]: quick guests take less.
pub const FREE_BURST: Duration = Duration::from_micros(250);
/// What an account saves up of time for its longer bursts, of all requests together. One without any begins in the
/// background, so that many short burns use no more of the serving threads than one long one.
pub const FRONT_CREDIT: Duration = Duration::from_millis(50);
/// It comes back in so many times the time that was used: all bursts of an account have a tenth of one core.
pub const FRONT_REFILL: u64 = 10;
/// A guest is looked at each [`TICK`], so a poll in front that takes so much CPU time was one instruction that nothing stops, as
/// filling a hundred MiB is. Its account leaves those threads with all its guests.
pub const FRONT_UNSTOPPED: Duration = Duration::from_millis(30);
/// It comes back when so many times the time has passed that such polls have used: all of an account have a fiftieth of one core.
pub const FRONT_UNSTOPPED_REFILL: u64 = 50;
/// Ticks that such a poll has outlasted at least. With fewer the machine was late, and nobody has tried to stop it.
pub const FRONT_UNSTOPPED_TICKS: u64 = 10;
/// What an account saves up of all its time on the threads that serve, for each of them, where there are other accounts: as
/// long as those may have to wait behind its quick requests, if all come at once. One without any goes on in the background.
pub const FRONT_SHARE: Duration = Duration::from_millis(10);

/// An account may hold so many times what is left for the others, of the host's places and of those in its queue: one
/// alone three quarters, two three sevenths each. However many there are, some are left for the next. So it is with the time of
/// the threads that serve, see [`FRONT_SHARE`].
pub const FAIR: usize = 3;

/// Bytes of an instance that are cleared away where it ends: part of a millisecond. More has a thread of its own.
pub const CLEARED_AT_ONCE: usize = 4 * MIB;

/// What one exchange's guest may print before the rest is dropped and counted, in lines.
pub const OUTPUT_LINES: u32 = 1_000;
/// The same in bytes: a quarter of what waits for a slow reader of the log, see [`LOG_BYTES`].
pub const OUTPUT_BYTES: usize = MIB;
/// Bytes of the context that a guest logs with a message: a word or a path, to find messages that belong together.
pub const LOG_CONTEXT: usize = 256;
/// Bytes of one printed line; the rest is cut.
pub const OUTPUT_LINE: usize = 4 * KIB;
/// Lines of a guest's output kept for the page that `host dev` shows after a fault.
pub const OUTPUT_TAIL: usize = 20;

/// How long files must be left alone before `host dev` builds: editors and `git checkout` write in
/// bursts, and nobody notices a tenth of a second.
pub const SAVES_SETTLE: Duration = Duration::from_millis(75);
/// Bytes of a compiler's message that `host dev` keeps for its page: the first mistakes are there.
pub const COMPILER_MESSAGE: usize = 256 * KIB;

/// Bytes of log lines that wait for a slow terminal or pipe; more are dropped and counted.
pub const LOG_BYTES: usize = 4 * MIB;
/// Sets of labels that requests are told apart by in the metrics. Each is 17 lines of the page, some 4 KB.
pub const METRIC_SERIES: usize = 10_000;
/// Of those, the sets of one handler: some routes with the methods and statuses that are in use. A guest may answer with any
/// of 900 statuses.
pub const METRIC_SERIES_OF_HANDLER: usize = 100;
/// How often it is said that a handler has no place for requests: often enough to be seen, and no flood.
pub const OVERLOAD_PAUSE: Duration = Duration::from_secs(10);
/// Bytes of a field of the access log that a client chose: target, referer, user agent.
pub const LOG_FIELD: usize = 2 * KIB;
/// How long the log's thread lets lines gather after it has written some.
pub const LOG_PAUSE: Duration = Duration::from_millis(10);
/// How long the end of the host waits for the last lines to be read.
pub const LOG_FLUSH: Duration = Duration::from_secs(1);

/// Bytes of a component file. Settable, as are the ceilings of its compiler. JavaScript and Python components take 2–20 MB.
pub const COMPONENT_BYTES: u64 = 64 * MIB as u64;
/// CPU time that the compiler may take for one component, all its threads together. A Python or
/// JavaScript handler of 20 MB takes 15 to 50 s.
pub const COMPILE_CPU: Duration = Duration::from_secs(120);
/// Time on the clock for the same, on a machine that is busy: the compiler has a low priority.
pub const COMPILE_TIME: Duration = Duration::from_secs(300);
/// Memory the compiler may take for one component, in bytes.
pub const COMPILE_MEMORY: u64 = 4 * 1024 * MIB as u64;
/// Bytes of one compiled component. An interpreter takes 50 MB.
pub const ARTIFACT_BYTES: u64 = 1024 * MIB as u64;
/// Bytes of all compiled components kept on disk: ten thousand handlers in Rust, or a few hundred
/// interpreters.
pub const CACHE_BYTES: u64 = 4 * 1024 * MIB as u64;

/// Streams open at once on one HTTP/2 connection, as most servers have it.
pub const H2_STREAMS: u32 = 100;
/// From the request to stop until what is in flight is cut.
pub const DRAIN: Duration = Duration::from_secs(30);
/// How long the log of what was cut after [`DRAIN`] is waited for.
pub const CUT_OFF: Duration = Duration::from_millis(500);
/// How long, and for how many bytes, we listen to a client that still sends when we have answered
/// and closed, so that it can read the answer (RFC 9112, section 9.6).
pub const LINGER: Duration = Duration::from_secs(2);
/// See [`LINGER`].
pub const LINGER_BYTES: usize = MIB;
/// Bytes of a request's body in flight on one HTTP/2 stream. It is given back by halves, so 640 KiB pass in a round trip as
/// measured: 1 Gbit/s at 5 ms. More would be a gigabyte for each thousand clients whose guests do not read.
pub const H2_WINDOW: u32 = MIB as u32;
/// The same of all streams of a connection: three may lie unread, and the fourth is as fast as one alone.
pub const H2_CONNECTION_WINDOW: u32 = 4 * MIB as u32;
/// Bytes of a response that one HTTP/2 stream holds for a slow client: what most clients' first window takes (RFC 9113,
/// section 6.9.2), and of [`H2_STREAMS`] together 6.5 MB at most.
pub const H2_SEND: usize = 64 * KIB;
/// Streams that a client reset before they were looked at, before it is sent away (CVE-2023-44487). We look as soon as we
/// have read, so only a reset right behind its request counts: who leaves a page has hardly asked for more in that moment.
pub const H2_PENDING_RESETS: usize = 20;
/// Streams of one connection that we reset for what a client did on them (CVE-2025-8671), over its whole life. A proxy passes on
/// what is well-formed; how fast they come is bounded by [`H2_CONTROL_FRAMES`].
pub const H2_PROVOKED_RESETS: usize = 1_000;
/// Frames that move nothing which a client may send in a burst. Browsers open with twenty; one that gives back the window of each
/// DATA frame earns as many by it.
pub const H2_CONTROL_FRAMES: u32 = 1_000;
/// How many of them each second gives back: a millisecond of our time.
pub const H2_CONTROL_FRAMES_PER_SECOND: u32 = 100;
/// How often an HTTP/2 client that says nothing is asked whether it is still there: before networks forget a connection, which
/// some do after half a minute.
pub const H2_PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long its answer may take: a phone that changes cells is away for some seconds.
pub const H2_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Listeners of a host.
pub const LISTENERS: usize = 100;
/// The rights of a Unix socket for clients: its owner's and its group's, where a proxy in front can be a member.
pub const SOCKET_MODE: u32 = 0o660;
/// How often it is looked whether a Unix socket still has its path: whoever was about to come when it was taken away tries again by
/// then, and the look is one call to the system.
pub const SOCKET_LOOK: Duration = Duration::from_secs(1);
/// The same where it could not be bound again: whoever has it may be asked each time whether he answers.
pub const SOCKET_TAKEN_LOOK: Duration = Duration::from_secs(10);
/// Bytes of a header of the PROXY protocol, version 2, behind its first 16. Addresses take at most 216; some proxies add
/// the certificate of their client.
pub const PROXY_HEADER: usize = 4 * KIB;
/// Certificates of one listener: each is read at the start, and again when one changes.
pub const CERTIFICATES: usize = 1_000;
/// Bytes of a file with certificates, a key or authorities: all authorities of a browser take a quarter of it.
pub const TLS_FILE: usize = MIB;
/// Bytes of a client's certificate. It is in a header of each request to a guest.
pub const CLIENT_CERTIFICATE: usize = 16 * KIB;
/// From when on it is said that a certificate ends soon. Those that are renewed by themselves are so a month before.
pub const CERTIFICATE_ENDS: Duration = Duration::from_secs(21 * 24 * 3600);
/// How often that is said.
pub const CERTIFICATE_LOOK: Duration = Duration::from_secs(24 * 3600);
/// Proxies that a request's way is followed back through. A network of content, a balancer, an ingress and a sidecar are four.
pub const FORWARDED_HOPS: usize = 16;
/// Bytes of a request id that a trusted proxy gives. Those of Amazon and of Envoy have 35 to 50.
pub const REQUEST_ID: usize = 128;
/// Bytes of a file of passwords: ten thousand names.
pub const PASSWORD_FILE: usize = MIB;
/// What a hash of a password may cost to check: two to this are the rounds of bcrypt, which take a second.
pub const PASSWORD_COST: u32 = 14;
/// Checks of passwords that go on at once, of each file: each takes a core for a tenth of a second and more, which is on
/// purpose.
pub const PASSWORD_CHECKS: usize = 1;
/// Checks of passwords that wait for a place, and how long: a few seconds of work for each of a few cores.
pub const PASSWORD_CHECKS_WAITING: usize = 32;
/// How long a check may take: on a host that is busy others go first.
pub const PASSWORD_CHECK: Duration = Duration::from_secs(10);
/// See [`PASSWORD_CHECKS_WAITING`].
pub const PASSWORD_CHECK_WAIT: Duration = Duration::from_secs(5);
/// How long a password that was right is known, so that a page with fifty pictures costs one check.
pub const PASSWORD_KNOWN: Duration = Duration::from_secs(60);
/// Passwords of one file that are known so at once, as digests.
pub const PASSWORDS_KNOWN: usize = 1_024;
/// Answers that are compressed at once, each with up to a megabyte; others go out as they are.
pub const ENCODERS: usize = 128;
/// Bytes of an answer that is worth compressing: shorter ones fit into one packet.
pub const COMPRESSED_LEAST: u64 = KIB as u64;
/// Networks of one list: those of the largest networks of content are under a hundred, and each is looked at.
pub const NETWORKS: usize = 1_000;
/// Bits of the widest network of IPv4 that a guest can be granted: those that have a use of their own are no wider
/// (`10.0.0.0/8`), and all addresses there are take hundreds of it and not two.
pub const GRANTED_V4_BITS: u8 = 8;
/// The same of IPv6 (`fc00::/7`).
pub const GRANTED_V6_BITS: u8 = 7;

/// Bytes of a file for the whole host: ten thousand handlers, said at length.
pub const CONFIG_BYTES: usize = 16 * MIB;
/// Mistakes of one file that are shown: more than anybody mends in one go.
pub const MISTAKES_SHOWN: usize = 100;
/// Bytes of a secret in a file of its own. Certificates with their chain stay under it.
pub const SECRET_BYTES: usize = 64 * KIB;
/// Bytes of a body that a route without a guest answers with: it is kept in memory. Larger things are a guest's to serve.
pub const FIXED_BODY: usize = MIB;

/// Default of the keys of a bucket: some ten megabytes of them. Settable, as are the next two.
pub const KEYVALUE_KEYS: u64 = 100_000;
/// Default of the bytes of one value. Larger things are for `wasi:blobstore`.
pub const KEYVALUE_VALUE: u64 = MIB as u64;
/// Default of the bytes of all keys and values of a bucket.
pub const KEYVALUE_BYTES: u64 = 64 * MIB as u64;
/// Bytes of a key. Redis would take more, and nobody reads it.
pub const KEYVALUE_KEY: usize = KIB;
/// Keys of one call that names many.
pub const KEYVALUE_BATCH: usize = 1_000;
/// Bytes of keys and values that one call takes, or of values that it gives: each guest that waits may have as many here.
pub const KEYVALUE_BATCH_BYTES: usize = 4 * MIB;
/// Keys of a page of a listing, and their bytes.
pub const KEYVALUE_PAGE: usize = 1_000;
/// See [`KEYVALUE_PAGE`].
pub const KEYVALUE_PAGE_BYTES: usize = 64 * KIB;
/// Bytes of keys and values in one instance's handles for compare-and-swap. They count against [`HandlerLimits::memory`] too.
pub const KEYVALUE_HELD: usize = 16 * MIB;
/// How long a store may take for an answer. A disk that syncs takes milliseconds, and a guest has a deadline of
/// [`HandlerLimits::deadline`].
pub const KEYVALUE_TIME: Duration = Duration::from_secs(5);
/// How long a Redis may take to be connected to, and for an answer: together less than [`KEYVALUE_TIME`].
pub const KEYVALUE_CONNECT: Duration = Duration::from_secs(2);
/// See [`KEYVALUE_CONNECT`].
pub const KEYVALUE_ANSWER: Duration = Duration::from_secs(2);
/// Bytes of one answer of a Redis: the values of one call, with what is said of each of them.
pub const KEYVALUE_ANSWER_BYTES: usize = KEYVALUE_BATCH_BYTES + MIB;
/// Parts of one answer: a key of a call has three.
pub const KEYVALUE_ANSWER_PARTS: usize = 4 * KEYVALUE_BATCH;
/// Bytes of a line in it: the longest are errors of scripts.
pub const KEYVALUE_ANSWER_LINE: usize = 4 * KIB;
/// How long it is until a Redis is connected to again that could not be, or whose connection broke.
pub const KEYVALUE_RECONNECT: Duration = Duration::from_millis(200);
/// How often it is said that a store is broken.
pub const KEYVALUE_PAUSE: Duration = Duration::from_secs(10);
/// The longest that an acknowledged write may be only in memory, if that was asked for.
pub const KEYVALUE_WITHIN: Duration = Duration::from_secs(60);
/// Bytes that wait to be written to one store, of one tenant, or handler without one, a [`SHARE`]th: as many as one transaction
/// takes, so that who writes little waits for no second one. Who wants to write more waits for room.
pub const KEYVALUE_QUEUE_BYTES: usize = 64 * MIB;
/// Writes of one transaction: so many guests share one sync of the disk.
pub const KEYVALUE_WRITES: usize = 1_000;
/// Bytes of one transaction's writes, each key with what it takes besides: some 65,000 keys at most, so that who waits for the next
/// transaction waits part of a second.
pub const KEYVALUE_WRITES_BYTES: usize = 16 * MIB;
/// Reads of one store that go on at once, each on a thread that may wait for a disk; of one tenant, or handler without one, a
/// [`SHARE`]th.
pub const KEYVALUE_READERS: usize = 32;
/// Bytes of a store's file that are kept in memory.
pub const KEYVALUE_CACHE: usize = 64 * MIB;
/// How long the end of the host waits for the disks of stores.
pub const STATE_CLOSES: Duration = Duration::from_secs(5);
