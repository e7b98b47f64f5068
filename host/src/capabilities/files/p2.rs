//! The files of 0.2.

use std::sync::Arc;

use rustix::fs::{FileType, Timespec, Timestamps};
use wasmtime::component::Resource;
use wasmtime_wasi::FsPerms;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream,
    ErrorCode, Filesize, Host, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue,
    NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::listing::Entries;
use super::open::{self, How};
use super::reading::Read;
use super::scratch::{At, Room, Turn};
use super::writing::Written;
use super::{Apart, FilesView, apart, blocking, now, synced};

impl Host for FilesView<'_> {
    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        Host::filesystem_error_code(&mut self.wasi, error)
    }

    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        Host::convert_error_code(&mut self.wasi, error)
    }
}

impl HostDirectoryEntryStream for FilesView<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        let entries = Resource::<Entries>::new_borrow(stream.rep());
        let next = self.wasi.table.get_mut(&entries)?.next().await?;
        Ok(next.map(|(kind, name)| DirectoryEntry {
            type_: named(kind),
            name,
        }))
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        let entries = Resource::<Entries>::new_own(stream.rep());
        self.wasi.table.delete(entries)?;
        Ok(())
    }
}

/// What wasmtime does as it is.
macro_rules! handed_on {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
        async fn $name(&mut self, fd: Resource<Descriptor>, $($argument: $type),*) -> FsResult<$result> {
            let asked = self.ask(&fd, None, move |there, fd| {
                now(HostDescriptor::$name(&mut there.filesystem(), fd, $($argument),*))
            });
            asked.await
        }
    )*};
}

/// What makes something in a scratch directory less, or moves it.
macro_rules! in_turn {
    ($(fn $name:ident($($argument:ident: $type:ty),*);)*) => {$(
        async fn $name(&mut self, fd: Resource<Descriptor>, $($argument: $type),*) -> FsResult<()> {
            self.tell_if_read_only(&[&fd])?;
            let turn = match self.scratch_of(self.wasi.table.get(&fd)?) {
                Some(scratch) => Some(scratch.turn().await),
                None => None,
            };
            let asked = self.ask(&fd, turn, move |there, fd| {
                now(HostDescriptor::$name(&mut there.filesystem(), fd, $($argument),*))
            });
            asked.await
        }
    )*};
}

impl HostDescriptor for FilesView<'_> {
    handed_on! {
        fn advise(offset: Filesize, length: Filesize, advice: Advice) -> ();
        fn get_flags() -> DescriptorFlags;
        fn get_type() -> DescriptorType;
        fn read(length: Filesize, offset: Filesize) -> (Vec<u8>, bool);
        fn stat() -> DescriptorStat;
        fn stat_at(flags: PathFlags, path: String) -> DescriptorStat;
        fn readlink_at(path: String) -> String;
        fn metadata_hash() -> MetadataHashValue;
        fn metadata_hash_at(flags: PathFlags, path: String) -> MetadataHashValue;
    }

    in_turn! {
        fn remove_directory_at(path: String);
        fn unlink_file_at(path: String);
    }

    async fn set_times(
        &mut self,
        fd: Resource<Descriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        self.tell_if_read_only(&[&fd])?;
        let asked = self.ask(&fd, None, move |there, fd| {
            let wasi = &mut there.filesystem();
            now(HostDescriptor::set_times(wasi, fd, accessed, modified))
        });
        asked.await
    }

    async fn is_same_object(
        &mut self,
        fd: Resource<Descriptor>,
        other: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        let fd = self.wasi.table.get(&fd)?.clone();
        let other = self.wasi.table.get(&other)?.clone();
        apart(&self.work(), move |mut there| {
            let (fd, other) = (there.own(&fd)?, there.own(&other)?);
            now(HostDescriptor::is_same_object(
                &mut there.filesystem(),
                fd,
                other,
            ))
        })
        .await
    }

    /// Wasmtime's would be read whole. The guest has `Entries` in its place, by the same number.
    async fn read_directory(
        &mut self,
        fd: Resource<Descriptor>,
    ) -> FsResult<Resource<DirectoryEntryStream>> {
        let Descriptor::Dir(directory) = self.wasi.table.get(&fd)? else {
            return Err(ErrorCode::NotDirectory.into());
        };
        let (directory, counted) = (directory.dir.clone(), self.open_listing()?);
        let entries = Entries::open(self.work(), directory, counted).await?;
        let entries = self.wasi.table.push(entries)?;
        Ok(Resource::new_own(entries.rep()))
    }

    async fn sync_data(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        let (work, descriptor) = (self.work(), self.wasi.table.get(&fd)?);
        Ok(synced(&work, descriptor, true).await?)
    }

    async fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        let (work, descriptor) = (self.work(), self.wasi.table.get(&fd)?);
        Ok(synced(&work, descriptor, false).await?)
    }

    async fn set_size(&mut self, fd: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        self.tell_if_read_only(&[&fd])?;
        let descriptor = self.wasi.table.get(&fd)?;
        match (self.scratch_of(descriptor), descriptor) {
            (Some(scratch), Descriptor::File(file)) => Ok(scratch
                .set_size(&self.work(), file.file.clone(), size)
                .await?),
            _ => {
                let asked = self.ask(&fd, None, move |there, fd| {
                    now(HostDescriptor::set_size(&mut there.filesystem(), fd, size))
                });
                asked.await
            }
        }
    }

    async fn write(
        &mut self,
        fd: Resource<Descriptor>,
        bytes: Vec<u8>,
        offset: Filesize,
    ) -> FsResult<Filesize> {
        self.tell_if_read_only(&[&fd])?;
        let descriptor = self.wasi.table.get(&fd)?;
        match (self.scratch_of(descriptor), descriptor) {
            (Some(scratch), Descriptor::File(file)) => {
                let at = At::Offset(offset);
                let (work, bytes) = (self.work(), bytes.into());
                let written = scratch.write(&work, file.file.clone(), at, bytes).await?;
                Ok(written as Filesize)
            }
            _ => {
                let asked = self.ask(&fd, None, move |there, fd| {
                    let wasi = &mut there.filesystem();
                    now(HostDescriptor::write(wasi, fd, bytes, offset))
                });
                asked.await
            }
        }
    }

    fn read_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        let file = match self.wasi.table.get(&fd)? {
            Descriptor::File(file) => Arc::clone(&file.file),
            Descriptor::Dir(_) => return Err(ErrorCode::IsDirectory.into()),
        };
        let stream: DynInputStream = Box::new(Read::new(self.source(&fd, file, offset)));
        Ok(self.wasi.table.push(stream)?)
    }

    fn write_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        match self.written(&fd, At::Offset(offset))? {
            Some(written) => Ok(self.wasi.table.push(written)?),
            None => HostDescriptor::write_via_stream(&mut self.wasi, fd, offset),
        }
    }

    fn append_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
    ) -> FsResult<Resource<DynOutputStream>> {
        match self.written(&fd, At::End)? {
            Some(written) => Ok(self.wasi.table.push(written)?),
            None => HostDescriptor::append_via_stream(&mut self.wasi, fd),
        }
    }

    async fn create_directory_at(
        &mut self,
        fd: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        self.tell_if_read_only(&[&fd])?;
        let scratch = self.scratch_of(self.wasi.table.get(&fd)?);
        let turn = match &scratch {
            Some(scratch) => Some(scratch.room(&self.work(), Room::DIRECTORY).await?),
            None => None,
        };
        let asked = self.ask(&fd, turn, move |there, fd| {
            let wasi = &mut there.filesystem();
            now(HostDescriptor::create_directory_at(wasi, fd, path))
        });
        asked.await
    }

    async fn symlink_at(
        &mut self,
        fd: Resource<Descriptor>,
        to: String,
        path: String,
    ) -> FsResult<()> {
        self.tell_if_read_only(&[&fd])?;
        let scratch = self.scratch_of(self.wasi.table.get(&fd)?);
        let room = Room {
            bytes: to.len() as u64,
            ..Room::FILE
        };
        let turn = match &scratch {
            Some(scratch) => Some(scratch.room(&self.work(), room).await?),
            None => None,
        };
        let asked = self.ask(&fd, turn, move |there, fd| {
            let wasi = &mut there.filesystem();
            now(HostDescriptor::symlink_at(wasi, fd, to, path))
        });
        asked.await
    }

    async fn link_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let from = self.scratch_of(self.wasi.table.get(&fd)?);
        let to = self.scratch_of(self.wasi.table.get(&new_fd)?);
        if from.is_some() != to.is_some() {
            return Err(ErrorCode::CrossDevice.into());
        }
        self.tell_if_read_only(&[&fd, &new_fd])?;
        let turn = match &to {
            Some(scratch) => Some(scratch.room(&self.work(), Room::FILE).await?),
            None => None,
        };
        let new = self.wasi.table.get(&new_fd)?.clone();
        let asked = self.ask(&fd, turn, move |there, fd| {
            let new = there.own(&new)?;
            let wasi = &mut there.filesystem();
            now(HostDescriptor::link_at(
                wasi, fd, flags, path, new, new_path,
            ))
        });
        asked.await
    }

    async fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let from = self.scratch_of(self.wasi.table.get(&fd)?);
        let to = self.scratch_of(self.wasi.table.get(&new_fd)?);
        if from.is_some() != to.is_some() {
            return Err(ErrorCode::CrossDevice.into());
        }
        self.tell_if_read_only(&[&fd, &new_fd])?;
        let turn = match &to {
            Some(scratch) => Some(scratch.turn().await),
            None => None,
        };
        let new = self.wasi.table.get(&new_fd)?.clone();
        let asked = self.ask(&fd, turn, move |there, fd| {
            let new = there.own(&new)?;
            let wasi = &mut there.filesystem();
            now(HostDescriptor::rename_at(wasi, fd, path, new, new_path))
        });
        asked.await
    }

    async fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        self.tell_if_read_only(&[&fd])?;
        if flags.contains(PathFlags::SYMLINK_FOLLOW)
            && let Descriptor::Dir(directory) = self.wasi.table.get(&fd)?
            && directory.perms == FsPerms::ReadWrite
        {
            let (directory, path) = (directory.dir.clone(), path.clone());
            let times = Timestamps {
                last_access: time(accessed)?,
                last_modification: time(modified)?,
            };
            if blocking(&self.work(), move || {
                open::set_times(&directory, &path, &times)
            })
            .await?
            {
                return Ok(());
            }
        }
        let asked = self.ask(&fd, None, move |there, fd| {
            let wasi = &mut there.filesystem();
            now(HostDescriptor::set_times_at(
                wasi, fd, flags, path, accessed, modified,
            ))
        });
        asked.await
    }

    async fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let descriptor = self.wasi.table.get(&fd)?;
        let scratch = self.scratch_of(descriptor);
        let Descriptor::Dir(directory) = descriptor else {
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
            self.tell_if_read_only(&[&fd])?;
        }
        let (directory, one) = (directory.clone(), self.take_beneath(&fd)?);
        let opened =
            open::descriptor(&self.work(), directory, scratch.as_ref(), path.clone(), how).await?;
        if let Some(opened) = opened {
            let opened = self.wasi.table.push(opened)?;
            self.keep(&opened, one);
            return Ok(opened);
        }
        // An old kernel, or a filter of system calls. What is there may be another when it is opened.
        if scratch.is_some() {
            return Err(ErrorCode::Unsupported.into());
        }
        let _place = self.work().take(1).await;
        let there = Resource::new_borrow(fd.rep());
        let stat = HostDescriptor::stat_at(&mut self.wasi, there, path_flags, path.clone()).await;
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
        let wasi = &mut self.wasi;
        let opened = HostDescriptor::open_at(wasi, fd, path_flags, path, open_flags, flags).await?;
        self.keep(&opened, one);
        Ok(opened)
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.forget(&fd);
        HostDescriptor::drop(&mut self.wasi, fd)
    }
}

impl FilesView<'_> {
    /// Asks wasmtime to do something with a descriptor, in this turn, which ends when it is done.
    async fn ask<R: Send + 'static>(
        &mut self,
        fd: &Resource<Descriptor>,
        turn: Option<Turn>,
        ask: impl FnOnce(&mut Apart, Resource<Descriptor>) -> FsResult<R> + Send + 'static,
    ) -> FsResult<R> {
        let fd = self.wasi.table.get(fd)?.clone();
        apart(&self.work(), move |mut there| {
            let _turn = turn;
            let fd = there.own(&fd)?;
            ask(&mut there, fd)
        })
        .await
    }

    /// A stream into a file, if it may be written.
    fn written(&mut self, fd: &Resource<Descriptor>, at: At) -> FsResult<Option<DynOutputStream>> {
        let sink = self.sink(fd, at)?;
        Ok(sink.map(|sink| {
            let written: DynOutputStream = Box::new(Written::new(sink));
            written
        }))
    }
}

fn named(kind: FileType) -> DescriptorType {
    match kind {
        FileType::Directory => DescriptorType::Directory,
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::Fifo => DescriptorType::Fifo,
        FileType::Socket => DescriptorType::Socket,
        FileType::Unknown => DescriptorType::Unknown,
    }
}

fn time(of: NewTimestamp) -> Result<Timespec, ErrorCode> {
    Ok(match of {
        NewTimestamp::NoChange => open::UNCHANGED,
        NewTimestamp::Now => open::NOW,
        NewTimestamp::Timestamp(time) => Timespec {
            tv_sec: time.seconds.try_into().map_err(|_| ErrorCode::Overflow)?,
            tv_nsec: time.nanoseconds.into(),
        },
    })
}
