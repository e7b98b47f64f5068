//! What an operator wants deployed, checked.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{OwnAnswer, Policy, Route, WarmUp};
use crate::capabilities::share::Sharer;
use crate::engine::GuestSettings;
use crate::limits::{self, HandlerLimits};
use crate::names::short;

/// Everything that should be deployed.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The handlers.
    pub handlers: Vec<HandlerSpec>,
    /// What is answered without a guest.
    pub own: Vec<(Route, OwnAnswer)>,
    /// What is left as it is: nobody knows what is wanted of these now.
    pub kept: Vec<HandlerName>,
    /// What the host does on every route that says nothing of it, and where there is no route.
    pub every: Option<Arc<Policy>>,
}

/// A handler to be: where its component is, and what it gets.
#[derive(Debug, Clone)]
pub struct HandlerSpec {
    /// What it is called.
    pub name: HandlerName,
    /// Who owns it. None: the operator.
    pub tenant: Option<Arc<str>>,
    /// The requests that it gets.
    pub routes: Vec<Route>,
    /// The component's file.
    pub source: Source,
    /// Its number among the versions of the handler, if those are kept.
    pub version: Option<u64>,
    /// What it may use.
    pub limits: HandlerLimits,
    /// What its instances get.
    pub guest: GuestSettings,
    /// What it must answer before it is put in place.
    pub warm_up: Option<WarmUp>,
    /// Requests are answered from the door while it fails again and again. Not where it is the only handler: nobody
    /// gains by that.
    pub quarantine: bool,
    /// The host is not ready while it cannot be served.
    pub required: bool,
    /// What its guest prints is kept for the pages of `host dev`.
    pub keep_output: bool,
}

impl HandlerSpec {
    /// Whether a guest made for `other` serves this one too: it may have other routes.
    pub(super) fn makes_the_same(&self, other: &Self) -> bool {
        self.source == other.source
            && self.tenant == other.tenant
            && self.limits == other.limits
            && self.guest == other.guest
            && self.warm_up == other.warm_up
            && self.quarantine == other.quarantine
            && self.keep_output == other.keep_output
    }

    /// With whom it shares what there is for all.
    pub(super) fn sharer(&self) -> Sharer {
        Sharer::of(&self.name.shared(), self.tenant.as_ref())
    }

    /// Names what decides, besides the component, whether a guest starts and is ready.
    pub(super) fn settings(&self) -> String {
        // Printed, they are stars.
        let guest = &self.guest;
        let variables = guest.environment.iter().chain(&guest.grants.config);
        let variables: Vec<_> = variables
            .map(|(name, value)| (name, value.reveal()))
            .collect();
        let said = format!(
            "{:?} {:?} {variables:?} {:?}",
            self.limits, self.guest, self.warm_up
        );
        format!("{:x}", Sha256::digest(said))
    }
}

/// Where a component comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A component, compiled here or found in the cache.
    Wasm(PathBuf),
    /// What `host compile` wrote. It runs as it is: only from someone trusted like the host itself.
    Precompiled(PathBuf),
}

impl Source {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Wasm(path) | Self::Precompiled(path) => path,
        }
    }
}

/// What a handler is called: in logs, in URLs and in file names, so it has only characters that mean nothing in any of
/// them, and none that look like others.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HandlerName(Arc<str>);

impl HandlerName {
    /// A name that is like `text`, which may be anything.
    #[must_use]
    pub fn like(text: &str) -> Self {
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '-'
            }
        };
        let name: String = text
            .chars()
            .map(plain)
            .skip_while(|c| !c.is_ascii_alphanumeric())
            .take(limits::NAME)
            .collect();
        Self(Arc::from(if name.is_empty() { "guest" } else { &name }))
    }

    /// The text, shared.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for HandlerName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for HandlerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HandlerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Names of handlers that are taken, to find those that differ in case only: people, and the hosts of calls, would take one
/// for the other.
#[derive(Debug, Default)]
pub(crate) struct Spellings(HashMap<String, Arc<str>>);

impl Spellings {
    /// Takes a name, again if need be.
    ///
    /// # Errors
    /// When one is taken that differs in case only.
    pub(crate) fn take(&mut self, name: &Arc<str>) -> Result<(), Alike> {
        let first = self.0.entry(name.to_ascii_lowercase());
        let first = first.or_insert_with(|| Arc::clone(name));
        if *first == *name {
            return Ok(());
        }
        Err(Alike {
            name: Arc::clone(name),
            other: Arc::clone(first),
        })
    }
}

impl FromIterator<Arc<str>> for Spellings {
    fn from_iter<I: IntoIterator<Item = Arc<str>>>(names: I) -> Self {
        let spelled = names
            .into_iter()
            .map(|name| (name.to_ascii_lowercase(), name));
        Self(spelled.collect())
    }
}

/// A name that differs from another's in case only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alike {
    /// It.
    pub name: Arc<str>,
    /// The one that was there before.
    pub other: Arc<str>,
}

impl fmt::Display for Alike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` differs from the handler `{}` only in upper and lower case: take another name",
            self.name, self.other
        )
    }
}

/// A name that no handler can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadName(String);

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no name: write at most {} of `a-z`, `A-Z`, `0-9`, `-`, `_` and `.`, and a letter or digit first",
            self.0,
            limits::NAME
        )
    }
}

impl std::error::Error for BadName {}

impl std::str::FromStr for HandlerName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric();
        let is_name = text.len() <= limits::NAME
            && text.bytes().next().is_some_and(is_plain)
            && text
                .bytes()
                .all(|byte| is_plain(byte) || b"-_.".contains(&byte));
        if is_name {
            Ok(Self(Arc::from(text)))
        } else {
            Err(BadName(short(text).escape_debug().to_string()))
        }
    }
}

impl TryFrom<String> for HandlerName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<HandlerName> for String {
    fn from(name: HandlerName) -> Self {
        name.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_a_path_a_log_and_a_file_can_all_hold() {
        for good in ["shop", "Shop-2", "a", "v1.2_x", &"a".repeat(limits::NAME)] {
            assert!(good.parse::<HandlerName>().is_ok(), "{good}");
        }
        let megabyte = "a".repeat(1 << 20);
        for bad in [
            "",
            ".",
            "..",
            "../shop",
            "-x",
            "a b",
            "sh\u{43e}p",
            "a\n",
            "a/b",
            "a%2e",
            &megabyte,
        ] {
            let refused = bad.parse::<HandlerName>().expect_err("no name").to_string();
            assert!(refused.len() < 300 && !refused.contains('\n'), "{refused}");
        }
    }
}
