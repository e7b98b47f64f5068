//! Serves the files of one directory: the first one the host granted, under whatever name.
//!
//! The guest holds a handle to that directory and nothing else, so it opens paths relative to the handle
//! and the host refuses any that lead out of it, through a symbolic link for instance. What is decided
//! here is HTTP: which path a URL means (`path`), what to send (`answer`), which part of it (`range`).

mod answer;
mod listing;
mod path;
mod range;

use answer::Answer;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode, OpenFlags, PathFlags,
};
use wasip2::http::types::{IncomingRequest, Method, ResponseOutparam};

struct StaticFiles;

wasip2::http::proxy::export!(StaticFiles);

impl Guest for StaticFiles {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let method = request.method();
        let answer = match method {
            Method::Get | Method::Head => find(&request),
            _ => Answer::text(405, "only GET and HEAD\n").with("allow", "GET, HEAD"),
        };
        answer.send(out, matches!(method, Method::Head));
    }
}

fn find(request: &IncomingRequest) -> Answer {
    let Some((root, _name)) = get_directories().into_iter().next() else {
        return Answer::text(
            500,
            "this handler serves a directory, and was granted none\n",
        );
    };
    let target = request.path_with_query().unwrap_or_default();
    let raw = target.split('?').next().unwrap_or_default();
    let Some(path) = path::relative(raw) else {
        return Answer::not_found();
    };
    match look(&root, &path).and_then(|found| serve(request, &root, &path, raw, &found)) {
        Ok(answer) => answer,
        Err(ErrorCode::Access | ErrorCode::NotPermitted) => Answer::text(403, "forbidden\n"),
        Err(ErrorCode::InsufficientMemory | ErrorCode::Io | ErrorCode::Quota) => {
            Answer::text(500, "cannot read\n")
        }
        Err(_) => Answer::not_found(), // no such entry, a file used as a directory, a loop, a name too long
    }
}

fn serve(
    request: &IncomingRequest,
    root: &Descriptor,
    path: &str,
    raw: &str,
    found: &DescriptorStat,
) -> Result<Answer, ErrorCode> {
    match found.type_ {
        DescriptorType::RegularFile if !raw.ends_with('/') => {
            Answer::file(request, open(root, path)?, path, found)
        }
        DescriptorType::Directory if !raw.ends_with('/') => {
            // Without the slash the links of the page would be relative to the parent. The location is
            // relative too: right under any prefix the host serves us at, and never another site's.
            let name = raw.rsplit('/').next().unwrap_or_default();
            Ok(Answer::text(301, "").with("location", &format!("./{name}/")))
        }
        DescriptorType::Directory => {
            let index = if path == "." {
                "index.html".to_owned()
            } else {
                format!("{path}/index.html")
            };
            match look(root, &index) {
                Ok(page) if page.type_ == DescriptorType::RegularFile => {
                    Answer::file(request, open(root, &index)?, &index, &page)
                }
                _ => Ok(Answer::html(listing::page(path, &directory(root, path)?)?)),
            }
        }
        // Pipes, sockets and devices: opening one could wait for ever.
        _ => Ok(Answer::not_found()),
    }
}

fn look(root: &Descriptor, path: &str) -> Result<DescriptorStat, ErrorCode> {
    root.stat_at(PathFlags::SYMLINK_FOLLOW, path)
}

fn open(root: &Descriptor, path: &str) -> Result<Descriptor, ErrorCode> {
    root.open_at(
        PathFlags::SYMLINK_FOLLOW,
        path,
        OpenFlags::empty(),
        DescriptorFlags::READ,
    )
}

fn directory(root: &Descriptor, path: &str) -> Result<Descriptor, ErrorCode> {
    root.open_at(
        PathFlags::SYMLINK_FOLLOW,
        path,
        OpenFlags::DIRECTORY,
        DescriptorFlags::READ,
    )
}
