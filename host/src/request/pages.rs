//! Pages for the person who writes the handler, in place of those for its users.

use http::HeaderMap;
use http::Uri;

use super::Failure;

/// What `host dev` shows in a browser. Nothing else implements it: users never see these pages.
pub trait Pages: Send + Sync {
    /// A page in place of the handler, while its source does not compile; and what the pages
    /// themselves ask for.
    fn instead(&self, uri: &Uri, headers: &HeaderMap) -> Option<Page>;

    /// A page for a failure, with the last lines that the guest printed.
    fn failure(&self, failure: &Failure, output: &[String], headers: &HeaderMap) -> Option<Page>;
}

/// A page, ready to send.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its status.
    pub status: http::StatusCode,
    /// Its media type.
    pub content_type: &'static str,
    /// Its text.
    pub body: String,
    /// Whether the access log has a line for it: not for what the pages themselves ask, again and again.
    pub is_logged: bool,
}
