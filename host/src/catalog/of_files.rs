//! Versions of what lies in files.
//!
//! A file's handler serves as soon as it is made. Its version is written down after that, many at once where there are many,
//! by threads that may wait: a state directory that is slow or full never keeps a file from being served. While an earlier
//! version serves, it takes the place of what the files say, until they say something else.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::Read as _;
use std::path::{self, Path};
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{block_in_place, spawn_blocking};
use tokio::time::Instant;

use super::record::{Action, AuditLine, FILES, Record, SeenFile, Version};
use super::store::{Kept, StoreError, digest_of};
use super::versions::{also_wanted, blocking, last_first, no_version, now, wants_of};
use super::{
    Awaited, Catalog, Entry, Expected, Handler, HandlerName, HandlerSpec, NotDone, Origin, Source,
    Turn, Versions, Who,
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
    /// What the files say of handlers of which an earlier version serves. No more than the files name.
    passed_over: Mutex<BTreeMap<HandlerName, HandlerSpec>>,
    /// Handlers whose files have been taken away, with their tenants, until that is written down.
    taken_away: Mutex<BTreeMap<HandlerName, Option<Arc<str>>>>,
}

impl OfFiles {
    fn writing(&self) -> MutexGuard<'_, BTreeSet<HandlerName>> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn noted(&self) -> MutexGuard<'_, BTreeSet<HandlerName>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taken_away(&self) -> MutexGuard<'_, BTreeMap<HandlerName, Option<Arc<str>>>> {
        self.taken_away
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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

    /// The files of these were taken away. What was rolled back is so no more: a file that comes back is served as it is.
    pub(super) fn take_away(&self, handlers: &[Arc<Handler>]) {
        if handlers.is_empty() {
            return;
        }
        let specs = handlers.iter().map(|handler| &handler.spec);
        let with_tenants = specs.clone().map(|it| (it.name.clone(), it.tenant.clone()));
        // In one step, for who looks at both.
        let mut noted = self.of_files.noted();
        self.of_files.taken_away().extend(with_tenants);
        noted.extend(specs.map(|spec| spec.name.clone()));
        drop(noted);
        self.of_files.wake.notify_one();
    }

    fn is_rolled_back(&self, name: &HandlerName) -> bool {
        let record = self.store.record(name);
        record.is_some_and(|record| record.file.is_some() && record.is_rolled_back())
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

    /// Nothing is passed over but what files say of these.
    pub(super) fn pass_over_only(&self, names: &HashSet<&HandlerName>) {
        let mut passed_over = self.of_files.passed_over();
        passed_over.retain(|name, _| names.contains(name));
    }

    /// Whether it was made to serve in place of what the files say, and is not what was rolled back to any more.
    pub(super) fn is_left_behind(&self, made: &Handler) -> bool {
        let record = self.store.record(&made.spec.name);
        let number = made.spec.version;
        record.is_some_and(|record| number.is_some_and(|number| number != record.current))
    }

    /// Of these names, each with what is said of it if that is known, those whose handlers have served, with the routes that
    /// they had last; see [`last_first`].
    pub(super) fn served<'a>(
        &self,
        names: impl Iterator<Item = (&'a HandlerName, Option<&'a HandlerSpec>)>,
    ) -> Vec<(HandlerName, Awaited)> {
        let (mut records, mut tenants) = (Vec::new(), HashMap::new());
        for (name, said) in names {
            records.extend(self.record_of(name, said.map(|said| said.source.path())));
            tenants.insert(name, said.and_then(|said| said.tenant.clone()));
        }
        let awaited = |record: Arc<Record>| {
            let routes = record.current()?.routes.clone();
            let tenant = tenants.remove(&record.name).flatten();
            let awaited = Awaited::new(tenant, routes, Origin::Files);
            Some((record.name.clone(), awaited))
        };
        last_first(records)
            .into_iter()
            .filter_map(awaited)
            .collect()
    }

    /// The version that served last of what lies in a file, if the files say all that it needs and still all of its routes,
    /// and the digest of its component. Nobody has asked for it, so it gets nothing that they do not say of these routes.
    pub(super) fn last(&self, said: &HandlerSpec) -> Option<(HandlerSpec, String)> {
        let record = self.record_of(&said.name, Some(said.source.path()))?;
        let version = record.current()?;
        let routes = version.routes_as_said(&said.routes)?;
        let component = Source::Wasm(self.store.component(&version.digest));
        let spec = version.instead_of(said, component).ok()?;
        Some((HandlerSpec { routes, ..spec }, version.digest.clone()))
    }

    /// What is remembered of a handler whose file was not taken away: of one in this file, or of one whose file is there.
    fn record_of(&self, name: &HandlerName, path: Option<&Path>) -> Option<Arc<Record>> {
        if self.of_files.taken_away().contains_key(name) {
            return None;
        }
        let record = self.store.record(name)?;
        let file = record.file.as_ref().filter(|_| !record.was_taken_away)?;
        // Hosts of several directories may take turns with a state directory.
        let is_it = match path {
            Some(path) => path::absolute(path).ok()? == file.path,
            None => file.path.is_file(),
        };
        is_it.then_some(record)
    }

    fn earlier(&self, said: &HandlerSpec) -> Option<HandlerSpec> {
        let path = said.source.path();
        let record = self.record_of(&said.name, Some(path))?;
        let file = record.file.as_ref()?;
        let latest = record.latest().filter(|_| record.is_rolled_back())?;
        if !Version::of_file(said, &said.routes, &latest.digest).is_like(latest) {
            return None;
        }
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
        let (mut is_told, mut tries, mut pause) = (false, 0, limits::VERSIONS_PAUSE);
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
                let names: Vec<HandlerName> = turns.iter().map(|turn| turn.name.clone()).collect();
                let written = spawn_blocking(move || versions.write_down(&turns));
                let written = written.await;
                self.of_files.writing().clear();
                let why = match written {
                    Ok(Ok(())) => {
                        (is_told, tries, pause) = (false, 0, limits::VERSIONS_PAUSE);
                        continue;
                    }
                    Ok(Err(why)) => why,
                    Err(stopped) => {
                        tracing::error!(
                            "what files deploy is served, and {} of it not kept as versions: {stopped}",
                            names.len()
                        );
                        continue;
                    }
                };
                if !is_told {
                    tracing::warn!("what files deploy is served, and not kept as versions: {why}");
                }
                is_told = true;
                // What is given up is noted again when it is deployed.
                if tries < limits::VERSIONS_TRIES {
                    self.note(names);
                    tokio::time::sleep(pause).await;
                    tries += 1;
                    pause = (pause * 2).min(limits::VERSIONS_PAUSE_MOST);
                } else {
                    // Names that come and go have no end. Those that there are records of have.
                    let has_record = |name: &HandlerName| self.store.record(name).is_some();
                    let mut taken_away = self.of_files.taken_away();
                    taken_away.retain(|name, _| has_record(name));
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
        let (mut puts, mut kept, mut new) = (Vec::new(), Vec::new(), Vec::new());
        for turn in turns {
            let next = match catalog.entries.get(&turn.name) {
                Some(entry) => self.next(entry)?,
                None => self.without_file(&turn.name),
            };
            if let Some(next) = next {
                if next.kept.is_some() {
                    new.push(&turn.name);
                }
                puts.push((next.record, next.line));
                kept.extend(next.kept);
            }
        }
        if kept.iter().any(|(_, is_copied)| *is_copied) {
            self.store.sync()?;
        }
        if !puts.is_empty() {
            self.store.put_all(puts, &self.surplus_records(&catalog))?;
        }
        // Once, however often it had to be tried.
        for name in new {
            self.tell_new(name);
        }
        // A mark beside an entry is an old one, as is one that was written down. What is noted again may have been taken away
        // since the catalog was looked at.
        let noted = self.of_files.noted();
        for turn in turns {
            if !noted.contains(&turn.name) && !self.is_rolled_back(&turn.name) {
                self.of_files.taken_away().remove(&turn.name);
            }
        }
        Ok(())
    }

    /// What is to be written down of a handler whose file was taken away.
    fn without_file(&self, name: &HandlerName) -> Option<Next> {
        let tenant = self.of_files.taken_away().get(name).cloned()?;
        let former = self.store.record(name)?;
        if former.file.is_none() || former.was_taken_away {
            return None;
        }
        let mut record = Record::clone(&former);
        record.current = record.latest()?.number;
        record.was_taken_away = true;
        record.revision = self.store.next_revision();
        let (who, tenant) = (FILES.to_owned(), tenant.as_deref().map(str::to_owned));
        let line = AuditLine::now(who, Action::Undeploy, name, tenant, Some(&former), None);
        Some(Next {
            record,
            line: Some(line),
            kept: None,
        })
    }

    /// What is to be written down of a handler: nothing if it is not a file's, is known, or its file is another by now.
    fn next(self: &Arc<Self>, entry: &Entry) -> Result<Option<Next>, StoreError> {
        let spec = &entry.handler.spec;
        let former = self.store.record(&spec.name);
        // What was deployed through the door keeps its record, also while it does not serve.
        let is_of_files = former.as_ref().is_none_or(|record| record.file.is_some());
        let (Source::Wasm(path), None, Origin::Files, true) =
            (&spec.source, spec.version, entry.origin, is_of_files)
        else {
            return Ok(None);
        };
        let (Some(stamp), Ok(path)) = (Stamp::of(path), path::absolute(path)) else {
            return Ok(None);
        };
        let file = SeenFile { path, stamp };
        let seen = Version::of_file(spec, &entry.routes, &entry.handler.digest);
        let record = former.as_deref().cloned();
        let mut record = record.unwrap_or_else(|| Record::new(spec.name.clone()));
        let is_latest = record.latest().is_some_and(|latest| seen.is_like(latest));
        let is_as_before = !record.is_rolled_back() && !record.was_taken_away;
        if is_latest && is_as_before && record.file.as_ref() == Some(&file) {
            return Ok(None);
        }
        let Some(size) = size_of(&file.path, &seen.digest) else {
            return Ok(None);
        };
        let (mut kept, mut line) = (None, None);
        if is_latest {
            record.current = record.latest().map_or(0, |latest| latest.number);
        } else {
            let held = self.store.pin(&seen.digest, size);
            let is_copied = !held.path().is_file();
            if is_copied && !self.copy(&file.path, &seen.digest)? {
                return Ok(None);
            }
            kept = Some((held, is_copied));
            let follows = record.current().map(|current| current.number);
            record.put(Version {
                number: record.next_number(),
                size,
                deployed_at: now(),
                follows,
                ..seen
            });
        }
        let is_served_so =
            |former: &Record| !former.was_taken_away && former.current == record.current;
        if !former.as_deref().is_some_and(is_served_so) {
            let tenant = spec.tenant.as_deref().map(str::to_owned);
            let from = former.as_deref().filter(|it| !it.was_taken_away);
            let (who, name, to) = (FILES.to_owned(), &spec.name, Some(&record));
            line = Some(AuditLine::now(who, Action::Deploy, name, tenant, from, to));
        }
        record.was_taken_away = false;
        record.file = Some(file);
        record.revision = self.store.next_revision();
        Ok(Some(Next { record, line, kept }))
    }

    /// Tells what a version that was written down just now reaches for and the one before did not.
    fn tell_new(&self, name: &HandlerName) {
        let record = self.store.record(name);
        let versions = record
            .as_ref()
            .and_then(|record| Some((record.former()?, record.current()?)));
        let Some((former, new)) = versions.filter(|(former, new)| former.digest != new.digest)
        else {
            return;
        };
        let wants_of = |version: &Version| wants_of(&self.store.component(&version.digest));
        if let (Ok(before), Ok(after)) = (wants_of(former), wants_of(new))
            && let Some(new) = also_wanted(&before, &after)
        {
            tracing::warn!(
                "the new version of `{name}` also wants {new}: it has only what its files grant it: if it may, grant it there"
            );
        }
    }

    /// Copies a component that is pinned. Whether that could be done: it may be another file by now, or gone.
    fn copy(&self, from: &Path, digest: &str) -> Result<bool, StoreError> {
        let Ok(mut file) = files::open(from) else {
            return Ok(false);
        };
        let (mut staging, mut chunk) = (self.store.stage(u64::MAX)?, vec![0; CHUNK]);
        while let Ok(length) = file.read(&mut chunk) {
            if length == 0 {
                return Ok(staging.keep_unsynced()?.digest == digest);
            }
            staging.write(&chunk[..length])?;
        }
        Ok(false)
    }

    /// Records of files that are not served, if there are too many: see [`surplus`].
    fn surplus_records(&self, catalog: &Catalog) -> Vec<Arc<Record>> {
        let mut absent = self.store.records();
        absent.retain(|record| record.file.is_some() && catalog.origin(&record.name).is_none());
        if absent.len() <= limits::GONE_HANDLERS {
            return Vec::new();
        }
        surplus(absent)
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
        let origin = || self.deployer.catalog().load_full().origin(name);
        // A tenant changes what it has deployed; what the files of the host say is the operator's.
        if origin() != Some(Origin::Files) || who.tenant().is_some() {
            return self.begin(name, Action::Rollback, expected, who);
        }
        let mut turn = self.turn_after_writing(name, who).await?;
        if self.of_files.noted().remove(name) {
            let versions = Arc::clone(self);
            turn = blocking(move || {
                // If it could not be, what serves is no version, and who rolls it back is told so.
                if versions.write_down(slice::from_ref(&turn)).is_err() {
                    versions.note([turn.name.clone()]);
                }
                Ok(turn)
            })
            .await?;
        }
        let record = self.store.record(name);
        turn.record =
            record.filter(|record| record.file.is_some() && origin() == Some(Origin::Files));
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
            .filter(|entry| entry.origin == Origin::Files);
        let entry = entry.ok_or_else(|| NotDone::Absent(name.clone()))?;
        let mut passed_over = self.of_files.passed_over();
        // What was passed over is, while an earlier version serves.
        let said = passed_over.get(name).cloned();
        let said = said
            .filter(|_| entry.handler.spec.version.is_some())
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
        self.of_files.taken_away().remove(name);
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

/// How long it is until it is looked again whether somebody still changes a handler.
pub(super) const BUSY: Duration = Duration::from_millis(100);

/// Bytes that are copied at once.
const CHUNK: usize = 64 * limits::KIB;

/// A state of a handler of a file that is to be written down.
struct Next {
    record: Record,
    line: Option<AuditLine>,
    /// The component of a new version, and whether it was copied just now.
    kept: Option<(Kept, bool)>,
}

/// Which of these are one too many: those that were deployed longest ago, first of those whose files are gone. A file that
/// is there may be one that is refused just now, or another host's.
fn surplus(absent: Vec<Arc<Record>>) -> Vec<Arc<Record>> {
    // What cannot be looked at is there.
    let is_missing = |record: &Arc<Record>| {
        let file = record.file.as_ref();
        file.is_none_or(|file| matches!(file.path.try_exists(), Ok(false)))
    };
    let (missing, there): (Vec<_>, Vec<_>) = absent.into_iter().partition(is_missing);
    let beyond = |mut records: Vec<Arc<Record>>, most: usize| {
        records.sort_by(|a, b| {
            let at = |record: &Record| record.latest().map(|latest| latest.deployed_at.clone());
            at(a).cmp(&at(b))
        });
        records.truncate(records.len().saturating_sub(most));
        records
    };
    let mut surplus = beyond(missing, limits::GONE_HANDLERS);
    surplus.extend(beyond(there, limits::HANDLERS));
    surplus
}

/// The bytes of a file, if it still has this SHA-256.
fn size_of(path: &Path, digest: &str) -> Option<u64> {
    let (now, size) = digest_of(path).ok()?;
    (now == digest).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{record, version};
    use super::*;

    #[test]
    fn of_records_of_files_that_are_gone_the_oldest_are_too_many() {
        let here = tempfile::tempdir().expect("a directory");
        let there = here.path().join("there.wasm");
        std::fs::write(&there, b"").expect("written");
        let stamp = Stamp::of(&there).expect("a file");
        let of_file = |name: String, path: &Path, second: usize| {
            let mut record = record(&name);
            record.put(Version {
                deployed_at: format!("2026-01-01T00:00:{second:03}Z"),
                ..version(2, "bb")
            });
            let path = path.to_owned();
            record.file = Some(SeenFile { path, stamp });
            Arc::new(record)
        };
        let most = limits::GONE_HANDLERS;
        let gone = here.path().join("gone.wasm");
        let mut absent: Vec<_> = (0..most + 2)
            .rev()
            .map(|nth| of_file(format!("gone-{nth}"), &gone, nth))
            .collect();
        absent.extend((0..most).map(|nth| of_file(format!("there-{nth}"), &there, 0)));
        let names = surplus(absent);
        let names: Vec<&str> = names.iter().map(|record| record.name.as_str()).collect();
        assert_eq!(names, ["gone-0", "gone-1"]);
    }
}
