//! The host's own log: what it says, and what guests print. To stderr, or to a file.

use std::fmt;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Serialize, Serializer};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use super::line_queue::{Flush, LineQueue, Output};

/// How much the host says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verbosity {
    /// Errors only, those that guests log among them, and nothing of what guests print.
    Quiet,
    /// What an operator should know, and what guests print.
    #[default]
    Normal,
    /// Everything.
    Verbose,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, with OpenTelemetry's names.
    Json,
}

/// How and where the log is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// How a line looks.
    pub format: Format,
    /// A file. None: stderr.
    pub file: Option<PathBuf>,
}

/// A process has one log.
static QUEUE: OnceLock<LineQueue> = OnceLock::new();
static IS_JSON: AtomicBool = AtomicBool::new(false);
static IS_IN_FILE: AtomicBool = AtomicBool::new(false);

/// Starts the log, as text to stderr. Keep the guard until the end.
///
/// `NO_COLOR` and a stderr that is no terminal make it plain.
pub fn start(verbosity: Verbosity) -> Flush {
    let (writer, guard) = LineQueue::start(Output::to(std::io::stderr()));
    let _ = QUEUE.set(writer.clone());
    let filter = match verbosity {
        Verbosity::Quiet => "error",
        // h2 warns of single frames, and clients choose how many of them there are.
        Verbosity::Normal => "warn,h2=error,host=info,guest=info",
        Verbosity::Verbose => "info,host=debug,guest=trace",
    };
    // A second start, as in tests, keeps the first log.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(move || writer.clone())
        .with_ansi(has_colours())
        .event_format(Form(format::Format::default()))
        .try_init();
    guard
}

/// From now on the log looks so, and goes there.
///
/// # Errors
/// When the file can be neither opened nor made; the log stays as it was.
pub fn set(settings: &Settings) -> anyhow::Result<()> {
    if let (Some(path), Some(queue)) = (&settings.file, QUEUE.get()) {
        let file = Output::file(path)?;
        IS_IN_FILE.store(true, Ordering::Relaxed);
        queue.redirect(file);
    }
    IS_JSON.store(settings.format == Format::Json, Ordering::Relaxed);
    Ok(())
}

/// Opens its file anew, if it is in one.
pub fn reopen() {
    if let Some(queue) = QUEUE.get() {
        queue.reopen();
    }
}

/// Lines of the log that were lost since the start.
#[must_use]
pub fn lost() -> u64 {
    QUEUE.get().map_or(0, LineQueue::lost)
}

/// Whether what is said on stderr may have colours: on a terminal, and without `NO_COLOR`.
#[must_use]
pub fn has_colours() -> bool {
    std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Text or JSON, as it is said now.
struct Form(format::Format);

impl<S, N> FormatEvent<S, N> for Form
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if IS_JSON.load(Ordering::Relaxed) {
            writeln!(writer, "{}", json(event))
        } else if IS_IN_FILE.load(Ordering::Relaxed) {
            // Colours are for the terminal that it was at first.
            let mut line = String::new();
            self.0
                .format_event(context, Writer::new(&mut line), event)?;
            writer.write_str(&line)
        } else {
            self.0.format_event(context, writer, event)
        }
    }
}

/// An event as OpenTelemetry's log model has it, flat: what is ours begins with `host.`.
fn json(event: &Event<'_>) -> String {
    let metadata = event.metadata();
    let mut fields = Fields(vec![
        ("timestamp", jiff::Timestamp::now().to_string().into()),
        ("severity_text", metadata.level().as_str().into()),
        ("scope", metadata.target().into()),
    ]);
    event.record(&mut fields);
    // tracing has no such level.
    if fields.0.pop_if(|(name, _)| *name == "critical").is_some() {
        fields.0[SEVERITY].1 = "FATAL".into();
    }
    // Texts and numbers are always JSON.
    serde_json::to_string(&fields).unwrap_or_default()
}

/// Where the severity is among the fields.
const SEVERITY: usize = 1;

/// In their order.
struct Fields(Vec<(&'static str, Value)>);

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        let name = match field.name() {
            "message" => "body",
            "handler" => "host.handler",
            "tenant" => "host.tenant",
            "version" => "host.version",
            "request_id" => "host.request.id",
            "label" => "error.type",
            "stream" => "log.iostream",
            "context" => "host.log.context",
            name => name,
        };
        self.0.push((name, value.into()));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}
