//! Answers that may be kept, for as long as they say.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, StatusCode, http_error_code,
};
use wasip2::io::streams::StreamError;

/// Bytes of one answer that is kept, and how many there are.
const BYTES: usize = 256 * 1024;
const ANSWERS: usize = 64;

#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
    fields: Vec<(String, Vec<u8>)>,
    until: Instant,
}

thread_local! {
    static CACHE: RefCell<BTreeMap<String, Kept>> = RefCell::default();
}

/// What is kept for a path and its query, and is still good.
pub(crate) fn find(target: &str) -> Option<Kept> {
    let found = CACHE.with_borrow(|cache| cache.get(target).cloned());
    found.filter(|kept| Instant::now() < kept.until)
}

/// Keeps an answer. If there are too many, those that are over go; if there are none, nothing is kept.
pub(crate) fn keep(target: String, kept: Kept) {
    CACHE.with_borrow_mut(|cache| {
        if cache.len() >= ANSWERS {
            let now = Instant::now();
            cache.retain(|_, kept| now < kept.until);
        }
        if cache.len() < ANSWERS {
            cache.insert(target, kept);
        }
    });
}

/// How long an answer may be kept for everybody: only what is whole, short, the same for all, and says so.
pub(crate) fn age(answer: &IncomingResponse) -> Option<Duration> {
    let headers = answer.headers();
    let text = |name: &str| {
        let values = headers.get(name);
        let values = values.iter().map(|value| String::from_utf8_lossy(value));
        values.collect::<Vec<_>>().join(",").to_ascii_lowercase()
    };
    let length: usize = text("content-length").parse().ok()?;
    if answer.status() != 200 || length > BYTES || headers.has("vary") || headers.has("set-cookie")
    {
        return None;
    }
    let control = text("cache-control");
    let words: Vec<_> = control.split(',').map(str::trim).collect();
    if ["private", "no-store", "no-cache"]
        .iter()
        .any(|word| words.contains(word))
    {
        return None;
    }
    let seconds = words.iter().find_map(|word| word.strip_prefix("max-age="));
    let seconds: u64 = seconds?.parse().ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds.min(86_400)))
}

impl Kept {
    /// Reads an answer whole.
    pub(crate) fn read(answer: &IncomingResponse, age: Duration) -> Result<Self, ErrorCode> {
        let from = answer.consume().expect("the body is taken once");
        let stream = from.stream().expect("one reader");
        let mut body = Vec::new();
        loop {
            match stream.blocking_read(65_536) {
                Ok(piece) => body.extend(piece),
                Err(StreamError::Closed) => break,
                Err(StreamError::LastOperationFailed(error)) => {
                    return Err(
                        http_error_code(&error).unwrap_or(ErrorCode::HttpResponseIncomplete)
                    );
                }
            }
        }
        drop(stream);
        drop(IncomingBody::finish(from));
        Ok(Self {
            status: answer.status(),
            body,
            fields: answer.headers().entries(),
            until: Instant::now() + age,
        })
    }

    /// Its headers, and whether it was here.
    pub(crate) fn headers(&self, how: &str) -> Fields {
        let fields = Fields::from_list(&self.fields).expect("headers that the host gave");
        fields
            .set("x-cache", &[how.as_bytes().to_vec()])
            .expect("a header");
        fields
    }
}
