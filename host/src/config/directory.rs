//! A directory of handlers: every `NAME.wasm` in it is one, at `/NAME/`; `index.wasm` is at `/`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use http::{HeaderValue, StatusCode};

use crate::catalog::{
    BadName, HandlerName, HandlerSpec, OwnAnswer, Route, RouteError, Source, Wanted,
};
use crate::components::Stamp;
use crate::limits;

/// The handler that has the paths which no other has.
const INDEX: &str = "index";

/// What lies in a directory of handlers, at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listing {
    files: BTreeMap<PathBuf, Option<Stamp>>,
}

/// A file that cannot become a handler, because of its name.
#[derive(Debug)]
pub struct Unnamed {
    /// The file.
    pub file: PathBuf,
    /// What is wrong.
    pub why: BadName,
}

impl Listing {
    /// Looks at the directory. Files whose names begin with a dot are nobody's.
    ///
    /// # Errors
    /// When the directory cannot be read, or holds more than [`limits::HANDLERS`] components.
    pub fn of(directory: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            let is_hidden = path
                .file_name()
                .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
            let is_component = path
                .extension()
                .is_some_and(|extension| extension == "wasm");
            if is_hidden || !is_component {
                continue;
            }
            // Without a stamp it is a directory, or a link to nothing.
            if let Some(stamp) = Stamp::of(&path) {
                files.insert(path, Some(stamp));
            }
            if files.len() > limits::HANDLERS {
                return Err(io::Error::other(format!(
                    "it holds more than {} components: serve several directories by several hosts",
                    limits::HANDLERS
                )));
            }
        }
        Ok(Self { files })
    }

    /// What it asks for: handlers like `template`, but for their names, files and routes.
    ///
    /// # Errors
    /// Never of its own: a file's name that is a handler's name makes valid routes.
    pub fn wanted(&self, template: &HandlerSpec) -> Result<(Wanted, Vec<Unnamed>), RouteError> {
        let (mut wanted, mut unnamed) = (Wanted::default(), Vec::new());
        for file in self.files.keys() {
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            let name: HandlerName = match stem.parse() {
                Ok(name) => name,
                Err(why) => {
                    let file = file.clone();
                    unnamed.push(Unnamed { file, why });
                    continue;
                }
            };
            let mut route: Route = if name.as_str() == INDEX {
                "/*".parse()?
            } else {
                wanted.own.push(to_mount(&name)?);
                format!("/{name}/*").parse()?
            };
            route.strip_prefix = true;
            wanted.handlers.push(HandlerSpec {
                name,
                routes: vec![route],
                source: Source::Wasm(file.clone()),
                ..template.clone()
            });
        }
        Ok((wanted, unnamed))
    }
}

/// From `/shop` to `/shop/`, so that links which are relative to it work.
fn to_mount(name: &HandlerName) -> Result<(Route, OwnAnswer), RouteError> {
    let redirect = OwnAnswer::Redirect {
        status: StatusCode::PERMANENT_REDIRECT,
        // A handler's name has only characters that a header may hold.
        to: HeaderValue::try_from(format!("/{name}/")).unwrap_or(HeaderValue::from_static("/")),
    };
    Ok((format!("/{name}").parse()?, redirect))
}
