//! What the browser shows when there is no answer: what is wrong, and how to find it.
//!
//! A page asks for the number of the current version and loads itself again when that changes.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, StatusCode, Uri, header};

use super::terminal;
use super::workshop::Broken;
use crate::engine::FaultKind;
use crate::request::{Failure, Page, Pages};

/// Where the pages ask for the version.
const VERSION: &str = "/.host/dev/version";
/// Every page, before it is filled in.
const PAGE: &str = include_str!("../../../templates/dev.html");

/// The pages of one `host dev`.
#[derive(Debug)]
pub(super) struct DevPages(Mutex<Now>);

#[derive(Debug)]
struct Now {
    /// Another for each attempt. It begins with the time, so that a page of an earlier `host dev` at
    /// the same address sees a difference.
    version: u128,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    /// The first version is being built.
    First,
    /// The newest version serves.
    Good,
    /// The newest version does not; whether one before it serves.
    Broken { broken: Broken, has_older: bool },
}

impl Default for DevPages {
    fn default() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self(Mutex::new(Now {
            version: since.unwrap_or_default().as_millis(),
            state: State::First,
        }))
    }
}

impl DevPages {
    pub(super) fn set_good(&self) {
        self.set(State::Good);
    }

    pub(super) fn set_broken(&self, broken: Broken, has_older: bool) {
        self.set(State::Broken { broken, has_older });
    }

    fn set(&self, state: State) {
        let mut now = self.now();
        now.version += 1;
        now.state = state;
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages for DevPages {
    fn instead(&self, uri: &Uri, headers: &HeaderMap) -> Option<Page> {
        let now = self.now();
        if uri.path() == VERSION {
            let mut page = text(StatusCode::OK, now.version.to_string());
            page.is_logged = false;
            return Some(page);
        }
        let is_browser = wants_html(headers);
        let (status, report) = match &now.state {
            State::Good => return None,
            // A program is better served by an old version than by a message.
            State::Broken { has_older, .. } if *has_older && !is_browser => return None,
            State::First => (StatusCode::SERVICE_UNAVAILABLE, Report::first()),
            State::Broken { broken, .. } => {
                (StatusCode::INTERNAL_SERVER_ERROR, Report::broken(broken))
            }
        };
        Some(report.page(status, is_browser, now.version))
    }

    fn failure(&self, failure: &Failure, output: &[String], headers: &HeaderMap) -> Option<Page> {
        let report = Report::failed(failure, output)?;
        tracing::error!("{}", for_terminal(&report.headline, failure));
        let version = self.now().version;
        Some(report.page(failure.status(), wants_html(headers), version))
    }
}

/// What there is to say, before it has a form.
struct Report {
    headline: String,
    sections: Vec<Section>,
}

struct Section {
    title: &'static str,
    lines: Vec<String>,
}

impl Report {
    fn first() -> Self {
        Self {
            headline: "The first version is being built".to_owned(),
            sections: Vec::new(),
        }
    }

    fn broken(broken: &Broken) -> Self {
        Self {
            headline: broken.what.clone(),
            sections: vec![Section {
                title: "Why",
                lines: broken.why.lines().map(str::to_owned).collect(),
            }],
        }
    }

    /// Of the failures that the handler's author can do something about.
    fn failed(failure: &Failure, output: &[String]) -> Option<Self> {
        let why = match failure {
            Failure::Fault(fault) => fault.detail.trim_start_matches("wasm trap: "),
            Failure::Deadline(_) => "it did not answer in time (`--timeout` sets how long it has)",
            _ => return None,
        };
        let printable = |lines: &[String]| -> Vec<String> {
            lines.iter().map(|line| terminal::plain(line)).collect()
        };
        let output = printable(output);
        Some(Self {
            headline: panic_in(failure, &output)
                .unwrap_or_else(|| format!("the handler failed: {}", terminal::plain(why))),
            // The message of a panic is in the output, and says more than its frames.
            sections: vec![
                Section {
                    title: "Last output",
                    lines: output,
                },
                Section {
                    title: "Backtrace",
                    lines: printable(backtrace(failure)),
                },
            ],
        })
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n", self.headline);
        for section in self
            .sections
            .iter()
            .filter(|section| !section.lines.is_empty())
        {
            let _ = writeln!(text, "\n{}:", section.title);
            for line in &section.lines {
                let _ = writeln!(text, "  {line}");
            }
        }
        text
    }

    fn page(&self, status: StatusCode, is_browser: bool, version: u128) -> Page {
        if is_browser {
            html(status, &self.headline, &self.html_sections(), version)
        } else {
            text(status, self.text())
        }
    }

    fn html_sections(&self) -> String {
        let mut html = String::new();
        for section in self
            .sections
            .iter()
            .filter(|section| !section.lines.is_empty())
        {
            let _ = writeln!(html, "<h2>{}</h2>\n<pre>", section.title);
            for line in &section.lines {
                let class = if is_of_library(line) {
                    " class=\"runtime\""
                } else {
                    ""
                };
                let _ = writeln!(html, "<span{class}>{}</span>", escape(line));
            }
            html.push_str("</pre>\n");
        }
        html
    }
}

/// A panic is a trap like any other; what it is about was printed before, by Rust in two lines.
fn panic_in(failure: &Failure, output: &[String]) -> Option<String> {
    if !matches!(failure, Failure::Fault(fault) if fault.kind == FaultKind::Trap) {
        return None;
    }
    let at = output.iter().rposition(|line| line.contains(PANICKED))?;
    let (_, place) = output[at].split_once(PANICKED)?;
    let message = output.get(at + 1).map_or("", String::as_str);
    let headline = format!(
        "the handler panicked: {message}, at {}",
        place.trim_end_matches(':')
    );
    Some(headline)
}

/// Between the name of a thread and a place in its source.
const PANICKED: &str = " panicked at ";

fn backtrace(failure: &Failure) -> &[String] {
    match failure {
        Failure::Fault(fault) => &fault.backtrace,
        _ => &[],
    }
}

/// Without the output, which is in the terminal already.
fn for_terminal(headline: &str, failure: &Failure) -> String {
    let mut text = headline.to_owned();
    for frame in backtrace(failure) {
        let _ = write!(text, "\n    in {}", terminal::plain(frame));
    }
    text
}

fn text(status: StatusCode, body: String) -> Page {
    Page {
        status,
        content_type: "text/plain; charset=utf-8",
        body,
        is_logged: true,
    }
}

fn html(status: StatusCode, headline: &str, sections: &str, version: u128) -> Page {
    // What others wrote goes in last, so that nothing in it is taken for a place to fill.
    let body = PAGE
        .replace("{{version}}", &version.to_string())
        .replace("{{headline}}", &escape(headline))
        .replacen("{{sections}}", sections, 1);
    Page {
        status,
        content_type: "text/html; charset=utf-8",
        body,
        is_logged: true,
    }
}

/// A browser that opens a page says so; `fetch` in a page, and curl, do not.
fn wants_html(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| range.split(';').next().unwrap_or("").trim() == "text/html")
}

/// A frame of a backtrace that its author did not write.
fn is_of_library(line: &str) -> bool {
    let Some((_, function)) = line.split_once('!') else {
        return false;
    };
    let function = function.trim_start_matches('<');
    function == "abort"
        || LIBRARIES
            .iter()
            .any(|library| function.starts_with(library))
}

/// What is under a handler in Rust.
const LIBRARIES: [&str; 11] = [
    "std::",
    "core::",
    "alloc::",
    "__rustc",
    "rust_",
    "async_task::",
    "futures_",
    "wasip2::",
    "wasip3::",
    "wit_bindgen::",
    "wstd::",
];

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Fault;

    fn accept(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, http::HeaderValue::from_static(value))])
    }

    fn broken() -> Broken {
        Broken {
            what: "`shop` does not compile".to_owned(),
            why: "error: <b>{{version}}</b>".to_owned(),
            is_told: true,
        }
    }

    fn ask(pages: &DevPages, path: &'static str, headers: &HeaderMap) -> Option<(u16, String)> {
        let page = pages.instead(&Uri::from_static(path), headers)?;
        Some((page.status.as_u16(), page.body))
    }

    #[test]
    fn a_browser_sees_the_message_while_programs_get_the_last_good_version() {
        let (browser, program) = (accept("text/html,*/*;q=0.8"), accept("*/*"));
        let pages = DevPages::default();
        assert_eq!(ask(&pages, "/", &program).map(|page| page.0), Some(503));

        pages.set_good();
        assert_eq!(ask(&pages, "/", &browser), None);

        pages.set_broken(broken(), true);
        let (status, page) = ask(&pages, "/", &browser).expect("a page");
        assert_eq!(status, 500);
        assert!(
            page.contains("error: &lt;b&gt;{{version}}&lt;/b&gt;"),
            "{page}"
        );
        assert_eq!(ask(&pages, "/", &program), None);

        pages.set_broken(broken(), false);
        let (status, page) = ask(&pages, "/", &program).expect("a message");
        assert_eq!(status, 500);
        assert!(page.contains("error: <b>"), "{page}");
    }

    #[test]
    fn a_page_asks_for_a_version_that_each_attempt_changes() {
        let pages = DevPages::default();
        let version = || ask(&pages, VERSION, &HeaderMap::new()).expect("answered").1;
        let first = version();
        pages.set_good();
        let second = version();
        assert_ne!(first, second);
        pages.set_broken(broken(), true);
        let (_, page) = ask(&pages, "/", &accept("text/html")).expect("a page");
        assert_ne!(second, version());
        assert!(page.contains(&format!("!== \"{}\"", version())), "{page}");
    }

    #[test]
    fn a_trap_shows_where_and_what_was_printed_last() {
        let failure = Failure::Fault(Fault {
            kind: FaultKind::Trap,
            detail: "wasm trap: out of bounds".to_owned(),
            backtrace: vec![
                "shop.wasm!core::fail<T>".into(),
                "shop.wasm!shop::pay".into(),
            ],
        });
        let pages = DevPages::default();
        let output = ["paying\u{1b}[2J".to_owned()];
        let page = |range| {
            pages
                .failure(&failure, &output, &accept(range))
                .expect("a page")
                .body
        };

        let text = page("*/*");
        assert!(
            text.starts_with("the handler failed: out of bounds\n"),
            "{text}"
        );
        assert!(text.contains("Last output:\n  paying\n"), "{text}");
        assert!(text.contains("\n  shop.wasm!shop::pay\n"), "{text}");

        let html = page("text/html");
        assert!(html.contains("<span>shop.wasm!shop::pay</span>"), "{html}");
        assert!(
            html.contains("class=\"runtime\">shop.wasm!core::fail&lt;T&gt;"),
            "{html}"
        );

        let output = [
            "thread '<unnamed>' panicked at src/lib.rs:7:5:".to_owned(),
            "no <money>".to_owned(),
            "note: run with `RUST_BACKTRACE=1`".to_owned(),
        ];
        let page = pages.failure(&failure, &output, &accept("text/html"));
        let panicked = "the handler panicked: no &lt;money&gt;, at src/lib.rs:7:5";
        let page = page.expect("a page").body;
        assert!(
            page.contains(&format!("<title>{panicked}</title>")),
            "{page}"
        );

        let of_client = pages.failure(&Failure::BodyTooLarge, &[], &accept("text/html"));
        assert!(of_client.is_none());
    }
}
