//! One function per HTTP method, as in Python's `BaseHTTPRequestHandler`: `get`, `post`, `put`, `delete`
//! and `options` are written; a method that nobody wrote is answered 501. Nothing is stored: an item
//! "exists" under every id, and what is put there is forgotten with the request.

use wstd::http::{Body, HeaderValue, Method, Request, Response, Result, StatusCode};

#[wstd::http_server]
async fn main(mut request: Request<Body>) -> Result<Response<Body>> {
    let path = request.uri().path().to_owned();
    let mut response = match *request.method() {
        Method::GET => get(&path)?,
        Method::HEAD => get(&path)?.map(|_| Body::empty()),
        Method::POST => post(&path)?,
        Method::PUT => put(&path, request.body_mut()).await?,
        Method::DELETE => delete(&path)?,
        Method::OPTIONS => options(&path)?,
        _ => text(StatusCode::NOT_IMPLEMENTED, "no one wrote this method\n")?,
    };
    // Headers that every answer carries, whoever wrote it. The second lets pages of any origin read it.
    let headers = response.headers_mut();
    headers.insert("x-handler", HeaderValue::from_static("methods"));
    headers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
    Ok(response)
}

/// The paths that exist. `match` on this instead of on text, and the compiler finds the forgotten case.
enum Route<'a> {
    Home,
    Hello,
    Goodbye,
    Items,
    Item(&'a str),
}

fn route(path: &str) -> Option<Route<'_>> {
    match path {
        "/" => Some(Route::Home),
        "/hello" => Some(Route::Hello),
        "/goodbye" => Some(Route::Goodbye),
        "/items" => Some(Route::Items),
        _ => match path.strip_prefix("/items/") {
            Some(id) if !id.is_empty() && !id.contains('/') => Some(Route::Item(id)),
            _ => None,
        },
    }
}

fn get(path: &str) -> Result<Response<Body>> {
    match route(path) {
        Some(Route::Home) => html(HOME),
        Some(Route::Hello) => text(StatusCode::OK, "Hello, world!\n"),
        Some(Route::Goodbye) => text(StatusCode::OK, "Goodbye, world!\n"),
        Some(Route::Items) => not_allowed(path),
        Some(Route::Item(id)) => text(StatusCode::OK, format!("item {id}\n")),
        None => not_found(),
    }
}

fn post(path: &str) -> Result<Response<Body>> {
    let location = match route(path) {
        Some(Route::Items) => "/items/1".to_owned(), // a handler with a store would choose the id here
        Some(Route::Item(id)) => format!("/items/{id}"),
        Some(_) => return not_allowed(path),
        None => return not_found(),
    };
    let mut response = text(StatusCode::CREATED, format!("created {location}\n"))?;
    response.headers_mut().insert("location", location.parse()?);
    Ok(response)
}

async fn put(path: &str, body: &mut Body) -> Result<Response<Body>> {
    match route(path) {
        Some(Route::Item(id)) => {
            let bytes = body.contents().await?.len();
            text(StatusCode::OK, format!("item {id}: {bytes} bytes\n"))
        }
        Some(_) => not_allowed(path),
        None => not_found(),
    }
}

fn delete(path: &str) -> Result<Response<Body>> {
    match route(path) {
        Some(Route::Item(_)) => Ok(Response::builder()
            .status(StatusCode::NO_CONTENT)
            .body(Body::empty())?),
        Some(_) => not_allowed(path),
        None => not_found(),
    }
}

/// What a browser asks before a request that crosses origins (a CORS preflight), or anyone who is curious.
fn options(path: &str) -> Result<Response<Body>> {
    Ok(Response::builder()
        .status(StatusCode::NO_CONTENT)
        .header("allow", allowed(path))
        .header("access-control-allow-methods", allowed(path))
        .header("access-control-allow-headers", "content-type")
        .header("access-control-max-age", "600")
        .body(Body::empty())?)
}

fn allowed(path: &str) -> &'static str {
    match route(path) {
        Some(Route::Home | Route::Hello | Route::Goodbye) => "GET, HEAD, OPTIONS",
        Some(Route::Items) => "POST, OPTIONS",
        Some(Route::Item(_)) => "GET, HEAD, POST, PUT, DELETE, OPTIONS",
        None => "OPTIONS",
    }
}

fn not_found() -> Result<Response<Body>> {
    text(StatusCode::NOT_FOUND, "not found\n")
}

/// The path exists and the method is known, but not here: say which ones are.
fn not_allowed(path: &str) -> Result<Response<Body>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "not allowed here\n")?;
    response
        .headers_mut()
        .insert("allow", HeaderValue::from_static(allowed(path)));
    Ok(response)
}

fn text(status: StatusCode, text: impl Into<Body>) -> Result<Response<Body>> {
    Ok(Response::builder()
        .status(status)
        .header("content-type", "text/plain; charset=utf-8")
        .body(text.into())?)
}

fn html(page: &'static str) -> Result<Response<Body>> {
    Ok(Response::builder()
        .header("content-type", "text/html; charset=utf-8")
        .body(page.into())?)
}

const HOME: &str = "<!doctype html>
<html lang=\"en\">
<title>Methods</title>
<h1>Methods</h1>
<ul>
<li><a href=\"/hello\">/hello</a>
<li><a href=\"/goodbye\">/goodbye</a>
<li><a href=\"/items/1\">/items/1</a>: GET, POST, PUT, DELETE
</ul>
</html>
";
