//! From a save to the next version: build, deploy, say so.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use super::compiler;
use super::pages::DevPages;
use super::subject::Subject;
use super::watch::Watch;
use crate::catalog::Deployer;
use crate::cli::cargo::{Crate, TARGET};
use crate::cli::guest::GuestArgs;
use crate::cli::say;

/// Why there is no new version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    /// What is wrong, in a line.
    pub(super) what: String,
    /// The compiler's message, or the deployer's.
    pub(super) why: String,
    /// Whether the terminal has shown why already.
    pub(super) is_told: bool,
}

/// What became of an attempt.
enum Outcome {
    Live,
    /// Its bytes are those that are served.
    Unchanged,
}

/// Makes versions, one after another.
pub(super) struct Workshop {
    subject: Subject,
    of_guest: GuestArgs,
    deployer: Arc<Deployer>,
    pages: Arc<DevPages>,
    /// The digest of what is served.
    live: Option<[u8; 32]>,
}

impl Workshop {
    pub(super) fn new(
        subject: Subject,
        of_guest: GuestArgs,
        deployer: Arc<Deployer>,
        pages: Arc<DevPages>,
    ) -> Self {
        Self {
            subject,
            of_guest,
            deployer,
            pages,
            live: None,
        }
    }

    /// Works until it is dropped; `is_open` once the first attempt is over.
    pub(super) async fn run(mut self, mut watch: Watch, is_open: impl FnOnce(&Subject)) {
        self.attempt(None).await;
        is_open(&self.subject);
        loop {
            let saved = watch.saved().await;
            if let Err(error) = watch.follow() {
                tracing::warn!("{error:#}");
            }
            self.attempt(Some(saved)).await;
        }
    }

    async fn attempt(&mut self, saved: Option<PathBuf>) {
        let started = Instant::now();
        let name = self.subject.name();
        let because = saved.as_ref().map_or_else(String::new, |path| {
            let file = path.file_name().unwrap_or_default().display();
            format!(" ({file} has changed)")
        });
        match &self.subject {
            Subject::Crate(_) => say(&format!("building {name} for {TARGET}{because}")),
            Subject::Component(_) => say(&format!("loading {name}{because}")),
        }
        match self.make().await {
            Ok(outcome) => {
                self.pages.set_good();
                // The first time, the URL says it.
                if saved.is_some() {
                    let took = started.elapsed().as_secs_f64();
                    say(&match outcome {
                        Outcome::Live => format!("{name} is live, {took:.1} s after the save"),
                        Outcome::Unchanged => format!("{name} is as it was"),
                    });
                }
            }
            Err(broken) => {
                let serving = if self.live.is_some() {
                    "the last good version goes on serving"
                } else {
                    "there is nothing to serve yet"
                };
                if broken.is_told {
                    say(&format!("{}: {serving}", broken.what));
                } else {
                    say(&format!("{}: {}\n{serving}", broken.what, broken.why));
                }
                self.pages.set_broken(broken, self.live.is_some());
            }
        }
    }

    async fn make(&mut self) -> Result<Outcome, Broken> {
        let component = match &self.subject {
            Subject::Component(file) => file.clone(),
            Subject::Crate(directory) => {
                let found = Crate::find(directory);
                let guest = found.map_err(|error| self.refused(&error))?;
                compiler::build(&guest).await?
            }
        };
        let bytes = std::fs::read(&component)
            .with_context(|| format!("reading `{}`", component.display()))
            .map_err(|error| self.refused(&error))?;
        let digest = <[u8; 32]>::from(Sha256::digest(&bytes));
        if self.live == Some(digest) {
            return Ok(Outcome::Unchanged);
        }
        let mut spec = self.of_guest.spec(&component);
        spec.keep_output = true;
        let deployed = self.deployer.deploy(spec).await;
        deployed.map_err(|error| self.refused(&error))?;
        self.live = Some(digest);
        Ok(Outcome::Live)
    }

    fn refused(&self, error: &anyhow::Error) -> Broken {
        Broken {
            what: format!("`{}` cannot be served", self.subject.name()),
            why: format!("{error:#}"),
            is_told: false,
        }
    }
}
