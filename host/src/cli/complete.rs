//! `host completions` and `host manual`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _};

use super::Cli;

/// Print completions for a shell.
///
/// For bash: `host completions bash > ~/.local/share/bash-completion/completions/host`.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell.
    shell: clap_complete::Shell,
}

impl Completions {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "host", &mut text);
        std::io::stdout().write_all(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Print the manual page.
///
/// To read it: `host manual | man -l -`.
#[derive(Debug, Args)]
pub(super) struct Manual {}

impl Manual {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut out = std::io::stdout();
        let command = Cli::command();
        clap_mangen::Man::new(command.clone()).render(&mut out)?;
        // A page each would need a directory: the subcommands follow on the same one.
        for subcommand in command
            .get_subcommands()
            .filter(|subcommand| !subcommand.is_hide_set())
        {
            let page = clap_mangen::Man::new(
                subcommand
                    .clone()
                    .display_name(format!("host {}", subcommand.get_name())),
            );
            page.render_synopsis_section(&mut out)?;
            page.render_description_section(&mut out)?;
            page.render_options_section(&mut out)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
