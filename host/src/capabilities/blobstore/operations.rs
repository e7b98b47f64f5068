//! What guests ask of containers, once it is understood.
#![allow(
    unreachable_pub,
    reason = "what is generated names these types in public"
)]

use std::fs::{File, ReadDir};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::{Resource, ResourceTable};

use super::bindings::ObjectId;
use super::container::{self, Container as Directory, Counted, Info, Name};
use super::error::Error;
use super::incoming::Incoming;
use super::streams::{Part, Upload};
use super::work::Lane;
use super::{Containers, Granted, Place};
use crate::capabilities::share::Held;
use crate::files::aside;
use crate::limits;
use crate::meter::Meter;

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
    fn open(&mut self) -> Result<Room, Error> {
        let open = self
            .open
            .get_or_insert_with(|| Arc::new(Semaphore::new(limits::BLOBS_OPEN)));
        let place = Arc::clone(open).try_acquire_owned();
        Ok((place.map_err(|_| Error::Open)?, self.descriptor()?))
    }

    /// One file more.
    fn descriptor(&self) -> Result<Held, Error> {
        let descriptors = &self.granted.descriptors;
        descriptors.try_take_fairly(1).ok_or(Error::Files)
    }

    pub(super) fn containers(&self) -> &Containers {
        &self.granted.containers
    }
}

/// A place of the instance, and a descriptor of those that guests may have.
pub(super) type Room = (OwnedSemaphorePermit, Held);

/// What an instance calls.
pub(crate) struct View<'a> {
    /// Its values.
    pub(crate) blobstore: &'a mut Blobstore,
    /// Its objects.
    pub(crate) table: &'a mut ResourceTable,
    /// What the work of the host for it is charged to.
    pub(crate) meter: &'a Arc<Meter>,
}

/// A container that a guest has got.
pub struct Container(pub(super) Arc<Granted>);

/// A value that a guest writes.
#[derive(Default)]
pub struct OutgoingValue {
    pub(super) upload: Option<Arc<Upload>>,
    target: Option<(Arc<Granted>, Name)>,
}

/// A value that a guest may read.
pub struct IncomingValue(pub(super) Part);

/// A listing.
pub struct Names {
    files: Option<ReadDir>,
    /// Why it could not be read on: it never looks as if it had ended.
    failed: Option<Error>,
    lane: Lane,
    /// However many are made meanwhile, it ends.
    left: u64,
    _open: Room,
}

impl View<'_> {
    fn find(&self, name: &str) -> Result<(Place, Arc<Granted>), Error> {
        let (place, granted) = self.blobstore.containers().find(name)?;
        Ok((place.charged_to(self.meter), granted))
    }

    fn place(&self) -> Result<Place, Error> {
        let place = self.blobstore.containers().place()?;
        Ok(place.charged_to(self.meter))
    }

    /// The container that a handle is for, and where it is.
    pub(super) fn container(
        &self,
        handle: &Resource<Container>,
    ) -> wasmtime::Result<(Result<Place, Error>, Arc<Granted>)> {
        Ok((self.place(), Arc::clone(&self.table.get(handle)?.0)))
    }

    pub(super) async fn create(&mut self, name: &str) -> Result<Arc<Granted>, Error> {
        let (place, granted) = self.find(name)?;
        let (container, turn) = turn(&granted).await?;
        place.lane.run(move || container.create(turn)).await?;
        Ok(granted)
    }

    pub(super) async fn get(&mut self, name: &str) -> Result<Arc<Granted>, Error> {
        let (place, granted) = self.find(name)?;
        let container = Arc::clone(&granted.container);
        if place.lane.run(move || container.exists()).await? {
            Ok(granted)
        } else {
            Err(Error::NoContainer)
        }
    }

    pub(super) async fn delete(&mut self, name: &str) -> Result<(), Error> {
        let (place, granted) = self.find(name)?;
        let (container, turn) = turn(&granted).await?;
        // In one piece: what has begun is finished, also if the guest is gone.
        place.lane.run(move || container.delete(turn)).await
    }

    pub(super) async fn exists(&mut self, name: &str) -> Result<bool, Error> {
        let (place, granted) = self.find(name)?;
        let container = Arc::clone(&granted.container);
        place.lane.run(move || container.exists()).await
    }

    pub(super) async fn copy(&mut self, from: ObjectId, to: ObjectId) -> Result<(), Error> {
        let (place, source) = self.find(&from.container)?;
        let (_, target) = self.find(&to.container)?;
        let (name, new_name) = (Name::of(&from.object)?, Name::of(&to.object)?);
        let _open = (self.blobstore.open()?, self.blobstore.descriptor()?);
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

    pub(super) async fn rename(&mut self, from: ObjectId, to: ObjectId) -> Result<(), Error> {
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

    pub(super) async fn read(
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
    pub(super) async fn write(
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

    pub(super) async fn finish(&mut self, value: OutgoingValue) -> Result<(), Error> {
        if let Some(upload) = &value.upload {
            upload.arrived().await?;
        }
        let Some((granted, name)) = value.target else {
            return Err(Error::Value("the value was written to no container"));
        };
        let place = self.place()?;
        // A value that has arrived has its file already.
        let (incoming, _held) = match &value.upload {
            Some(upload) => (Arc::clone(&upload.incoming), None),
            None => {
                let held = self.blobstore.descriptor()?;
                (Arc::new(create(&place).await?), Some(held))
            }
        };
        put(&place, &granted, name, incoming).await
    }

    pub(super) async fn start_writing(&mut self) -> Result<Arc<Upload>, Error> {
        let place = self.place()?;
        let open = self.blobstore.open()?;
        let incoming = create(&place).await?;
        Ok(Arc::new(Upload::new(incoming, &place, open)))
    }

    pub(super) async fn list(
        &mut self,
        place: Place,
        granted: Arc<Granted>,
    ) -> Result<Names, Error> {
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
    pub(super) async fn names(
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

    pub(super) async fn look(
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

/// The file that is copied. It may be the last that holds an object.
struct Copied(Option<Arc<File>>);

impl Drop for Copied {
    fn drop(&mut self) {
        let file = self.0.take();
        aside(move || drop(file));
    }
}

pub(super) async fn turn(granted: &Granted) -> Result<(Arc<Directory>, Counted), Error> {
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
