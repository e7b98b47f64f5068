//! `wasi:filesystem`: directories that were granted, and a scratch directory of an instance's own.
//!
//! Wasmtime's implementation does the work. What opens is ours, so that no pipe or device holds a thread, and so is what
//! takes room in a scratch directory, so that its quota holds. Every function of the interface is named here: one that a
//! later version of wasmtime adds does not slip past.

mod open;
mod p2;
mod p3;
mod scratch;
mod writing;

use std::fs::File;
use std::io;
use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView, WasiFilesystemView};
use wasmtime_wasi::{p2 as wasi_p2, p3 as wasi_p3};

pub use scratch::{Scratch, ScratchShare, Scratches, sweep};

/// What an instance has of files.
pub struct FilesView<'a> {
    /// Its scratch directory.
    pub scratch: Option<&'a Arc<Scratch>>,
    /// Wasmtime's view of them.
    pub wasi: WasiFilesystemCtxView<'a>,
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
        if let Some(scratch) = self.scratch {
            let scratch = self.wasi.table.push(scratch.descriptor()?)?;
            granted.push((scratch, SCRATCH.to_owned()));
        }
        Ok(granted)
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

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> io::Result<R> + Send + 'static,
) -> io::Result<R> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
}
