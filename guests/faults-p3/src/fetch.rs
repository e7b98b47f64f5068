//! A request to elsewhere, and all that can be seen of what became of it.
//!
//! `url` is where it goes, `method` how; `body` is how many bytes it has; `header=NAME:VALUE` is one of its headers.
//! `connect`, `first` and `between` are the guest's own timeouts, in milliseconds.

use crate::text::{kebab, query};
use std::collections::BTreeMap;
use std::fmt::Write;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, RequestOptions, Response, Scheme};
use wasip3::{spawn_local, wit_future, wit_stream};

pub(crate) async fn fetch(target: &str) -> String {
    let mut seen = String::new();
    if let Err(code) = see(target, &mut seen).await {
        writeln!(seen, "error {}", kebab(&code)).ok();
    }
    seen
}

/// The same request `n` times, one after the other: how many were answered whole.
pub(crate) async fn many(target: &str, n: u64) -> String {
    let mut whole = 0;
    for _ in 0..n {
        whole += u64::from(see(target, &mut String::new()).await.is_ok());
    }
    format!("{whole} of {n}\n")
}

/// The same request `n` times at once, each held until the last is known: how many were answered, and how many failed, and how.
pub(crate) async fn at_once(target: &str, n: u64) -> String {
    let send = |_| {
        let target = target.to_owned();
        spawn_local(async move { client::send(request(&target)?).await })
    };
    let sent: Vec<_> = (0..n).map(send).collect();
    let mut answers = Vec::new();
    for answer in sent {
        answers.push(answer.await.expect("not cancelled"));
    }
    counted(&answers)
}

fn counted(answers: &[Result<Response, ErrorCode>]) -> String {
    let mut counts = BTreeMap::<String, usize>::new();
    for answer in answers {
        let what = match answer {
            Ok(_) => "answered".to_owned(),
            Err(code) => kebab(code),
        };
        *counts.entry(what).or_default() += 1;
    }
    let lines = counts
        .iter()
        .map(|(what, count)| format!("{count} {what}\n"));
    lines.collect()
}

async fn see(target: &str, seen: &mut String) -> Result<(), ErrorCode> {
    let response = client::send(request(target)?).await?;
    writeln!(seen, "status {}", response.get_status_code()).ok();
    write_fields(seen, "header", &response.get_headers());
    let (_, read) = wit_future::new(|| Ok(()));
    let (stream, trailers) = Response::consume_body(response, read);
    let bytes = stream.collect().await.len();
    writeln!(seen, "body {bytes}").ok();
    if let Some(trailers) = trailers.await? {
        write_fields(seen, "trailer", &trailers);
    }
    Ok(())
}

fn request(target: &str) -> Result<Request, ErrorCode> {
    let number = |name| query(target, name).and_then(|value| value.parse::<u64>().ok());
    let invalid = |()| ErrorCode::HttpRequestUriInvalid;
    let url = query(target, "url").unwrap_or_default();
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let headers = Fields::new();
    if let Some((name, value)) = query(target, "header").and_then(|it| it.split_once(':')) {
        headers.append(name, value.as_bytes()).expect("a header");
    }
    let options = RequestOptions::new();
    let nanoseconds = |name| number(name).map(|ms| ms * 1_000_000);
    options.set_connect_timeout(nanoseconds("connect")).ok();
    options.set_first_byte_timeout(nanoseconds("first")).ok();
    options
        .set_between_bytes_timeout(nanoseconds("between"))
        .ok();
    let (end, no_trailers) = wit_future::new(|| Ok(None));
    let contents = number("body").map(|bytes| {
        let (mut stream, contents) = wit_stream::new();
        let bytes = usize::try_from(bytes).expect("few");
        spawn_local(async move {
            // What nobody takes any more is left.
            stream.write_all(vec![b'x'; bytes]).await;
            drop(stream);
            end.write(Ok(None)).await.ok();
        });
        contents
    });
    let (request, _sent) = Request::new(headers, contents, no_trailers, Some(options));
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    request.set_scheme(Some(&scheme)).map_err(invalid)?;
    request.set_authority(Some(authority)).map_err(invalid)?;
    request.set_path_with_query(Some(path)).map_err(invalid)?;
    if let Some(method) = query(target, "method") {
        request
            .set_method(&Method::Other(method.to_owned()))
            .map_err(invalid)?;
    }
    Ok(request)
}

fn write_fields(seen: &mut String, kind: &str, fields: &Fields) {
    for (name, value) in fields.copy_all() {
        let value = String::from_utf8_lossy(&value);
        writeln!(seen, "{kind} {name}: {value}").ok();
    }
}
