//! The PROXY protocol, versions 1 and 2, as HAProxy specifies it: a proxy says before all else for whom it has connected.
//! Whoever can reach such a listener can say anything, so it is for proxies alone.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str;

use bytes::Bytes;

use super::socket::Socket;
use crate::limits;

/// What a proxy says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The client, and where it wanted to. None: the proxy speaks for itself, or of what is no address.
    pub(super) ends: Option<(SocketAddr, SocketAddr)>,
    /// What has come behind it.
    pub(super) rest: Bytes,
}

/// Why nothing was understood.
#[derive(Debug)]
pub(super) enum Unheard {
    /// The client is gone.
    Left,
    /// It says something else, or nothing that can be meant; what.
    Malformed(&'static str),
}

/// Reads what the proxy says. There is no deadline in it.
pub(super) async fn read(socket: &Socket) -> Result<Told, Unheard> {
    let mut read = Vec::new();
    loop {
        match parse(&read) {
            Parsed::Whole { ends, length } => {
                let rest = Bytes::copy_from_slice(read.get(length..).unwrap_or_default());
                return Ok(Told { ends, rest });
            }
            Parsed::Malformed(what) => return Err(Unheard::Malformed(what)),
            Parsed::Part => {}
        }
        let filled = read.len();
        read.resize(filled + PIECE, 0);
        let more: io::Result<usize> = socket
            .read(read.get_mut(filled..).unwrap_or_default())
            .await;
        match more {
            Err(_) | Ok(0) => return Err(Unheard::Left),
            Ok(more) => read.truncate(filled + more),
        }
    }
}

/// What most proxies say fits, with what comes behind it.
const PIECE: usize = 512;

#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    /// There is more to come.
    Part,
    Whole {
        ends: Option<(SocketAddr, SocketAddr)>,
        length: usize,
    },
    Malformed(&'static str),
}

fn parse(read: &[u8]) -> Parsed {
    if starts_alike(read, SIGNATURE) {
        second(read)
    } else if starts_alike(read, WORD) {
        first(read)
    } else {
        Parsed::Malformed("no PROXY header")
    }
}

/// Whether one of them begins with the other.
fn starts_alike(read: &[u8], expected: &[u8]) -> bool {
    read.iter().zip(expected).all(|(one, other)| one == other)
}

/// The first bytes of version 2, which are nothing else.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Those of version 1.
const WORD: &[u8] = b"PROXY ";
/// Bytes of the longest line of version 1, with its end: the specification counts them.
const LONGEST_LINE: usize = 107;

/// `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443`, and the end of the line.
fn first(read: &[u8]) -> Parsed {
    let within = read.get(..LONGEST_LINE).unwrap_or(read);
    let Some(end) = within.windows(2).position(|two| two == b"\r\n") else {
        return if read.len() < LONGEST_LINE {
            Parsed::Part
        } else {
            Parsed::Malformed("a line of version 1 that does not end")
        };
    };
    let line = within.get(WORD.len()..end).unwrap_or_default();
    let length = end + 2;
    let Ok(line) = str::from_utf8(line) else {
        return Parsed::Malformed("a line of version 1 that is no text");
    };
    // What stands behind it says nothing that can be known.
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Parsed::Whole { ends: None, length };
    }
    match ends_of_line(line) {
        Some(ends) => Parsed::Whole {
            ends: Some(ends),
            length,
        },
        None => Parsed::Malformed("a line of version 1 without two addresses and ports"),
    }
}

fn ends_of_line(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let mut words = line.split(' ');
    let family = words.next()?;
    let mut address = || -> Option<IpAddr> {
        let word = words.next()?;
        match family {
            "TCP4" => word.parse().ok().map(IpAddr::V4),
            "TCP6" => word.parse().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (from, to) = (address()?, address()?);
    let mut port = || words.next().and_then(port);
    let (from_port, to_port) = (port()?, port()?);
    words.next().is_none().then_some(())?;
    Some((
        SocketAddr::new(from, from_port),
        SocketAddr::new(to, to_port),
    ))
}

/// Decimal, without a sign and without zeros before it.
fn port(word: &str) -> Option<u16> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit());
    let is_short = word == "0" || !word.starts_with('0');
    word.parse().ok().filter(|_| is_plain && is_short)
}

/// Signature, version and command, family, length, addresses, and what else there is, which is skipped.
fn second(read: &[u8]) -> Parsed {
    let Some((&[command, family, high, low], rest)) = read
        .get(SIGNATURE.len()..)
        .and_then(|after| after.split_first_chunk())
    else {
        return Parsed::Part;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > limits::PROXY_HEADER {
        return Parsed::Malformed("a header of version 2 that is too long");
    }
    let is_proxied = match command {
        0x20 => false,
        0x21 => true,
        _ => {
            return Parsed::Malformed(
                "another version than 1 and 2, or a command that there is not",
            );
        }
    };
    let Some(said) = rest.get(..length) else {
        return Parsed::Part;
    };
    let ends = match family {
        // A proxy that asks whether we are there.
        _ if !is_proxied => Ok(None),
        0x11 => addresses::<4>(said).ok_or(SHORT).map(Some),
        0x21 => addresses::<16>(said).ok_or(SHORT).map(Some),
        // Unspecified, or of a Unix socket.
        0x00 | 0x31 => Ok(None),
        _ => Err("a header of version 2 of another transport than TCP"),
    };
    match ends {
        Ok(ends) => Parsed::Whole {
            ends,
            length: SIGNATURE.len() + 4 + length,
        },
        Err(what) => Parsed::Malformed(what),
    }
}

const SHORT: &str = "a header of version 2 that is too short for its addresses";

/// Two addresses of `N` bytes, then two ports.
fn addresses<const N: usize>(said: &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    IpAddr: From<[u8; N]>,
{
    let (from, said) = said.split_first_chunk::<N>()?;
    let (to, said) = said.split_first_chunk::<N>()?;
    let (from_port, said) = said.split_first_chunk::<2>()?;
    let (to_port, _) = said.split_first_chunk::<2>()?;
    let end = |address: [u8; N], port: [u8; 2]| {
        SocketAddr::new(IpAddr::from(address), u16::from_be_bytes(port))
    };
    Some((end(*from, *from_port), end(*to, *to_port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(ends: Option<(&str, &str)>, length: usize) -> Parsed {
        let address = |text: &str| text.parse::<SocketAddr>().expect(text);
        Parsed::Whole {
            ends: ends.map(|(from, to)| (address(from), address(to))),
            length,
        }
    }

    fn v2(command: u8, family: u8, said: &[u8]) -> Vec<u8> {
        let length = u16::try_from(said.len()).expect("short").to_be_bytes();
        [SIGNATURE, &[command, family], &length, said].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];

    #[test]
    fn the_line_of_version_1() {
        let four = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\nGET";
        assert_eq!(
            parse(four),
            whole(
                Some(("192.0.2.1:56324", "198.51.100.1:443")),
                four.len() - 3
            )
        );
        let six = b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n";
        assert_eq!(
            parse(six),
            whole(Some(("[2001:db8::1]:0", "[::1]:65535")), six.len())
        );
        for unknown in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 ::1 1 2\r\n"] {
            assert_eq!(parse(unknown.as_bytes()), whole(None, unknown.len()));
        }
    }

    #[test]
    fn every_beginning_of_a_header_waits_for_the_rest() {
        let line = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".to_vec();
        for header in [line, v2(0x21, 0x11, &V4)] {
            for length in 0..header.len() {
                assert_eq!(parse(&header[..length]), Parsed::Part, "{length}");
            }
            assert!(matches!(parse(&header), Parsed::Whole { .. }));
        }
    }

    #[test]
    fn what_is_no_line_of_version_1_is_refused() {
        let long = format!("PROXY UNKNOWN {}", "x".repeat(100));
        for bad in [
            "GET / HTTP/1.1\r\n\r\n",
            "PROXY\r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP5 192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n",
            "PROXY TCP4 192.0.2.1  198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 01 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 65536\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.1 1 2\r\n",
            "proxy TCP4 192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY UNKNOWNX\r\n",
            &long,
        ] {
            assert!(
                matches!(parse(bad.as_bytes()), Parsed::Malformed(_)),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_header_of_version_2() {
        let ends = Some(("192.0.2.1:56324", "198.51.100.1:443"));
        let header = v2(0x21, 0x11, &V4);
        assert_eq!(parse(&header), whole(ends, 28));
        // What comes behind the addresses is skipped, and what comes behind the header is not part of it.
        let more = [&V4[..], &[0x04, 0, 2, 0, 0]].concat();
        let header = [v2(0x21, 0x11, &more), b"GET".to_vec()].concat();
        assert_eq!(parse(&header), whole(ends, 33));
        let mut six = [0; 36];
        (six[15], six[31], six[33], six[35]) = (1, 2, 80, 81);
        assert_eq!(
            parse(&v2(0x21, 0x21, &six)),
            whole(Some(("[::1]:80", "[::2]:81")), 52)
        );
        for (command, family, length) in [
            (0x20, 0x00, 0),
            (0x20, 0x11, 12),
            (0x21, 0x00, 7),
            (0x21, 0x31, 216),
        ] {
            let header = v2(command, family, &vec![0; length]);
            assert_eq!(parse(&header), whole(None, 16 + length));
        }
    }

    #[test]
    fn what_is_no_header_of_version_2_is_refused() {
        let long = vec![0; limits::PROXY_HEADER + 1];
        for bad in [
            v2(0x11, 0x11, &V4),
            v2(0x22, 0x11, &V4),
            v2(0x21, 0x11, &V4[..11]),
            v2(0x21, 0x21, &V4),
            v2(0x21, 0x12, &V4),
            v2(0x21, 0x41, &V4),
            v2(0x20, 0x00, &long)[..16].to_vec(),
        ] {
            assert!(matches!(parse(&bad), Parsed::Malformed(_)), "{bad:x?}");
        }
    }
}
