//! What a field of an HTTP/2 request can be (RFC 9113, 8.2 and 8.3).

use http::Method;

use super::intake::length_of;

/// What a name is the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A part of what is asked for, as a bit in a set of them
    Pseudo(u8),
    Header,
    /// A header that may say one thing alone
    Te,
    /// The length of the body, which is said once
    Length,
    /// A header of a connection, of which HTTP/2 has none
    OfConnection,
    /// Nothing that a request has
    Wrong,
}

pub(super) const METHOD: Kind = Kind::Pseudo(1);
pub(super) const PATH: Kind = Kind::Pseudo(2);

impl Kind {
    pub(super) fn of(name: &[u8]) -> Kind {
        match name {
            b":method" => METHOD,
            b":path" => PATH,
            b":scheme" => Kind::Pseudo(4),
            b":authority" => Kind::Pseudo(8),
            b":protocol" => Kind::Pseudo(16),
            b"te" => Kind::Te,
            b"content-length" => Kind::Length,
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding"
            | b"upgrade" => Kind::OfConnection,
            _ if !name.is_empty() && name.iter().all(|&byte| is_of_a_name(byte)) => Kind::Header,
            _ => Kind::Wrong,
        }
    }

    /// Whether a request can have such a field with this value. h2 takes more for a path: it cuts off a fragment without a
    /// word.
    pub(super) fn takes(self, value: &[u8]) -> bool {
        match self {
            METHOD => Method::from_bytes(value).is_ok(),
            PATH => {
                (value == b"*" || value.starts_with(b"/"))
                    && !value.contains(&b'#')
                    && std::str::from_utf8(value).is_ok()
            }
            Kind::Pseudo(_) => std::str::from_utf8(value).is_ok(),
            Kind::Header => value
                .iter()
                .all(|&byte| byte == b'\t' || byte >= b' ' && byte != 0x7f),
            Kind::Te => value == b"trailers",
            Kind::Length => length_of(value).is_some(),
            Kind::OfConnection | Kind::Wrong => false,
        }
    }
}

fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_can_have_these_fields_and_not_those() {
        let fields: [(&str, &[u8], &[u8]); 14] = [
            (":method", b"GET", b"GET /"),
            (":method", b"purge", b""),
            (":path", b"/a?b", b"/a#b"),
            (":path", b"*", b"a"),
            (":scheme", b"http", b"\xff"),
            ("x-a", b"", b"a\nb"),
            ("x-a", b"a\tb \xe9", b"\x7f"),
            ("te", b"trailers", b"gzip"),
            ("content-length", b"0", b""),
            ("content-length", b"05", b"+5"),
            ("content-length", b"5", b" 5"),
            ("content-length", b"5", b"5, 5"),
            ("content-length", b"5", b"0x5"),
            (
                "content-length",
                b"9223372036854775807",
                b"9223372036854775808",
            ),
        ];
        for (name, good, bad) in fields {
            let kind = Kind::of(name.as_bytes());
            assert!(kind.takes(good), "{name}: {}", good.escape_ascii());
            assert!(!kind.takes(bad), "{name}: {}", bad.escape_ascii());
        }
        for name in ["connection", "transfer-encoding", "upgrade"] {
            assert_eq!(Kind::of(name.as_bytes()), Kind::OfConnection, "{name}");
        }
        for name in ["", "X", "a b", "a:", ":status", ":nonsense", "\u{e9}"] {
            assert_eq!(Kind::of(name.as_bytes()), Kind::Wrong, "{name}");
        }
    }
}
