//! `host check`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::guest::GuestArgs;
use super::serve::USAGE;
use super::{print, say, say_mistakes};
use crate::capabilities::Services;
use crate::config;
use crate::engine::Guests;
use crate::values::counted;

/// The file that says what to do is wrong (`EX_CONFIG` of sysexits.h).
pub(super) const BAD_CONFIGURATION: u8 = 78;

/// Compile a component and start it under the limits, without serving it; or find every mistake in the file of a whole
/// host.
///
/// For a component: exits with 0 if `host serve` with the same flags would serve it, with 1 and the reason if not.
///
/// For a file that ends in `.toml`: reads it and looks at the components that it names, and compiles and deploys
/// nothing. Beside a component of its name such a file is that one's manifest. Exits with 78 and all mistakes, each under its line, if there are any. The limits of its handlers are those
/// in the file; the flags are for a component.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// The component's file, or that of a whole host.
    #[arg(value_name = "GUEST.WASM|HOST.TOML")]
    file: PathBuf,
    #[command(flatten)]
    of_guest: GuestArgs,
}

impl Check {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        if self.file.extension().is_some_and(|it| it == "toml") {
            return Ok(check_config(&self.file));
        }
        if let Some(mistake) = self.of_guest.mistake(false) {
            say(&format!("error: {mistake}"));
            return Ok(ExitCode::from(USAGE));
        }
        let mut spec = self.of_guest.spec(&self.file);
        // What it remembers is for who serves it.
        spec.guest.grants.keyvalue.clear();
        spec.guest.grants.blobstore.clear();
        let deployer = self.of_guest.deployer(Guests::One, Services::default());
        let handler = deployer.build(spec).await?;
        print(&format!(
            "`{}` can be served as `{}`",
            self.file.display(),
            handler.name
        ));
        Ok(ExitCode::SUCCESS)
    }
}

fn check_config(file: &Path) -> ExitCode {
    // Beside a component of its name it is a manifest.
    let checked = if file.with_extension("wasm").is_file() {
        config::check_manifest(file).map(|_| None)
    } else {
        config::check(file).map(Some)
    };
    match checked {
        Ok(None) => {
            print(&format!("{}: a manifest, no mistakes", file.display()));
            ExitCode::SUCCESS
        }
        Ok(Some(config)) => {
            let handlers = config.handlers.len();
            let of_handlers = config.handlers.iter().map(|handler| handler.routes.len());
            let routes = of_handlers.sum::<usize>() + config.fixed.len();
            print(&format!(
                "{}: no mistakes, {}, {}",
                file.display(),
                counted(handlers, "handler"),
                counted(routes, "route")
            ));
            ExitCode::SUCCESS
        }
        Err(mistakes) => {
            say_mistakes(&mistakes);
            ExitCode::from(BAD_CONFIGURATION)
        }
    }
}
