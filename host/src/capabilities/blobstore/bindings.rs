//! The interface, for guests.
#![allow(
    unreachable_pub,
    reason = "what is generated names these types in public"
)]

use std::fs::{self, File, ReadDir};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

use super::container::{self, Container as Directory, Counted, Info, Name};
use super::counts::Operation;
use super::error::Error;
use super::incoming::Incoming;
use super::streams::{Part, Reader, Upload, Writer};
use super::work::{Lane, aside};
use super::{Containers, Granted, Place};
use crate::limits;

mod generated {
    wasmtime::component::bindgen!({
        path: [
            "../wit/deps/wasi-io-0.2.12.wit",
            "../wit/deps/wasi-blobstore-0.2.0-draft.wit",
        ],
        inline: "package host:blobstore;
            world imports {
                import wasi:blobstore/types@0.2.0-draft;
                import wasi:blobstore/container@0.2.0-draft;
                import wasi:blobstore/blobstore@0.2.0-draft;
            }",
        imports: { default: async | trappable },
        with: {
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "wasi:blobstore/types.outgoing-value": super::OutgoingValue,
            "wasi:blobstore/types.incoming-value": super::IncomingValue,
            "wasi:blobstore/container.container": super::Container,
            "wasi:blobstore/container.stream-object-names": super::Names,
        },
    });
}

use generated::wasi::blobstore::{blobstore, container as containers, types};
use types::{ContainerMetadata, ObjectId, ObjectMetadata};

/// The values of one instance.
pub(crate) struct Blobstore {
    granted: Arc<crate::capabilities::Granted>,
    /// For what it has open; made for the first.
    open: Option<Arc<Semaphore>>,
}

impl Blobstore {
    /// Of an instance that has opened none.
    pub(crate) fn new(granted: Arc<crate::capabilities::Granted>) -> Self {
        Self {
            granted,
            open: None,
        }
    }

    /// Files that are open for it. For each the host holds up to [`limits::BODY_CHUNK`] bytes.
    pub(crate) fn files(&self) -> usize {
        let open = self.open.as_ref();
        open.map_or(0, |open| limits::BLOBS_OPEN - open.available_permits())
    }

    /// A place for one more.
    fn open(&mut self) -> Result<OwnedSemaphorePermit, Error> {
        let open = self
            .open
            .get_or_insert_with(|| Arc::new(Semaphore::new(limits::BLOBS_OPEN)));
        Arc::clone(open)
            .try_acquire_owned()
            .map_err(|_| Error::Open)
    }

    fn containers(&self) -> &Containers {
        &self.granted.containers
    }
}

/// What an instance calls.
pub(crate) struct View<'a> {
    /// Its values.
    pub(crate) blobstore: &'a mut Blobstore,
    /// Its objects.
    pub(crate) table: &'a mut ResourceTable,
}

struct Has;

impl HasData for Has {
    type Data<'a> = View<'a>;
}

/// Links the interface.
pub(crate) fn link<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> View<'_>,
) -> wasmtime::Result<()> {
    types::add_to_linker::<T, Has>(linker, view)?;
    containers::add_to_linker::<T, Has>(linker, view)?;
    blobstore::add_to_linker::<T, Has>(linker, view)
}

/// A container that a guest has got.
pub struct Container(Arc<Granted>);

/// A value that a guest writes.
#[derive(Default)]
pub struct OutgoingValue {
    upload: Option<Arc<Upload>>,
    target: Option<(Arc<Granted>, Name)>,
}

/// A value that a guest may read.
pub struct IncomingValue(Part);

/// A listing.
pub struct Names {
    files: Option<ReadDir>,
    /// Why it could not be read on: it never looks as if it had ended.
    failed: Option<Error>,
    lane: Lane,
    /// However many are made meanwhile, it ends.
    left: u64,
    _open: OwnedSemaphorePermit,
}

type Answer<T> = wasmtime::Result<Result<T, String>>;

impl View<'_> {
    /// What a guest is told of what became of an operation, which is counted.
    fn answer<T>(&self, operation: Operation, answer: Result<T, Error>) -> Answer<T> {
        let containers = self.blobstore.containers();
        containers.counts.add(operation, &answer);
        Ok(answer.map_err(|error| containers.told(&error)))
    }

    fn find(&self, name: &str) -> Result<(Place, Arc<Granted>), Error> {
        let (place, granted) = self.blobstore.containers().find(name)?;
        Ok((place.clone(), granted))
    }

    fn place(&self) -> Result<Place, Error> {
        self.blobstore.containers().place().cloned()
    }

    /// The container that a handle is for, and where it is.
    fn container(
        &self,
        handle: &Resource<Container>,
    ) -> wasmtime::Result<(Result<Place, Error>, Arc<Granted>)> {
        Ok((self.place(), Arc::clone(&self.table.get(handle)?.0)))
    }

    async fn create(&mut self, name: &str) -> Result<Arc<Granted>, Error> {
        let (place, granted) = self.find(name)?;
        let (container, turn) = turn(&granted).await?;
        place.lane.run(move || container.create(turn)).await?;
        Ok(granted)
    }

    async fn get(&mut self, name: &str) -> Result<Arc<Granted>, Error> {
        let (place, granted) = self.find(name)?;
        let container = Arc::clone(&granted.container);
        if place.lane.run(move || container.exists()).await? {
            Ok(granted)
        } else {
            Err(Error::NoContainer)
        }
    }

    async fn delete(&mut self, name: &str) -> Result<(), Error> {
        let (place, granted) = self.find(name)?;
        let (container, turn) = turn(&granted).await?;
        let deleted = place.lane.run(move || container.delete(turn)).await?;
        // It is out of sight, and what is left of it after a crash is removed at the next start.
        let remove = move || fs::remove_dir_all(deleted).map_err(|error| Error::of(&error));
        place.lane.run(remove).await
    }

    async fn exists(&mut self, name: &str) -> Result<bool, Error> {
        let (place, granted) = self.find(name)?;
        let container = Arc::clone(&granted.container);
        place.lane.run(move || container.exists()).await
    }

    async fn copy(&mut self, from: ObjectId, to: ObjectId) -> Result<(), Error> {
        let (place, source) = self.find(&from.container)?;
        let (_, target) = self.find(&to.container)?;
        let (name, new_name) = (Name::of(&from.object)?, Name::of(&to.object)?);
        let _open = self.blobstore.open()?;
        let directory = Arc::clone(&source.container);
        let (file, info) = place.lane.run(move || directory.open(&name)).await?;
        fits(&place, &target, &new_name, info.bytes).await?;
        let incoming = Arc::new(create(&place).await?);
        let file = Copied(Some(Arc::new(file)));
        let mut left = info.bytes;
        // By pieces, so that a guest that is cut off ends it, and others have their turn.
        while left > 0 {
            let piece = left.min(limits::BLOB_COPY);
            incoming.take(piece)?;
            let (from, into) = (file.0.clone(), Arc::clone(&incoming));
            let copy = move || from.map_or(Ok(0), |from| into.copy(&from, piece));
            if place.lane.run(copy).await? != piece {
                return Err(Error::Disk("the file of an object is too short".to_owned()));
            }
            left -= piece;
        }
        put(&place, &target, new_name, incoming).await
    }

    async fn rename(&mut self, from: ObjectId, to: ObjectId) -> Result<(), Error> {
        let (place, source) = self.find(&from.container)?;
        let (_, target) = self.find(&to.container)?;
        let (name, new_name) = (Name::of(&from.object)?, Name::of(&to.object)?);
        let (from, to) = (Arc::clone(&source.container), Arc::clone(&target.container));
        // Always in the same order, so that no two wait for each other.
        let (turn, into) = if Arc::ptr_eq(&from, &to) {
            (from.turn().await?, None)
        } else if from.directory < to.directory {
            let turn = from.turn().await?;
            (turn, Some(to.turn().await?))
        } else {
            let into = to.turn().await?;
            (from.turn().await?, Some(into))
        };
        let quota = target.quota;
        let rename = move || from.rename(turn, &name, &to, into, &new_name, &quota);
        place.lane.run(rename).await
    }

    async fn read(
        &mut self,
        place: Place,
        granted: Arc<Granted>,
        name: &str,
        start: u64,
        end: u64,
    ) -> Result<IncomingValue, Error> {
        let name = Name::of(name)?;
        let open = self.blobstore.open()?;
        let container = Arc::clone(&granted.container);
        let (file, info) = place.lane.run(move || container.open(&name)).await?;
        let left = part(info.bytes, start, end)?;
        Ok(IncomingValue(Part::new(file, start, left, &place, open)))
    }

    /// Says where a value goes. It goes there when it is finished.
    async fn write(
        &mut self,
        place: Place,
        granted: Arc<Granted>,
        name: &str,
        value: &Resource<OutgoingValue>,
    ) -> wasmtime::Result<Result<(), Error>> {
        let given = self.table.get(value)?;
        if given.target.is_some() {
            return Ok(Err(Error::Value("the value was written already")));
        }
        let upload = given.upload.clone();
        let name = match Name::of(name) {
            Ok(name) => name,
            Err(error) => return Ok(Err(error)),
        };
        let bytes = upload.as_ref().map_or(0, |upload| upload.incoming.bytes());
        match fits(&place, &granted, &name, bytes).await {
            Ok(most) => upload.iter().for_each(|upload| upload.allow(most)),
            Err(error) => return Ok(Err(error)),
        }
        self.table.get_mut(value)?.target = Some((granted, name));
        Ok(Ok(()))
    }

    async fn finish(&mut self, value: OutgoingValue) -> Result<(), Error> {
        if let Some(upload) = &value.upload {
            upload.arrived().await?;
        }
        let Some((granted, name)) = value.target else {
            return Err(Error::Value("the value was written to no container"));
        };
        let place = self.place()?;
        let incoming = match &value.upload {
            Some(upload) => Arc::clone(&upload.incoming),
            None => Arc::new(create(&place).await?),
        };
        put(&place, &granted, name, incoming).await
    }

    async fn start_writing(&mut self) -> Result<Arc<Upload>, Error> {
        let place = self.place()?;
        let open = self.blobstore.open()?;
        let incoming = create(&place).await?;
        Ok(Arc::new(Upload::new(incoming, &place, open)))
    }

    async fn list(&mut self, place: Place, granted: Arc<Granted>) -> Result<Names, Error> {
        let open = self.blobstore.open()?;
        let (container, mut turn) = turn(&granted).await?;
        let read = move || Ok((container.read()?, container.totals(&mut turn)?.objects));
        let (files, objects) = place.lane.run(read).await?;
        Ok(Names {
            files: Some(files),
            failed: None,
            lane: place.lane,
            // There may be more than are allowed now.
            left: granted.quota.objects.max(objects),
            _open: open,
        })
    }

    /// The next names of a listing, and whether they are the last.
    async fn names(
        &mut self,
        listing: &Resource<Names>,
        most: u64,
    ) -> wasmtime::Result<Result<(Vec<String>, bool), Error>> {
        let listing = self.table.get_mut(listing)?;
        let most = most.min(limits::BLOB_NAMES as u64).min(listing.left);
        let Some(mut files) = listing.files.take() else {
            return Ok(match &listing.failed {
                Some(error) => Err(error.clone()),
                None => Ok((Vec::new(), true)),
            });
        };
        let lane = listing.lane.clone();
        let read = move || {
            let mut names = Vec::new();
            while (names.len() as u64) < most {
                let Some(file) = files.next() else {
                    return Ok((names, None));
                };
                let file = file.map_err(|error| Error::of(&error))?;
                names.extend(container::object(&file));
            }
            Ok((names, Some(files)))
        };
        let read = lane.run(read).await;
        listing.failed = read.as_ref().err().cloned();
        Ok(read.map(|(names, files)| {
            listing.left -= names.len() as u64;
            listing.files = files.filter(|_| listing.left > 0);
            (names, listing.files.is_none())
        }))
    }
}

/// The file that is copied. It may be the last that holds an object.
struct Copied(Option<Arc<File>>);

impl Drop for Copied {
    fn drop(&mut self) {
        let file = self.0.take();
        aside(move || drop(file));
    }
}

async fn turn(granted: &Granted) -> Result<(Arc<Directory>, Counted), Error> {
    let turn = granted.container.turn().await?;
    Ok((Arc::clone(&granted.container), turn))
}

async fn create(place: &Place) -> Result<Incoming, Error> {
    let (directory, staged) = (place.incoming.clone(), Arc::clone(&place.staged));
    place
        .lane
        .run(move || Incoming::create(&directory, &staged))
        .await
}

/// Whether an object of so many bytes fits. Gives how many there could be.
async fn fits(
    place: &Place,
    granted: &Arc<Granted>,
    name: &Name,
    bytes: u64,
) -> Result<u64, Error> {
    let (container, mut turn) = turn(granted).await?;
    let (name, quota) = (name.clone(), granted.quota);
    let room = move || container.fits(&mut turn, &name, bytes, &quota);
    Ok(place.lane.run(room).await?.most)
}

/// Makes an object of what has come in.
async fn put(
    place: &Place,
    granted: &Arc<Granted>,
    name: Name,
    incoming: Arc<Incoming>,
) -> Result<(), Error> {
    let arrived = Arc::clone(&incoming);
    place.lane.run(move || arrived.sync()).await?;
    let (container, turn) = turn(granted).await?;
    let quota = granted.quota;
    let put = move || container.put(turn, &name, &incoming, &quota);
    place.lane.run(put).await
}

/// Bytes of a part of an object. Both ends are in it; an end behind that of the object is that of the object.
fn part(bytes: u64, start: u64, end: u64) -> Result<u64, Error> {
    if start > end || start > bytes {
        return Err(Error::Range);
    }
    Ok((bytes - start).min((end - start).saturating_add(1)))
}

impl types::Host for View<'_> {}

impl types::HostOutgoingValue for View<'_> {
    async fn new_outgoing_value(&mut self) -> wasmtime::Result<Resource<OutgoingValue>> {
        Ok(self.table.push(OutgoingValue::default())?)
    }

    async fn outgoing_value_write_body(
        &mut self,
        this: Resource<OutgoingValue>,
    ) -> wasmtime::Result<Result<Resource<DynOutputStream>, ()>> {
        if self.table.get(&this)?.upload.is_some() {
            return Ok(Err(()));
        }
        let started = self.start_writing().await;
        let containers = self.blobstore.containers();
        let upload = match &started {
            Ok(upload) => Arc::clone(upload),
            // The interface has no word for why.
            Err(error) => {
                let containers = self.blobstore.containers();
                let why = containers.told(&error);
                containers
                    .refused
                    .tell(format_args!("could not write a value: {why}"));
                containers.counts.add(Operation::WriteData, &started);
                let why = containers.told(error);
                containers.tell(format_args!("could not write a value: {why}"));
                return Ok(Err(()));
            }
        };
        self.table.get_mut(&this)?.upload = Some(Arc::clone(&upload));
        let stream: DynOutputStream = Box::new(Writer::new(upload));
        Ok(Ok(self.table.push_child(stream, &this)?))
    }

    async fn finish(&mut self, this: Resource<OutgoingValue>) -> Answer<()> {
        let value = self.table.delete(this)?;
        let finished = self.finish(value).await;
        self.answer(Operation::Finish, finished)
    }

    async fn drop(&mut self, this: Resource<OutgoingValue>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl types::HostIncomingValue for View<'_> {
    async fn incoming_value_consume_sync(
        &mut self,
        this: Resource<IncomingValue>,
    ) -> Answer<Vec<u8>> {
        let IncomingValue(mut part) = self.table.delete(this)?;
        let whole = if part.left > limits::BLOB_AT_ONCE as u64 {
            Err(Error::TooLarge)
        } else {
            part.next(limits::BLOB_AT_ONCE).await
        };
        let containers = self.blobstore.containers();
        Ok(whole
            .map(Vec::from)
            .map_err(|error| containers.told(&error)))
    }

    async fn incoming_value_consume_async(
        &mut self,
        this: Resource<IncomingValue>,
    ) -> Answer<Resource<DynInputStream>> {
        let IncomingValue(part) = self.table.delete(this)?;
        let stream: DynInputStream = Box::new(Reader::new(part));
        Ok(Ok(self.table.push(stream)?))
    }

    async fn size(&mut self, this: Resource<IncomingValue>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&this)?.0.left)
    }

    async fn drop(&mut self, this: Resource<IncomingValue>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl containers::Host for View<'_> {}

impl containers::HostContainer for View<'_> {
    async fn name(&mut self, this: Resource<Container>) -> Answer<String> {
        Ok(Ok(self.table.get(&this)?.0.name.to_string()))
    }

    async fn info(&mut self, this: Resource<Container>) -> Answer<ContainerMetadata> {
        let (place, granted) = self.container(&this)?;
        let container = Arc::clone(&granted.container);
        let info = match place {
            Ok(place) => place.lane.run(move || container.info()).await,
            Err(error) => Err(error),
        };
        let info = info.map(|info| ContainerMetadata {
            name: granted.name.to_string(),
            created_at: info.created,
        });
        self.answer(Operation::Info, info)
    }

    async fn get_data(
        &mut self,
        this: Resource<Container>,
        name: String,
        start: u64,
        end: u64,
    ) -> Answer<Resource<IncomingValue>> {
        let (place, granted) = self.container(&this)?;
        let value = match place {
            Ok(place) => self.read(place, granted, &name, start, end).await,
            Err(error) => Err(error),
        };
        match self.answer(Operation::GetData, value)? {
            Ok(value) => Ok(Ok(self.table.push(value)?)),
            Err(why) => Ok(Err(why)),
        }
    }

    async fn write_data(
        &mut self,
        this: Resource<Container>,
        name: String,
        data: Resource<OutgoingValue>,
    ) -> Answer<()> {
        let (place, granted) = self.container(&this)?;
        let written = match place {
            Ok(place) => self.write(place, granted, &name, &data).await?,
            Err(error) => Err(error),
        };
        self.answer(Operation::WriteData, written)
    }

    async fn list_objects(&mut self, this: Resource<Container>) -> Answer<Resource<Names>> {
        let (place, granted) = self.container(&this)?;
        let names = match place {
            Ok(place) => self.list(place, granted).await,
            Err(error) => Err(error),
        };
        match self.answer(Operation::ListObjects, names)? {
            Ok(names) => Ok(Ok(self.table.push(names)?)),
            Err(why) => Ok(Err(why)),
        }
    }

    async fn delete_object(&mut self, this: Resource<Container>, name: String) -> Answer<()> {
        self.delete_objects(this, vec![name]).await
    }

    async fn delete_objects(
        &mut self,
        this: Resource<Container>,
        names: Vec<String>,
    ) -> Answer<()> {
        let (place, granted) = self.container(&this)?;
        let deleted = async {
            let place = place?;
            if names.len() > limits::BLOB_NAMES {
                return Err(Error::TooMany(limits::BLOB_NAMES));
            }
            let names: Vec<Name> = names
                .iter()
                .map(|name| Name::of(name))
                .collect::<Result<_, _>>()?;
            let (container, mut turn) = turn(&granted).await?;
            let remove = move || {
                let mut names = names.iter();
                names.try_for_each(|name| container.remove(&mut turn, name))
            };
            place.lane.run(remove).await
        }
        .await;
        self.answer(Operation::DeleteObjects, deleted)
    }

    async fn has_object(&mut self, this: Resource<Container>, name: String) -> Answer<bool> {
        let found = self.look(&this, &name).await?;
        self.answer(Operation::HasObject, found.map(|found| found.1.is_some()))
    }

    async fn object_info(
        &mut self,
        this: Resource<Container>,
        name: String,
    ) -> Answer<ObjectMetadata> {
        let found = self.look(&this, &name).await?;
        let info = found.and_then(|(granted, info)| {
            let info = info.ok_or(Error::NoObject)?;
            Ok(ObjectMetadata {
                name,
                container: granted.name.to_string(),
                created_at: info.created,
                size: info.bytes,
            })
        });
        self.answer(Operation::ObjectInfo, info)
    }

    async fn clear(&mut self, this: Resource<Container>) -> Answer<()> {
        let (place, granted) = self.container(&this)?;
        let cleared = async {
            let place = place?;
            let (container, turn) = turn(&granted).await?;
            place.lane.run(move || container.clear(turn)).await
        };
        let cleared = cleared.await;
        self.answer(Operation::Clear, cleared)
    }

    async fn drop(&mut self, this: Resource<Container>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl View<'_> {
    async fn look(
        &mut self,
        handle: &Resource<Container>,
        name: &str,
    ) -> wasmtime::Result<Result<(Arc<Granted>, Option<Info>), Error>> {
        let (place, granted) = self.container(handle)?;
        let found = async {
            let (place, name) = (place?, Name::of(name)?);
            let container = Arc::clone(&granted.container);
            place.lane.run(move || container.look(&name)).await
        };
        let found = found.await;
        Ok(found.map(|info| (granted, info)))
    }
}

impl containers::HostStreamObjectNames for View<'_> {
    async fn read_stream_object_names(
        &mut self,
        this: Resource<Names>,
        len: u64,
    ) -> Answer<(Vec<String>, bool)> {
        let names = self.names(&this, len).await?;
        self.answer(Operation::ListObjects, names)
    }

    async fn skip_stream_object_names(
        &mut self,
        this: Resource<Names>,
        num: u64,
    ) -> Answer<(u64, bool)> {
        let names = self.names(&this, num).await?;
        let skipped = names.map(|(names, is_end)| (names.len() as u64, is_end));
        self.answer(Operation::ListObjects, skipped)
    }

    async fn drop(&mut self, this: Resource<Names>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl blobstore::Host for View<'_> {
    async fn create_container(&mut self, name: String) -> Answer<Resource<Container>> {
        let granted = self.create(&name).await;
        match self.answer(Operation::CreateContainer, granted)? {
            Ok(granted) => Ok(Ok(self.table.push(Container(granted))?)),
            Err(why) => Ok(Err(why)),
        }
    }

    async fn get_container(&mut self, name: String) -> Answer<Resource<Container>> {
        let granted = self.get(&name).await;
        match self.answer(Operation::GetContainer, granted)? {
            Ok(granted) => Ok(Ok(self.table.push(Container(granted))?)),
            Err(why) => Ok(Err(why)),
        }
    }

    async fn delete_container(&mut self, name: String) -> Answer<()> {
        let deleted = self.delete(&name).await;
        self.answer(Operation::DeleteContainer, deleted)
    }

    async fn container_exists(&mut self, name: String) -> Answer<bool> {
        let exists = self.exists(&name).await;
        self.answer(Operation::ContainerExists, exists)
    }

    async fn copy_object(&mut self, src: ObjectId, dest: ObjectId) -> Answer<()> {
        let copied = self.copy(src, dest).await;
        self.answer(Operation::CopyObject, copied)
    }

    async fn move_object(&mut self, src: ObjectId, dest: ObjectId) -> Answer<()> {
        let moved = self.rename(src, dest).await;
        self.answer(Operation::MoveObject, moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_in_a_part_and_the_object_ends_it() {
        for (bytes, start, end, length) in [
            (10, 0, 9, Ok(10)),
            (10, 0, u64::MAX, Ok(10)),
            (10, 0, 0, Ok(1)),
            (10, 9, 9, Ok(1)),
            (10, 10, 20, Ok(0)),
            (0, 0, 0, Ok(0)),
            (10, 11, 20, Err(Error::Range)),
            (10, 3, 2, Err(Error::Range)),
        ] {
            assert_eq!(part(bytes, start, end), length, "{start} to {end}");
        }
    }
}
