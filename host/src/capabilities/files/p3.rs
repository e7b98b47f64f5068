//! The files of 0.3.

use rustix::fs::{Timespec, Timestamps};
use tokio::sync::oneshot;
use wasmtime::component::{Access, Accessor, FutureReader, Resource, StreamReader};
use wasmtime::{AsContextMut as _, Store};
use wasmtime_wasi::FsPerms;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p3::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, Filesize,
    Host, HostDescriptor, HostDescriptorWithStore, MetadataHashValue, NewTimestamp, OpenFlags,
    PathFlags,
};
use wasmtime_wasi::p3::filesystem::{FilesystemError, FilesystemResult};

use std::fs::File;
use std::iter;
use std::sync::Arc;

use super::listing::Listing;
use super::open::{self, How};
use super::reading::Produced;
use super::scratch::{At, Room, Scratch, Turn};
use super::writing::Consumed;
use super::{Apart, FilesView, HasFiles, apart, blocking, now, synced};
use crate::capabilities::share::Share;
use crate::limits;

impl FilesView<'_> {
    fn listing(
        &self,
        directory: Arc<File>,
        end: oneshot::Sender<Result<(), ErrorCode>>,
    ) -> Option<Listing> {
        match self.open_listing() {
            Ok(counted) => Some(Listing::new(self.work(), directory, end, counted)),
            Err(error) => {
                // The guest may not care.
                let _ = end.send(Err(error.into()));
                None
            }
        }
    }
}

impl Host for FilesView<'_> {
    fn convert_error_code(&mut self, error: FilesystemError) -> wasmtime::Result<ErrorCode> {
        Host::convert_error_code(&mut self.wasi, error)
    }
}

impl HostDescriptor for FilesView<'_> {
    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.forget(&fd);
        HostDescriptor::drop(&mut self.wasi, fd)
    }
}

fn wasi<'a, T: WasiFilesystemView + 'static>(
    store: &'a mut Access<'_, T, HasFiles>,
) -> Access<'a, T, WasiFilesystem> {
    Access::<T, WasiFilesystem>::new(store.as_context_mut(), T::filesystem)
}

type Of<T> = Accessor<T, HasFiles>;

fn descriptor<T: 'static>(
    store: &Of<T>,
    fd: &Resource<Descriptor>,
) -> FilesystemResult<(Descriptor, Option<Arc<Scratch>>)> {
    store.with(|mut store| {
        let view = store.get();
        let descriptor = view.wasi.table.get(fd)?.clone();
        let scratch = view.scratch_of(&descriptor);
        Ok((descriptor, scratch))
    })
}

fn work<T: 'static>(store: &Of<T>) -> Share {
    store.with(|mut store| store.get().work())
}

fn tell_if_read_only<T: 'static>(
    store: &Of<T>,
    all: &[&Resource<Descriptor>],
) -> FilesystemResult<()> {
    Ok(store.with(|mut store| store.get().tell_if_read_only(all))?)
}

type There = Accessor<Apart, WasiFilesystem>;

/// Asks wasmtime to do something with a descriptor, in this turn, which ends when it is done. It is asked in a store where
/// nothing else is, since that of the guest is no other thread's.
async fn ask<T: 'static, R: Send + 'static, F: Future<Output = FilesystemResult<R>> + 'static>(
    store: &Of<T>,
    fd: Descriptor,
    turn: Option<Turn>,
    ask: impl FnOnce(There, Resource<Descriptor>) -> F + Send + 'static,
) -> FilesystemResult<R> {
    let (work, engine) = store.with(|mut store| {
        let engine = store.as_context_mut().engine().clone();
        (store.get().work(), engine)
    });
    apart(&work, move |mut there| {
        let _turn = turn;
        let fd = there.own(&fd)?;
        let mut there = Store::new(&engine, there);
        now(async {
            let asked = there.run_concurrent(async move |there: &Accessor<Apart>| {
                ask(there.with_getter::<WasiFilesystem>(Apart::filesystem), fd).await
            });
            asked.await.map_err(FilesystemError::trap)?
        })
    })
    .await
}

fn own(there: &There, descriptor: &Descriptor) -> FilesystemResult<Resource<Descriptor>> {
    Ok(there.with(|mut there| there.data_mut().own(descriptor))?)
}

/// What wasmtime does as it is.
macro_rules! handed_on {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
        async fn $name(store: &Of<T>, fd: Resource<Descriptor>, $($argument: $type),*) -> FilesystemResult<$result> {
            let (fd, _) = descriptor(store, &fd)?;
            let asked = ask(store, fd, None, move |there, fd| async move {
                WasiFilesystem::$name(&there, fd, $($argument),*).await
            });
            asked.await
        }
    )*};
}

/// The same, of what is at a path.
macro_rules! handed_on_at {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
        async fn $name(
            store: &Of<T>,
            fd: Resource<Descriptor>,
            $($argument: $type,)*
            path: String,
        ) -> FilesystemResult<$result> {
            not_too_long(&path)?;
            let (fd, _) = descriptor(store, &fd)?;
            let asked = ask(store, fd, None, move |there, fd| async move {
                WasiFilesystem::$name(&there, fd, $($argument,)* path).await
            });
            asked.await
        }
    )*};
}

/// That the system could take a path: of one that is too long nothing is kept while a call waits for its place.
fn not_too_long(path: &str) -> FilesystemResult<()> {
    if path.len() < limits::PATH {
        Ok(())
    } else {
        Err(ErrorCode::NameTooLong.into())
    }
}

/// What makes something in a scratch directory less, or moves it.
macro_rules! in_turn {
    ($(fn $name:ident(path: String);)*) => {$(
        async fn $name(store: &Of<T>, fd: Resource<Descriptor>, path: String) -> FilesystemResult<()> {
            not_too_long(&path)?;
            tell_if_read_only(store, &[&fd])?;
            let (fd, scratch) = descriptor(store, &fd)?;
            let turn = match scratch {
                Some(scratch) => Some(scratch.turn().await),
                None => None,
            };
            let asked = ask(store, fd, turn, move |there, fd| async move {
                WasiFilesystem::$name(&there, fd, path).await
            });
            asked.await
        }
    )*};
}

impl<T: WasiFilesystemView + 'static> HostDescriptorWithStore<T> for HasFiles {
    handed_on! {
        fn advise(offset: Filesize, length: Filesize, advice: Advice) -> ();
        fn get_flags() -> DescriptorFlags;
        fn get_type() -> DescriptorType;
        fn stat() -> DescriptorStat;
        fn metadata_hash() -> MetadataHashValue;
    }

    handed_on_at! {
        fn stat_at(flags: PathFlags) -> DescriptorStat;
        fn readlink_at() -> String;
        fn metadata_hash_at(flags: PathFlags) -> MetadataHashValue;
    }

    in_turn! {
        fn remove_directory_at(path: String);
        fn unlink_file_at(path: String);
    }

    async fn set_times(
        store: &Of<T>,
        fd: Resource<Descriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FilesystemResult<()> {
        tell_if_read_only(store, &[&fd])?;
        let (fd, _) = descriptor(store, &fd)?;
        let asked = ask(store, fd, None, move |there, fd| async move {
            WasiFilesystem::set_times(&there, fd, accessed, modified).await
        });
        asked.await
    }

    async fn is_same_object(
        store: &Of<T>,
        fd: Resource<Descriptor>,
        other: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        let ((fd, _), (other, _)) = (descriptor(store, &fd)?, descriptor(store, &other)?);
        let asked = ask(store, fd, None, move |there, fd| async move {
            let other = own(&there, &other)?;
            let is_same = WasiFilesystem::is_same_object(&there, fd, other).await;
            is_same.map_err(FilesystemError::trap)
        });
        Ok(asked.await?)
    }

    fn read_via_stream(
        mut store: Access<'_, T, Self>,
        fd: Resource<Descriptor>,
        offset: Filesize,
    ) -> wasmtime::Result<(StreamReader<u8>, FutureReader<Result<(), ErrorCode>>)> {
        let descriptor = store.get().wasi.table.get(&fd)?.clone();
        let file = match descriptor {
            Descriptor::File(file) => file.file,
            // It says why not.
            Descriptor::Dir(_) => {
                let store = wasi(&mut store);
                return WasiFilesystem::read_via_stream(store, fd, offset);
            }
        };
        let (end, ended) = oneshot::channel();
        let produced = Produced::new(store.get().source(&fd, file, offset), end);
        Ok((
            StreamReader::new(&mut store, produced)?,
            FutureReader::new(&mut store, ended)?,
        ))
    }

    fn read_directory(
        mut store: Access<'_, T, Self>,
        fd: Resource<Descriptor>,
    ) -> wasmtime::Result<(
        StreamReader<DirectoryEntry>,
        FutureReader<Result<(), ErrorCode>>,
    )> {
        let descriptor = store.get().wasi.table.get(&fd)?.clone();
        let directory = match descriptor {
            Descriptor::Dir(directory) => directory.dir,
            // It says why not.
            Descriptor::File(_) => {
                let store = wasi(&mut store);
                return WasiFilesystem::read_directory(store, fd);
            }
        };
        let (end, ended) = oneshot::channel();
        let listing = store.get().listing(directory, end);
        let names = match listing {
            Some(listing) => StreamReader::new(&mut store, listing)?,
            None => StreamReader::new(&mut store, iter::empty())?,
        };
        Ok((names, FutureReader::new(&mut store, ended)?))
    }

    fn write_via_stream(
        mut store: Access<'_, T, Self>,
        fd: Resource<Descriptor>,
        data: StreamReader<u8>,
        offset: Filesize,
    ) -> wasmtime::Result<FutureReader<Result<(), ErrorCode>>> {
        match consumed(&mut store, &fd, At::Offset(offset))? {
            Some((consumed, end)) => {
                data.pipe(&mut store, consumed)?;
                FutureReader::new(&mut store, end)
            }
            None => {
                let store = wasi(&mut store);
                WasiFilesystem::write_via_stream(store, fd, data, offset)
            }
        }
    }

    fn append_via_stream(
        mut store: Access<'_, T, Self>,
        fd: Resource<Descriptor>,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<FutureReader<Result<(), ErrorCode>>> {
        match consumed(&mut store, &fd, At::End)? {
            Some((consumed, end)) => {
                data.pipe(&mut store, consumed)?;
                FutureReader::new(&mut store, end)
            }
            None => {
                let store = wasi(&mut store);
                WasiFilesystem::append_via_stream(store, fd, data)
            }
        }
    }

    async fn sync_data(store: &Of<T>, fd: Resource<Descriptor>) -> FilesystemResult<()> {
        let (descriptor, _) = descriptor(store, &fd)?;
        Ok(synced(&work(store), &descriptor, true).await?)
    }

    async fn sync(store: &Of<T>, fd: Resource<Descriptor>) -> FilesystemResult<()> {
        let (descriptor, _) = descriptor(store, &fd)?;
        Ok(synced(&work(store), &descriptor, false).await?)
    }

    async fn set_size(
        store: &Of<T>,
        fd: Resource<Descriptor>,
        size: Filesize,
    ) -> FilesystemResult<()> {
        tell_if_read_only(store, &[&fd])?;
        match descriptor(store, &fd)? {
            (Descriptor::File(file), Some(scratch)) => {
                Ok(scratch.set_size(&work(store), file.file, size).await?)
            }
            (fd, _) => {
                let asked = ask(store, fd, None, move |there, fd| async move {
                    WasiFilesystem::set_size(&there, fd, size).await
                });
                asked.await
            }
        }
    }

    async fn create_directory_at(
        store: &Of<T>,
        fd: Resource<Descriptor>,
        path: String,
    ) -> FilesystemResult<()> {
        not_too_long(&path)?;
        tell_if_read_only(store, &[&fd])?;
        let turn = room(store, &fd, Room::DIRECTORY).await?;
        let (fd, _) = descriptor(store, &fd)?;
        let asked = ask(store, fd, turn, move |there, fd| async move {
            WasiFilesystem::create_directory_at(&there, fd, path).await
        });
        asked.await
    }

    async fn symlink_at(
        store: &Of<T>,
        fd: Resource<Descriptor>,
        to: String,
        path: String,
    ) -> FilesystemResult<()> {
        not_too_long(&to)?;
        not_too_long(&path)?;
        tell_if_read_only(store, &[&fd])?;
        let bytes = to.len() as u64;
        let turn = room(
            store,
            &fd,
            Room {
                bytes,
                ..Room::FILE
            },
        )
        .await?;
        let (fd, _) = descriptor(store, &fd)?;
        let asked = ask(store, fd, turn, move |there, fd| async move {
            WasiFilesystem::symlink_at(&there, fd, to, path).await
        });
        asked.await
    }

    async fn link_at(
        store: &Of<T>,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FilesystemResult<()> {
        not_too_long(&path)?;
        not_too_long(&new_path)?;
        same_place(store, &fd, &new_fd)?;
        tell_if_read_only(store, &[&fd, &new_fd])?;
        let turn = room(store, &new_fd, Room::FILE).await?;
        let ((fd, _), (new, _)) = (descriptor(store, &fd)?, descriptor(store, &new_fd)?);
        let asked = ask(store, fd, turn, move |there, fd| async move {
            let new = own(&there, &new)?;
            WasiFilesystem::link_at(&there, fd, flags, path, new, new_path).await
        });
        asked.await
    }

    async fn rename_at(
        store: &Of<T>,
        fd: Resource<Descriptor>,
        path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FilesystemResult<()> {
        not_too_long(&path)?;
        not_too_long(&new_path)?;
        let scratch = same_place(store, &fd, &new_fd)?;
        tell_if_read_only(store, &[&fd, &new_fd])?;
        let turn = match &scratch {
            Some(scratch) => Some(scratch.turn().await),
            None => None,
        };
        let ((fd, _), (new, _)) = (descriptor(store, &fd)?, descriptor(store, &new_fd)?);
        let asked = ask(store, fd, turn, move |there, fd| async move {
            let new = own(&there, &new)?;
            WasiFilesystem::rename_at(&there, fd, path, new, new_path).await
        });
        asked.await
    }

    async fn set_times_at(
        store: &Of<T>,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FilesystemResult<()> {
        not_too_long(&path)?;
        tell_if_read_only(store, &[&fd])?;
        if flags.contains(PathFlags::SYMLINK_FOLLOW)
            && let (Descriptor::Dir(directory), _) = descriptor(store, &fd)?
            && directory.perms == FsPerms::ReadWrite
        {
            let path = path.clone();
            let times = Timestamps {
                last_access: time(accessed),
                last_modification: time(modified),
            };
            let set = move || open::set_times(&directory.dir, &path, &times);
            if blocking(&work(store), set).await? {
                return Ok(());
            }
        }
        let (fd, _) = descriptor(store, &fd)?;
        let asked = ask(store, fd, None, move |there, fd| async move {
            WasiFilesystem::set_times_at(&there, fd, flags, path, accessed, modified).await
        });
        asked.await
    }

    async fn open_at(
        store: &Of<T>,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FilesystemResult<Resource<Descriptor>> {
        not_too_long(&path)?;
        let (Descriptor::Dir(directory), scratch) = descriptor(store, &fd)? else {
            return Err(ErrorCode::NotDirectory.into());
        };
        let how = How {
            follow: path_flags.contains(PathFlags::SYMLINK_FOLLOW),
            create: open_flags.contains(OpenFlags::CREATE),
            exclusive: open_flags.contains(OpenFlags::EXCLUSIVE),
            truncate: open_flags.contains(OpenFlags::TRUNCATE),
            directory: open_flags.contains(OpenFlags::DIRECTORY),
            read: flags.contains(DescriptorFlags::READ),
            write: flags.contains(DescriptorFlags::WRITE),
            sync: flags.intersects(
                DescriptorFlags::FILE_INTEGRITY_SYNC
                    | DescriptorFlags::DATA_INTEGRITY_SYNC
                    | DescriptorFlags::REQUESTED_WRITE_SYNC,
            ),
        };
        if how.writes() {
            tell_if_read_only(store, &[&fd])?;
        }
        let one = store.with(|mut store| store.get().take_beneath(&fd))?;
        let opened =
            open::descriptor(&work(store), directory, scratch.as_ref(), path.clone(), how).await?;
        if let Some(opened) = opened {
            return store.with(|mut store| {
                let mut view = store.get();
                let opened = view.wasi.table.push(opened)?;
                view.keep(&opened, one);
                Ok(opened)
            });
        }
        // An old kernel, or a filter of system calls. What is there may be another when it is opened.
        if scratch.is_some() {
            return Err(ErrorCode::Unsupported.into());
        }
        let _place = work(store).take(1).await;
        let wasi = store.with_getter::<WasiFilesystem>(T::filesystem);
        let there = Resource::new_borrow(fd.rep());
        let stat = WasiFilesystem::stat_at(&wasi, there, path_flags, path.clone()).await;
        if let Ok(stat) = stat
            && !matches!(
                stat.type_,
                DescriptorType::Directory
                    | DescriptorType::RegularFile
                    | DescriptorType::SymbolicLink
            )
        {
            return Err(ErrorCode::Unsupported.into());
        }
        let opened =
            WasiFilesystem::open_at(&wasi, fd, path_flags, path, open_flags, flags).await?;
        store.with(|mut store| store.get().keep(&opened, one));
        Ok(opened)
    }
}

/// Room for one thing in a directory, if that is the scratch directory or in it.
async fn room<T: 'static>(
    store: &Of<T>,
    fd: &Resource<Descriptor>,
    room: Room,
) -> FilesystemResult<Option<Turn>> {
    Ok(match descriptor(store, fd)?.1 {
        Some(scratch) => Some(scratch.room(&work(store), room).await?),
        None => None,
    })
}

/// The scratch directory, if both are in it. Who moves a file there from elsewhere would not have paid for it.
fn same_place<T: 'static>(
    store: &Of<T>,
    one: &Resource<Descriptor>,
    other: &Resource<Descriptor>,
) -> FilesystemResult<Option<Arc<Scratch>>> {
    let (from, to) = (descriptor(store, one)?.1, descriptor(store, other)?.1);
    if from.is_some() != to.is_some() {
        return Err(ErrorCode::CrossDevice.into());
    }
    Ok(to)
}

type Consuming = (Consumed, oneshot::Receiver<Result<(), ErrorCode>>);

/// What writes to a file, if it may be written, and what comes of that.
fn consumed<T: 'static>(
    store: &mut Access<'_, T, HasFiles>,
    fd: &Resource<Descriptor>,
    at: At,
) -> wasmtime::Result<Option<Consuming>> {
    let view = store.get();
    let Some(sink) = view.sink(fd, at)? else {
        return Ok(None);
    };
    let (end, ended) = oneshot::channel();
    Ok(Some((Consumed::new(sink, end), ended)))
}

fn time(of: NewTimestamp) -> Timespec {
    match of {
        NewTimestamp::NoChange => open::UNCHANGED,
        NewTimestamp::Now => open::NOW,
        NewTimestamp::Timestamp(time) => Timespec {
            tv_sec: time.seconds,
            tv_nsec: time.nanoseconds.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_as_long_as_the_system_takes_it() {
        assert!(not_too_long(&"a".repeat(limits::PATH - 1)).is_ok());
        assert!(not_too_long(&"a".repeat(limits::PATH)).is_err());
    }
}
