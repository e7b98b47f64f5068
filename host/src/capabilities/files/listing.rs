//! Listings of directories, a page at a time. A thread waits for the disk while a page is read, and none for a guest that
//! reads no further.

use std::fs::File;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::fs::{AtFlags, FileType, Mode, RawDir};
use rustix::io::Errno;
use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{Destination, StreamProducer, StreamResult, VecBuffer};
use wasmtime_wasi::p3::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};

use super::blocking;
use super::pieces::Piece;
use super::scratch::DIRECTORY;
use crate::capabilities::descriptors::OneOpen;
use crate::capabilities::share::Share;
use crate::limits;

/// What is in a directory, on its way to a guest of 0.2, which asks for one name after the other.
pub(super) struct Entries {
    work: Share,
    directory: Directory,
    page: std::vec::IntoIter<io::Result<Entry>>,
    is_over: bool,
    /// That this is open, and that a page of it may be in the host's memory.
    _counted: (OneOpen, Piece),
}

impl Entries {
    /// Of a directory whose first page can be read.
    pub(super) async fn open(
        work: Share,
        directory: Arc<File>,
        counted: (OneOpen, Piece),
    ) -> io::Result<Self> {
        let mut entries = Self {
            work,
            directory: Directory::Named(directory),
            page: Vec::new().into_iter(),
            is_over: false,
            _counted: counted,
        };
        entries.turn().await?;
        Ok(entries)
    }

    /// The next of them, none at the end. One that is no text is an error, and there may be more behind it.
    pub(super) async fn next(&mut self) -> io::Result<Option<Entry>> {
        if self.page.as_slice().is_empty() && !self.is_over {
            self.turn().await?;
        }
        self.page.next().transpose()
    }

    async fn turn(&mut self) -> io::Result<()> {
        // Unless there is more: what could not be read is not tried again.
        self.is_over = true;
        let directory = self.directory.clone();
        let (directory, entries) = blocking(&self.work, move || page(directory)).await?;
        self.is_over = entries.is_empty();
        self.directory = Directory::Open(directory);
        self.page = entries.into_iter();
        Ok(())
    }
}

/// What is in a directory, on its way to a guest of 0.3.
pub(super) struct Listing {
    work: Share,
    directory: Directory,
    page: Option<Page>,
    end: Option<oneshot::Sender<Result<(), ErrorCode>>>,
    /// That this is open, and that a page of it may be in the host's memory.
    _counted: (OneOpen, Piece),
}

#[derive(Clone)]
enum Directory {
    /// The guest's.
    Named(Arc<File>),
    /// Ours, which knows how far it was read.
    Open(Arc<File>),
}

type Page = Pin<Box<dyn Future<Output = io::Result<(Arc<File>, Vec<DirectoryEntry>)>> + Send>>;

impl Listing {
    pub(super) fn new(
        work: Share,
        directory: Arc<File>,
        end: oneshot::Sender<Result<(), ErrorCode>>,
        counted: (OneOpen, Piece),
    ) -> Self {
        Self {
            work,
            directory: Directory::Named(directory),
            page: None,
            end: Some(end),
            _counted: counted,
        }
    }

    fn end(&mut self, with: Result<(), ErrorCode>) {
        if let Some(end) = self.end.take() {
            // The guest may not care.
            let _ = end.send(with);
        }
    }
}

impl<D> StreamProducer<D> for Listing {
    type Item = DirectoryEntry;
    type Buffer = VecBuffer<DirectoryEntry>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, Self::Item, Self::Buffer>,
        is_cancelled: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        // Whether there is more is known when it is read.
        if destination.remaining(&mut store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let me = &mut *self;
        let page = me.page.get_or_insert_with(|| {
            let (work, directory) = (me.work.clone(), me.directory.clone());
            Box::pin(async move { blocking(&work, move || whole_page(directory)).await })
        });
        let read = page.as_mut().poll(cx);
        if is_cancelled && read.is_pending() {
            return Poll::Ready(Ok(StreamResult::Cancelled));
        }
        let read = ready!(read);
        me.page = None;
        Poll::Ready(Ok(match read {
            Ok((directory, entries)) if !entries.is_empty() => {
                me.directory = Directory::Open(directory);
                destination.set_buffer(entries.into());
                StreamResult::Completed
            }
            read => {
                me.end(read.map(drop).map_err(ErrorCode::from));
                StreamResult::Dropped
            }
        }))
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.end(Ok(()));
    }
}

/// What it is, and its name.
type Entry = (FileType, String);

/// The next entries, none at the end, and the directory, to go on with. Names that are no text are errors among them.
fn page(directory: Directory) -> io::Result<(Arc<File>, Vec<io::Result<Entry>>)> {
    let directory = match directory {
        Directory::Open(directory) => directory,
        Directory::Named(directory) => {
            let opened = rustix::fs::openat(&*directory, ".", DIRECTORY, Mode::empty())?;
            Arc::new(File::from(opened))
        }
    };
    let mut room = Vec::with_capacity(limits::LISTING_PAGE);
    let mut raw = RawDir::new(&*directory, room.spare_capacity_mut());
    let mut entries = Vec::new();
    while let Some(entry) = raw.next() {
        let entry = entry?;
        let name = entry.file_name();
        if ![c".", c".."].contains(&name) {
            let kind = match entry.file_type() {
                // Not every file system says.
                FileType::Unknown => {
                    let flags = AtFlags::SYMLINK_NOFOLLOW;
                    let stat = rustix::fs::statat(&*directory, name, flags)?;
                    FileType::from_raw_mode(stat.st_mode)
                }
                kind => kind,
            };
            let name = name.to_str().map_err(|_| io::Error::from(Errno::ILSEQ));
            entries.push(name.map(|name| (kind, name.to_owned())));
        }
        if raw.is_buffer_empty() && !entries.is_empty() {
            break;
        }
    }
    Ok((directory, entries))
}

/// The same as 0.3 has it, where nothing comes after an error.
fn whole_page(directory: Directory) -> io::Result<(Arc<File>, Vec<DirectoryEntry>)> {
    let (directory, entries) = page(directory)?;
    let entries = entries.into_iter().map(|entry| {
        let (kind, name) = entry?;
        Ok(DirectoryEntry {
            type_: named(kind),
            name,
        })
    });
    Ok((directory, entries.collect::<io::Result<Vec<_>>>()?))
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
        FileType::Unknown => DescriptorType::Other(None),
    }
}
