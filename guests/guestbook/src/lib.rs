//! A guestbook: a page with a form, and what visitors have written, the newest first. Entries are in the bucket `guestbook`.
//!
//! A small real application: what it shows is escaped, a form that was sent is answered with a redirect, so that going back
//! or reloading sends nothing twice, and two who write at once do not lose an entry.

mod entry;
mod page;

use entry::Entry;
use wstd::http::{Body, Method, Request, Response, Result, StatusCode};

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/deps/wasi-keyvalue-0.2.0-draft2.wit",
        world: "wasi:keyvalue/imports",
    });
}

use bindings::wasi::keyvalue::store::Error;

/// Bytes of a form.
const FORM: usize = 16 * 1024;

#[wstd::http_server]
async fn main(mut request: Request<Body>) -> Result<Response<Body>> {
    let answer = match *request.method() {
        Method::GET | Method::HEAD => show(request.uri().query()),
        Method::POST => sign(request.body_mut()).await?,
        _ => {
            return Ok(Response::builder()
                .status(StatusCode::METHOD_NOT_ALLOWED)
                .header("allow", "GET, HEAD, POST")
                .body(Body::empty())?);
        }
    };
    let answer = answer.or_else(|error| match error {
        Error::Other(why) => page(StatusCode::SERVICE_UNAVAILABLE, &page::sorry(&why)),
        _ => page(
            StatusCode::INTERNAL_SERVER_ERROR,
            &page::sorry("there is no bucket `guestbook`"),
        ),
    })?;
    Ok(match *request.method() {
        Method::HEAD => answer.map(|_| Body::empty()),
        _ => answer,
    })
}

type Answer = std::result::Result<Response<Body>, Error>;

/// The page of entries before the number in `before`, or of the newest.
fn show(query: Option<&str>) -> Answer {
    let mut query = form_urlencoded::parse(query.unwrap_or("").as_bytes());
    let before = query
        .find(|(name, _)| name == "before")
        .and_then(|(_, number)| number.parse().ok());
    let (entries, more) = Entry::before(before)?;
    page(StatusCode::OK, &page::book(&entries, more, "", None))
}

/// Writes what the form sent, and leads back to the page.
async fn sign(body: &mut Body) -> Result<Answer> {
    let Some(form) = read(body).await? else {
        return Ok(page(
            StatusCode::PAYLOAD_TOO_LARGE,
            &page::sorry("that is too long"),
        ));
    };
    let field = |wanted: &str| {
        let mut fields = form_urlencoded::parse(&form);
        let found = fields.find(|(name, _)| name == wanted);
        found.map_or(String::new(), |(_, text)| text.trim().to_owned())
    };
    let (name, text) = (field("name"), field("text"));
    if let Some(wrong) = Entry::wrong(&name, &text) {
        let again = Entry::before(None).and_then(|(entries, more)| {
            let book = page::book(&entries, more, &text, Some((&name, wrong)));
            page(StatusCode::UNPROCESSABLE_ENTITY, &book)
        });
        return Ok(again);
    }
    Ok(Entry::write(&name, &text).and_then(|()| {
        let back = Response::builder()
            .status(StatusCode::SEE_OTHER)
            .header("location", "./");
        back.body(Body::empty())
            .map_err(|error| Error::Other(error.to_string()))
    }))
}

/// A body of at most [`FORM`] bytes.
async fn read(body: &mut Body) -> Result<Option<Vec<u8>>> {
    if body
        .content_length()
        .is_some_and(|length| length > FORM as u64)
    {
        return Ok(None);
    }
    let form = body.contents().await?;
    Ok((form.len() <= FORM).then(|| form.to_vec()))
}

fn page(status: StatusCode, html: &str) -> Answer {
    let page = Response::builder()
        .status(status)
        .header("content-type", "text/html; charset=utf-8")
        .header(
            "content-security-policy",
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'",
        )
        .header("cache-control", "no-store");
    page.body(html.to_owned().into())
        .map_err(|error| Error::Other(error.to_string()))
}
