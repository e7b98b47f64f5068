//! The claims of the project, each held against the real program. Where to look:
//!
//! | file | claims |
//! |---|---|
//! | `cli` | where to listen, bad values, help, exit codes, completions, manual |
//! | `bad_input` | files that cannot be served: one message, nothing half started |
//! | `config` | the file of a whole host: every mistake at once, the schema |
//! | `compiling` | `inspect`, `check`, `compile`, the cache, the compiler's process |
//! | `admin` | the operator's door: deploy, list, show, roll back, undeploy; what a crash leaves; who may come in |
//! | `directory` | `serve DIRECTORY`: a handler for each file, replaced while traffic flows |
//! | `file_versions` | versions of what lies in files: rolled back, and the files have the last word |
//! | `host_file` | `serve HOST.TOML`: routes, tenants, and changes that are taken up |
//! | `warm_up` | a request that a handler must answer before it is put in place |
//! | `tenants` | whose a handler is, what a tenant's token opens and what not, how much a tenant may have |
//! | `dev` | `new`, `build`, and `dev` with its saves, pages and backtraces |
//! | `health` | who is alive, who is ready and why not, what the service manager is told |
//! | `metrics` | what is counted, how many series there can be, who sees which |
//! | `logs` | the access log in its forms, the host's log, files and pipes, quiet, colours |
//! | `output` | what guests print: whose it is, cut, counted, harmless |
//! | `logging` | what guests log: level, context, request id, the same bounds |
//! | `http1` | HTTP/1.1 and 1.0 on the wire: reuse, pipelining, 100, HEAD, framing |
//! | `http2` | HTTP/2 with prior knowledge: streams, resets, trailers |
//! | `streaming` | bodies both ways at once, with backpressure, in little memory |
//! | `trailers` | trailers both ways on HTTP/1.1 |
//! | `refused_requests` | requests that no guest sees: 400, 413, 414, 431, 501; two framings |
//! | `wrong_clients` | Host, targets, methods, upgrades, slow clients: what each gets |
//! | `problems` | how a failure is told: request ids, `Accept`, and nothing that leaks |
//! | `proxies` | behind a proxy, a real nginx among them: whose address, scheme and host it is, and who is believed |
//! | `comforts` | what a route says besides: headers, access lists, CORS, passwords, error pages, compression |
//! | `guest_view` | what a guest sees of a request |
//! | `grants` | what a guest reaches: nothing, unless granted |
//! | `blobstore` | large values of guests: whole or not at all, quotas, tenants, crashes, a full disk |
//! | `calls` | handlers that call one another by name |
//! | `outbound` | requests to elsewhere: who may be reached, by which address, what a guest hears when it goes wrong |
//! | `keyvalue` | buckets: whose they are, quotas, counters, listings; what a kill, a bad file and a Redis that leaves do |
//! | `fair` | what tenants share when there is too little: places, CPU time, the threads that serve |
//! | `failures` | the table of failures: status, label, and bodies that never look complete |
//! | `attack` | clients that send anything but what they should: cut, mutated, random, both protocols |
//! | `isolation` | a thousand of each fault and refusal, loops on every core, work after the answer |
//! | `limits` | deadline, CPU, memory, heads, connections, places |
//! | `parts` | components composed of others: the stacks they hold, how many they may be of |
//! | `reuse` | how often an instance is used again |
//! | `grpc` | gRPC through a guest: trailers, and long streams both ways |
//! | `machine` | calls to the system that fail, a full disk, a log that nobody reads, a clock that jumps |
//! | `lifecycle` | clients that leave, signals, the drain, no file descriptors |
//! | `files` | directories of a guest and the way out of them; scratch directories |
//! | `sockets` | sockets, names and clocks of a guest |
//! | `told` | configuration and environment of a guest, and that no secret of it is seen |
//! | `guests` | `hello`, `echo`, `methods`, `static-files` |
//! | `tls` | HTTPS: certificates by name, both versions, resumption, renewal, clients' certificates |
//! | `listeners` | several places to come in: IPv6, Unix sockets, systemd's, the PROXY protocol |
//! | `deploy_files` | units, image, alerts, dashboard, nginx: what is in `host/deploy` |
//! | `house` | the arrows between modules |
//! | `support` | the program, the guests and the clients that all of this stands on |
//!
//! Several run at once, on fewer cores (`.cargo/config.toml`). One that holds a time against a bound below a second says `alone()` first.
#![allow(
    clippy::print_stderr,
    reason = "a tool that is missing, a target that is added: said to who runs the tests"
)]

mod admin;
mod attack;
mod bad_input;
mod blobstore;
mod calls;
mod cli;
mod comforts;
mod compiling;
mod config;
mod deploy_files;
mod dev;
mod directory;
mod failures;
mod fair;
mod file_versions;
mod files;
mod grants;
mod grpc;
mod guest_view;
mod guests;
mod health;
mod host_file;
mod house;
mod http1;
mod http2;
mod isolation;
mod keyvalue;
mod lifecycle;
mod limits;
mod listeners;
mod logging;
mod logs;
mod machine;
mod metrics;
mod outbound;
mod output;
mod parts;
mod problems;
mod proxies;
mod refused_requests;
mod reuse;
mod sockets;
mod streaming;
mod support;
mod tenants;
mod tls;
mod told;
mod trailers;
mod warm_up;
mod wrong_clients;
