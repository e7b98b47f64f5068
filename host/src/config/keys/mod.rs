//! Every key of the file: what it takes, what holds when it is not said, a line about it.
//!
//! The reader refuses what is not here and the schema prints what is, so the two cannot disagree.

mod handler;
mod host;
mod route;

use std::time::Duration;

use serde_json::{Value, json};

use crate::limits::{KIB, MIB};
pub(super) use handler::{
    BUCKET, CONTAINER, DESTINATION, DIRECTORY, HANDLER, LIMITS, MANIFEST, OUTBOUND, WARM_UP,
};
pub(super) use host::{
    ACCESS_LOG, ADMIN, CERTIFICATE, CLIENT_CERTIFICATES, LISTEN, LISTENER, LOG, LOG_FORMATS, STATE,
    STORE, STORES, TENANT, TLS,
};
pub(super) use route::{
    BASIC_AUTH, CORS, EVERY_ROUTE, FIXED, HEADER_CHANGES, REDIRECT, RESPOND, ROUTE,
};

/// A table of the file.
#[derive(Debug)]
pub(super) struct Shape {
    /// Its name in the schema.
    pub(super) name: &'static str,
    /// How its head is written, for whoever put a key elsewhere.
    pub(super) place: &'static str,
    pub(super) about: &'static str,
    pub(super) keys: &'static [Key],
}

#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) takes: Takes,
    pub(super) unsaid: Unsaid,
    pub(super) about: &'static str,
}

/// What may stand to the right of a key.
#[derive(Debug)]
pub(super) enum Takes {
    /// A text, such as this one.
    Text(&'static str),
    /// `true` or `false`.
    Flag,
    /// A number from 1.
    Count,
    /// A status of HTTP, from one to another.
    Status(u16, u16),
    Duration,
    Size,
    /// One of these words.
    Choice(&'static [&'static str]),
    Table(&'static Shape),
    /// A table whose keys are names that the operator chooses.
    Named(&'static Takes),
    List(&'static Takes),
    Either(&'static Takes, &'static Takes),
}

/// What holds when a key is not there.
#[derive(Debug)]
pub(super) enum Unsaid {
    /// It means nothing, or the line about it says what.
    Nothing,
    /// A mistake, with an example to follow.
    Missing(&'static str),
    Default(fn() -> Value),
}

const fn key(name: &'static str, takes: Takes, unsaid: Unsaid, about: &'static str) -> Key {
    Key {
        name,
        takes,
        unsaid,
        about,
    }
}

use Takes::{Choice, Either, List, Named, Table, Text};
use Unsaid::Nothing;

fn duration(duration: Duration) -> Value {
    json!(humantime::format_duration(duration).to_string())
}

fn size(bytes: usize) -> Value {
    json!(match bytes {
        bytes if bytes.is_multiple_of(MIB) => format!("{}MiB", bytes / MIB),
        bytes if bytes.is_multiple_of(KIB) => format!("{}KiB", bytes / KIB),
        bytes => bytes.to_string(),
    })
}

pub(super) static HOST: Shape = Shape {
    name: "host",
    place: "at the top of the file, before the first `[table]`",
    about: "A whole host: its listener, its defaults, its tenants and its handlers.",
    keys: &[
        key("listen", Table(&LISTEN), Nothing, LISTEN.about),
        key(
            "listeners",
            Named(&Table(&LISTENER)),
            Nothing,
            "Where clients come in, by name, if that is more than one place or not in the clear. `[listen]` says what holds for all of them.",
        ),
        key(
            "admin",
            Either(&Choice(&["off"]), &Table(&ADMIN)),
            Nothing,
            ADMIN.about,
        ),
        key("state", Table(&STATE), Nothing, STATE.about),
        key("log", Table(&LOG), Nothing, LOG.about),
        key(
            "stores",
            Named(&Table(&STORE)),
            Nothing,
            "Where buckets of `wasi:keyvalue` can be, by name, besides `file` and `memory`, which are always there. A change needs a restart.",
        ),
        key(
            "defaults",
            Table(&LIMITS),
            Nothing,
            "Limits of every handler that does not say its own.",
        ),
        key(
            "every_route",
            Table(&EVERY_ROUTE),
            Nothing,
            EVERY_ROUTE.about,
        ),
        key(
            "tenants",
            Named(&Table(&TENANT)),
            Nothing,
            "Who owns handlers, by name.",
        ),
        key(
            "handlers",
            Named(&Table(&HANDLER)),
            Nothing,
            "What is deployed, by name.",
        ),
        key(
            "routes",
            List(&Table(&FIXED)),
            Nothing,
            "Routes that are answered without a guest.",
        ),
    ],
};

/// A text that is kept elsewhere.
pub(super) static REFERENCE: Shape = Shape {
    name: "reference",
    place: "in place of a secret",
    about: "A text that is kept elsewhere and never shown: one of the three.",
    keys: &[
        key(
            "from_env",
            Text("TOKEN"),
            Nothing,
            "The variable of the host's environment with this name.",
        ),
        key(
            "from_file",
            Text("token"),
            Nothing,
            "What is in this file, without a newline at its end; a path from this file.",
        ),
        key(
            "from_credential",
            Text("token"),
            Nothing,
            "The same of a file in `$CREDENTIALS_DIRECTORY`, where systemd puts them.",
        ),
    ],
};

impl Shape {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// This table and those that can stand in it, each once.
    pub(super) fn family(&'static self) -> Vec<&'static Shape> {
        let mut found = vec![self];
        let mut next = 0;
        while let Some(shape) = found.get(next) {
            for key in shape.keys {
                for inner in key.takes.tables() {
                    if !found.iter().any(|known| std::ptr::eq(*known, inner)) {
                        found.push(inner);
                    }
                }
            }
            next += 1;
        }
        found
    }
}

impl Takes {
    /// An example, where a text may stand and no number.
    pub(super) fn text(&self) -> Option<&'static str> {
        match self {
            Text(example) => Some(example),
            Either(one, other) => one.text().or_else(|| other.text()),
            _ => None,
        }
    }

    /// What one of a list takes, or one of a table whose keys are names.
    pub(super) fn inner(&'static self) -> &'static Self {
        match self {
            Named(inner) | List(inner) => inner,
            _ => self,
        }
    }

    fn tables(&self) -> Vec<&'static Shape> {
        match self {
            Table(shape) => vec![shape],
            Named(inner) | List(inner) => inner.tables(),
            Either(one, other) => [one.tables(), other.tables()].concat(),
            _ => Vec::new(),
        }
    }
}
