//! `host dev`.
//!
//! The workshop builds and deploys, the watch tells it of saves, and the pages show in the browser
//! what is wrong. Serving is the same as under `host serve`.

mod certificate;
mod compiler;
mod pages;
mod subject;
mod terminal;
mod watch;
mod workshop;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::guest::GuestArgs;
use super::say;
use super::serve::{DoorArgs, USAGE};
use super::state::state_directory;
use crate::app::{self, Watched};
use crate::engine::Guests;
use crate::observe::log;
use crate::server::TlsConfig;
use pages::DevPages;
use subject::Subject;
use watch::Watch;
use workshop::Workshop;

/// Serve a handler while you write it: each save is built, and live a moment after.
///
/// A build that fails leaves the last good one serving; a browser gets the compiler's message as a
/// page, which goes away by itself when the build is good again. After a trap the page is the guest's
/// backtrace and its last output. With a component's file in place of a directory, each new version of
/// the file is served.
#[derive(Debug, Args)]
pub(super) struct Dev {
    /// The directory of a crate, or a component's file.
    #[arg(value_name = "DIRECTORY|GUEST.WASM")]
    guest: PathBuf,
    /// HTTPS with a certificate that is made for this machine and signed by nobody else.
    #[arg(
        long,
        conflicts_with = "tls_cert",
        help_heading = "HTTPS and listeners"
    )]
    tls: bool,
    #[command(flatten)]
    door: DoorArgs,
    #[command(flatten)]
    of_guest: GuestArgs,
}

impl Dev {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(mistake) = self.of_guest.mistake(false) {
            say(&format!("error: {mistake}"));
            return Ok(ExitCode::from(USAGE));
        }
        app::raise_open_files();
        let subject = Subject::find(&self.guest)?;
        let watch = Watch::start(subject.places()?)?;
        let mut settings = self.door.settings();
        log::set(&settings.log)?;
        let own = self.tls.then(certificate::own).transpose()?;
        if let Some(own) = &own {
            for listener in &mut settings.listeners {
                listener.tls = Some(TlsConfig {
                    certificates: vec![own.clone()],
                    client_certificates: None,
                });
            }
        }
        let door = app::open(&settings)?;
        let state = state_directory(None, Some(&self.guest));
        let services = self.of_guest.services(state.as_deref());
        services.keyvalue.open_needed()?;
        let deployer = Arc::new(self.of_guest.deployer(Guests::One, services));
        let services = Arc::clone(deployer.services());
        let gate = self.of_guest.gate();
        let pages = Arc::new(DevPages::default());

        // The door is open from the start, so that a browser need not be told to try again.
        let workshop = Workshop::new(
            subject,
            self.of_guest,
            Arc::clone(&deployer),
            Arc::clone(&pages),
        );
        let addresses = door.addresses();
        let working = tokio::spawn(workshop.run(watch, move |subject| {
            for address in addresses {
                say(&format!("Serving HTTP on {address}"));
            }
            if let Some(own) = own {
                let file = own.cert.display();
                say(&format!(
                    "Its certificate is `{file}`: `curl --cacert {file}`, or let your browser trust it."
                ));
            }
            say(&format!(
                "{}: a save is live within a second or so. Stop with Ctrl-C.",
                subject.invitation()
            ));
        }));
        let ended = app::serve(
            door,
            settings,
            deployer.catalog(),
            gate,
            Some(pages),
            &Watched::new(),
        )
        .await;
        // A compiler that runs is stopped when this task is dropped.
        working.abort();
        let _ = working.await;
        app::close(&services).await;
        ended
    }
}
