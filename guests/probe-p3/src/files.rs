//! Files: `wasi:filesystem` 0.3.

use crate::asked::Asked;
use crate::said;
use std::collections::BTreeSet;
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{
    Descriptor, DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags,
};
use wasip3::wit_stream;

/// The granted directory that a path begins with, and the rest of the path.
fn granted(path: &str) -> Result<(Descriptor, String), ErrorCode> {
    for (directory, name) in get_directories() {
        let rest = path.strip_prefix(name.trim_end_matches('/'));
        if let Some(rest) = rest.and_then(|rest| rest.strip_prefix('/')) {
            return Ok((directory, rest.to_owned()));
        }
    }
    Err(ErrorCode::NoEntry)
}

async fn open(
    path: &str,
    open: OpenFlags,
    flags: DescriptorFlags,
) -> Result<Descriptor, ErrorCode> {
    let (directory, rest) = granted(path)?;
    let follow = PathFlags::SYMLINK_FOLLOW;
    directory.open_at(follow, rest, open, flags).await
}

pub(crate) async fn read(asked: &Asked<'_>) -> String {
    let opened = open(
        asked.text("path"),
        OpenFlags::empty(),
        DescriptorFlags::READ,
    );
    let file = match opened.await {
        Ok(file) => file,
        Err(code) => return format!("refused: {code:?}\n"),
    };
    let (contents, end) = file.read_via_stream(0);
    let text = contents.collect().await;
    match end.await {
        Ok(()) => format!("read: {}\n", String::from_utf8_lossy(&text)),
        Err(code) => format!("refused: {code:?}\n"),
    }
}

/// So many bytes, or those that can be written.
pub(crate) async fn write(asked: &Asked<'_>, append: bool) -> String {
    let flags = if append {
        OpenFlags::empty()
    } else {
        OpenFlags::CREATE | OpenFlags::TRUNCATE
    };
    match open(asked.text("path"), flags, DescriptorFlags::WRITE).await {
        Ok(file) => written(&file, asked.number("n", 10), append).await,
        Err(code) => format!("refused: {code:?}\n"),
    }
}

async fn written(file: &Descriptor, n: u64, append: bool) -> String {
    let (mut writer, data) = wit_stream::new();
    let end = if append {
        file.append_via_stream(data)
    } else {
        file.write_via_stream(data, 0)
    };
    wasip3::spawn_local(async move {
        let mut left = n;
        while left > 0 {
            let most = left.min(65_536) as usize;
            if !writer.write_all(vec![b'x'; most]).await.is_empty() {
                break;
            }
            left -= most as u64;
        }
    });
    match end.await {
        Ok(()) => format!("written {n}\n"),
        Err(code) => format!("refused: {code:?}\n"),
    }
}

/// Gives the host what it reads from a file to be written to another, and waits.
pub(crate) async fn copy(asked: &Asked<'_>) -> String {
    let from = open(
        asked.text("path"),
        OpenFlags::empty(),
        DescriptorFlags::READ,
    );
    let to = open(
        asked.text("to"),
        OpenFlags::CREATE | OpenFlags::TRUNCATE,
        DescriptorFlags::WRITE,
    );
    match (from.await, to.await) {
        (Ok(from), Ok(to)) => {
            let (contents, _end) = from.read_via_stream(0);
            said(to.write_via_stream(contents, 0).await)
        }
        (Err(code), _) | (_, Err(code)) => format!("refused: {code:?}\n"),
    }
}

/// So many files of so many bytes each, or those that can be.
pub(crate) async fn fill(asked: &Asked<'_>) -> String {
    for i in 0..asked.number("files", 10) {
        let path = format!("{}/{i}", asked.text("path"));
        let flags = OpenFlags::CREATE | OpenFlags::TRUNCATE;
        let said = match open(&path, flags, DescriptorFlags::WRITE).await {
            Ok(file) => written(&file, asked.number("n", 0), false).await,
            Err(code) => format!("refused: {code:?}\n"),
        };
        if said.starts_with("refused") {
            return format!("{i} files, then {said}");
        }
    }
    "all\n".to_owned()
}

/// How many names are in a directory, and how many of them differ.
pub(crate) async fn list(asked: &Asked<'_>) -> String {
    let opened = open(
        asked.text("path"),
        OpenFlags::DIRECTORY,
        DescriptorFlags::READ,
    );
    let directory = match opened.await {
        Ok(directory) => directory,
        Err(code) => return format!("refused: {code:?}\n"),
    };
    let (entries, end) = directory.read_directory();
    let entries = entries.collect().await;
    let names: BTreeSet<_> = entries.iter().map(|entry| &entry.name).collect();
    match end.await {
        Ok(()) => format!("{} names, {} different\n", entries.len(), names.len()),
        Err(code) => format!("refused: {code:?}\n"),
    }
}

/// Begins so many listings of a granted directory and takes one name of each.
pub(crate) async fn peek(asked: &Asked<'_>) -> String {
    let (directories, directory) = (get_directories(), asked.text("path"));
    let Some((granted, _)) = directories.iter().find(|(_, name)| name == directory) else {
        return "no such directory\n".to_owned();
    };
    for _ in 0..asked.number("n", 10) {
        let (mut names, _end) = granted.read_directory();
        if names.next().await.is_none() {
            return "nothing there\n".to_owned();
        }
    }
    "done\n".to_owned()
}

/// Begins so many streams out of a file and as many listings of its directory, reads none, and closes what they came from.
pub(crate) async fn hoard(asked: &Asked<'_>) -> String {
    let (mut streams, mut listings) = (Vec::new(), Vec::new());
    let read = DescriptorFlags::READ;
    for _ in 0..asked.number("n", 10) {
        let file = open(asked.text("path"), OpenFlags::empty(), read).await;
        let directory = open(asked.text("in"), OpenFlags::DIRECTORY, read).await;
        match (file, directory) {
            (Ok(file), Ok(directory)) => {
                streams.push(file.read_via_stream(0));
                listings.push(directory.read_directory());
            }
            (Err(code), _) | (_, Err(code)) => return format!("refused: {code:?}\n"),
        }
    }
    format!("{} held\n", streams.len() + listings.len())
}

pub(crate) async fn truncate(asked: &Asked<'_>) -> String {
    match open(
        asked.text("path"),
        OpenFlags::CREATE,
        DescriptorFlags::WRITE,
    )
    .await
    {
        Ok(file) => said(file.set_size(asked.number("n", 0)).await),
        Err(code) => format!("refused: {code:?}\n"),
    }
}

pub(crate) async fn mkdir(asked: &Asked<'_>) -> String {
    match granted(asked.text("path")) {
        Ok((directory, rest)) => said(directory.create_directory_at(rest).await),
        Err(code) => format!("refused: {code:?}\n"),
    }
}

pub(crate) async fn remove(asked: &Asked<'_>) -> String {
    match granted(asked.text("path")) {
        Ok((directory, rest)) => said(directory.unlink_file_at(rest).await),
        Err(code) => format!("refused: {code:?}\n"),
    }
}

pub(crate) async fn rename(asked: &Asked<'_>) -> String {
    match (granted(asked.text("from")), granted(asked.text("to"))) {
        (Ok((from, old)), Ok((to, new))) => said(from.rename_at(old, &to, new).await),
        (Err(code), _) | (_, Err(code)) => format!("refused: {code:?}\n"),
    }
}

pub(crate) async fn link(asked: &Asked<'_>) -> String {
    match (granted(asked.text("from")), granted(asked.text("to"))) {
        (Ok((from, old)), Ok((to, new))) => {
            said(from.link_at(PathFlags::empty(), old, &to, new).await)
        }
        (Err(code), _) | (_, Err(code)) => format!("refused: {code:?}\n"),
    }
}

pub(crate) async fn symlink(asked: &Asked<'_>) -> String {
    match granted(asked.text("path")) {
        Ok((directory, rest)) => said(
            directory
                .symlink_at(asked.text("to").to_owned(), rest)
                .await,
        ),
        Err(code) => format!("refused: {code:?}\n"),
    }
}

/// Sets the times of what is at a path, without opening it first.
pub(crate) async fn times(asked: &Asked<'_>) -> String {
    let (follow, now) = (PathFlags::SYMLINK_FOLLOW, NewTimestamp::Now);
    match granted(asked.text("path")) {
        Ok((directory, rest)) => said(directory.set_times_at(follow, rest, now, now).await),
        Err(code) => format!("refused: {code:?}\n"),
    }
}
