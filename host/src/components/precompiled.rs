//! Artifacts that people carry around: written by `host compile`, served elsewhere without a compiler.
//!
//! Unlike a cache's entry such a file may lie where others write; who loads it vouches for it.

use super::error::Why;
use super::sealed::{self, Broken};
use super::{Artifact, platform};
use std::fs::{File, Permissions};
use std::io::{self, Seek};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Writes an artifact for [`Components::load_precompiled`](super::Components::load_precompiled), whole or not at all.
pub fn write_precompiled(artifact: &Artifact, path: &Path) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut draft = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o666)) // less the umask, as for any compiler's output
        .tempfile_in(directory)?;
    let mut from = &artifact.file;
    from.rewind()?;
    io::copy(&mut from, draft.as_file_mut())?;
    draft.persist(path).map_err(|failed| failed.error)?;
    Ok(())
}

/// A whole artifact that this build of the host can run.
pub(super) fn read(path: &Path) -> Result<Artifact, Why> {
    // A copy of our own: the file may be overwritten while its code runs.
    let mut copy = platform::nameless_file()?;
    let mut file = File::open(path).map_err(|error| Why::about(path, error))?;
    io::copy(&mut file, &mut copy).map_err(|error| Why::about(path, error))?;
    let label = sealed::unseal(&copy).map_err(|broken| match broken {
        Broken::Foreign => Why::ForeignArtifact,
        Broken::Damaged => Why::DamagedArtifact,
        Broken::Unreadable(error) => Why::Unreadable(error),
    })?;
    if !label.fits() {
        return Err(Why::StaleArtifact);
    }
    Ok(Artifact::new(label, copy, true))
}
