//! Files, by way of the standard library: `wasi:filesystem` 0.2.

use crate::asked::Asked;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};

pub(crate) fn read(asked: &Asked) -> String {
    match fs::read_to_string(asked.text("path")) {
        Ok(text) => format!("read: {text}\n"),
        Err(error) => format!("refused: {error}\n"),
    }
}

/// So many bytes, or those that can be written.
pub(crate) fn write(asked: &Asked) -> String {
    match File::create(asked.text("path")) {
        Ok(file) => written(file, asked.number("n", 10)),
        Err(error) => format!("refused: {error}\n"),
    }
}

pub(crate) fn append(asked: &Asked) -> String {
    let opened = OpenOptions::new().append(true).open(asked.text("path"));
    match opened {
        Ok(file) => written(file, asked.number("n", 10)),
        Err(error) => format!("refused: {error}\n"),
    }
}

fn written(mut file: File, n: u64) -> String {
    let part = [b'x'; 65_536];
    let mut done = 0;
    while done < n {
        let most = (n - done).min(part.len() as u64) as usize;
        match file.write(&part[..most]) {
            Ok(bytes) => done += bytes as u64,
            Err(error) => return format!("written {done}, then {error}\n"),
        }
    }
    format!("written {done}\n")
}

pub(crate) fn list(asked: &Asked) -> String {
    let names = || -> io::Result<BTreeSet<String>> {
        let entries = fs::read_dir(asked.text("path"))?;
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    };
    match names() {
        Ok(names) => names.iter().map(|name| format!("{name}\n")).collect(),
        Err(error) => format!("refused: {error}\n"),
    }
}

/// Begins so many listings of a granted directory and takes one name of each.
pub(crate) fn peek(asked: &Asked) -> String {
    let directories = wasip2::filesystem::preopens::get_directories();
    let directory = asked.text("path");
    let Some((granted, _)) = directories.iter().find(|(_, name)| name == directory) else {
        return "no such directory\n".to_owned();
    };
    for _ in 0..asked.number("n", 10) {
        let names = granted.read_directory();
        if let Err(code) = names.and_then(|names| names.read_directory_entry()) {
            return format!("refused: {}\n", code.name());
        }
    }
    "done\n".to_owned()
}

/// So many files of so many bytes each, or those that can be.
pub(crate) fn fill(asked: &Asked) -> String {
    let bytes = vec![b'x'; asked.number("n", 0) as usize];
    for i in 0..asked.number("files", 10) {
        let path = format!("{}/{i}", asked.text("path"));
        if let Err(error) = fs::write(&path, &bytes) {
            return format!("{i} files, then {error}\n");
        }
    }
    "all\n".to_owned()
}

/// Writes a file of so many bytes and removes it, so many times.
pub(crate) fn churn(asked: &Asked) -> String {
    let bytes = vec![b'x'; asked.number("n", 1_000) as usize];
    let path = format!("{}/churn", asked.text("path"));
    for i in 0..asked.number("times", 100) {
        if let Err(error) = fs::write(&path, &bytes).and_then(|()| fs::remove_file(&path)) {
            return format!("{i} times, then {error}\n");
        }
    }
    "done\n".to_owned()
}

/// Has the host read a piece of so many bytes for each of so many streams out of one file, and takes none of them.
pub(crate) fn hold(asked: &Asked) -> String {
    use wasip2::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};
    let (directory, name) = asked.text("path").rsplit_once('/').unwrap_or_default();
    let directories = wasip2::filesystem::preopens::get_directories();
    let Some((granted, _)) = directories.iter().find(|(_, name)| name == directory) else {
        return "no such directory\n".to_owned();
    };
    let (follow, read) = (PathFlags::SYMLINK_FOLLOW, DescriptorFlags::READ);
    let file = match granted.open_at(follow, name, OpenFlags::empty(), read) {
        Ok(file) => file,
        Err(code) => return format!("refused: {}\n", code.name()),
    };
    let mut streams = Vec::new();
    for _ in 0..asked.number("streams", 10) {
        let stream = match file.read_via_stream(0) {
            Ok(stream) => stream,
            Err(code) => return format!("refused: {}\n", code.name()),
        };
        // The first time it begins to read, and has nothing yet.
        if let Err(error) = stream.read(asked.number("n", 4_096)) {
            return format!("refused: {error}\n");
        }
        stream.subscribe().block();
        streams.push(stream);
    }
    look();
    format!("{} held\n", streams.len())
}

/// Begins so many listings of a directory, and reads none.
pub(crate) fn hold_listings(asked: &Asked) -> String {
    use wasip2::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};
    let (directory, name) = asked.text("in").rsplit_once('/').unwrap_or_default();
    let directories = wasip2::filesystem::preopens::get_directories();
    let Some((granted, _)) = directories.iter().find(|(_, name)| name == directory) else {
        return "no such directory\n".to_owned();
    };
    let (follow, read) = (PathFlags::SYMLINK_FOLLOW, DescriptorFlags::READ);
    let directory = match granted.open_at(follow, name, OpenFlags::DIRECTORY, read) {
        Ok(directory) => directory,
        Err(code) => return format!("refused: {}\n", code.name()),
    };
    let mut listings = Vec::new();
    for _ in 0..asked.number("n", 10) {
        match directory.read_directory() {
            Ok(listing) => listings.push(listing),
            Err(code) => return format!("refused: {}\n", code.name()),
        }
    }
    look();
    format!("{} held\n", listings.len())
}

/// Runs long enough for the host to look at what it holds, which it does each millisecond.
fn look() {
    let held = Instant::now();
    while held.elapsed() < Duration::from_millis(20) {}
}

pub(crate) fn truncate(asked: &Asked) -> String {
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(asked.text("path"));
    said(opened.and_then(|file| file.set_len(asked.number("n", 0))))
}

/// Writes files that have no name any more, and are still open.
pub(crate) fn unlinked(asked: &Asked) -> String {
    let path = format!("{}/unlinked", asked.text("path"));
    let mut open = Vec::new();
    for i in 0..asked.number("files", 10) {
        let file = File::create(&path).and_then(|mut file| {
            fs::remove_file(&path)?;
            file.write_all(&vec![b'x'; asked.number("n", 0) as usize])?;
            Ok(file)
        });
        match file {
            Ok(file) => open.push(file),
            Err(error) => return format!("{i} files, then {error}\n"),
        }
    }
    "all\n".to_owned()
}

pub(crate) fn mkdir(asked: &Asked) -> String {
    said(fs::create_dir(asked.text("path")))
}

pub(crate) fn link(asked: &Asked) -> String {
    said(fs::hard_link(asked.text("from"), asked.text("to")))
}

pub(crate) fn symlink(asked: &Asked) -> String {
    let (directory, name) = asked.text("path").rsplit_once('/').unwrap_or_default();
    let directories = wasip2::filesystem::preopens::get_directories();
    let Some((granted, _)) = directories.iter().find(|(_, name)| name == directory) else {
        return "no such directory\n".to_owned();
    };
    match granted.symlink_at(asked.text("to"), name) {
        Ok(()) => "done\n".to_owned(),
        Err(code) => format!("refused: {}\n", code.name()),
    }
}

pub(crate) fn rename(asked: &Asked) -> String {
    said(fs::rename(asked.text("from"), asked.text("to")))
}

pub(crate) fn remove(asked: &Asked) -> String {
    said(fs::remove_file(asked.text("path")))
}

/// Sets the times of what is at a path, without opening it first.
pub(crate) fn times(asked: &Asked) -> String {
    use wasip2::filesystem::types::{NewTimestamp, PathFlags};
    let (directory, name) = asked.text("path").rsplit_once('/').unwrap_or_default();
    let directories = wasip2::filesystem::preopens::get_directories();
    let Some((granted, _)) = directories.iter().find(|(_, name)| name == directory) else {
        return "no such directory\n".to_owned();
    };
    let (follow, now) = (PathFlags::SYMLINK_FOLLOW, NewTimestamp::Now);
    match granted.set_times_at(follow, name, now, now) {
        Ok(()) => "done\n".to_owned(),
        Err(code) => format!("refused: {}\n", code.name()),
    }
}

/// Opens a path again and again and says what was ever found there.
pub(crate) fn open_often(asked: &Asked) -> String {
    let mut found = BTreeSet::new();
    for _ in 0..asked.number("n", 1_000) {
        let mut text = String::new();
        let read = File::open(asked.text("path")).and_then(|mut it| it.read_to_string(&mut text));
        found.insert(match read {
            Ok(_) => format!("read: {}\n", text.trim()),
            Err(error) => format!("refused: {error}\n"),
        });
    }
    found.into_iter().collect()
}

fn said<T, E: std::fmt::Display>(result: Result<T, E>) -> String {
    match result {
        Ok(_) => "done\n".to_owned(),
        Err(error) => format!("refused: {error}\n"),
    }
}
