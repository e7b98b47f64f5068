//! What the rooms of a host have to say to who asks for its metrics: read when the page is written.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use crate::capabilities::counts::{Counts, Whose};
use crate::catalog::{Deployer, Handler, Origin, Service};
use crate::gate::Gate;
use crate::limits;
use crate::observe::metrics::names::{
    ACCEPT_ERRORS, BLOBSTORE, BLOBSTORE_BYTES, BUILD, CERTIFICATE, CERTIFICATE_EXPIRY,
    COMPILATIONS, COMPILE_SECONDS, CONNECTION_EVENTS, CONNECTIONS, CONNECTIONS_ACCEPTED, DEPLOYS,
    EVENT, HANDLER, HANDLER_PERMITS, HANDLER_PERMITS_MAX, HANDLER_READY, HANDLERS, HANDLERS_LOADED,
    INSTANCE_MEMORY, INSTANCES, KEYVALUE, KIND, LOG_LINES_LOST, NAME, OPERATION, OUTCOME, PERMITS,
    PERMITS_MAX, READY, SOURCE, STATE, TENANT, TENANT_MEMORY, TENANT_MEMORY_MAX, TENANT_PERMITS,
    TENANT_PERMITS_MAX, TLS_HANDSHAKES,
};
use crate::observe::metrics::{Page, Requests, Source};
use crate::observe::{GuestOutput, Lifecycle, LineQueue, Phase, log};
use crate::server::{Certificates, Counters};

/// What is deployed.
pub(super) struct OfDeployer {
    pub(super) deployer: Arc<Deployer>,
    pub(super) requests: Arc<Requests>,
    pub(super) lifecycle: Arc<Lifecycle>,
}

impl fmt::Debug for OfDeployer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfDeployer").finish_non_exhaustive()
    }
}

impl OfDeployer {
    /// Handlers that requests were for, or are: a host may have thousands that nobody asks.
    fn asked(&self, page: &Page<'_>) -> Vec<Arc<Handler>> {
        let catalog = self.deployer.catalog().load_full();
        let asked: HashSet<_> = self.requests.handlers().into_iter().collect();
        let is_asked = |handler: &&Arc<Handler>| {
            let whose = (Arc::clone(&handler.name), handler.spec.tenant.clone());
            asked.contains(&whose) || handler.gate.taken() + handler.gate.waiting() > 0
        };
        let seen = catalog
            .handlers()
            .filter(|handler| page.view.sees(handler.spec.tenant.as_deref()));
        let mut found: Vec<_> = seen.filter(is_asked).cloned().collect();
        found.truncate(limits::METRIC_SERIES);
        found
    }

    fn write_handlers(&self, page: &mut Page<'_>) -> fmt::Result {
        let asked = self.asked(page);
        page.family(&HANDLER_READY, |members| {
            asked.iter().try_for_each(|handler| {
                members.add(&of(handler), handler.service() == Service::Ready)
            })
        })?;
        page.family(&HANDLER_PERMITS, |members| {
            asked.iter().try_for_each(|handler| {
                let [name, tenant] = of(handler);
                let mut add =
                    |state, count: usize| members.add(&[name, tenant, (STATE, state)], count);
                add("held", handler.gate.taken())?;
                add("waiting", handler.gate.waiting())
            })
        })?;
        page.family(&HANDLER_PERMITS_MAX, |members| {
            asked
                .iter()
                .try_for_each(|handler| members.add(&of(handler), handler.gate.places()))
        })
    }

    /// Those of what is counted by handler that somebody may see, of handlers that are there.
    fn counted<T: Default>(&self, page: &Page<'_>, counts: &Counts<T>) -> Vec<(Whose, Arc<T>)> {
        let catalog = self.deployer.catalog().load_full();
        let mut all = counts.all(|(name, tenant)| {
            let handler = catalog.called(name);
            handler.is_some_and(|handler| handler.spec.tenant == *tenant)
        });
        all.retain(|((_, tenant), _)| page.view.sees(tenant.as_deref()));
        all
    }

    fn write_keyvalue(&self, page: &mut Page<'_>) -> fmt::Result {
        let all = self.counted(page, &self.deployer.services().keyvalue.counts);
        page.family(&KEYVALUE, |members| {
            for (whose, counts) in &all {
                let [handler, tenant] = labels(whose);
                for (operation, outcome, count) in counts.all() {
                    let what = [(OPERATION, operation), (OUTCOME, outcome)];
                    members.add(&[handler, tenant, what[0], what[1]], count)?;
                }
            }
            Ok(())
        })
    }

    fn write_blobstore(&self, page: &mut Page<'_>) -> fmt::Result {
        let all = self.counted(page, &self.deployer.services().blobs.counts);
        page.family(&BLOBSTORE, |members| {
            for (whose, counts) in &all {
                let [handler, tenant] = labels(whose);
                for (operation, outcome, count) in counts.all() {
                    let what = [(OPERATION, operation), (OUTCOME, outcome)];
                    members.add(&[handler, tenant, what[0], what[1]], count)?;
                }
            }
            Ok(())
        })?;
        page.family(&BLOBSTORE_BYTES, |members| {
            for (whose, counts) in &all {
                let [handler, tenant] = labels(whose);
                for (operation, bytes) in counts.bytes() {
                    members.add(&[handler, tenant, (OPERATION, operation)], bytes)?;
                }
            }
            Ok(())
        })
    }

    fn write_tenants(&self, page: &mut Page<'_>) -> fmt::Result {
        let mut tenants = self.deployer.tenants().usage();
        tenants.retain(|(name, _)| page.view.sees(Some(name)));
        page.family(&TENANT_PERMITS, |members| {
            tenants.iter().try_for_each(|(name, usage)| {
                members.add(&[(TENANT, name), (STATE, "held")], usage.held)?;
                members.add(&[(TENANT, name), (STATE, "waiting")], usage.waiting)
            })
        })?;
        page.family(&TENANT_PERMITS_MAX, |members| {
            tenants
                .iter()
                .try_for_each(|(name, usage)| match usage.most {
                    Some(most) => members.add(&[(TENANT, name)], most),
                    None => Ok(()),
                })
        })?;
        page.family(&TENANT_MEMORY, |members| {
            tenants
                .iter()
                .try_for_each(|(name, usage)| members.add(&[(TENANT, name)], usage.memory))
        })?;
        page.family(&TENANT_MEMORY_MAX, |members| {
            tenants
                .iter()
                .try_for_each(|(name, usage)| match usage.most_memory {
                    Some(most) => members.add(&[(TENANT, name)], most),
                    None => Ok(()),
                })
        })
    }
}

/// The labels of what is counted by handler.
fn labels((handler, tenant): &Whose) -> [(&'static str, &str); 2] {
    [
        (HANDLER, handler),
        (TENANT, tenant.as_deref().unwrap_or("")),
    ]
}

/// The labels of a handler.
fn of(handler: &Handler) -> [(&'static str, &str); 2] {
    let tenant = handler.spec.tenant.as_deref().unwrap_or("");
    [(HANDLER, &handler.name), (TENANT, tenant)]
}

impl Source for OfDeployer {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        self.write_keyvalue(page)?;
        self.write_blobstore(page)?;
        self.write_handlers(page)?;
        self.write_tenants(page)?;
        if !page.view.is_all() {
            return Ok(());
        }
        let deployer = &self.deployer;
        let is_ready = self.lifecycle.phase() == Phase::Serving && deployer.unready().is_empty();
        page.one(&READY, is_ready)?;
        let instances = deployer.instances();
        page.family(&INSTANCES, |members| {
            members.add(&[(STATE, "running")], instances.all - instances.idle)?;
            members.add(&[(STATE, "idle")], instances.idle)
        })?;
        page.one(&INSTANCE_MEMORY, instances.memory)?;
        let catalog = deployer.catalog().load_full();
        page.family(&HANDLERS, |members| {
            [Service::Ready, Service::Quarantined, Service::Unloadable]
                .iter()
                .try_for_each(|service| {
                    let of_it = catalog.handlers().filter(|it| it.service() == *service);
                    members.add(&[(STATE, service.as_str())], of_it.count())
                })
        })?;
        page.one(&HANDLERS_LOADED, deployer.loaded())?;
        let deploys = deployer.deploys();
        page.family(&DEPLOYS, |members| {
            [("files", Origin::Files), ("admin", Origin::Admin)]
                .iter()
                .try_for_each(|(source, origin)| {
                    let mut add = |outcome, count: u64| {
                        members.add(&[(SOURCE, source), (OUTCOME, outcome)], count)
                    };
                    add("deployed", deploys.deployed(*origin))?;
                    add("refused", deploys.refused(*origin))
                })
        })?;
        let compiled = deployer.compiled();
        page.family(&COMPILATIONS, |members| {
            members.add(&[(OUTCOME, "compiled")], compiled.done)?;
            members.add(&[(OUTCOME, "failed")], compiled.failed)
        })?;
        page.one(&COMPILE_SECONDS, compiled.took.as_secs_f64())?;
        page.family(&BUILD, |members| {
            let version = env!("CARGO_PKG_VERSION");
            members.add(&[("version", version)], true)
        })
    }
}

/// The public door.
pub(super) struct OfDoor {
    pub(super) gate: Arc<Gate>,
    pub(super) counters: Arc<Counters>,
    pub(super) access_log: LineQueue,
    pub(super) certificates: Certificates,
}

impl fmt::Debug for OfDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfDoor").finish_non_exhaustive()
    }
}

impl Source for OfDoor {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        if !page.view.is_all() {
            return Ok(());
        }
        page.family(&PERMITS, |members| {
            members.add(&[(STATE, "held")], self.gate.taken())?;
            members.add(&[(STATE, "waiting")], self.gate.waiting())
        })?;
        page.one(&PERMITS_MAX, self.gate.places())?;
        let counters = &self.counters;
        page.one(&CONNECTIONS, counters.open.load(Ordering::Relaxed))?;
        let accepted = counters.accepted.load(Ordering::Relaxed);
        page.one(&CONNECTIONS_ACCEPTED, accepted)?;
        let errors = counters.accept_errors.load(Ordering::Relaxed);
        page.one(&ACCEPT_ERRORS, errors)?;
        page.family(&CONNECTION_EVENTS, |members| {
            counters
                .events()
                .iter()
                .try_for_each(|(event, count)| members.add(&[(EVENT, event)], *count))
        })?;
        page.family(&TLS_HANDSHAKES, |members| {
            counters
                .handshakes
                .outcomes()
                .iter()
                .try_for_each(|(outcome, count)| members.add(&[(OUTCOME, outcome)], *count))
        })?;
        page.family(&CERTIFICATE_EXPIRY, |members| {
            self.certificates.now().iter().try_for_each(|one| {
                let end = one.not_after.duration_since(UNIX_EPOCH);
                let labels = [
                    (CERTIFICATE, &*one.file.to_string_lossy()),
                    (NAME, one.names.first().map_or("", String::as_str)),
                ];
                members.add(&labels, end.map_or(0, |end| end.as_secs()))
            })
        })?;
        page.family(&LOG_LINES_LOST, |members| {
            [
                ("access", self.access_log.lost()),
                ("host", log::lost()),
                ("guest", GuestOutput::dropped()),
            ]
            .iter()
            .try_for_each(|(kind, lost)| members.add(&[(KIND, kind)], *lost))
        })
    }
}
