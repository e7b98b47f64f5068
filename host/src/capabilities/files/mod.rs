//! `wasi:filesystem`: directories that were granted, and a scratch directory of an instance's own.
//!
//! Wasmtime's implementation does the rest, on a thread of ours (`Apart`), so that what a thread has stays taken until it is
//! done, whatever becomes of who asked. What opens is ours, so that no pipe or device holds a thread; so is what takes room
//! in a scratch directory, so that its quota holds; and so are streams, listings and syncs, so that who has his share of the
//! threads waits. Every function of the interface is named here: one that a later version of wasmtime adds does not slip past.

mod listing;
mod open;
mod p2;
mod p3;
mod pieces;
mod reading;
mod scratch;
mod writing;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;

use futures_util::FutureExt as _;
use rustix::fs::Mode;
use rustix::io::Errno;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable, ResourceTableError};
use wasmtime_wasi::filesystem::{
    self, Descriptor, Dir, WasiFilesystemCtx, WasiFilesystemCtxView, WasiFilesystemView,
};
use wasmtime_wasi::{FsPerms, p2 as wasi_p2, p3 as wasi_p3};

pub use scratch::{Scratch, ScratchShare, Scratches, sweep};

use super::Granted;
use super::descriptors::{Count, OneOpen};
use super::share::{Share, Shared, Sharer};
use crate::limits;
use crate::meter::Meter;
use pieces::{Piece, Pieces};
use reading::Source;
use scratch::At;
use writing::{Sink, Target};

/// The threads of a host that wait for disks on behalf of guests that use files.
#[derive(Debug)]
pub struct FileWork(Shared);

impl Default for FileWork {
    fn default() -> Self {
        Self(Shared::new(limits::FILE_WORK))
    }
}

impl FileWork {
    pub(super) fn share(&self, sharer: &Sharer) -> Share {
        self.0.share(sharer)
    }
}

/// The files of one instance.
#[derive(Debug)]
pub struct Files {
    granted: Arc<Granted>,
    count: Count,
    /// What its descriptors have open, by their numbers. Their streams have it too, and may outlive them.
    by_descriptor: HashMap<u32, Arc<OneOpen>>,
    /// What the guest calls the granted directory that each is in, by their numbers too.
    granted_as: HashMap<u32, Arc<str>>,
    pieces: Pieces,
}

impl Files {
    /// Of an instance that has opened none.
    #[must_use]
    pub fn new(granted: Arc<Granted>) -> Self {
        Self {
            granted,
            count: Count::default(),
            by_descriptor: HashMap::new(),
            granted_as: HashMap::new(),
            pieces: Pieces::default(),
        }
    }

    /// Bytes of its streams and listings that are in the host's memory.
    #[must_use]
    pub fn holds(&self) -> usize {
        self.pieces.bytes()
    }

    /// Files and directories that it has open, by descriptor, stream or listing.
    #[must_use]
    pub fn open(&self) -> usize {
        self.count.count()
    }

    /// One more is about to be opened.
    fn take_one(&self) -> io::Result<OneOpen> {
        let one = self.count.one(&self.granted.descriptors);
        // That there are too many, no code of the interface says.
        one.ok_or_else(|| Errno::NOMEM.into())
    }
}

/// What an instance has of files.
pub struct FilesView<'a> {
    /// Those of the instance.
    pub files: &'a mut Files,
    /// Its scratch directory.
    pub scratch: Option<&'a Arc<Scratch>>,
    /// What the work of the host for it is charged to.
    pub meter: &'a Arc<Meter>,
    /// Wasmtime's view of them.
    pub wasi: WasiFilesystemCtxView<'a>,
}

/// What is about to be opened beneath a directory that the guest has.
struct Beneath {
    one: OneOpen,
    granted_as: Option<Arc<str>>,
}

struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = FilesView<'a>;
}

/// Puts the files of 0.2, and of 0.3 if that `is_p3`, in place of those that are linked.
///
/// # Errors
/// When the linker does not allow that.
pub fn link<T: WasiFilesystemView + 'static>(
    linker: &mut Linker<T>,
    is_p3: bool,
    view: fn(&mut T) -> FilesView<'_>,
) -> wasmtime::Result<()> {
    wasi_p2::bindings::filesystem::types::add_to_linker::<T, HasFiles>(linker, view)?;
    wasi_p2::bindings::filesystem::preopens::add_to_linker::<T, HasFiles>(linker, view)?;
    if is_p3 {
        wasi_p3::bindings::filesystem::preopens::add_to_linker::<T, HasFiles>(linker, view)?;
        wasi_p3::bindings::filesystem::types::add_to_linker::<T, HasFiles>(linker, view)?;
    }
    Ok(())
}

/// What a guest calls its scratch directory.
pub const SCRATCH: &str = "/tmp";

impl FilesView<'_> {
    fn directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        use wasi_p2::bindings::filesystem::preopens::Host;
        let mut granted = Host::get_directories(&mut self.wasi)?;
        for (directory, name) in &granted {
            let name = Arc::from(name.as_str());
            self.files.granted_as.insert(directory.rep(), name);
        }
        if let Some(scratch) = self.scratch {
            let scratch = self.wasi.table.push(scratch.descriptor()?)?;
            granted.push((scratch, SCRATCH.to_owned()));
        }
        Ok(granted)
    }

    /// Its share of the threads that wait for disks.
    fn work(&self) -> Share {
        self.files.granted.file_work.charged_to(self.meter)
    }

    /// One more is about to be opened beneath this.
    fn take_beneath(&self, fd: &Resource<Descriptor>) -> io::Result<Beneath> {
        Ok(Beneath {
            one: self.files.take_one()?,
            granted_as: self.files.granted_as.get(&fd.rep()).map(Arc::clone),
        })
    }

    /// The descriptor is there, and has this open.
    fn keep(&mut self, fd: &Resource<Descriptor>, opened: Beneath) {
        let one = Arc::new(opened.one);
        self.files.by_descriptor.insert(fd.rep(), one);
        if let Some(name) = opened.granted_as {
            self.files.granted_as.insert(fd.rep(), name);
        }
    }

    /// The descriptor is about to go.
    fn forget(&mut self, fd: &Resource<Descriptor>) {
        self.files.by_descriptor.remove(&fd.rep());
        self.files.granted_as.remove(&fd.rep());
        if let Some(scratch) = self.scratch {
            scratch.may_be_less();
        }
    }

    /// What this has open. One that was granted has nothing of its own.
    fn of(&self, fd: &Resource<Descriptor>) -> Option<Arc<OneOpen>> {
        self.files.by_descriptor.get(&fd.rep()).map(Arc::clone)
    }

    /// What a stream of this reads from.
    fn source(&self, fd: &Resource<Descriptor>, file: Arc<File>, at: u64) -> Source {
        Source {
            work: self.work(),
            file,
            at,
            pieces: self.files.pieces.clone(),
            _open: self.of(fd),
        }
    }

    /// Where what is written to this goes. None if wasmtime knows better why it goes nowhere.
    fn sink(&self, fd: &Resource<Descriptor>, at: At) -> Result<Option<Sink>, ResourceTableError> {
        let descriptor = self.wasi.table.get(fd)?;
        let Descriptor::File(file) = descriptor else {
            return Ok(None);
        };
        let target = match self.scratch_of(descriptor) {
            Some(scratch) => Target::Scratch(scratch, self.work()),
            None if file.perms == FsPerms::ReadWrite => Target::Granted(self.work()),
            None => {
                self.tell_if_read_only(&[fd])?;
                return Ok(None);
            }
        };
        Ok(Some(Sink {
            target,
            file: Arc::clone(&file.file),
            at,
            pieces: self.files.pieces.clone(),
            _open: self.of(fd),
        }))
    }

    /// Said of what is about to be changed: where one of them may only be read, that is refused, and the log says why.
    fn tell_if_read_only(&self, all: &[&Resource<Descriptor>]) -> Result<(), ResourceTableError> {
        for fd in all {
            let perms = match self.wasi.table.get(fd)? {
                Descriptor::File(file) => file.perms,
                Descriptor::Dir(directory) => directory.perms,
            };
            if perms == FsPerms::ReadOnly {
                let Some(name) = self.files.granted_as.get(&fd.rep()) else {
                    return Ok(());
                };
                self.files.granted.refused_writes.tell(format_args!(
                    "may not write in `{name}`: add `writable = true` to it in its `dirs`, or say `--dir HOST::{name}:rw`"
                ));
                return Ok(());
            }
        }
        Ok(())
    }

    /// A listing that is about to be opened: a file, and a page as the kernel gives it, with its names and what each is.
    fn open_listing(&self) -> io::Result<(OneOpen, Piece)> {
        let page = self.files.pieces.hold(4 * limits::LISTING_PAGE);
        Ok((self.files.take_one()?, page))
    }

    /// The scratch directory, if this is in it.
    fn scratch_of(&self, descriptor: &Descriptor) -> Option<Arc<Scratch>> {
        let scratch = self.scratch.filter(|it| it.holds(inner(descriptor)));
        scratch.map(Arc::clone)
    }
}

impl wasi_p2::bindings::filesystem::preopens::Host for FilesView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        self.directories()
    }
}

impl wasi_p3::bindings::filesystem::preopens::Host for FilesView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        self.directories()
    }
}

fn inner(descriptor: &Descriptor) -> &Arc<File> {
    match descriptor {
        Descriptor::File(file) => &file.file,
        Descriptor::Dir(directory) => &directory.dir,
    }
}

fn place(file: &Arc<File>) -> usize {
    Arc::as_ptr(file).addr()
}

async fn blocking<R: Send + 'static>(
    share: &Share,
    work: impl FnOnce() -> io::Result<R> + Send + 'static,
) -> io::Result<R> {
    let done = share.run(work).await;
    done.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
}

/// Wasmtime's files for a thread that may wait, with descriptors that do there and then what they are asked.
#[derive(Default)]
struct Apart {
    table: ResourceTable,
    ctx: WasiFilesystemCtx,
}

impl WasiFilesystemView for Apart {
    fn filesystem(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView {
            ctx: &mut self.ctx,
            table: &mut self.table,
        }
    }
}

impl Apart {
    /// One of the same file.
    fn own(&mut self, descriptor: &Descriptor) -> io::Result<Resource<Descriptor>> {
        let file = inner(descriptor).try_clone()?;
        let own = match descriptor {
            Descriptor::File(of) => {
                let file = filesystem::File::new(file, of.perms, of.open_mode, true);
                Descriptor::File(file)
            }
            Descriptor::Dir(of) => Descriptor::Dir(Dir::new(file, of.perms, of.open_mode, true)),
        };
        self.table.push(own).map_err(io::Error::other)
    }
}

/// Has a thread ask wasmtime. It has its place until it is done, also if nobody waits for it any more.
async fn apart<R, E>(
    share: &Share,
    ask: impl FnOnce(Apart) -> Result<R, E> + Send + 'static,
) -> Result<R, E>
where
    R: Send + 'static,
    E: From<io::Error> + Send + 'static,
{
    let done = share.run(move || ask(Apart::default())).await;
    done.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::Interrupted).into()))
}

/// What is done as soon as it is asked for.
fn now<R, E: From<io::Error>>(done: impl Future<Output = Result<R, E>>) -> Result<R, E> {
    let done = done.now_or_never();
    done.unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::Interrupted).into()))
}

/// Waits until what was written is on the disk, with all that is known of it unless only data are asked for. It may take long,
/// and goes on when nobody waits for it any more.
async fn synced(share: &Share, descriptor: &Descriptor, is_data: bool) -> io::Result<()> {
    let is_directory = matches!(descriptor, Descriptor::Dir(_));
    let file = Arc::clone(inner(descriptor));
    let sync = move |file: &File| {
        if is_data {
            file.sync_data()
        } else {
            file.sync_all()
        }
    };
    blocking(share, move || {
        if !is_directory {
            return sync(&file);
        }
        // It may have been opened for its name alone.
        let opened = rustix::fs::openat(&*file, ".", scratch::DIRECTORY, Mode::empty())?;
        sync(&File::from(opened))
    })
    .await
}
