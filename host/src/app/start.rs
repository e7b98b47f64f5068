//! The order in which a host starts: what was deployed, then the files, then the doors.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::{Follower, Owners, Settings, Subject, Watched, numbers};
use crate::admin::{self, Address, Keys, Token};
use crate::capabilities::files;
use crate::catalog::{self, Deployer, HandlerSpec, Rollout, Store, Versions};
use crate::gate::Gate;
use crate::observe::log;
use crate::server::{Tls, TlsConfig};

/// A host to be.
pub struct Plan {
    /// Its public door.
    pub settings: Settings,
    /// What deploys.
    pub deployer: Arc<Deployer>,
    /// Requests that all handlers serve at once.
    pub gate: Arc<Gate>,
    /// The operator's door. None: there is none.
    pub admin: Option<AdminPlan>,
    /// What it serves besides what is deployed through the operator's door.
    pub serves: Serves,
}

/// What a host serves of its own.
#[derive(Debug)]
pub enum Serves {
    /// Nothing.
    Nothing,
    /// One component.
    Component(Box<HandlerSpec>),
    /// What files say, also when they change.
    Files(Subject),
}

/// An operator's door to be.
pub struct AdminPlan {
    /// Where.
    pub address: Address,
    /// What must be shown there, on TCP.
    pub token: Option<Token>,
    /// TLS there, on TCP. None: in the clear.
    pub tls: Option<TlsConfig>,
    /// Where what is deployed is kept. None: there is no place that could be thought of.
    pub state: Option<PathBuf>,
    /// It was asked for. If one that was not cannot be had, the host serves without it.
    pub is_asked: bool,
    /// What its handlers get that say nothing.
    pub template: HandlerSpec,
    /// Bytes of a component that is taken.
    pub component_bytes: u64,
    /// How long a start waits for what must be compiled anew.
    pub restore: Duration,
}

/// The operator's door, which answers probes already.
struct Admin {
    running: admin::Running,
    /// Where it is, as clients write it.
    address: String,
    keys: Arc<Keys>,
    tls: Option<Arc<Tls>>,
    versions: Arc<Versions>,
}

impl AdminPlan {
    /// What was deployed is back in place, and the door is open.
    async fn open(self, deployer: &Arc<Deployer>, watched: &Watched) -> anyhow::Result<Admin> {
        let state = self.state.context(NO_PLACE)?;
        let store = Store::open(&state)?;
        let door = admin::Door::open(&self.address, self.token, self.tls)?;
        let versions = Arc::new(Versions::new(
            store,
            Arc::clone(deployer),
            self.template,
            self.component_bytes,
            Handle::current(),
        ));
        let (address, keys) = (door.to_string(), Arc::clone(&door.keys));
        let tls = door.tls.clone();
        let seen = admin::Watched {
            metrics: Arc::clone(&watched.metrics),
            lifecycle: Arc::clone(&watched.lifecycle),
            deployer: Arc::clone(deployer),
        };
        let running = admin::serve(door, Arc::clone(&versions), seen)?;
        versions.restore(self.restore).await;
        Ok(Admin {
            running,
            address,
            keys,
            tls,
            versions,
        })
    }
}

const NO_PLACE: &str = "there is no place for what is deployed: name one with `--state DIR`";

const NO_ADMIN: &str = "there is no admin door and versions are not kept; `--admin PATH` and `--state DIR` name places for them, `--admin off` is for a host without";

/// Starts a host and serves until a signal. `say` tells where its doors are.
///
/// # Errors
/// When something that was asked for cannot be had, with what to do.
pub async fn start(plan: Plan, say: impl Fn(&str)) -> anyhow::Result<ExitCode> {
    log::set(&plan.settings.log)?;
    // What is asked for now is done already: nothing is older than this start.
    super::hangup()?;
    // What a host has left over that was killed: nobody waits for it.
    tokio::task::spawn_blocking(|| {
        if let Err(error) = files::sweep() {
            tracing::warn!("scratch directories that are left over cannot be removed: {error}");
        }
    });
    let (deployer, watched) = (plan.deployer, Watched::new());
    let services = Arc::clone(deployer.services());
    services.keyvalue.open_needed()?;
    let catalog = deployer.catalog();
    watched
        .requests
        .of_those_that_are_there(move |name, tenant| catalog.load().knows(name, tenant));
    watched.metrics.add(Arc::new(numbers::OfDeployer {
        deployer: Arc::clone(&deployer),
        requests: Arc::clone(&watched.requests),
        lifecycle: Arc::clone(&watched.lifecycle),
    }));
    if let Serves::Files(Subject::File { config, .. }) = &plan.serves {
        // What was deployed is back before the file is followed, and has its tenants.
        Owners::default().say(config, &deployer);
    }
    let admin = match plan.admin {
        Some(admin) if admin.is_asked => Some(admin.open(&deployer, &watched).await?),
        Some(admin) => {
            let opened = admin.open(&deployer, &watched).await;
            opened
                .inspect_err(|why| tracing::warn!("{NO_ADMIN}: {why:#}"))
                .ok()
        }
        None => None,
    };
    let versions = admin.as_ref().map(|admin| Arc::clone(&admin.versions));
    let follower = match plan.serves {
        Serves::Nothing => None,
        Serves::Component(spec) => {
            deployer.require([spec.name.clone()]);
            before_what_is_restored(versions.as_deref(), deploy(&deployer, *spec)).await?;
            None
        }
        Serves::Files(subject) => {
            let owners = Owners {
                keys: admin.as_ref().map(|admin| Arc::clone(&admin.keys)),
                versions: versions.clone(),
            };
            let rollout = Rollout::new(Arc::clone(&deployer), versions.clone());
            let look = Arc::clone(&watched.look);
            let mut follower = Follower::new(subject, rollout, owners, look);
            before_what_is_restored(versions.as_deref(), follower.start()).await?;
            Some(follower)
        }
    };
    let mut door = super::open(&plan.settings)?;
    let of_admin = admin.as_ref().and_then(|admin| admin.tls.clone());
    door.certificates.add(of_admin);
    for address in door.addresses() {
        say(&format!("Serving HTTP on {address}"));
    }
    let catalog = deployer.catalog();
    // Ended with what is served.
    let mut following = JoinSet::new();
    if follower.is_some() || versions.is_some() {
        following.spawn(catalog::fall_back(deployer, versions.clone()));
    }
    if let Some(versions) = versions.clone().filter(|_| follower.is_some()) {
        following.spawn(versions.keep_files());
    }
    if let Some(follower) = follower {
        following.spawn(follower.follow(door.certificates.clone()));
    }
    let _answering = admin.map(|admin| {
        say(&format!("Admin on {}", admin.address));
        admin.running
    });
    let ended = super::serve(door, plan.settings, catalog, plan.gate, None, &watched).await;
    super::close(&services).await;
    ended
}

/// Makes what the start waits for. It has waited for what was deployed as long as it should.
async fn before_what_is_restored<T>(
    versions: Option<&Versions>,
    making: impl Future<Output = T>,
) -> T {
    match versions {
        Some(versions) => versions.give_way(making).await,
        None => making.await,
    }
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
