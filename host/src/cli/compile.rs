//! `host compile`.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;

use super::guest::CompilingArgs;
use super::{print_exactly, values};
use crate::capabilities::share::Sharer;
use crate::components;

/// Compile a component ahead of time, for this machine and this version of host.
///
/// Prints the path of the result, which `host serve --allow-precompiled` takes.
#[derive(Debug, Args)]
pub(super) struct Compile {
    /// The component's file.
    #[arg(value_name = "GUEST.WASM")]
    guest: PathBuf,
    /// Where to put the result [default: beside the component, as `.cwasm`].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Memory that an instance may have: a component that needs more from the start is refused.
    #[arg(long, value_name = "SIZE", value_parser = values::memory, default_value = "128MiB", help_heading = "Limits")]
    memory: usize,
    #[command(flatten)]
    compiling: CompilingArgs,
}

impl Compile {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let output = self
            .output
            .unwrap_or_else(|| self.guest.with_extension("cwasm"));
        if is_same_file(&self.guest, &output) {
            bail!(
                "`{}` is the component itself, which would be lost: name another file with `--output`",
                output.display()
            );
        }
        let components = self.compiling.components(self.memory);
        let artifact = components.load(&self.guest, &Sharer::alone()).await?;
        components::write_precompiled(&artifact, &output)
            .with_context(|| format!("writing `{}`", output.display()))?;
        print_exactly(&output.display().to_string());
        Ok(ExitCode::SUCCESS)
    }
}

/// Whether two paths lead to one file, however it is spelled or linked.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let file = |path: &Path| path.metadata().map(|it| (it.dev(), it.ino())).ok();
    file(one).is_some_and(|it| Some(it) == file(other))
}
