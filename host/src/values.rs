//! Durations, sizes, counts and addresses as people write them, in flags as in files. Each refusal says what is
//! accepted.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::Duration;

use http::HeaderValue;

use crate::limits::{GRANTED_V4_BITS, GRANTED_V6_BITS};
use crate::networks::{BadNetwork, Network, is_too_wide};

/// So many of something that has an `s` when there are several, for messages.
#[must_use]
pub fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

/// `30s`, `1m 30s`, `250ms`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration = match text.parse::<u32>() {
        Ok(seconds) => Duration::from_secs(u64::from(seconds)),
        Err(_) => humantime::parse_duration(text).map_err(|_| {
            "not a duration: write `30s`, `500ms`, `2m` or a number of seconds".to_owned()
        })?,
    };
    if duration.is_zero() {
        return Err("a limit of zero lets nothing pass: write at least `1ms`".to_owned());
    }
    // A deadline further away than this overflows clocks, and is no deadline.
    Ok(duration.min(Duration::from_secs(365 * 24 * 3600)))
}

/// A [`duration`] between two steps of a clock, of at most a second: a guest's timers wait as long.
pub fn grain(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        grain if grain <= Duration::from_secs(1) => Ok(grain),
        _ => Err(
            "a clock that steps more seldom than each second stops guests: write `1s` or less"
                .to_owned(),
        ),
    }
}

/// A number of bytes each second; 0 is none.
pub fn rate(text: &str) -> Result<u32, String> {
    let bytes = size(text)?;
    u32::try_from(bytes).map_err(|_| "not a rate: write a number of bytes below `4GiB`".to_owned())
}

/// A [`size`] of a directory: below a block nothing fits.
pub fn scratch(text: &str) -> Result<u64, String> {
    match size(text)? {
        bytes if bytes >= 4 << 10 => Ok(bytes),
        _ => Err("a scratch directory of less than 4KiB holds nothing".to_owned()),
    }
}

/// `128MiB`, `64K`, `1GiB`; a bare number is bytes. Units are powers of 1024.
pub fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "K" | "k" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        _ => {
            return Err(
                "not a size: write `128MiB`, `64KiB`, `1GiB` or a number of bytes".to_owned(),
            );
        }
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| {
            "not a size: write `128MiB`, `64KiB`, `1GiB` or a number of bytes".to_owned()
        })
}

/// A [`size`] of memory: at least a page, at most what 32 bits address.
pub fn memory(text: &str) -> Result<usize, String> {
    let bytes = size(text)?;
    if !(64 << 10..=4 << 30).contains(&bytes) {
        return Err("a memory of less than 64KiB or more than 4GiB is not possible".to_owned());
    }
    usize::try_from(bytes).map_err(|_| "too large for this machine".to_owned())
}

/// A [`size`] of a head: below a KiB nothing passes, and above some MiB it is a body.
pub fn head(text: &str) -> Result<usize, String> {
    let bytes = size(text)?;
    if !(1 << 10..=16 << 20).contains(&bytes) {
        return Err("a head of less than 1KiB or more than 16MiB makes no sense".to_owned());
    }
    usize::try_from(bytes).map_err(|_| "too large for this machine".to_owned())
}

/// Whether a variable, or a value of `wasi:config`, may have this name: it ends before a `=`, and whoever asks what a guest is
/// told sees it.
#[must_use]
pub fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c == '=' || c.is_control())
}

/// The two sides of `NAME=VALUE`, where the name [may be one](is_variable).
///
/// # Errors
/// When there is no such name.
pub fn assignment(text: &str) -> Result<(&str, &str), String> {
    let sides = text.split_once('=').filter(|(name, _)| is_variable(name));
    sides.ok_or_else(|| {
        "not a name and a value: write `NAME=VALUE`, without control characters in the name"
            .to_owned()
    })
}

/// What is wrong with a variable of the environment that has a NUL in it.
pub const NUL_IN_VARIABLE: &str =
    "a value with a NUL, where most guests would end it: write it without";

/// A number of things that may be at once.
pub fn count(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("a limit of zero lets nothing pass: write at least 1".to_owned()),
        Ok(count) if count <= 1_000_000 => Ok(count),
        _ => Err("not a count: write a number from 1 to 1000000".to_owned()),
    }
}

/// A network that a guest may reach although it is not public.
///
/// # Errors
/// When it is none, or [too wide](is_too_wide).
pub fn granted_network(text: &str) -> Result<Network, String> {
    match text.parse::<Network>() {
        Ok(Network::Addresses(net)) if is_too_wide(&net) => Err(format!(
            "`{net}`, or a few like it, would grant every private address, and this machine's own: write those that are meant, such as `10.0.0.0/8`, and none wider than `/{GRANTED_V4_BITS}`, or `/{GRANTED_V6_BITS}` of IPv6"
        )),
        Ok(network @ Network::Addresses(_)) => Ok(network),
        Err(BadNetwork::NotItsFirst(net)) => Err(BadNetwork::NotItsFirst(net).to_string()),
        Ok(Network::Unix) | Err(BadNetwork::NoNetwork) => {
            Err("not a network: write `10.0.0.0/8`, `fd00::/8` or an address".to_owned())
        }
    }
}

/// A [`count`] of header fields. A map of headers holds some 24,000.
pub fn fields(text: &str) -> Result<usize, String> {
    match count(text)? {
        fields if fields <= 10_000 => Ok(fields),
        _ => Err("more header fields than can be handled: write a number up to 10000".to_owned()),
    }
}

/// The rights of a file, in octal: `0660`.
pub fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777 && text.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| "not the rights of a file: write `\"0660\"`".to_owned())
}

/// That there is a directory.
pub fn is_directory(path: &Path) -> Result<(), String> {
    match path.metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(format!(
            "`{}` is a file: name the directory that it is in",
            path.display()
        )),
        Err(error) => Err(format!(
            "there is no directory `{}` ({error}): make it first",
            path.display()
        )),
    }
}

/// That there is a directory, or that nothing is in the way of one that is made.
pub fn may_be_directory(path: &Path) -> Result<(), String> {
    let mut there = path.ancestors();
    match there.find_map(|path| Some((path, path.metadata().ok()?))) {
        Some((file, found)) if !found.is_dir() => Err(format!(
            "`{}` is a file: name a directory, which is made if it is not there",
            file.display()
        )),
        _ => Ok(()),
    }
}

/// That there is a file, or a directory for one that is made.
pub fn may_be_file(path: &Path) -> Result<(), String> {
    if path.is_dir() {
        return Err(format!(
            "`{}` is a directory: name a file in it",
            path.display()
        ));
    }
    match path.parent() {
        Some(directory) if directory != Path::new("") => is_directory(directory),
        _ => Ok(()),
    }
}

/// That a Unix socket can be put there: in a directory that is there, and in place of nothing but a socket.
pub fn may_be_socket(path: &Path) -> Result<(), String> {
    match path.parent() {
        Some(directory) if directory != Path::new("") => is_directory(directory)?,
        _ => {}
    }
    may_be_socket_in_it(path)
}

/// The same in a directory that is there, or is made.
pub fn may_be_socket_in_it(path: &Path) -> Result<(), String> {
    match path.symlink_metadata() {
        Ok(found) if !found.file_type().is_socket() => Err(format!(
            "`{}` is there and is no socket: choose another path",
            path.display()
        )),
        _ => Ok(()),
    }
}

/// A port, as the variable `PORT` gives it.
pub fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| "not a port: set the variable PORT to a number up to 65535".to_owned())
}

/// `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, `:8080` (every address).
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let hint = || {
        "not an address: write `127.0.0.1:8080`, `[::1]:8080`, or `127.0.0.1:0` for any free port"
            .to_owned()
    };
    if let Some(port) = text.strip_prefix(':') {
        let port = port.parse::<u16>().map_err(|_| hint())?;
        return Ok(SocketAddr::from(([0, 0, 0, 0], port)));
    }
    text.to_socket_addrs()
        .ok()
        .and_then(|mut found| found.next())
        .ok_or_else(hint)
}

/// The value of a header.
pub fn header(text: &str) -> Result<HeaderValue, String> {
    let is_visible = !text.is_empty() && text.bytes().all(|b| (b' '..=b'~').contains(&b));
    HeaderValue::from_str(text)
        .ok()
        .filter(|_| is_visible)
        .ok_or_else(|| "not the value of a header: write visible characters of ASCII".to_owned())
}

/// The origin of a page, as browsers write it, or `*` for every one.
pub fn origin(text: &str) -> Result<HeaderValue, String> {
    let is_host = |host: &str| {
        let is_of_hosts = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._:[]".contains(&byte)
        };
        !host.is_empty() && host.bytes().all(is_of_hosts)
    };
    let is_origin = text == "*"
        || text.split_once("://").is_some_and(|(scheme, host)| {
            !scheme.is_empty()
                && scheme
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b"+-.".contains(&b))
                && is_host(host)
        });
    HeaderValue::from_str(text)
        .ok()
        .filter(|_| is_origin)
        .ok_or_else(|| {
            "not an origin: write it as browsers do, `https://app.example.com` in lower case and without a path, or `*`".to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("1", 1),
            ("64K", 65_536),
            ("128MiB", 128 << 20),
            ("2 GiB", 2 << 30),
            ("0", 0),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            "MiB",
            "1MB",
            "-1",
            "1.5G",
            "99999999999999999999",
            "99999999999G",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_variable_has_a_name_that_can_be_shown() {
        for good in ["A", "a.b-c d", "größe"] {
            assert!(is_variable(good), "{good}");
            let text = format!("{good}=a=b");
            assert_eq!(assignment(&text), Ok((good, "a=b")));
        }
        for bad in ["", "A", "=A", "A\n=B"] {
            assert!(assignment(bad).is_err(), "{bad:?}");
        }
        for bad in [
            "",
            "A=B",
            "=",
            "A\0",
            "\u{1b}[2J",
            "A\n",
            "\u{7f}",
            "\u{9b}0m",
        ] {
            assert!(!is_variable(bad), "{bad:?}");
        }
    }

    #[test]
    fn rights_are_octal() {
        assert_eq!(mode("0660"), Ok(0o660));
        assert_eq!(mode("777"), Ok(0o777));
        for bad in ["", "0o660", "+660", "668", "1777", "rw"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_lies_below_a_file_cannot_be_a_directory() {
        let here = tempfile::tempdir().expect("a directory");
        let file = here.path().join("file");
        std::fs::write(&file, "").expect("written");
        for (path, is_possible) in [
            (here.path().to_owned(), true),
            (here.path().join("new/below"), true),
            (file.join("below/it"), false),
            (file, false),
        ] {
            let shown = path.display();
            assert_eq!(may_be_directory(&path).is_ok(), is_possible, "{shown}");
        }
        assert_eq!(may_be_directory(Path::new("here")), Ok(()));
    }

    #[test]
    fn a_bare_number_is_seconds() {
        assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "0", "0s", "-1", "soon", "30 parsecs"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
