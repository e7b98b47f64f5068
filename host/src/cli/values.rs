//! Values that only flags have, beside those that files have too.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::capabilities::keyvalue::{BucketGrant, Durability, FILE, MEMORY, Quota, check_redis};
use crate::catalog::HandlerName;
use crate::engine::Directory;
use crate::limits;
use crate::secret::Secret;
pub(super) use crate::values::*;

/// `NAME=VALUE`.
pub(super) fn environment(text: &str) -> Result<(String, Secret), String> {
    let (name, value) = assignment(text)?;
    Ok((name.to_owned(), value.to_owned().into()))
}

/// `NAME=VALUE`, or `NAME` for the host's own.
pub(super) fn variable_or_own(text: &str) -> Result<(String, Secret), String> {
    if !is_variable(text) {
        return environment(text);
    }
    match std::env::var(text) {
        Ok(value) => Ok((text.to_owned(), value.into())),
        Err(_) => Err(format!(
            "the host has no variable `{text}` that is a text: set it, or write `{text}=VALUE`"
        )),
    }
}

/// `NAME=FILE`.
pub(super) fn in_file(text: &str) -> Result<(String, Secret), String> {
    match assignment(text) {
        Ok((name, file)) if !file.is_empty() => {
            Ok((name.to_owned(), Secret::in_file(Path::new(file))?))
        }
        _ => Err(
            "not a name and a file: write `NAME=FILE`, without control characters in the name"
                .to_owned(),
        ),
    }
}

/// [`in_file`], for a variable.
pub(super) fn variable_in_file(text: &str) -> Result<(String, Secret), String> {
    let (name, value) = in_file(text)?;
    if value.reveal().contains('\0') {
        return Err(NUL_IN_VARIABLE.to_owned());
    }
    Ok((name, value))
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

/// A directory that is there, or can be made.
pub(super) fn directory_to_be(path: PathBuf) -> Result<PathBuf, String> {
    may_be_directory(&path)?;
    Ok(path)
}

/// A bucket, and its Redis if it is in one.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    pub(super) grant: BucketGrant,
    pub(super) redis: Option<Secret>,
    /// As it was written, without a password.
    pub(super) shown: String,
}

/// `NAME`, `NAME=memory`, `NAME=file`, `NAME=redis://HOST:PORT`.
pub(super) fn bucket(text: &str) -> Result<Bucket, String> {
    let (name, store) = text.split_once('=').unwrap_or((text, FILE));
    let name: HandlerName = name.parse().map_err(|_| {
        format!(
            "not the name of a bucket: write `NAME`, `NAME=memory`, or `NAME=redis://HOST:PORT`, where NAME is at most {} of `a-z`, `A-Z`, `0-9`, `-`, `_` and `.`",
            limits::NAME
        )
    })?;
    let (shown, store, redis) = match store {
        FILE | MEMORY => (format!("{name}={store}"), store.to_owned(), None),
        url => {
            check_redis(url).map_err(|why| match url.starts_with("redis") {
                true => why,
                false => {
                    "no store: write `NAME`, `NAME=memory`, or `NAME=redis://HOST:PORT`".to_owned()
                }
            })?;
            // Flags with the same URL mean one store. No name in a file has a colon.
            let digest = format!("{:x}", Sha256::digest(url));
            (
                format!("{name}={}", without_password(url)),
                format!("redis:{digest:.8}"),
                Some(url.to_owned().into()),
            )
        }
    };
    Ok(Bucket {
        grant: BucketGrant {
            name: name.shared(),
            store: Arc::from(store),
            quota: Quota::default(),
            durability: Durability::default(),
        },
        redis,
        shown,
    })
}

/// A URL that is one, without what stands before its host, and without its query.
fn without_password(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, it)| it);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_variable_steers_a_terminal() {
        assert!(environment("A=\u{1b}b=c").is_ok(), "a value may");
        for bad in ["A", "=b", "A\u{1b}[2J=b", "\nA=b"] {
            assert!(environment(bad).is_err(), "{bad:?}");
            assert!(in_file(bad).is_err(), "{bad:?}");
        }
        let refused = variable_or_own("A\u{1b}").expect_err("no name");
        assert!(refused.contains("control characters"), "{refused}");
    }

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (url, shown) in [
            ("redis://db.example", "redis://db.example"),
            (
                "redis://:hunter2@db.example:6379/1",
                "redis://db.example:6379/1",
            ),
            ("rediss://a:b@c@[::1]/?password=d", "rediss://[::1]/"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

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
