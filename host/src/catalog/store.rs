//! The state directory: what is deployed, its components, and who changed what.
//!
//! The catalog and the audit log are one embedded database, so a change of both is one transaction that a crash leaves
//! whole or undone. Components are files beside it, named by their digests. A file is complete on disk before a
//! transaction names it, so what the database names is there; what it does not name is removed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{
    Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
    TableDefinition, TableError, WriteTransaction,
};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::audit::{self, AUDIT, Numbers};
use super::record::{AuditLine, Record};
use super::{HandlerName, Who};
use crate::components::Stamp;
use crate::{files, limits};

/// Handlers by name, as JSON.
const HANDLERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("handlers");
/// What is written in the other tables, by [`FORMAT`].
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The form of what is written. Count it up when a host that knows the one before cannot read it, or reads something else: a
/// field of [`crate::limits::HandlerLimits`] or [`crate::limits::Reuse`] that is renamed is read as its default.
const FORMAT: u64 = 1;

/// Bytes of the database that are kept in memory: it is small, and read once.
const PAGES: usize = 4 * limits::MIB;

/// A state directory that is ours alone while this lives.
pub struct Store {
    directory: PathBuf,
    components: PathBuf,
    /// Which file is the database.
    file: Inode,
    /// None after an error: redb takes nothing more after one of the disk until it is opened again.
    database: Mutex<Option<Opened>>,
    names: Mutex<Names>,
    /// The last number that was given to a state of a record.
    revision: AtomicU64,
    /// See [`Self::is_of_earlier`].
    is_of_earlier: bool,
    /// Held from the look whether somebody names a component until its file is gone, and while one is pinned.
    removing: Mutex<()>,
}

/// The database, and the numbers of its audit log.
struct Opened {
    database: Database,
    audit: Numbers,
}

/// A file's device and its number there.
type Inode = (u64, u64);

/// What the database holds, at hand: who asks never waits for a disk.
#[derive(Default)]
struct Names {
    records: BTreeMap<HandlerName, Arc<Record>>,
    /// Components that somebody is about to deploy, by digest, with how many are.
    pinned: HashMap<String, usize>,
    /// Components that somebody was about to deploy, by digest: those that nobody names are about to be removed.
    let_go: BTreeSet<String>,
}

impl Names {
    /// Those of some digests that nobody names.
    fn unnamed(&self, mut digests: BTreeSet<String>) -> BTreeSet<String> {
        digests.retain(|digest| !self.pinned.contains_key(digest));
        let mut versions = self.records.values().flat_map(|record| &record.versions);
        while !digests.is_empty()
            && let Some(version) = versions.next()
        {
            digests.remove(&version.digest);
        }
        digests
    }
}

/// What the state directory would not take or give. Nothing has changed.
#[derive(Debug)]
pub enum StoreError {
    /// Another host has it.
    InUse(PathBuf),
    /// It was written by another version of the host, in a format of this number; 0: before formats had numbers.
    OtherFormat(PathBuf, u64),
    /// It cannot be made, read or written to, and why.
    Unusable(PathBuf, String),
    /// The database cannot be read, and why.
    Damaged(PathBuf, String),
    /// The disk is full.
    NoSpace,
    /// The component is larger than the host takes.
    TooLarge(u64),
    /// Something else.
    Broken(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(directory) => write!(
                f,
                "another host uses the state directory `{}`: stop it, or give this one another with `--state`",
                directory.display()
            ),
            Self::OtherFormat(directory, found) => write!(
                f,
                "the state directory `{}` has format {found}, and this host reads format {FORMAT}: use the host that wrote it, or another directory with `--state`",
                directory.display()
            ),
            Self::Unusable(directory, why) => write!(
                f,
                "the state directory `{}` cannot be used: {why}: let the host write there, or give it another with `--state`",
                directory.display()
            ),
            Self::Damaged(database, why) => write!(
                f,
                "`{}` is damaged ({why}): put a copy of it back, or move it away to start without what was deployed",
                database.display()
            ),
            Self::NoSpace => {
                f.write_str("the disk of the state directory is full: free some space")
            }
            Self::TooLarge(limit) => write!(
                f,
                "the component has more than {limit} bytes: make it smaller, or raise `--max-component-size` of the host"
            ),
            Self::Broken(what) => write!(
                f,
                "the state directory cannot be used: {what}; what is served goes on, and a host that is started anew makes it anew if it was removed"
            ),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Broken(error.to_string()),
        }
    }
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => error.into(),
            error => Self::Broken(error.to_string()),
        }
    }
}

impl Store {
    /// Opens a state directory, or makes one, which nobody else can read. What a crash left behind is removed.
    ///
    /// # Errors
    /// When it cannot be made or read, another host has it, or it has another format. What it holds is as it was then.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Self::open_there(directory).map_err(|error| match error {
            StoreError::Broken(why) => StoreError::Unusable(directory.to_owned(), why),
            error => error,
        })
    }

    fn open_there(directory: &Path) -> Result<Self, StoreError> {
        let make = |directory: &Path| {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700).create(directory)
        };
        make(directory)?;
        let catalog = directory.join(DATABASE);
        let components = directory.join("components");
        // A new one is empty. Beside components it has lost what names them, and they would go too.
        if fs::metadata(&catalog).is_ok_and(|it| it.len() == 0) && has_components(&components) {
            return Err(StoreError::Damaged(catalog, "it is empty".to_owned()));
        }
        // It has the values of variables in it, and the directory may be one that others can read.
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&catalog)?;
        let (opened, found) = open_database(directory)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        make(&components)?;
        // The directory's own entries: a database whose name is lost is lost.
        File::open(directory)?.sync_all()?;
        let store = Self {
            directory: directory.to_owned(),
            components,
            file: inode_of(&file.metadata()?),
            database: Mutex::new(Some(opened)),
            names: Mutex::new(Names {
                records: found.records,
                ..Names::default()
            }),
            revision: AtomicU64::new(found.revision),
            is_of_earlier: found.is_of_earlier,
            removing: Mutex::default(),
        };
        store.sweep()?;
        Ok(store)
    }

    /// Everything that is deployed, by name.
    pub fn records(&self) -> Vec<Arc<Record>> {
        self.names().records.values().cloned().collect()
    }

    /// What is deployed of a tenant.
    pub(super) fn of_tenant(&self, tenant: &str) -> Vec<Arc<Record>> {
        let names = self.names();
        let records = names.records.values();
        let of_tenant = records.filter(|record| record.tenant.as_deref() == Some(tenant));
        of_tenant.cloned().collect()
    }

    /// How many handlers are deployed through the door.
    pub(super) fn count(&self) -> usize {
        let names = self.names();
        let of_door = names
            .records
            .values()
            .filter(|record| record.file.is_none());
        of_door.count()
    }

    /// What is deployed under a name.
    pub fn record(&self, name: &HandlerName) -> Option<Arc<Record>> {
        self.names().records.get(name).cloned()
    }

    /// A number for a state of a record that is about to be put. None has it twice, whatever its name, and of two states the
    /// later has the higher one.
    pub(super) fn next_revision(&self) -> u64 {
        self.revision.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether it is opened for the first time since a host had it that kept no routes for what it could not bring back.
    pub(super) fn is_of_earlier(&self) -> bool {
        self.is_of_earlier
    }

    /// Where the component of a version lies.
    pub(super) fn component(&self, digest: &str) -> PathBuf {
        self.components.join(format!("{digest}.wasm"))
    }

    /// Whether the component of a version is the one that came.
    ///
    /// # Errors
    /// When it cannot be read to its end, which says nothing of what is in it.
    pub(super) fn is_whole(&self, digest: &str) -> io::Result<bool> {
        Ok(digest_of(&self.component(digest))?.0 == digest)
    }

    /// Notes in memory alone that a file is another one with the same bytes.
    pub(super) fn restamp(&self, name: &HandlerName, stamp: Stamp) {
        if let Some(record) = self.names().records.get_mut(name)
            && let Some(file) = &mut Arc::make_mut(record).file
        {
            file.stamp = stamp;
        }
    }

    /// A new component of at most `limit` bytes begins to arrive.
    pub(super) fn stage(self: &Arc<Self>, limit: u64) -> Result<Staging, StoreError> {
        Ok(Staging {
            file: NamedTempFile::with_prefix_in(STAGED, &self.components)?,
            store: Arc::clone(self),
            hash: Sha256::new(),
            size: 0,
            limit,
        })
    }

    /// Keeps the file of a component that is there already while it is deployed again. It may wait until another file is
    /// removed.
    pub(super) fn pin(self: &Arc<Self>, digest: &str, size: u64) -> Kept {
        let _removing = self.removing();
        *self.names().pinned.entry(digest.to_owned()).or_default() += 1;
        Kept {
            store: Arc::clone(self),
            digest: digest.to_owned(),
            size,
        }
    }

    /// Writes down what a handler is from now on. When it returns, a crash does not undo it.
    pub(super) fn put(&self, record: Record, change: &AuditLine) -> Result<(), StoreError> {
        self.put_all(vec![(record, Some(change.clone()))], &[])
    }

    /// The same for several, and some records of files that are gone, in one step. Nobody has a turn for those: one that is
    /// another by now stays.
    pub(super) fn put_all(
        &self,
        puts: Vec<(Record, Option<AuditLine>)>,
        gone: &[Arc<Record>],
    ) -> Result<(), StoreError> {
        let is_as_seen = |gone: &Record, now: &Record| {
            now.file.is_some() && (now.revision, now.current) == (gone.revision, gone.current)
        };
        let puts = puts.into_iter();
        let (puts, lines): (Vec<Arc<Record>>, Vec<Option<AuditLine>>) =
            puts.map(|(record, line)| (Arc::new(record), line)).unzip();
        let change = |transaction: &WriteTransaction, audit: &mut Numbers| {
            if !puts.is_empty() {
                let revision = self.revision.load(Ordering::Relaxed);
                let mut meta = transaction.open_table(META)?;
                meta.insert(REVISION_KEY, revision)?;
            }
            let mut table = transaction.open_table(HANDLERS)?;
            for record in &puts {
                let json = serde_json::to_vec(&**record).map_err(io::Error::from)?;
                table.insert(record.name.as_str(), json.as_slice())?;
            }
            for gone in gone {
                let name = gone.name.as_str();
                let now = table.get(name)?;
                let now = now.map(|json| serde_json::from_slice::<Record>(json.value()));
                let now = now.transpose().map_err(io::Error::from)?;
                if now.is_some_and(|now| is_as_seen(gone, &now)) {
                    table.remove(name)?;
                }
            }
            let mut lines = lines.iter().flatten();
            lines.try_for_each(|line| audit.note(transaction, line))
        };
        let formers = self.write(change, |names| {
            let put = puts.iter().filter_map(|record| {
                let name = record.name.clone();
                names.records.insert(name, Arc::clone(record))
            });
            let mut formers: Vec<Arc<Record>> = put.collect();
            for gone in gone {
                let now = names.records.get(&gone.name);
                if now.is_some_and(|now| is_as_seen(gone, now)) {
                    formers.extend(names.records.remove(&gone.name));
                }
            }
            formers
        })?;
        self.forget(formers);
        Ok(())
    }

    /// Writes down changes that change no record.
    pub(super) fn note(&self, changes: &[AuditLine]) -> Result<(), StoreError> {
        let change = |transaction: &WriteTransaction, audit: &mut Numbers| {
            let mut changes = changes.iter();
            changes.try_for_each(|line| audit.note(transaction, line))
        };
        self.write(change, |_| ())
    }

    /// Everything that was written to this disk by now is on it.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let directory = File::open(&self.components)?;
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(&directory).map_err(io::Error::from)?;
        Ok(directory.sync_all()?)
    }

    /// Writes down that a handler is gone.
    pub(super) fn remove(&self, name: &HandlerName, change: &AuditLine) -> Result<(), StoreError> {
        let former = self.write(
            |transaction, audit| {
                transaction.open_table(HANDLERS)?.remove(name.as_str())?;
                audit.note(transaction, change)
            },
            |names| names.records.remove(name),
        )?;
        self.forget(former);
        Ok(())
    }

    /// The latest changes, before a time if one is given, that somebody may see, the last one first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn changes(
        &self,
        most: usize,
        before: Option<jiff::Timestamp>,
        who: &Who,
    ) -> Result<Vec<AuditLine>, StoreError> {
        self.with_database(|Opened { database, audit }| {
            audit::latest(database, audit, most, before, who)
        })
    }

    /// Opens the database again if an error has closed it: the cause may be gone.
    fn with_database<T>(
        &self,
        work: impl FnOnce(&mut Opened) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let mut place = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let mut opened = match place.take() {
            Some(opened) => opened,
            None => {
                self.is_still_ours()?;
                let (opened, found) = open_database(&self.directory)?;
                self.names().records = found.records;
                opened
            }
        };
        let done = work(&mut opened)?;
        *place = Some(opened);
        Ok(done)
    }

    /// Changes the database, and then in memory what it holds.
    fn write<T>(
        &self,
        change: impl FnOnce(&WriteTransaction, &mut Numbers) -> Result<(), redb::Error>,
        then: impl FnOnce(&mut Names) -> T,
    ) -> Result<T, StoreError> {
        self.is_still_ours()?;
        self.with_database(|Opened { database, audit }| {
            let transaction = database.begin_write()?;
            change(&transaction, audit)?;
            transaction.commit()?;
            // Before the next one has the database, who would take what was here for what is there.
            Ok(then(&mut self.names()))
        })
    }

    /// That the database is the file that it was. One without a name takes everything, and a restart finds nothing of it;
    /// another, or one that is made anew, knows nothing of what is deployed.
    fn is_still_ours(&self) -> Result<(), StoreError> {
        let path = self.directory.join(DATABASE);
        let metadata = fs::metadata(&path)?;
        if inode_of(&metadata) == self.file && metadata.len() > 0 {
            return Ok(());
        }
        Err(StoreError::Broken(format!(
            "`{}` is another file by now, or empty: put the old one back, or start the host anew",
            path.display()
        )))
    }

    /// Removes the components that former records named and nobody does now.
    fn forget(&self, formers: impl IntoIterator<Item = Arc<Record>>) {
        let formers: Vec<Arc<Record>> = formers.into_iter().collect();
        let versions = formers.iter().flat_map(|former| &former.versions);
        self.remove_unnamed(versions.map(|version| version.digest.clone()).collect());
    }

    fn remove_unnamed(&self, digests: BTreeSet<String>) {
        // So that nobody pins one between the look and the end of its file.
        let _removing = self.removing();
        let unnamed = self.names().unnamed(digests);
        for digest in unnamed {
            // What stays is removed at the next start.
            let _ = fs::remove_file(self.component(&digest));
        }
    }

    /// Removes every file that nobody names: what was being sent or deployed when a host ended.
    fn sweep(&self) -> Result<(), StoreError> {
        let named: HashSet<PathBuf> = self
            .records()
            .iter()
            .flat_map(|record| &record.versions)
            .map(|version| self.component(&version.digest))
            .collect();
        for entry in fs::read_dir(&self.components)? {
            let path = entry?.path();
            // The directory may be one that others use too.
            if is_ours(&path)
                && !named.contains(&path)
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!(
                    "`{}` is nobody's and stays: {error}: remove it",
                    path.display()
                );
            }
        }
        Ok(())
    }

    /// Before [`Self::names`], never after it.
    fn removing(&self) -> MutexGuard<'_, ()> {
        self.removing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a file has a name that only we give.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_digest =
        |stem: &str| stem.len() == 64 && stem.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.starts_with(STAGED) || name.strip_suffix(".wasm").is_some_and(is_digest)
}

/// How names of components begin that are not complete.
const STAGED: &str = ".staged-";

/// Whether there are components in a directory, or parts of them.
fn has_components(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|entry| is_ours(&entry.path())))
    })
}

/// The name of the database in a state directory.
const DATABASE: &str = "catalog.redb";

fn inode_of(metadata: &Metadata) -> Inode {
    (metadata.dev(), metadata.ino())
}

/// The SHA-256 of a file, in hex, and its bytes.
pub(super) fn digest_of(path: &Path) -> io::Result<(String, u64)> {
    let (mut file, mut hash) = (files::open(path)?, Sha256::new());
    let size = io::copy(&mut file, &mut hash)?;
    Ok((format!("{:x}", hash.finalize()), size))
}

/// What a database held when it was opened.
struct Found {
    records: BTreeMap<HandlerName, Arc<Record>>,
    /// The highest number of a state of a record, also of one that is gone.
    revision: u64,
    is_of_earlier: bool,
}

/// The database of a state directory, and what it holds.
fn open_database(directory: &Path) -> Result<(Opened, Found), StoreError> {
    let path = directory.join(DATABASE);
    let damaged = |why: String| StoreError::Damaged(path.clone(), why);
    let open = || {
        let database = Database::builder()
            .set_cache_size(PAGES)
            .create(&path)
            .map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(directory.to_owned()),
                error => redb::Error::from(error).into(),
            })?;
        let format = format_of(&database)?;
        if format != FORMAT {
            return Err(StoreError::OtherFormat(directory.to_owned(), format));
        }
        let found = read_all(&database)?;
        let opened = Opened {
            audit: Numbers::read(&database)?,
            database,
        };
        Ok((opened, found))
    };
    // redb takes some damage for a mistake of its own.
    match std::panic::catch_unwind(open) {
        Ok(Err(StoreError::Broken(why))) => Err(damaged(why)),
        Ok(opened) => opened,
        Err(_) => Err(damaged("it makes no sense".to_owned())),
    }
}

/// The format of what is in a database: ours, if nothing is.
fn format_of(database: &Database) -> Result<u64, StoreError> {
    let read = || -> Result<u64, redb::Error> {
        let transaction = database.begin_read()?;
        let said = match transaction.open_table(META) {
            Ok(table) => table.get(FORMAT_KEY)?.map(|number| number.value()),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let is_empty = || match transaction.open_table(HANDLERS) {
            Ok(table) => Ok::<_, redb::Error>(table.is_empty()?),
            Err(TableError::TableDoesNotExist(_)) => Ok(true),
            Err(error) => Err(error.into()),
        };
        match said {
            Some(number) => Ok(number),
            None => Ok(if is_empty()? { FORMAT } else { 0 }),
        }
    };
    Ok(read()?)
}

const FORMAT_KEY: &str = "format";

/// The highest number that was given to a state of a record.
const REVISION_KEY: &str = "revision";

/// What it holds. The highest number is written down at once: records go, and it does not.
fn read_all(database: &Database) -> Result<Found, StoreError> {
    type Rows = Vec<(String, Vec<u8>)>;
    let transaction = database.begin_write().map_err(redb::Error::from)?;
    let read = || -> Result<(Rows, Option<u64>), redb::Error> {
        let meta = transaction.open_table(META)?;
        let revision = meta.get(REVISION_KEY)?.map(|number| number.value());
        let table = transaction.open_table(HANDLERS)?;
        transaction.open_table(AUDIT)?;
        let rows = table.iter()?.map(|row| {
            let (name, json) = row?;
            Ok((name.value().to_owned(), json.value().to_vec()))
        });
        Ok((rows.collect::<Result<_, redb::Error>>()?, revision))
    };
    let (rows, said) = read()?;
    let mut records = BTreeMap::new();
    for (name, json) in rows {
        let record: Record = serde_json::from_slice(&json).map_err(|error| {
            StoreError::Broken(format!("what is kept of `{name}` cannot be read: {error}"))
        })?;
        if record.current().is_none() {
            return Err(StoreError::Broken(format!(
                "what is kept of `{name}` has no version {}",
                record.current
            )));
        }
        records.insert(record.name.clone(), Arc::new(record));
    }
    let of_records = records.values().map(|record| record.revision).max();
    let mut revision = said.max(of_records).unwrap_or_default();
    // An earlier host does not say it, and counted the states of each record by itself: that is no order among them.
    let is_of_earlier = said.is_none() && !records.is_empty();
    let mut renumbered: Vec<&mut Arc<Record>> = Vec::new();
    if is_of_earlier {
        // Of one second, the first by name is the last: it had the route there.
        renumbered.extend(records.values_mut().rev());
        renumbered.sort_by_key(|record| Some(record.current()?.deployed_at.clone()));
    }
    let write = || -> Result<u64, redb::Error> {
        let mut table = transaction.open_table(HANDLERS)?;
        for record in renumbered {
            revision += 1;
            let record = Arc::make_mut(record);
            record.revision = revision;
            let json = serde_json::to_vec(record).map_err(io::Error::from)?;
            table.insert(record.name.as_str(), json.as_slice())?;
        }
        let mut meta = transaction.open_table(META)?;
        meta.insert(FORMAT_KEY, FORMAT)?;
        meta.insert(REVISION_KEY, revision)?;
        drop((table, meta));
        transaction.commit()?;
        Ok(revision)
    };
    let revision = write()?;
    Ok(Found {
        records,
        revision,
        is_of_earlier,
    })
}

/// A component that is arriving. Dropping it leaves nothing.
pub(super) struct Staging {
    store: Arc<Store>,
    file: NamedTempFile,
    hash: Sha256,
    size: u64,
    limit: u64,
}

impl Staging {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.size += bytes.len() as u64;
        if self.size > self.limit {
            return Err(StoreError::TooLarge(self.limit));
        }
        self.hash.update(bytes);
        Ok(self.file.write_all(bytes)?)
    }

    /// It is complete: on disk under its digest, for as long as somebody names it.
    pub(super) fn keep(self) -> Result<Kept, StoreError> {
        self.file.as_file().sync_all()?;
        let kept = self.keep_unsynced()?;
        File::open(&kept.store.components)?.sync_all()?;
        Ok(kept)
    }

    /// It is complete, and on disk after [`Store::sync`].
    pub(super) fn keep_unsynced(self) -> Result<Kept, StoreError> {
        let digest = format!("{:x}", self.hash.finalize());
        // Pinned before it has its name, so that nobody removes it in between.
        let kept = self.store.pin(&digest, self.size);
        self.file
            .persist(kept.path())
            .map_err(|error| error.error)?;
        Ok(kept)
    }
}

/// A component that is on disk. When it is dropped and no record names it, its file goes soon after.
pub(super) struct Kept {
    store: Arc<Store>,
    pub(super) digest: String,
    pub(super) size: u64,
}

impl Kept {
    pub(super) fn path(&self) -> PathBuf {
        self.store.component(&self.digest)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let digest = std::mem::take(&mut self.digest);
        let mut names = self.store.names();
        if let Some(count) = names.pinned.get_mut(&digest) {
            *count -= 1;
            if *count == 0 {
                names.pinned.remove(&digest);
            }
        }
        // Who is about to remove others takes this one too.
        let is_first = names.let_go.is_empty();
        names.let_go.insert(digest);
        drop(names);
        if is_first {
            let store = Arc::clone(&self.store);
            files::aside(move || {
                let let_go = std::mem::take(&mut store.names().let_go);
                store.remove_unnamed(let_go);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{record, version};
    use super::super::record::{Action, SeenFile};
    use super::super::versions::last_first;
    use super::*;

    fn change(handler: &str) -> AuditLine {
        AuditLine {
            at: "2026-01-01T00:00:00Z".to_owned(),
            who: "uid 0".to_owned(),
            action: Action::Deploy,
            handler: handler.parse().expect("a name"),
            tenant: (handler == "shop").then(|| "acme".to_owned()),
            from: None,
            from_version: None,
            to: Some("aa".to_owned()),
            to_version: Some(1),
        }
    }

    fn open(directory: &Path) -> Arc<Store> {
        Arc::new(Store::open(directory).expect("opened"))
    }

    fn keep(store: &Arc<Store>, bytes: &[u8]) -> Kept {
        let mut staging = store.stage(100).expect("staged");
        staging.write(bytes).expect("written");
        staging.keep().expect("kept")
    }

    fn files(store: &Store) -> usize {
        fs::read_dir(&store.components).expect("read").count()
    }

    fn full(_: &WriteTransaction, _: &mut Numbers) -> Result<(), redb::Error> {
        Err(io::Error::from(io::ErrorKind::StorageFull).into())
    }

    #[test]
    fn what_was_put_is_there_after_a_restart_and_unnamed_files_are_not() {
        let here = tempfile::tempdir().expect("a directory");
        let store = open(here.path());
        let kept = keep(&store, b"abc");
        let mut shop = record("shop");
        shop.put(version(2, &kept.digest));
        store.put(shop.clone(), &change("shop")).expect("put");
        drop(kept);
        fs::write(store.components.join(".staged-x"), b"half").expect("written");
        fs::write(store.component(&"e".repeat(64)), b"never named").expect("written");
        let of_others = store.components.join("shop.wasm");
        fs::write(&of_others, b"not ours").expect("written");
        drop(store);

        let store = open(here.path());
        assert_eq!(*store.record(&shop.name).expect("there"), shop);
        let operator = Who::operator(&Arc::from("uid 0"));
        assert_eq!(
            store.changes(10, None, &operator).expect("read"),
            [change("shop")]
        );
        assert!(of_others.is_file(), "what others keep here stays");
        assert_eq!(files(&store), 2);
        store.remove(&shop.name, &change("shop")).expect("removed");
        assert_eq!(files(&store), 1);
        assert_eq!(store.changes(1, None, &operator).expect("read").len(), 1);
    }

    #[test]
    fn a_component_stays_for_as_long_as_somebody_needs_it() {
        let here = tempfile::tempdir().expect("a directory");
        let store = open(here.path());
        let (one, other) = (keep(&store, b"abc"), keep(&store, b"abc"));
        drop(one);
        assert_eq!(files(&store), 1);
        drop(other);
        assert_eq!(files(&store), 0);
        drop(store.stage(100).expect("staged"));
        assert_eq!(files(&store), 0);
    }

    #[test]
    fn a_record_of_a_file_that_is_gone_goes_unless_it_is_another_by_now() {
        let here = tempfile::tempdir().expect("a directory");
        let store = open(here.path());
        let file = here.path().join("catalog.redb");
        let of_file = |name: &str| Record {
            file: Some(SeenFile {
                stamp: Stamp::of(&file).expect("a file"),
                path: file.clone(),
            }),
            ..record(name)
        };
        let put = |record: Record| store.put_all(vec![(record, None)], &[]).expect("put");
        for name in ["shop", "cart", "stays"] {
            put(of_file(name));
        }
        let seen: Vec<_> = store.records();
        put(record("shop"));
        put(Record {
            revision: 7,
            ..of_file("stays")
        });
        store.put_all(Vec::new(), &seen).expect("removed");
        let left = |store: &Store| {
            let records = store.records();
            let names = records.iter().map(|record| record.name.to_string());
            names.collect::<Vec<_>>()
        };
        assert_eq!(left(&store), ["shop", "stays"]);
        drop(store);
        assert_eq!(left(&open(here.path())), ["shop", "stays"]);
    }

    /// As a host left it that did not write down which number was given last.
    fn of_earlier(store: Arc<Store>) {
        let remove = |transaction: &WriteTransaction, _: &mut Numbers| {
            transaction.open_table(META)?.remove(REVISION_KEY)?;
            Ok(())
        };
        store.write(remove, |_| ()).expect("removed");
    }

    #[test]
    fn a_number_of_a_directory_of_an_earlier_host_is_not_given_again() {
        let here = tempfile::tempdir().expect("a directory");
        let store = open(here.path());
        let shop = Record {
            revision: 7,
            ..record("shop")
        };
        store.put(shop.clone(), &change("shop")).expect("put");
        of_earlier(store);
        let store = open(here.path());
        store.remove(&shop.name, &change("shop")).expect("removed");
        drop(store);
        assert!(open(here.path()).next_revision() > 7);
    }

    #[test]
    fn records_of_an_earlier_host_are_in_the_order_in_which_they_were_deployed() {
        let here = tempfile::tempdir().expect("a directory");
        let store = open(here.path());
        for (name, revision, at) in [("b", 1, "03"), ("a", 9, "01"), ("c", 1, "02")] {
            let mut record = Record {
                revision,
                ..record(name)
            };
            record.versions[0].deployed_at = format!("2026-01-01T00:00:{at}Z");
            store.put(record, &change(name)).expect("put");
        }
        of_earlier(store);
        let names = |store: &Store| {
            let records = last_first(store.records()).into_iter();
            let names = records.map(|record| record.name.to_string());
            names.collect::<Vec<_>>()
        };
        let store = open(here.path());
        assert_eq!(names(&store), ["b", "c", "a"]);
        assert!(store.is_of_earlier());
        // What is put now comes after them all.
        let revision = store.next_revision();
        let new = Record {
            revision,
            ..record("a")
        };
        store.put(new, &change("a")).expect("put");
        drop(store);
        let store = open(here.path());
        assert_eq!(names(&store), ["a", "b", "c"]);
        assert!(!store.is_of_earlier());
    }

    #[test]
    fn a_component_that_cannot_be_read_is_not_called_another() {
        let here = tempfile::tempdir().expect("a directory");
        let store = open(here.path());
        let kept = keep(&store, b"abc");
        assert!(store.is_whole(&kept.digest).expect("read"));
        fs::write(kept.path(), b"abd").expect("written");
        assert!(!store.is_whole(&kept.digest).expect("read"));
        fs::remove_file(kept.path()).expect("removed");
        let gone = store.is_whole(&kept.digest).expect_err("gone");
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        fs::create_dir(kept.path()).expect("made");
        store.is_whole(&kept.digest).expect_err("no file");
        drop((kept, store));
        // Nobody names it, and what is no file cannot be swept away.
        open(here.path());
    }

    #[test]
    fn a_component_that_is_too_large_is_refused_while_it_arrives() {
        let here = tempfile::tempdir().expect("a directory");
        let mut staging = open(here.path()).stage(4).expect("staged");
        staging.write(b"abc").expect("within");
        assert!(matches!(staging.write(b"de"), Err(StoreError::TooLarge(4))));
    }

    #[test]
    fn a_state_directory_is_one_hosts() {
        let here = tempfile::tempdir().expect("a directory");
        let _store = open(here.path());
        let refused = Store::open(here.path()).err().expect("in use");
        assert!(
            refused.to_string().contains("another host uses"),
            "{refused}"
        );
    }

    #[test]
    fn a_database_that_is_damaged_is_named() {
        let here = tempfile::tempdir().expect("a directory");
        let store = open(here.path());
        for nth in 0..20 {
            let record = record(&format!("shop-{nth}"));
            store.put(record, &change("shop")).expect("put");
        }
        drop(store);
        let file = here.path().join("catalog.redb");
        let mut bytes = std::fs::read(&file).expect("read");
        let mut random = 1_u32;
        for byte in bytes.iter_mut().skip(6 << 10).take(20 << 10) {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (random >> 24) as u8;
        }
        std::fs::write(&file, bytes).expect("written");
        let refused = Store::open(here.path()).err().expect("refused").to_string();
        assert!(
            refused.contains("catalog.redb` is damaged") && refused.contains("move it away"),
            "{refused}"
        );
    }

    #[test]
    fn a_database_that_was_emptied_beside_its_components_is_damaged() {
        let here = tempfile::tempdir().expect("a directory");
        let store = open(here.path());
        let kept = keep(&store, b"abc");
        let component = kept.path();
        let mut shop = record("shop");
        shop.put(version(2, &kept.digest));
        store.put(shop, &change("shop")).expect("put");
        drop((kept, store));
        let file = here.path().join(DATABASE);
        fs::write(&file, b"").expect("emptied");
        let refused = Store::open(here.path()).err().expect("refused").to_string();
        assert!(
            refused.contains("catalog.redb` is damaged (it is empty)"),
            "{refused}"
        );
        assert!(component.is_file(), "nothing is removed");
        // Without components it is one that was never written to.
        fs::remove_file(component).expect("removed");
        assert!(open(here.path()).records().is_empty());
    }

    #[test]
    fn a_database_that_was_removed_takes_nothing_more() {
        let here = tempfile::tempdir().expect("a directory");
        let store = open(here.path());
        let shop = record("shop");
        store.put(shop.clone(), &change("shop")).expect("put");
        fs::remove_file(here.path().join(DATABASE)).expect("removed");
        for _ in 0..2 {
            let refused = store.remove(&shop.name, &change("shop"));
            assert!(matches!(refused, Err(StoreError::Broken(_))), "{refused:?}");
            assert!(store.put(record("cart"), &change("cart")).is_err());
            assert_eq!(store.records().len(), 1);
        }
    }

    #[test]
    fn a_database_that_was_replaced_or_emptied_takes_nothing_more_until_it_is_back() {
        let (here, elsewhere) = (tempfile::tempdir(), tempfile::tempdir());
        let (here, elsewhere) = (here.expect("a directory"), elsewhere.expect("another"));
        let store = open(here.path());
        let kept = keep(&store, b"abc");
        let mut shop = record("shop");
        shop.put(version(2, &kept.digest));
        store.put(shop, &change("shop")).expect("put");
        drop((kept, open(elsewhere.path())));
        let (file, old) = (here.path().join(DATABASE), here.path().join("old"));
        let takes_nothing = || {
            for _ in 0..2 {
                let refused = store.put(record("cart"), &change("cart"));
                assert!(matches!(refused, Err(StoreError::Broken(_))), "{refused:?}");
                assert_eq!(store.records().len(), 1);
            }
        };
        fs::rename(&file, &old).expect("moved");
        fs::copy(elsewhere.path().join(DATABASE), &file).expect("copied");
        takes_nothing();
        fs::rename(&old, &file).expect("put back");
        let failed = store.write(full, |_| ());
        assert!(matches!(failed, Err(StoreError::NoSpace)), "{failed:?}");
        let bytes = fs::read(&file).expect("read");
        fs::write(&file, b"").expect("emptied");
        takes_nothing();
        fs::write(&file, bytes).expect("put back");
        store.put(record("cart"), &change("cart")).expect("put");
        drop(store);
        let store = open(here.path());
        assert_eq!((store.records().len(), files(&store)), (2, 1));
    }

    #[test]
    fn an_error_of_the_disk_is_over_when_its_cause_is() {
        let here = tempfile::tempdir().expect("a directory");
        let store = open(here.path());
        store.put(record("shop"), &change("shop")).expect("put");
        let failed = store.write(full, |_| ());
        assert!(matches!(failed, Err(StoreError::NoSpace)), "{failed:?}");
        store.put(record("cart"), &change("cart")).expect("put");
        assert_eq!(store.records().len(), 2);
        assert_eq!(store.changes(9, None, &Who::host()).expect("read").len(), 2);
    }

    #[test]
    fn a_directory_of_another_format_is_refused_and_stays_as_it_is() {
        let here = tempfile::tempdir().expect("a directory");
        let set = |number: Option<u64>| {
            let store = open(here.path());
            let set = store.write(
                |transaction, _| {
                    let mut meta = transaction.open_table(META)?;
                    match number {
                        Some(number) => meta.insert(FORMAT_KEY, number)?,
                        None => meta.remove(FORMAT_KEY)?,
                    };
                    Ok(())
                },
                |_| (),
            );
            set.expect("set");
        };
        set(None);
        let store = open(here.path());
        let kept = keep(&store, b"abc");
        let mut shop = record("shop");
        shop.put(version(2, &kept.digest));
        store.put(shop.clone(), &change("shop")).expect("put");
        let component = kept.path();
        drop((kept, store));
        for (number, said) in [(None, "format 0"), (Some(FORMAT + 1), "format 2")] {
            set(number);
            for _ in 0..2 {
                let refused = Store::open(here.path()).err().expect("refused");
                assert!(refused.to_string().contains(said), "{refused}");
            }
            assert!(component.is_file());
            let file = here.path().join("catalog.redb");
            let database = Database::create(file).expect("opened");
            let transaction = database.begin_write().expect("begun");
            let mut meta = transaction.open_table(META).expect("opened");
            meta.insert(FORMAT_KEY, FORMAT).expect("set");
            drop(meta);
            transaction.commit().expect("committed");
            drop(database);
            assert_eq!(*open(here.path()).record(&shop.name).expect("there"), shop);
        }
    }
}
