//! Takes files, keeps them in the container `uploads`, lists, gives and deletes them.
//!
//! A file is never whole in memory: it goes from the request's body into the container, and from there into the response's,
//! a piece at a time. One that did not arrive whole is not kept.

mod answer;
mod files;
mod form;
mod text;

use answer::Answer;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, Method, ResponseOutparam};

/// The interface that `wasip2` lacks.
#[allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    reason = "what the macro writes"
)]
mod bindings {
    wit_bindgen::generate!({
        path: [
            "../../wit/deps/wasi-io-0.2.12.wit",
            "../../wit/deps/wasi-blobstore-0.2.0-draft.wit",
        ],
        inline: "package upload:guest;
            world imports { import wasi:blobstore/blobstore@0.2.0-draft; }",
        with: {
            "wasi:io/error@0.2.12": wasip2::io::error,
            "wasi:io/poll@0.2.12": wasip2::io::poll,
            "wasi:io/streams@0.2.12": wasip2::io::streams,
        },
        generate_all,
    });
}

struct Upload;

wasip2::http::proxy::export!(Upload);

impl Guest for Upload {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        match answer(&request) {
            Ok(answer) | Err(answer) => answer.send(out),
        }
    }
}

/// `/` is the page, `/files/NAME` a file.
fn answer(request: &IncomingRequest) -> Result<Answer, Answer> {
    let target = request.path_with_query().unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let method = request.method();
    let Some(name) = path.strip_prefix("/files/").map(text::decode) else {
        return match (path, method) {
            ("/", Method::Get | Method::Head) => page(),
            ("/", Method::Post) => take_form(request),
            ("/", _) => {
                Err(Answer::text(405, "only GET and POST\n").with("allow", "GET, HEAD, POST"))
            }
            _ => Err(Answer::text(404, "no such page\n")),
        };
    };
    match method {
        Method::Get => files::read(&name),
        Method::Put => {
            let body = form::body(request)?;
            files::write(&name, |to| form::copy(&body, to))?;
            Ok(Answer::text(201, "kept\n"))
        }
        Method::Delete => {
            files::delete(&name)?;
            Ok(Answer::text(204, ""))
        }
        // What a form can say.
        Method::Post => {
            files::delete(&name)?;
            Ok(Answer::text(303, "deleted\n").with("location", "../"))
        }
        _ => Err(Answer::text(405, "only GET, PUT, DELETE and POST\n")
            .with("allow", "GET, PUT, DELETE, POST")),
    }
}

/// The file that a form brings.
fn take_form(request: &IncomingRequest) -> Result<Answer, Answer> {
    let body = form::body(request)?;
    let mut parts = form::Parts::of(request, &body)?;
    let Some(name) = parts.next_file()? else {
        return Err(Answer::text(400, "the form has no file\n"));
    };
    files::write(&name, |to| parts.copy(to))?;
    Ok(Answer::text(303, "kept\n").with("location", "./"))
}

fn page() -> Result<Answer, Answer> {
    let mut rows = String::new();
    for name in files::names()? {
        let (shown, linked) = (text::html(&name), text::encode(&name));
        rows += &format!(
            "<li><a href=\"files/{linked}\">{shown}</a> \
             <form method=\"post\" action=\"files/{linked}\"><button>delete</button></form></li>\n"
        );
    }
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Files</title>\n\
         <style>body {{ font: 1rem/1.5 sans-serif; margin: 2rem }} li form {{ display: inline }}</style>\n\
         <h1>Files</h1>\n<ul>\n{rows}</ul>\n\
         <form method=\"post\" enctype=\"multipart/form-data\">\n\
         <input type=\"file\" name=\"file\" required> <button>Upload</button>\n</form>\n"
    );
    Ok(Answer::html(&page))
}
