//! Buckets in an embedded database, one file a store.
//!
//! One thread writes. It takes all writes that wait, up to a ceiling, makes them in one transaction, and acknowledges them
//! when that is on disk, so that a sync of the disk is shared by everybody who waits for one. Readers see the last
//! transaction and wait for nobody; they read on threads that may wait for a disk.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Context as _;
use redb::{
    Database, DatabaseError, Durability, ReadOnlyTable, ReadableDatabase as _, ReadableTable as _,
    ReadableTableMetadata as _, StorageError, Table, TableDefinition, WriteTransaction,
};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::caught::caught;
use super::store::{
    Answer, Change, Changed, Entries, Entry, Error, Former, Listed, Place, Store, Totals, apply,
    is_full,
};
use super::{grant, too_much, unavailable};
use crate::capabilities::share::Held;
use crate::capabilities::unusable;
use crate::limits;
use crate::observe::Seldom;

/// By bucket and key, with revision and birth before the value.
const ENTRIES: TableDefinition<'_, (u32, &str), (u64, u64, &[u8])> =
    TableDefinition::new("entries");
/// Keys by bucket and birth.
const BIRTHS: TableDefinition<'_, (u32, u64), &str> = TableDefinition::new("births");
/// Buckets by name: number, keys, bytes, last number given.
const BUCKETS: TableDefinition<'_, &str, (u32, u64, u64, u64)> = TableDefinition::new("buckets");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FORMAT_KEY: &str = "format";

/// The form of what is written.
const FORMAT: u64 = 1;

/// What is wrong with a file whose damage redb takes for a mistake of its own.
const SENSELESS: &str = "what it holds makes no sense";

/// What became of changes, in their order.
type Answers = Vec<Result<Changed, Error>>;

/// A store that is a file.
#[derive(Debug)]
pub(super) struct FileStore {
    shared: Arc<Shared>,
    /// None once it is closed.
    writes: Mutex<Option<mpsc::Sender<Write>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// The runtime whose threads read, whoever asks.
    runtime: Handle,
}

impl FileStore {
    /// Opens the file of the store of this name, or makes it, which nobody else can read. One that is damaged is given
    /// another name and stays as it is, and the store begins empty. Call it inside of the runtime that is to read.
    ///
    /// # Errors
    /// When the file cannot be made or read, or another host has it.
    pub(super) fn open(directory: &Path, name: &str) -> anyhow::Result<Self> {
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(directory);
        made.map_err(|error| unusable(directory, &error))?;
        let path = directory.join(name).with_added_extension("redb");
        let database = match open(&path) {
            Ok(database) => database,
            Err(Unopened::Damaged(why)) => {
                let aside = set_aside(&path).map_err(|error| unusable(&path, &error))?;
                tracing::error!(
                    "the store `{name}` begins empty: `{}` is damaged ({why}) and was kept as `{}`; stop the host and put a copy of it back to have it again",
                    path.display(),
                    aside.display()
                );
                open(&path).map_err(|error| error.of(&path))?
            }
            Err(error) => return Err(error.of(&path)),
        };
        let shared = Arc::new(Shared {
            path,
            database: RwLock::new(Some(database)),
            told: Seldom::new(limits::KEYVALUE_PAUSE),
        });
        let (writes, waiting) = mpsc::channel();
        let writer = std::thread::Builder::new().name(format!("keyvalue-{name}"));
        let of_writer = Arc::clone(&shared);
        let writer = writer
            .spawn(move || of_writer.write_until_closed(&waiting))
            .context("starting the thread that writes to it")?;
        Ok(Self {
            shared,
            writes: Mutex::new(Some(writes)),
            writer: Mutex::new(Some(writer)),
            runtime: Handle::current(),
        })
    }

    /// Reads on a thread that may wait for a disk.
    fn reading<T: Send + 'static>(
        &self,
        place: &Place,
        read: impl FnOnce(&Reader, u32) -> Result<Result<T, Error>, redb::Error> + Send + 'static,
        nothing: impl FnOnce() -> T + Send + 'static,
    ) -> Answer<T> {
        let (shared, readers) = (Arc::clone(&self.shared), place.readers.clone());
        let (bucket, runtime) = (Arc::clone(&place.bucket), self.runtime.clone());
        Box::pin(async move {
            let turn = readers.take(1).await;
            let told = Arc::clone(&shared);
            // A guest may be on threads of low priority, and the turn is everybody's.
            let read = runtime.spawn_blocking(move || {
                // Held by the one who reads: he goes on when nobody waits for him any more.
                let _turn = turn;
                caught(|| {
                    let Some(reader) = shared.reader()? else {
                        return Ok(Err(unavailable()));
                    };
                    match reader.bucket(&bucket)? {
                        Some(bucket) => read(&reader, bucket),
                        None => Ok(Ok(nothing())),
                    }
                })
            });
            match read.await {
                Ok(Some(Ok(answer))) => answer,
                Ok(Some(Err(error))) => {
                    told.tell(&error.to_string());
                    Err(unavailable())
                }
                Ok(None) => {
                    told.tell(SENSELESS);
                    Err(unavailable())
                }
                // The host ends.
                Err(_) => Err(unavailable()),
            }
        })
    }
}

impl Store for FileStore {
    fn read(&self, place: &Place, keys: Vec<String>) -> Answer<Vec<Option<Entry>>> {
        let many = keys.len();
        let read = move |reader: &Reader, bucket| {
            let mut found = Vec::with_capacity(keys.len());
            let mut bytes = 0;
            for key in &keys {
                let entry = reader.entries.get((bucket, &**key))?.map(entry);
                bytes += entry.as_ref().map_or(0, |entry| entry.value.len());
                if bytes > limits::KEYVALUE_BATCH_BYTES {
                    return Ok(Err(too_much()));
                }
                found.push(entry);
            }
            Ok(Ok(found))
        };
        self.reading(place, read, move || vec![None; many])
    }

    fn has(&self, place: &Place, key: String) -> Answer<bool> {
        let read =
            move |reader: &Reader, bucket| Ok(Ok(reader.entries.get((bucket, &*key))?.is_some()));
        self.reading(place, read, || false)
    }

    fn write(&self, place: &Place, change: Change) -> Answer<Changed> {
        let writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let (writes, place) = (writes.clone(), place.clone());
        Box::pin(async move {
            let room = place.room.take(change.bytes()).await;
            let (done, answer) = oneshot::channel();
            let write = Write {
                place,
                change,
                done,
                _room: room,
            };
            let is_sent = writes.is_some_and(|writes| writes.send(write).is_ok());
            if !is_sent {
                return Err(unavailable());
            }
            answer.await.unwrap_or_else(|_| Err(unavailable()))
        })
    }

    fn list(&self, place: &Place, before: u64) -> Answer<Listed> {
        let read = move |reader: &Reader, bucket| {
            let (mut listed, mut bytes, mut last) = (Listed::default(), 0, before);
            for row in reader.births.range((bucket, 0)..(bucket, before))?.rev() {
                if is_full(&listed, bytes) {
                    listed.before = Some(last);
                    break;
                }
                let (born, key) = row?;
                bytes += key.value().len();
                last = born.value().1;
                listed.keys.push(key.value().to_owned());
            }
            Ok(Ok(listed))
        };
        self.reading(place, read, Listed::default)
    }

    fn close(&self) {
        drop(
            self.writes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        self.close();
    }
}

/// What readers and the writer have in common.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// None after an error of the disk, until it is opened again: redb takes nothing more before.
    database: RwLock<Option<Database>>,
    told: Seldom,
}

/// A write that waits for its turn.
struct Write {
    place: Place,
    change: Change,
    done: oneshot::Sender<Result<Changed, Error>>,
    _room: Held,
}

impl Shared {
    fn tell(&self, why: &str) {
        if let Some(failed) = self.told.count() {
            tracing::error!(
                failed,
                "`{}`: {why}: see to the disk; if the file is damaged, stop the host and put a copy of it back",
                self.path.display()
            );
        }
    }

    fn reader(&self) -> Result<Option<Reader>, redb::Error> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = &*database else {
            return Ok(None);
        };
        let transaction = database.begin_read()?;
        Ok(Some(Reader {
            entries: transaction.open_table(ENTRIES)?,
            births: transaction.open_table(BIRTHS)?,
            buckets: transaction.open_table(BUCKETS)?,
        }))
    }

    /// The writer's life: it ends when nobody can send it anything any more, with all on disk that it has acknowledged.
    fn write_until_closed(&self, waiting: &mpsc::Receiver<Write>) {
        // When what is acknowledged must be on disk.
        let mut due: Option<Instant> = None;
        loop {
            let first = match due {
                None => waiting.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => waiting.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            let is_closed = matches!(first, Err(RecvTimeoutError::Disconnected));
            if is_closed && due.is_none() {
                return;
            }
            let mut writes: Vec<Write> = first.into_iter().collect();
            let mut bytes = 0;
            while writes.len() < limits::KEYVALUE_WRITES && bytes < limits::KEYVALUE_WRITES_BYTES {
                bytes += writes.last().map_or(0, |last| last.change.bytes());
                let Ok(write) = waiting.try_recv() else {
                    break;
                };
                writes.push(write);
            }
            let now = Instant::now();
            // Then what was acknowledged before goes to disk, whatever becomes of these writes.
            let is_due = is_closed || due.is_some_and(|due| due <= now);
            let mut is_synced = is_due;
            let mut next_due = due;
            for write in &writes {
                match write.place.durability {
                    grant::Durability::EachWrite => is_synced = true,
                    grant::Durability::Within(time) => {
                        let at = now + time;
                        next_due = Some(next_due.map_or(at, |next| next.min(at)));
                    }
                }
            }
            let (dones, changes): (Vec<_>, Vec<_>) = writes
                .into_iter()
                .map(|write| ((write.done, write._room), (write.place, write.change)))
                .unzip();
            let committed = match caught(|| self.commit(changes, is_synced, is_due)) {
                Some(Ok(committed)) => Ok(committed),
                Some(Err(error)) => Err(error.to_string()),
                None => Err(SENSELESS.to_owned()),
            };
            match committed {
                Ok((answers, is_committed)) => {
                    if is_committed {
                        due = if is_synced { None } else { next_due };
                    }
                    for ((done, _room), answer) in dones.into_iter().zip(answers) {
                        // Nobody may wait for it any more.
                        let _ = done.send(answer);
                    }
                }
                Err(why) => {
                    due = None;
                    self.tell(&why);
                    *self
                        .database
                        .write()
                        .unwrap_or_else(PoisonError::into_inner) = None;
                    for (done, _room) in dones {
                        let _ = done.send(Err(unavailable()));
                    }
                }
            }
            if is_closed {
                return;
            }
        }
    }

    /// Makes all changes that are possible in one transaction. Says too whether it was committed: one that changes nothing is
    /// only when a sync is due.
    fn commit(
        &self,
        changes: Vec<(Place, Change)>,
        is_synced: bool,
        is_due: bool,
    ) -> Result<(Answers, bool), redb::Error> {
        let transaction = self.begin()?;
        let mut answers = Vec::with_capacity(changes.len());
        let mut has_changed = false;
        {
            let mut table = transaction.open_table(BUCKETS)?;
            let mut entries = transaction.open_table(ENTRIES)?;
            let mut births = transaction.open_table(BIRTHS)?;
            let mut buckets: HashMap<Arc<str>, (u32, Totals)> = HashMap::new();
            for (place, change) in changes {
                if !buckets.contains_key(&place.bucket) {
                    let known = table.get(&*place.bucket)?.map(|row| row.value());
                    let (number, keys, bytes, last) = match known {
                        Some(known) => known,
                        None => {
                            // None is ever removed, so their number is that of the next.
                            let next = u32::try_from(table.len()?).unwrap_or(u32::MAX);
                            table.insert(&*place.bucket, (next, 0, 0, 0))?;
                            (next, 0, 0, 0)
                        }
                    };
                    let totals = Totals { keys, bytes, last };
                    buckets.insert(Arc::clone(&place.bucket), (number, totals));
                }
                let Some((number, totals)) = buckets.get_mut(&place.bucket) else {
                    continue;
                };
                let mut writer = Writer {
                    bucket: *number,
                    entries: &mut entries,
                    births: &mut births,
                };
                let answer = apply(&mut writer, totals, place.quota, change)?;
                has_changed |= matches!(answer, Ok(Changed::Done | Changed::Sum(_)));
                answers.push(answer);
            }
            for (name, (number, totals)) in buckets {
                table.insert(&*name, (number, totals.keys, totals.bytes, totals.last))?;
            }
        }
        if !has_changed && !is_due {
            transaction.abort()?;
            return Ok((answers, false));
        }
        let mut transaction = transaction;
        if is_synced {
            // A guest writes what it likes, and no value may look like the end of a transaction.
            transaction.set_two_phase_commit(true);
        } else {
            transaction.set_durability(Durability::None)?;
        }
        transaction.commit()?;
        Ok((answers, true))
    }

    /// A transaction, of the database opened again if that must be.
    fn begin(&self) -> Result<WriteTransaction, redb::Error> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*database {
            return Ok(database.begin_write()?);
        }
        drop(database);
        let opened = open(&self.path).map_err(|error| match error {
            Unopened::Failed(error) => error,
            Unopened::Damaged(why) => StorageError::Corrupted(why).into(),
            Unopened::InUse => DatabaseError::DatabaseAlreadyOpen.into(),
            Unopened::OtherFormat(_) => StorageError::Corrupted("another format".to_owned()).into(),
        })?;
        let transaction = opened.begin_write()?;
        *self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(opened);
        Ok(transaction)
    }
}

/// The tables as they were at one moment.
struct Reader {
    entries: ReadOnlyTable<(u32, &'static str), (u64, u64, &'static [u8])>,
    births: ReadOnlyTable<(u32, u64), &'static str>,
    buckets: ReadOnlyTable<&'static str, (u32, u64, u64, u64)>,
}

impl Reader {
    fn bucket(&self, name: &str) -> Result<Option<u32>, redb::Error> {
        Ok(self.buckets.get(name)?.map(|row| row.value().0))
    }
}

fn entry(row: redb::AccessGuard<'_, (u64, u64, &'static [u8])>) -> Entry {
    let (revision, born, value) = row.value();
    Entry {
        revision,
        born,
        value: value.to_vec(),
    }
}

/// The entries of one bucket in a transaction.
struct Writer<'t, 'db> {
    bucket: u32,
    entries: &'t mut Table<'db, (u32, &'static str), (u64, u64, &'static [u8])>,
    births: &'t mut Table<'db, (u32, u64), &'static str>,
}

impl Entries for Writer<'_, '_> {
    type Broken = redb::Error;

    fn get(&self, key: &str) -> Result<Option<Entry>, redb::Error> {
        Ok(self.entries.get((self.bucket, key))?.map(entry))
    }

    fn look(&self, key: &str) -> Result<Option<Former>, redb::Error> {
        let row = self.entries.get((self.bucket, key))?;
        Ok(row.map(|row| {
            let (revision, born, value) = row.value();
            Former {
                revision,
                born,
                bytes: value.len() as u64,
            }
        }))
    }

    fn put(&mut self, key: &str, entry: Entry, former: Option<Former>) -> Result<(), redb::Error> {
        if former.is_none() {
            self.births.insert((self.bucket, entry.born), key)?;
        }
        let row = (entry.revision, entry.born, &*entry.value);
        self.entries.insert((self.bucket, key), row)?;
        Ok(())
    }

    fn remove(&mut self, key: &str, former: Former) -> Result<(), redb::Error> {
        self.entries.remove((self.bucket, key))?;
        self.births.remove((self.bucket, former.born))?;
        Ok(())
    }
}

/// Why a file was not opened.
enum Unopened {
    InUse,
    Damaged(String),
    OtherFormat(u64),
    Failed(redb::Error),
}

impl Unopened {
    fn of(self, path: &Path) -> anyhow::Error {
        let path = path.display();
        match self {
            Self::InUse => anyhow::anyhow!(
                "another host uses `{path}`: stop it, or give this one another directory with `--state`"
            ),
            Self::Damaged(why) => anyhow::anyhow!("`{path}` is damaged ({why}): move it away"),
            Self::OtherFormat(found) => anyhow::anyhow!(
                "`{path}` has format {found}, and this host reads format {FORMAT}: use the host that wrote it, or move it away"
            ),
            Self::Failed(error) => anyhow::anyhow!(
                "`{path}` cannot be opened: {error}: see to it, or name another directory with `--state`"
            ),
        }
    }
}

impl From<redb::Error> for Unopened {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Corrupted(why) => Self::Damaged(why),
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            redb::Error::Io(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Self::Damaged(error.to_string())
            }
            error => Self::Failed(error),
        }
    }
}

fn open(path: &Path) -> Result<Database, Unopened> {
    let open = || -> Result<Database, Unopened> {
        if !fs::exists(path).map_err(failed)? {
            make(path)?;
        }
        let about = fs::metadata(path).map_err(failed)?;
        // redb would begin anew in it.
        if about.len() == 0 {
            return Err(Unopened::Damaged("it is empty".to_owned()));
        }
        let database = Database::builder()
            .set_cache_size(limits::KEYVALUE_CACHE)
            .open(path)
            .map_err(redb::Error::from)?;
        let format = make_tables(&database)?;
        if format != FORMAT {
            return Err(Unopened::OtherFormat(format));
        }
        // What guests keep is nobody else's to read.
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(database)
    };
    caught(open).unwrap_or_else(|| Err(Unopened::Damaged(SENSELESS.to_owned())))
}

fn failed(error: io::Error) -> Unopened {
    Unopened::Failed(error.into())
}

/// Makes a file with nothing in it, for its user alone. It has its name when it is whole and on the disk: one of that name that
/// is empty has lost what was in it, however the host ended.
fn make(path: &Path) -> Result<(), Unopened> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let new = tempfile::Builder::new()
        .prefix("new-")
        .tempfile_in(directory)
        .map_err(failed)?;
    let database = Database::builder()
        .create(new.path())
        .map_err(redb::Error::from)?;
    make_tables(&database)?;
    database.close().map_err(redb::Error::from)?;
    match new.persist_noclobber(path) {
        // Another host has made it meanwhile, and may have it open.
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed(error.error));
        }
        _ => {}
    }
    // A file whose name is lost is lost.
    let directory = File::open(directory).map_err(failed)?;
    directory.sync_all().map_err(failed)
}

/// Gives the format of what is there.
fn make_tables(database: &Database) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    let format = {
        let mut meta = transaction.open_table(META)?;
        let format = meta.get(FORMAT_KEY)?.map(|row| row.value());
        if format.is_none() {
            meta.insert(FORMAT_KEY, FORMAT)?;
        }
        format.unwrap_or(FORMAT)
    };
    if format != FORMAT {
        transaction.abort()?;
        return Ok(format);
    }
    transaction.open_table(BUCKETS)?;
    transaction.open_table(ENTRIES)?;
    transaction.open_table(BIRTHS)?;
    transaction.commit()?;
    Ok(format)
}

/// Gives a file another name that nothing has. Gives the name.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut nth = 1;
    loop {
        let aside = path.with_added_extension(format!("damaged-{nth}"));
        match renameat_with(CWD, path, CWD, &aside, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(aside),
            Err(rustix::io::Errno::EXIST) => nth += 1,
            Err(error) => return Err(error.into()),
        }
    }
}
