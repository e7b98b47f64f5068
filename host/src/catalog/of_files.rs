//! Versions of what lies in files.
//!
//! A file's handler serves as soon as it is made. Its version is written down after that, many at once where there are many,
//! by threads that may wait: a state directory that is slow or full never keeps a file from being served. While an earlier
//! version serves, it takes the place of what the files say, until they say something else.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::path::Path;
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio::task::{block_in_place, spawn_blocking};
use tokio::time::Instant;

use super::record::{Action, AuditLine, FILES, Record, SeenFile, Version};
use super::store::{Kept, StoreError};
use super::versions::{blocking, no_version, now};
use super::{
    Catalog, Expected, Handler, HandlerName, HandlerSpec, NotDone, Owner, Source, Turn, Versions,
    Who,
};
use crate::components::Stamp;
use crate::{files, limits};

/// What is to be written down, and what is passed over.
#[derive(Default)]
pub(super) struct OfFiles {
    /// Handlers that may have a new version.
    noted: Mutex<BTreeSet<HandlerName>>,
    wake: Notify,
    /// Handlers that are written down just now.
    writing: Mutex<BTreeSet<HandlerName>>,
    /// What the files say of handlers of which an earlier version serves.
    passed_over: Mutex<BTreeMap<HandlerName, HandlerSpec>>,
}

impl OfFiles {
    fn writing(&self) -> MutexGuard<'_, BTreeSet<HandlerName>> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn noted(&self) -> MutexGuard<'_, BTreeSet<HandlerName>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn passed_over(&self) -> MutexGuard<'_, BTreeMap<HandlerName, HandlerSpec>> {
        self.passed_over
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Versions {
    /// Handlers of files were put in place: they may be new versions.
    pub(super) fn note(&self, names: impl IntoIterator<Item = HandlerName>) {
        self.of_files.noted().extend(names);
        self.of_files.wake.notify_one();
    }

    /// The earlier version that serves in place of what the files say, if it was rolled back to and they say nothing new.
    pub(super) fn instead(&self, said: &HandlerSpec) -> Option<HandlerSpec> {
        let earlier = self.earlier(said);
        let mut passed_over = self.of_files.passed_over();
        if earlier.is_some() {
            passed_over.insert(said.name.clone(), said.clone());
        } else {
            passed_over.remove(&said.name);
        }
        earlier
    }

    fn earlier(&self, said: &HandlerSpec) -> Option<HandlerSpec> {
        let record = self.store.record(&said.name)?;
        let file = record.file.as_ref()?;
        let latest = record.latest().filter(|_| record.is_rolled_back())?;
        if !Version::of_file(said, &said.routes, &latest.digest).is_like(latest) {
            return None;
        }
        let path = said.source.path();
        if let Some(stamp) = Stamp::of(path).filter(|stamp| *stamp != file.stamp) {
            // It may be the same bytes, copied again.
            let (digest, _) = block_in_place(|| digest_of(path)).ok()?;
            if digest != latest.digest {
                return None;
            }
            self.store.restamp(&said.name, stamp);
        }
        let version = record.current()?;
        let component = self.store.component(&version.digest);
        if !component.is_file() {
            tracing::error!(
                "`{}` was rolled back to v{}, whose component is gone from the state directory: its file is served",
                said.name,
                version.number
            );
            return None;
        }
        version.instead_of(said, Source::Wasm(component)).ok()
    }

    /// Writes down what was noted, until it is dropped.
    pub async fn keep_files(self: Arc<Self>) {
        let mut is_told = false;
        loop {
            self.of_files.wake.notified().await;
            loop {
                let turns = self.turns();
                if turns.is_empty() {
                    if self.of_files.noted().is_empty() {
                        break;
                    }
                    tokio::time::sleep(BUSY).await;
                    continue;
                }
                let versions = Arc::clone(&self);
                let written = spawn_blocking(move || versions.write_down(&turns));
                let written = written.await;
                self.of_files.writing().clear();
                match written {
                    Ok(Ok(())) => is_told = false,
                    Ok(Err(why)) if !is_told => {
                        is_told = true;
                        tracing::warn!(
                            "what files deploy is served, and not kept as versions: {why}"
                        );
                    }
                    _ => {}
                }
            }
        }
    }

    /// Turns to change handlers that were noted: those that can be had now.
    fn turns(&self) -> Vec<Turn> {
        let files = Who::operator(&Arc::from(FILES));
        let mut noted = self.of_files.noted();
        let names: Vec<HandlerName> = noted.iter().cloned().collect();
        let turns = names.iter().filter_map(|name| self.turn(name, &files).ok());
        let turns: Vec<Turn> = turns.take(limits::VERSIONS_BATCH).collect();
        let mut writing = self.of_files.writing();
        for turn in &turns {
            noted.remove(&turn.name);
            writing.insert(turn.name.clone());
        }
        turns
    }

    /// Writes down the versions of handlers that serve now, in one step. What has changed meanwhile is noted again when it
    /// is deployed.
    fn write_down(self: &Arc<Self>, turns: &[Turn]) -> Result<(), StoreError> {
        let catalog = self.deployer.catalog().load_full();
        let (mut puts, mut kept, mut is_new) = (Vec::new(), Vec::new(), false);
        for turn in turns {
            let Some(entry) = catalog.entries.get(&turn.name) else {
                continue;
            };
            let (handler, former) = (&entry.handler, self.store.record(&turn.name));
            // What was deployed through the door keeps its record, also while it does not serve.
            let is_of_files = former.as_ref().is_none_or(|record| record.file.is_some());
            let (Source::Wasm(path), None, Owner::Files, true) = (
                &handler.spec.source,
                handler.spec.version,
                entry.owner,
                is_of_files,
            ) else {
                continue;
            };
            let Some(stamp) = Stamp::of(path) else {
                continue;
            };
            let (path, seen) = (
                path.clone(),
                Version::of_file(&handler.spec, &entry.routes, &handler.digest),
            );
            let file = SeenFile { path, stamp };
            let mut record = former
                .as_deref()
                .cloned()
                .unwrap_or_else(|| Record::new(turn.name.clone()));
            let is_latest = record.latest().is_some_and(|latest| seen.is_like(latest));
            if is_latest && !record.is_rolled_back() && record.file.as_ref() == Some(&file) {
                continue;
            }
            // It may be another file by now.
            let Some(size) = digest_of(&file.path)
                .ok()
                .filter(|(digest, _)| *digest == seen.digest)
                .map(|(_, size)| size)
            else {
                continue;
            };
            let mut line = None;
            if is_latest {
                record.current = record.latest().map_or(0, |latest| latest.number);
            } else {
                let held = self.store.pin(&seen.digest, size);
                if !held.path().is_file() {
                    let Some(copied) = self.copy(&file.path, &seen.digest)? else {
                        continue;
                    };
                    is_new = true;
                    kept.push(copied);
                }
                kept.push(held);
                let follows = record.current().map(|current| current.number);
                record.put(Version {
                    number: record.next_number(),
                    size,
                    deployed_at: now(),
                    follows,
                    ..seen
                });
                let tenant = handler.spec.tenant.as_deref();
                line = former
                    .as_deref()
                    .map(|former| changed(former, &record, tenant));
            }
            record.file = Some(file);
            record.revision += 1;
            puts.push((record, line));
        }
        if puts.is_empty() {
            return Ok(());
        }
        if is_new {
            self.store.sync()?;
        }
        self.store.put_all(puts, &self.gone(&catalog))
    }

    /// None if it is another file by now.
    fn copy(&self, from: &Path, digest: &str) -> Result<Option<Kept>, StoreError> {
        let mut staging = self.store.stage(u64::MAX)?;
        let (mut file, mut chunk) = (files::open(from)?, vec![0; CHUNK]);
        loop {
            match file.read(&mut chunk)? {
                0 => break,
                length => staging.write(&chunk[..length])?,
            }
        }
        let kept = staging.keep_unsynced()?;
        Ok(Some(kept).filter(|kept| kept.digest == digest))
    }

    /// Records of files that are gone, if there are too many: those that were deployed longest ago.
    fn gone(&self, catalog: &Catalog) -> Vec<HandlerName> {
        let mut gone = self.store.records();
        gone.retain(|record| record.file.is_some() && catalog.owner(&record.name).is_none());
        gone.sort_by(|a, b| {
            let at = |record: &Record| record.latest().map(|latest| latest.deployed_at.clone());
            at(a).cmp(&at(b))
        });
        let surplus = gone.len().saturating_sub(limits::GONE_HANDLERS);
        gone.iter()
            .take(surplus)
            .map(|record| record.name.clone())
            .collect()
    }

    /// Who rolls back what was deployed by its file a moment ago waits for the end of its writing.
    async fn turn_after_writing(&self, name: &HandlerName, who: &Who) -> Result<Turn, NotDone> {
        let until = Instant::now() + limits::VERSIONS_WAIT;
        loop {
            // Looked at first: it may end between the two.
            let is_writing = self.of_files.writing().contains(name);
            match self.turn(name, who) {
                Err(NotDone::Busy(_)) if is_writing && Instant::now() < until => {
                    tokio::time::sleep(BUSY).await;
                }
                turn => return turn,
            }
        }
    }

    /// Takes the turn to roll a name back, which may be a file's.
    ///
    /// # Errors
    /// When somebody else has it, when no versions of it are kept, or when it is not as expected.
    pub async fn begin_rollback(
        self: &Arc<Self>,
        name: &HandlerName,
        expected: &Expected,
        who: &Who,
    ) -> Result<Turn, NotDone> {
        let owner = || self.deployer.catalog().load_full().owner(name);
        // A tenant changes what it has deployed; what the files of the host say is the operator's.
        if owner() != Some(Owner::Files) || who.tenant().is_some() {
            return self.begin(name, Action::Rollback, expected, who);
        }
        let mut turn = self.turn_after_writing(name, who).await?;
        if self.of_files.noted().remove(name) {
            let versions = Arc::clone(self);
            turn = blocking(move || {
                versions.write_down(slice::from_ref(&turn))?;
                Ok(turn)
            })
            .await?;
        }
        let record = self.store.record(name);
        turn.record =
            record.filter(|record| record.file.is_some() && owner() == Some(Owner::Files));
        if turn.record.is_none() {
            return Err(no_version(name));
        }
        turn.if_expected(expected)
    }

    /// What a version of a file's handler is made of, and the handler whose place it takes.
    pub(super) fn of_file(
        &self,
        record: &Record,
        version: &Version,
    ) -> Result<(HandlerSpec, Arc<Handler>), NotDone> {
        let name = &record.name;
        let catalog = self.deployer.catalog().load_full();
        let entry = catalog
            .entries
            .get(name)
            .filter(|entry| entry.owner == Owner::Files);
        let entry = entry.ok_or_else(|| NotDone::Absent(name.clone()))?;
        let mut passed_over = self.of_files.passed_over();
        let said = passed_over
            .get(name)
            .cloned()
            .unwrap_or_else(|| HandlerSpec {
                routes: entry.routes.clone(),
                ..entry.handler.spec.clone()
            });
        let replaced = Arc::clone(&entry.handler);
        if record
            .latest()
            .is_some_and(|latest| latest.number == version.number)
        {
            return Ok((said, replaced));
        }
        let component = Source::Wasm(self.store.component(&version.digest));
        let spec = version.instead_of(&said, component).map_err(|unsaid| {
            NotDone::Unfit(format!(
                "v{} of `{name}` had the variables {}, which its files do not give any more: give them there, or take another version",
                version.number,
                unsaid.join(", ")
            ))
        })?;
        passed_over.insert(name.clone(), said);
        Ok((spec, replaced))
    }

    /// Goes back from a file's handler that fails, so that a restart holds to it. Whether that could be done: if no version
    /// of what served before is kept, it cannot.
    ///
    /// # Errors
    /// When somebody changes it just now.
    pub(super) async fn fall_back_of_file(
        self: &Arc<Self>,
        failing: &Arc<Handler>,
        former: &Handler,
    ) -> Result<bool, NotDone> {
        let name = &failing.spec.name;
        let turn = match self
            .begin_rollback(name, &Expected::Anything, &Who::host())
            .await
        {
            Ok(turn) => turn,
            Err(busy @ NotDone::Busy(_)) => return Err(busy),
            Err(_) => return Ok(false),
        };
        let Some(record) = turn.record.clone().filter(|record| record.file.is_some()) else {
            return Ok(false);
        };
        let seen = Version::of_file(&former.spec, &[], &former.digest);
        let is_it = |version: &&Version| {
            let differs = version.differences(Some(&seen));
            version.number != record.current && differs.iter().all(|name| name == "routes")
        };
        let Some(version) = record.versions.iter().rev().find(is_it) else {
            return Ok(false);
        };
        let catalog = self.deployer.catalog().load_full();
        if !catalog
            .handler(name)
            .is_some_and(|serves| Arc::ptr_eq(serves, failing))
        {
            return Ok(true);
        }
        let to = format!("v{}", version.number);
        match self.rollback(turn, Some(&to)).await {
            Ok(_) => Ok(true),
            Err(why) => {
                tracing::warn!("`{name}` is not rolled back for good: {why}");
                Ok(false)
            }
        }
    }
}

/// How long somebody who changes a handler is waited for.
const BUSY: Duration = Duration::from_millis(100);

/// Bytes that are copied at once.
const CHUNK: usize = 64 * limits::KIB;

fn changed(from: &Record, to: &Record, tenant: Option<&str>) -> AuditLine {
    let digest = |record: &Record| Some(record.current()?.digest.clone());
    AuditLine {
        at: now(),
        who: FILES.to_owned(),
        action: Action::Deploy,
        handler: to.name.clone(),
        tenant: tenant.map(str::to_owned),
        from: digest(from),
        from_version: Some(from.current),
        to: digest(to),
        to_version: Some(to.current),
    }
}

/// The SHA-256 of a file, in hex, and its bytes.
fn digest_of(path: &Path) -> io::Result<(String, u64)> {
    let (mut file, mut hash) = (files::open(path)?, Sha256::new());
    let size = io::copy(&mut file, &mut hash)?;
    Ok((format!("{:x}", hash.finalize()), size))
}
