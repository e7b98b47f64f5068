//! The command line, in the words of the person who types it. One file a subcommand.

mod build;
pub mod cargo;
mod check;
mod compile;
mod complete;
mod deploy;
mod dev;
mod guest;
mod inspect;
mod list;
mod new;
mod remote;
mod rollback;
mod schema;
mod serve;
mod show;
mod state;
mod undeploy;
mod values;

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::components;
use crate::config::Mistakes;
use crate::engine;
use crate::names;
use crate::observe::log::{self, Verbosity};
use crate::server;

/// Runs WebAssembly HTTP handlers.
///
/// A handler is a component that exports wasi:http, version 0.2 or 0.3, written in any language. It
/// gets no files, no environment and no network unless granted, and whatever it does wrong costs its
/// own request a 500.
#[derive(Debug, Parser)]
#[command(name = "host", version, max_term_width = 80)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say only what is wrong, and nothing of what guests print.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say everything.
    #[arg(long, short, global = true)]
    verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    New(new::New),
    Dev(dev::Dev),
    Build(build::Build),
    Inspect(inspect::Inspect),
    Check(check::Check),
    Compile(compile::Compile),
    Schema(schema::Schema),
    Deploy(deploy::Deploy),
    List(list::List),
    Show(show::Show),
    Rollback(rollback::Rollback),
    Undeploy(undeploy::Undeploy),
    Completions(complete::Completions),
    Manual(complete::Manual),
}

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    // The compiler's process: it limits itself before it has threads.
    let mut words = std::env::args_os().skip(1);
    if words.next().as_deref() == Some(OsStr::new(components::SUBCOMMAND)) {
        return components::child_main(words);
    }
    server::note_inherited();
    let matches = Cli::command().try_get_matches();
    let matches = matches.unwrap_or_else(|error| without_secrets(error).exit());
    let given = given(&matches);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let verbosity = match (cli.quiet, cli.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };
    let log = log::start(verbosity);
    let ended = match cli.command {
        Command::Serve(serve) => in_runtime(serve.run(&given)),
        Command::New(new) => new.run(),
        Command::Dev(dev) => in_runtime(dev.run()),
        Command::Build(build) => build.run(),
        Command::Inspect(inspect) => inspect.run(),
        Command::Check(check) => in_runtime(check.run()),
        Command::Compile(compile) => in_runtime(compile.run()),
        Command::Schema(schema) => schema.run(),
        Command::Deploy(deploy) => in_runtime(deploy.run()),
        Command::List(list) => in_runtime(list.run()),
        Command::Show(show) => in_runtime(show.run()),
        Command::Rollback(rollback) => in_runtime(rollback.run()),
        Command::Undeploy(undeploy) => in_runtime(undeploy.run()),
        Command::Completions(completions) => completions.run(),
        Command::Manual(manual) => manual.run(),
    };
    // What is still in the queue comes before the last word.
    drop(log);
    ended.unwrap_or_else(|error| {
        say(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}

/// What is wrong with a flag, without its value if that may be a secret or have a password in it.
fn without_secrets(mut error: clap::Error) -> clap::Error {
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(shown)) => shown.split(' ').next().unwrap_or_default(),
        _ => "",
    };
    if MAY_BE_SECRET.contains(&flag) {
        let stars = ContextValue::String("***".to_owned());
        error.insert(ContextKind::InvalidValue, stars);
    }
    error
}

/// Flags, of whichever subcommand, whose values are quoted nowhere. Nor do their parsers, in what they say of a value.
const MAY_BE_SECRET: [&str; 7] = [
    "--env",
    "--env-from",
    "--config",
    "--config-from",
    "--keyvalue",
    "--allow-outbound",
    "--allow-socket",
];

/// The flags that were typed, by the names of their fields.
fn given(matches: &ArgMatches) -> Vec<String> {
    let Some((name, matches)) = matches.subcommand() else {
        return Vec::new();
    };
    let command = Cli::command();
    let flags = command.find_subcommand(name).into_iter();
    let names =
        flags.flat_map(|command| command.get_arguments().map(|flag| flag.get_id().as_str()));
    let is_typed = |name: &&str| matches.value_source(name) == Some(ValueSource::CommandLine);
    names.filter(is_typed).map(str::to_owned).collect()
}

fn in_runtime(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .on_thread_start(engine::prepare_first(threads, || {}))
        .on_thread_park(server::thread_rests)
        .enable_all()
        .build()
        .context("starting the threads that serve")?;
    let ended = runtime.block_on(command);
    // Guests whose time is up do not get more of it.
    runtime.shutdown_background();
    ended
}

/// A line to the person at the terminal, before and after serving, and once when ready.
fn say(line: &str) {
    // Nobody is left to tell if that fails.
    let _ = writeln!(std::io::stderr(), "{}", legible_lines(line));
}

/// What is wrong with a file, which shows nothing of it that steers a terminal.
fn say_mistakes(mistakes: &Mistakes) {
    let rendered = mistakes.render(log::has_colours());
    let _ = writeln!(std::io::stderr(), "{rendered}");
}

/// What was asked for: the answer of a subcommand that does not serve, to a person.
fn print(text: &str) {
    print_exactly(&legible_lines(text));
}

/// The same to a program, which needs each byte of it.
fn print_exactly(text: &str) {
    if let Err(error) = writeln!(std::io::stdout(), "{text}") {
        say(&format!("error: the answer cannot be written: {error}"));
        std::process::exit(1);
    }
}

/// Lines in which others may have had a word.
fn legible_lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(names::legible).collect();
    lines.join("\n")
}
