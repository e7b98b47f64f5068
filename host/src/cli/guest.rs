//! What can be said of a guest on the command line, the same for every subcommand that runs one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::values::{self, Bucket};
use crate::capabilities::blobstore::{Blobs, ContainerGrant, Quota};
use crate::capabilities::keyvalue::{StoreKind, Stores};
use crate::capabilities::outbound_http::{Destination, OutboundGrants, Pattern};
use crate::capabilities::sockets::SocketRule;
use crate::capabilities::{Grants, Services};
use crate::catalog::{Deployer, HandlerName, HandlerSpec, Route, Source, WarmUp};
use crate::components::{self, CacheConfig, Components};
use crate::engine::{Directory, GuestSettings, Guests};
use crate::gate::Gate;
use crate::limits::{self, HandlerLimits, Reuse};
use crate::networks::Network;
use crate::secret::Secret;

/// Grants and limits.
#[derive(Debug, Args)]
pub(super) struct GuestArgs {
    /// Give the guest an environment variable, or with NAME alone the host's of that name; it gets no other of the host's.
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = values::variable_or_own, help_heading = "Grants")]
    env: Vec<(String, Secret)>,
    /// Give the guest an environment variable whose value is what is in a file. What is there later, later instances get.
    #[arg(long, value_name = "NAME=FILE", value_parser = values::variable_in_file, help_heading = "Grants")]
    env_from: Vec<(String, Secret)>,
    /// Give the guest a value of `wasi:config`.
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::environment, help_heading = "Grants")]
    config: Vec<(String, Secret)>,
    /// Give the guest a value of `wasi:config`: what is in a file. What is there later, later instances get.
    #[arg(long, value_name = "KEY=FILE", value_parser = values::in_file, help_heading = "Grants")]
    config_from: Vec<(String, Secret)>,
    /// Give the guest a directory, read-only unless `:rw` is added; without GUEST it keeps its name.
    #[arg(long, value_name = "HOST[::GUEST][:rw]", value_parser = values::directory, help_heading = "Grants")]
    dir: Vec<Directory>,
    /// Give each instance of the guest a directory `/tmp` of its own with room for so many bytes, gone with it.
    #[arg(long, value_name = "SIZE", value_parser = values::scratch, help_heading = "Grants")]
    scratch: Option<u64>,
    /// Let the guest connect, or send datagrams, to a name, an address or a network, and a port or `*`.
    #[arg(long, value_name = "tcp|udp://HOST:PORT", help_heading = "Grants")]
    allow_socket: Vec<SocketRule>,
    /// Let the guest call another handler of this host: a request to `http://NAME.handler.internal`.
    #[arg(long, value_name = "NAME", help_heading = "Grants")]
    allow_call: Vec<HandlerName>,
    /// Let the guest send requests elsewhere, by scheme, host and port: `https://api.example.com`,
    /// `https://*.example.com:8443`, `http://127.0.0.1:*`, or `everywhere`.
    #[arg(long, value_name = "DESTINATION", value_parser = str::parse::<Pattern>, help_heading = "Grants")]
    allow_outbound: Vec<Pattern>,
    /// Let the guest reach a network that is not public, by what --allow-outbound allows: `127.0.0.0/8`, `10.1.2.3`.
    #[arg(long, value_name = "NETWORK", value_parser = values::granted_network, help_heading = "Grants")]
    allow_network: Vec<Network>,
    /// Let the guest use a bucket of `wasi:keyvalue`: in a file of the state directory, in `memory`, or in a Redis, as in
    /// `carts=redis://127.0.0.1:6379`.
    #[arg(long, value_name = "NAME[=memory|file|redis://…]", value_parser = values::bucket, help_heading = "Grants")]
    keyvalue: Vec<Bucket>,
    /// Let the guest use a container of `wasi:blobstore`, in the state directory.
    #[arg(long, value_name = "NAME", help_heading = "Grants")]
    blobstore: Vec<HandlerName>,

    /// Let its clocks step by as much, at most 1s, against measuring what others do.
    #[arg(long, value_name = "DURATION", value_parser = values::grain, help_heading = "Limits")]
    coarse_clocks: Option<Duration>,
    /// A request that it must answer before it is served, and the status of its answer, as in `/ready` or
    /// `HEAD /ready=204` [default status: 200].
    #[arg(long, value_name = "PATH[=STATUS]")]
    warm_up: Option<WarmUp>,
    /// Time to the response's headers, wait for a place and start included.
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "30s", help_heading = "Limits")]
    timeout: Duration,
    /// How long a body, either way, may go without a byte moving [default: that of --timeout].
    #[arg(long, value_name = "DURATION", value_parser = values::duration, help_heading = "Limits")]
    body_timeout: Option<Duration>,
    /// CPU time of one request.
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "5s", help_heading = "Limits")]
    cpu: Duration,
    /// Memory of one instance: all its memories and tables, and what the host holds for it.
    #[arg(long, value_name = "SIZE", value_parser = values::memory, default_value = "128MiB", help_heading = "Limits")]
    memory: usize,
    /// Bytes of a request's body, which is streamed and not kept.
    #[arg(long, value_name = "SIZE", value_parser = values::size, default_value = "64MiB", help_heading = "Limits")]
    max_body: u64,
    /// Bytes of a response's headers, or of any other set of them that the guest makes.
    #[arg(long, value_name = "SIZE", value_parser = values::head, default_value = "128KiB", help_heading = "Limits")]
    max_response_head: usize,
    /// Requests served at once; others wait for a place.
    #[arg(long, value_name = "COUNT", value_parser = values::count, default_value = "1000", help_heading = "Limits")]
    max_concurrent_requests: usize,
    /// Requests that wait for a place; others get a 503 at once [default: that of
    /// --max-concurrent-requests].
    #[arg(long, value_name = "COUNT", value_parser = values::count, help_heading = "Limits")]
    max_waiting_requests: Option<usize>,
    /// How long a request waits for a place before it gets a 503.
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "5s", help_heading = "Limits")]
    queue_timeout: Duration,

    /// Requests that one instance serves before it is dropped [default: 1 for wasi:http 0.2, 128 for
    /// 0.3].
    #[arg(long, value_name = "COUNT", value_parser = values::count, help_heading = "Reuse of instances")]
    max_instance_reuse_count: Option<usize>,
    /// Requests that one instance serves at the same time, wasi:http 0.3 only.
    #[arg(long, value_name = "COUNT", value_parser = values::count, default_value = "1", help_heading = "Reuse of instances")]
    max_instance_concurrent_reuse_count: usize,
    /// How long an unused instance is kept.
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "1s", help_heading = "Reuse of instances")]
    idle_instance_timeout: Duration,

    #[command(flatten)]
    pub(super) compiling: CompilingArgs,
    /// Take a file that `host compile` wrote. It is run as it is, outside the sandbox's protection:
    /// only for files from someone trusted like the host itself.
    #[arg(long, help_heading = "Compiling")]
    allow_precompiled: bool,
}

/// How a component is compiled, and where the result is kept.
#[derive(Debug, Args)]
pub(super) struct CompilingArgs {
    /// Where compiled components are kept [default: `$XDG_CACHE_HOME/host/components`].
    #[arg(long, value_name = "DIRECTORY", help_heading = "Compiling")]
    cache: Option<PathBuf>,
    /// Compile anew each time and keep nothing.
    #[arg(long, conflicts_with = "cache", help_heading = "Compiling")]
    no_cache: bool,
    /// Bytes of a component's file.
    #[arg(long, value_name = "SIZE", value_parser = values::size, default_value = "64MiB", help_heading = "Compiling")]
    pub(super) max_component_size: u64,
    /// CPU time of compiling it.
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "2m", help_heading = "Compiling")]
    compile_cpu: Duration,
    /// How long compiling it may take.
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "5m", help_heading = "Compiling")]
    compile_timeout: Duration,
    /// Memory of the compiler.
    #[arg(long, value_name = "SIZE", value_parser = values::size, default_value = "4GiB", help_heading = "Compiling")]
    compile_memory: u64,
}

impl GuestArgs {
    /// What is said and cannot be meant. Handlers that have manifests may say the rest of it there.
    pub(super) fn mistake(&self, have_manifests: bool) -> Option<String> {
        if !self.allow_network.is_empty() && self.allow_outbound.is_empty() && !have_manifests {
            return Some(
                "`--allow-network` is for destinations that `--allow-outbound` allows, and there is none: add one, such as `--allow-outbound https://api.example.com`; what sockets may reach, `--allow-socket` says"
                    .to_owned(),
            );
        }
        let mut buckets = self.keyvalue.iter().enumerate();
        buckets.find_map(|(nth, bucket)| {
            let grant = &bucket.grant;
            let mut before = self.keyvalue.iter().take(nth);
            let other = before
                .find(|it| it.grant.name == grant.name && it.grant.store != grant.store)?;
            Some(format!(
                "`--keyvalue {}` and `--keyvalue {}` are one bucket in two stores: leave one of them out, or give it another name",
                other.shown, bucket.shown
            ))
        })
    }

    /// What the deployer needs to know of a guest in this file, which gets every request.
    pub(super) fn spec(&self, file: &Path) -> HandlerSpec {
        let is_precompiled = file
            .extension()
            .is_some_and(|extension| extension == "cwasm");
        HandlerSpec {
            name: name_of(file),
            tenant: None,
            routes: vec![Route::everything()],
            source: if self.allow_precompiled && is_precompiled {
                Source::Precompiled(file.to_owned())
            } else {
                Source::Wasm(file.to_owned())
            },
            version: None,
            limits: self.limits(),
            guest: GuestSettings {
                environment: [&*self.env, &self.env_from].concat(),
                directories: self.dir.clone(),
                scratch: self.scratch,
                grants: Grants {
                    calls: self.allow_call.iter().map(HandlerName::shared).collect(),
                    config: [&*self.config, &self.config_from].concat(),
                    outbound: OutboundGrants {
                        allow: self
                            .allow_outbound
                            .iter()
                            .cloned()
                            .map(Destination::from)
                            .collect(),
                        networks: self.allow_network.iter().copied().collect(),
                        ..OutboundGrants::default()
                    },
                    keyvalue: self.keyvalue.iter().map(|it| it.grant.clone()).collect(),
                    blobstore: self.blobstore.iter().map(container).collect(),
                    sockets: self.allow_socket.clone(),
                },
                coarse_clocks: self.coarse_clocks,
                memory: self.memory,
                fields: self.max_response_head,
                reuse: Reuse {
                    requests: self.max_instance_reuse_count.map(count),
                    concurrent: count(self.max_instance_concurrent_reuse_count),
                    idle: self.idle_instance_timeout,
                },
            },
            warm_up: self.warm_up.clone(),
            quarantine: false,
            required: true,
            keep_output: false,
        }
    }

    /// What each handler of a directory gets: of the places of the host a quarter, so that one that is slow leaves room
    /// for the others.
    pub(super) fn template(&self) -> HandlerSpec {
        let mut spec = self.spec(Path::new("template"));
        let places = &mut spec.limits.concurrent_requests;
        *places = places.div_ceil(limits::SHARE);
        (spec.quarantine, spec.required) = (true, false);
        spec
    }

    /// A deployer for one guest with these limits, or any number.
    pub(super) fn deployer(&self, guests: Guests, services: Services) -> Deployer {
        Deployer::new(
            self.compiling.components(self.memory),
            self.max_concurrent_requests,
            guests,
            Arc::new(services),
        )
    }

    /// What guests reach through the host, with what it remembers in this directory.
    pub(super) fn services(&self, state: Option<&Path>) -> Services {
        let stores = self.keyvalue.iter();
        let defined = stores
            .clone()
            .filter_map(|it| Some((Arc::clone(&it.grant.store), it.redis.clone()?)))
            .map(|(name, url)| (name, StoreKind::Redis(url)));
        let needed = stores.map(|it| Arc::clone(&it.grant.store));
        services(state, defined.collect(), needed.collect())
    }

    /// Whether it keeps something that outlives it.
    pub(super) fn has_state(&self) -> bool {
        !self.keyvalue.is_empty() || !self.blobstore.is_empty()
    }

    /// The gate of the whole host.
    pub(super) fn gate(&self) -> Arc<Gate> {
        Arc::new(Gate::of(&self.limits()))
    }

    fn limits(&self) -> HandlerLimits {
        HandlerLimits {
            deadline: self.timeout,
            body_deadline: self.body_timeout.unwrap_or(self.timeout),
            cpu: self.cpu,
            memory: self.memory,
            request_body: self.max_body,
            concurrent_requests: self.max_concurrent_requests,
            waiting_requests: self
                .max_waiting_requests
                .unwrap_or(self.max_concurrent_requests),
            permit_wait: self.queue_timeout,
        }
    }
}

impl CompilingArgs {
    /// What loads components of at most `memory` bytes of memory.
    pub(super) fn components(&self, memory: usize) -> Components {
        let cache = match &self.cache {
            Some(directory) => Some(CacheConfig::at(directory)),
            None => CacheConfig::of_user(),
        };
        Components::new(components::Config {
            cache: cache.filter(|_| !self.no_cache),
            limits: components::Limits {
                memory: memory as u64,
                size: self.max_component_size,
                ..components::Limits::default()
            },
            ceilings: components::Ceilings {
                memory: self.compile_memory,
                cpu: self.compile_cpu,
                wall: self.compile_timeout,
                ..components::Ceilings::default()
            },
            ..components::Config::default()
        })
    }
}

/// What guests reach through the host, with what it remembers in this directory: these stores, of which some are `needed`
/// at the start.
pub(super) fn services(
    state: Option<&Path>,
    defined: BTreeMap<Arc<str>, StoreKind>,
    needed: Vec<Arc<str>>,
) -> Services {
    Services {
        blobs: Blobs::new(state.map(|state| state.join("blobs"))),
        keyvalue: Stores::new(state.map(|state| state.join("keyvalue")), defined, needed),
        ..Services::default()
    }
}

fn container(name: &HandlerName) -> ContainerGrant {
    ContainerGrant {
        name: name.shared(),
        quota: Quota::default(),
    }
}

/// The file's name, as far as it can be a handler's.
fn name_of(file: &Path) -> HandlerName {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    HandlerName::like(&stem)
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Words {
        #[command(flatten)]
        guest: GuestArgs,
    }

    #[test]
    fn what_is_not_said_is_what_limits_says() {
        let words = Words::parse_from(["host"]).guest;
        let spec = words.spec(Path::new("shop.wasm"));
        assert_eq!(spec.guest.fields, limits::FIELDS_BYTES);
        assert_eq!(words.compiling.max_component_size, limits::COMPONENT_BYTES);
        assert_eq!(words.compiling.compile_cpu, limits::COMPILE_CPU);
        assert_eq!(words.compiling.compile_timeout, limits::COMPILE_TIME);
        assert_eq!(words.compiling.compile_memory, limits::COMPILE_MEMORY);
        assert_eq!(spec.limits, HandlerLimits::default());
        assert_eq!(spec.guest.reuse, Reuse::default());
        assert_eq!(spec.guest.memory, HandlerLimits::default().memory);
    }
}
