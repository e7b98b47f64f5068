//! Numbers for whoever watches the host: what is counted here, and what the rooms above are asked for when somebody
//! looks.
//!
//! A request is counted when its exchange ends, in one look-up and a few atomic additions. Everything else has a number
//! anyway, and is read when the page is written ([`Source`]).

mod histogram;
pub mod names;
mod page;
mod process;
mod requests;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

pub use page::{Labels, Members, Number, Page, View};
pub(super) use requests::{Cost, OTHER, Request, method};
pub use requests::{OfHandler, Requests};

/// Has numbers.
pub trait Source: fmt::Debug + Send + Sync + 'static {
    /// Writes what the one may see who asks. A family is one source's alone.
    ///
    /// # Errors
    /// When there is no room for the page.
    fn write(&self, page: &mut Page<'_>) -> fmt::Result;
}

/// All that has numbers.
#[derive(Debug)]
pub struct Metrics {
    sources: Mutex<Vec<Arc<dyn Source>>>,
}

/// How a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text of version 0.0.4.
    Classic,
}

impl Form {
    /// The one for a client that accepts this. Prometheus names both, and prefers the first.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("text/plain") && !accept.contains("application/openmetrics-text") {
            Self::Classic
        } else {
            Self::OpenMetrics
        }
    }

    /// Its content type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

impl Metrics {
    /// With the numbers of this process, and those of requests.
    #[must_use]
    pub fn new(requests: Arc<Requests>) -> Self {
        Self {
            sources: Mutex::new(vec![requests, Arc::new(process::Process)]),
        }
    }

    /// One more source, whose numbers come behind the others'.
    pub fn add(&self, source: Arc<dyn Source>) {
        self.sources().push(source);
    }

    /// The page, as `view` may see it. It takes a while where there are thousands of handlers, so call it where that is
    /// allowed.
    #[must_use]
    pub fn page(&self, view: &View, form: Form) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Seen {
            sources: self.sources().clone(),
            view: view.clone(),
        }));
        let mut page = String::new();
        // A `String` has room until the process has none.
        let _ = text::encode(&mut page, &registry);
        match form {
            Form::OpenMetrics => page,
            Form::Classic => page::classic(&page),
        }
    }

    fn sources(&self) -> std::sync::MutexGuard<'_, Vec<Arc<dyn Source>>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sources as one sees them.
#[derive(Debug)]
struct Seen {
    sources: Vec<Arc<dyn Source>>,
    view: View,
}

impl Collector for Seen {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder, self.view.clone());
        self.sources
            .iter()
            .try_for_each(|source| source.write(&mut page))
    }
}

#[cfg(test)]
mod tests {
    use super::Form;

    #[test]
    fn who_names_no_openmetrics_gets_the_older_form() {
        for (accept, form) in [
            ("", Form::OpenMetrics),
            ("*/*", Form::OpenMetrics),
            ("text/plain", Form::Classic),
            (
                "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Form::OpenMetrics,
            ),
        ] {
            assert_eq!(Form::accepted(accept), form, "{accept}");
        }
    }
}
