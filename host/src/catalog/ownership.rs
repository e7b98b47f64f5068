//! Whose handlers are: what is there for whom, what a tenant may do to its own, and what becomes of handlers whose tenant is
//! gone.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::deployer::Change;
use super::record::{Action, AuditLine, FILES, Record, Version};
use super::store::Store;
use super::versions::{PlacesOfTenant, blocking, no_version};
use super::{
    Ask, Conflict, Deployer, Expected, HandlerName, NotDone, Origin, Refused, TenantSpec, Turn,
    Versions, Who, rights,
};
use crate::gate::Full;
use crate::{limits, names};

/// A handler that is not served because its tenant is away.
pub(super) struct Away {
    /// What was last said of it.
    said: String,
    /// When it is tried to bring it back, if its tenant is there then.
    next: Instant,
    /// Until it is tried again, if it cannot be.
    pause: Duration,
    /// The audit log has that it is served no more.
    is_noted: bool,
}

impl Away {
    fn new() -> Self {
        Self {
            said: String::new(),
            next: Instant::now(),
            pause: limits::BRING_BACK_PAUSE,
            is_noted: false,
        }
    }

    fn put_off(&mut self) {
        self.next = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(limits::BRING_BACK_PAUSE_MOST);
    }
}

impl Versions {
    /// That there is something for this action, as far as he who asks may know.
    pub(super) fn is_there(
        &self,
        name: &HandlerName,
        action: Action,
        who: &Who,
    ) -> Result<(), NotDone> {
        if who.tenant().is_none() {
            return Ok(());
        }
        match (self.listed_of(name), action) {
            (Some(listed), _) if who.sees(listed.tenant.as_deref()) => Ok(()),
            (None, Action::Deploy) => Ok(()),
            (Some(_), Action::Deploy) => Err(NotDone::Occupied(format!(
                "the name `{name}` is taken: choose another"
            ))),
            (_, Action::Rollback | Action::Undeploy) => Err(NotDone::Absent(name.clone())),
        }
    }

    /// Places for what tenants deploy are few, so that the operator always has one, and who has none yet gets the next that is
    /// given back. None if it is not a tenant's.
    pub(super) async fn places_of(&self, who: &Who) -> Result<Option<PlacesOfTenant>, NotDone> {
        let Some(tenant) = who.tenant() else {
            return Ok(None);
        };
        let too_many = || {
            NotDone::TooMany(
                "as many handlers of tenants are deployed already as may be at once: try again in a moment"
                    .to_owned(),
            )
        };
        let tenant = self.deployer.tenants().get(tenant);
        let own = tenant.deploy_place().ok_or_else(too_many)?;
        let of_all = self
            .deploys_of_tenants
            .admit_among(tenant.account(), true)
            .await;
        Ok(Some((own, of_all.map_err(|Full| too_many())?)))
    }

    /// Who owns the handler from now on. That never changes for as long as it is deployed.
    pub(super) fn tenant_of(
        &self,
        turn: &Turn,
        ask: &Ask,
    ) -> Result<Option<Arc<TenantSpec>>, NotDone> {
        let (asked, own) = (ask.tenant.as_deref(), turn.who.tenant());
        if let (Some(own), Some(asked)) = (own, asked)
            && asked != &**own
        {
            return Err(NotDone::Forbidden(vec![format!(
                "the token is that of tenant `{own}`: leave `--tenant` out"
            )]));
        }
        let name = match &turn.record {
            Some(record) if asked.is_some() && asked != record.tenant.as_deref() => {
                return Err(NotDone::Occupied(format!(
                    "`{}` belongs to {}, which a deploy does not change: undeploy it first, or take another name",
                    turn.name,
                    shown(record.tenant.as_deref())
                )));
            }
            Some(record) => record.tenant.as_deref(),
            None => own.map(|own| &**own).or(asked),
        };
        name.map(|name| self.tenant(name, &turn.who)).transpose()
    }

    fn tenant(&self, name: &str, who: &Who) -> Result<Arc<TenantSpec>, NotDone> {
        let tenants = self.deployer.tenants();
        if let Some(tenant) = tenants.find(name) {
            return Ok(tenant);
        }
        let name = names::short(name).escape_debug().to_string();
        let names = tenants.names();
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        Err(NotDone::Mistakes(vec![match &*names {
            _ if who.tenant().is_some() => format!("there is no tenant `{name}` any more"),
            [] => format!(
                "there is no tenant `{name}`, nor any other: write `[tenants.{name}]` into the file that the host serves"
            ),
            names => format!(
                "there is no tenant `{name}`: there are {}",
                names[..names.len().min(NAMES_SHOWN)].join(", ")
            ),
        }]))
    }

    /// What tenants change by themselves is looked at.
    pub(super) fn check(
        &self,
        turn: &Turn,
        tenant: Option<&TenantSpec>,
        version: &Version,
    ) -> Result<(), NotDone> {
        let former = turn.record.as_ref().and_then(|record| record.current());
        match tenant.filter(|_| turn.who.tenant().is_some()) {
            Some(tenant) => rights::check(tenant, former, version, &self.template.limits),
            None => Ok(()),
        }
    }

    pub(super) fn tenant_is_away(&self, record: &Record) -> bool {
        let tenant = record.tenant.as_deref();
        tenant.is_some_and(|name| self.deployer.tenants().find(name).is_none())
    }

    /// Says, once, that it is kept and not served.
    pub(super) fn put_away(&self, record: &Record) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = Away::new();
        new.is_noted = away.get(&record.name).is_some_and(|it| it.is_noted);
        if away.insert(record.name.clone(), new).is_none() {
            tracing::error!(
                "`{}` is not served: the file of the host has no {} any more; it is kept until that is back, or until it is undeployed",
                record.name,
                shown(record.tenant.as_deref())
            );
        }
    }

    /// Takes out of the catalog what belongs to a tenant that there is no more.
    pub async fn put_away_of_tenants(&self) {
        let records = self.store.records();
        let gone: Vec<_> = records
            .iter()
            .filter(|record| self.tenant_is_away(record))
            .collect();
        let catalog = self.deployer.catalog().load_full();
        let names = gone.iter().map(|record| &record.name);
        let is_there = |name: &&HandlerName| {
            catalog.origin(name) == Some(Origin::Admin) || catalog.awaited.contains_key(*name)
        };
        let change = Change {
            remove: names.filter(is_there).cloned().collect(),
            ..Change::of_door()
        };
        let served = change.remove.clone();
        if !served.is_empty() {
            self.deployer.commit(change);
        }
        gone.iter().for_each(|record| self.put_away(record));
        let gone = gone.iter().filter(|record| served.contains(&record.name));
        let line = |record: &&Arc<Record>| of_tenants_file(Action::Undeploy, record);
        self.note_of_tenants(gone.map(line).collect()).await;
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, away) in away.iter_mut().filter(|(name, _)| served.contains(name)) {
            away.is_noted = true;
        }
    }

    async fn note_of_tenants(&self, lines: Vec<AuditLine>) {
        if lines.is_empty() {
            return;
        }
        let store = Arc::clone(&self.store);
        let noted = blocking(move || store.note(&lines).map_err(NotDone::from)).await;
        if let Err(error) = noted {
            tracing::error!(
                "the audit log lacks what became of handlers with their tenant: {error}"
            );
        }
    }

    /// Puts in place what belongs to a tenant that is back. What cannot be now is tried again later, see
    /// [`limits::BRING_BACK_PAUSE`].
    pub async fn bring_back_of_tenants(&self) {
        let away: Vec<HandlerName> = {
            let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let due = away.iter().filter(|(_, away)| away.next <= now);
            due.map(|(name, _)| name.clone()).collect()
        };
        for name in away {
            let Ok(turn) = self.begin(&name, Action::Rollback, &Expected::Anything, &Who::host())
            else {
                continue;
            };
            match &turn.record {
                Some(record) if self.tenant_is_away(record) => continue,
                Some(record) if !self.serves(record) => {
                    if let Err(why) = self.bring_back(record).await {
                        self.put_off(&name, &why.to_string());
                        continue;
                    }
                    tracing::info!("`{name}` is served again: its tenant is back");
                    if self.is_noted(&name) {
                        self.note_of_tenants(vec![of_tenants_file(Action::Deploy, record)])
                            .await;
                    }
                }
                _ => {}
            }
            let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
            away.remove(&name);
        }
    }

    fn is_noted(&self, name: &HandlerName) -> bool {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.get(name).is_some_and(|it| it.is_noted)
    }

    /// Lets it be for a while, and says why it is still not served, if that was not the last that was said of it.
    fn put_off(&self, name: &HandlerName, why: &str) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(away) = away.get_mut(name) else {
            return;
        };
        away.put_off();
        if away.said != why {
            why.clone_into(&mut away.said);
            tracing::error!("`{name}` is not served again, though its tenant is back: {why}");
        }
    }

    async fn bring_back(&self, record: &Arc<Record>) -> Result<(), NotDone> {
        let version = record.current().ok_or_else(|| no_version(&record.name))?;
        let spec = self.spec(record, version);
        let known = self.deployer.recall(&spec);
        let handler = match known.filter(|known| known.digest == version.digest) {
            Some(known) => known,
            None => self.make(spec, version).await?,
        };
        let (deployer, tenant) = (Arc::clone(&self.deployer), record.tenant.clone());
        let name = record.name.clone();
        blocking(move || {
            let change = Change {
                put: vec![(handler.spec.routes.clone(), handler)],
                ..Change::of_door()
            };
            // It may have gone again.
            let seal = || match tenant.map(|name| deployer.tenants().find(&name)) {
                Some(None) => Err(NotDone::Absent(name)),
                _ => Ok(()),
            };
            match deployer.commit_sealed(change, seal)?.into_iter().next() {
                Some(refused) => Err(NotDone::Taken(refused)),
                None => Ok(()),
            }
        })
        .await
    }
}

/// What the file of the host does to a handler when it has its tenant no more, and when it has it again.
fn of_tenants_file(action: Action, record: &Record) -> AuditLine {
    let (from, to) = match action {
        Action::Undeploy => (Some(record), None),
        _ => (None, Some(record)),
    };
    let tenant = record.tenant.as_deref().map(str::to_owned);
    AuditLine::now(FILES.to_owned(), action, &record.name, tenant, from, to)
}

impl Turn {
    /// Whose routes they are is told to the operator, and to a tenant of what is its own.
    pub(super) fn taken(&self, refused: Refused, deployer: &Deployer) -> NotDone {
        let Some(tenant) = self.who.tenant() else {
            return NotDone::Taken(refused);
        };
        let catalog = deployer.catalog().load_full();
        let is_own = |name: &Arc<str>| {
            let name = name.parse::<HandlerName>();
            let handler = name.ok().and_then(|name| catalog.handler(&name).cloned());
            handler.is_some_and(|handler| handler.spec.tenant.as_ref() == Some(tenant))
        };
        let told = |conflict: &Conflict| {
            let others = [&conflict.first, &conflict.second];
            let mut others = others
                .into_iter()
                .filter(|name| ***name != *self.name.as_str());
            if others.all(is_own) {
                return conflict.to_string();
            }
            format!("the route `{}` is taken: choose another", conflict.route)
        };
        if refused.taken.is_some() {
            return NotDone::Occupied(format!("the name `{}` is taken: choose another", self.name));
        }
        let told: Vec<String> = refused.conflicts.iter().map(told).collect();
        NotDone::Occupied(told.join("; "))
    }
}

/// Who owns something, in messages.
fn shown(tenant: Option<&str>) -> String {
    tenant.map_or_else(
        || "the operator".to_owned(),
        |name| format!("tenant `{name}`"),
    )
}

/// Names of tenants in one message.
const NAMES_SHOWN: usize = 20;

/// Makes room for a record as it shall be, or refuses it.
pub(super) fn room(
    store: &Store,
    tenant: &TenantSpec,
    before: Option<&Record>,
    record: &mut Record,
) -> Result<(), NotDone> {
    let mut others = store.of_tenant(&tenant.name);
    others.retain(|other| other.name != record.name);
    if before.is_none() {
        rights::room_for_another(tenant, others.len())?;
    }
    rights::room_for_component(tenant, &others, before, record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_brought_back_is_tried_ever_more_rarely() {
        let mut away = Away::new();
        assert_eq!(away.next, Instant::now());
        for seconds in [10, 20, 40, 80, 160, 320, 600, 600] {
            away.put_off();
            assert_eq!(away.next, Instant::now() + Duration::from_secs(seconds));
        }
    }
}
