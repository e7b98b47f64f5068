//! The page for a directory without an index.html.

use crate::path::encode;
use std::fmt::Write;
use wasip2::filesystem::types::{Descriptor, DescriptorType, ErrorCode};

/// More entries than this are not listed: the page is built in memory.
const MOST: usize = 10_000;

/// `path` as `path::relative` gives it.
pub(crate) fn page(path: &str, directory: &Descriptor) -> Result<String, ErrorCode> {
    let mut names = Vec::new();
    let entries = directory.read_directory()?;
    while let Some(entry) = entries.read_directory_entry()? {
        let slash = if entry.type_ == DescriptorType::Directory {
            "/"
        } else {
            ""
        };
        names.push((entry.name, slash));
        if names.len() == MOST {
            break;
        }
    }
    names.sort();

    let is_root = path == ".";
    let title = if is_root {
        "/".to_owned()
    } else {
        format!("/{}/", escape(path))
    };
    let mut page = format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<h1>{title}</h1>\n<ul>\n"
    );
    if !is_root {
        page.push_str("<li><a href=\"../\">../</a>\n");
    }
    for (name, slash) in names {
        // The dot: a name with a colon in front would be read as a scheme.
        writeln!(
            page,
            "<li><a href=\"./{}{slash}\">{}{slash}</a>",
            encode(&name),
            escape(&name)
        )
        .ok();
    }
    page.push_str("</ul>\n");
    Ok(page)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
