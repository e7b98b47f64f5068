//! Where a host keeps what it remembers.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::catalog::HandlerName;

/// What was said, or else what systemd says, or else a place of the user's for what is served: what one directory or file
/// has deployed is nothing to another, so each has its own.
pub(super) fn state_directory(said: Option<PathBuf>, subject: Option<&Path>) -> Option<PathBuf> {
    let path = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let of_systemd = || {
        let directories = path("STATE_DIRECTORY")?;
        // There may be several, with colons between them.
        std::env::split_paths(&directories).next()
    };
    let of_user = || {
        Some(
            path("XDG_STATE_HOME")
                .or_else(|| Some(path("HOME")?.join(".local/state")))?
                .join("host")
                .join(subject.map_or_else(|| "no-files".to_owned(), named_after)),
        )
    };
    said.or_else(of_systemd).or_else(of_user)
}

/// A name that a person knows again, and that no other place has.
fn named_after(subject: &Path) -> String {
    let place = subject.canonicalize();
    let place = place.as_deref().unwrap_or(subject);
    let name = HandlerName::like(&place.file_name().unwrap_or_default().to_string_lossy());
    let digest = Sha256::digest(place.as_os_str().as_bytes());
    format!("{name}-{:.8}", format!("{digest:x}"))
}
