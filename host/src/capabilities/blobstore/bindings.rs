//! The interface, for guests.
#![allow(
    unreachable_pub,
    reason = "what is generated names these types in public"
)]

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

use super::container::Name;
use super::counts::Operation;
use super::error::Error;
pub use super::operations::{Container, IncomingValue, Names, OutgoingValue};
use super::operations::{View, turn};
use super::streams::{Reader, Writer};
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
pub(super) use types::ObjectId;
use types::{ContainerMetadata, ObjectMetadata};

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

type Answer<T> = wasmtime::Result<Result<T, String>>;

impl View<'_> {
    /// What a guest is told of what became of an operation, which is counted.
    fn answer<T>(&self, operation: Operation, answer: Result<T, Error>) -> Answer<T> {
        let containers = self.blobstore.containers();
        containers.counts.add(operation, &answer);
        Ok(answer.map_err(|error| containers.told(&error)))
    }
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
                let why = containers.told(error);
                containers
                    .refused
                    .tell(format_args!("could not write a value: {why}"));
                containers.counts.add(Operation::WriteData, &started);
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
