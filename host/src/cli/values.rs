//! Values that only flags have, beside those that files have too.

use std::path::PathBuf;

use crate::engine::Directory;
use crate::secret::Secret;
pub(super) use crate::values::*;

/// `NAME=VALUE`.
pub(super) fn environment(text: &str) -> Result<(String, Secret), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned().into())),
        _ => Err("not a variable: write `NAME=VALUE`".to_owned()),
    }
}

/// `HOST::GUEST` or `HOST`, which the guest then sees by the same name, and perhaps `:rw`.
pub(super) fn directory(text: &str) -> Result<Directory, String> {
    let (text, writable) = match text.strip_suffix(":rw") {
        Some(text) => (text, true),
        None => (text.strip_suffix(":ro").unwrap_or(text), false),
    };
    let (host, guest) = text.split_once("::").unwrap_or((text, text));
    if host.is_empty() || guest.is_empty() {
        return Err(
            "not a directory: write `HOST::GUEST`, and `HOST::GUEST:rw` to let it write".to_owned(),
        );
    }
    // Without `::` it is a path of the host, which may have any name.
    if guest != host
        && let Some((_, end)) = guest.rsplit_once(':')
    {
        return Err(format!(
            "not a right to a directory: `:{end}`: write `:rw` to let the guest write, or nothing"
        ));
    }
    let host = PathBuf::from(host);
    is_directory(&host)?;
    Ok(Directory {
        host,
        guest: guest.to_owned(),
        writable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read_only_unless_it_says_so() {
        let there = std::env::temp_dir();
        let there = there.display();
        assert!(
            !directory(&format!("{there}::/data"))
                .expect("a directory")
                .writable
        );
        assert!(
            directory(&format!("{there}::/data:rw"))
                .expect("a directory")
                .writable
        );
        assert_eq!(
            directory(&format!("{there}::/data"))
                .expect("a directory")
                .guest,
            "/data"
        );
        let same = directory(&format!("{there}:rw")).expect("a directory");
        assert_eq!(
            (same.guest, same.writable),
            (there.to_string(), true),
            "as `wasmtime serve` has it"
        );
        assert!(
            directory(&format!("{there}::/data:rx"))
                .expect_err("mistyped")
                .contains(":rw")
        );
        assert!(
            directory("/no/such/place::/data")
                .expect_err("missing")
                .contains("make it first")
        );
    }
}
