//! The one form in which the paths of requests and of routes are compared, however they are spelled.

use std::borrow::Cow;
use std::fmt::Write as _;

/// All spellings of a path have one form (RFC 3986, section 6.2.2, and RFC 9110, section 4.2.3): what a segment may hold
/// is itself, and all else is encoded, with digits in upper case. `%2F` stays, since it is no `/`. That `%40` is `@` goes
/// further than the RFCs, which leave it to the origin: a guest that decodes its path does not tell them apart. A `%` that
/// encodes nothing is the sign itself, as it is to who decodes it. `*` is encoded, since in the form of a pattern it is a
/// wildcard.
pub(super) fn form(path: &str) -> Cow<'_, str> {
    let stays = |byte: u8| byte == b'/' || is_of_segments(byte);
    if path.bytes().all(stays) {
        return Cow::Borrowed(path);
    }
    let mut form = String::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let decoded = encoded(rest);
        let (byte, is_itself) = match decoded {
            Some(byte) => (byte, is_of_segments(byte)),
            None => (first, stays(first)),
        };
        rest = if decoded.is_some() { &rest[3..] } else { after };
        if is_itself {
            form.push(char::from(byte));
        } else {
            // Never fails: it is a text in memory.
            let _ = write!(form, "%{byte:02X}");
        }
    }
    Cow::Owned(form)
}

/// Whether a segment is `.` or `..`, which lead elsewhere, in any spelling (RFC 3986, section 5.2.4).
pub(crate) fn is_dots(segment: &str) -> bool {
    after_dot(segment).is_some_and(|rest| rest.is_empty() || after_dot(rest) == Some(""))
}

fn after_dot(text: &str) -> Option<&str> {
    let mut spellings = [".", "%2e", "%2E"].into_iter();
    spellings.find_map(|dot| text.strip_prefix(dot))
}

/// The byte that the first three of a text stand for, if they are `%` and two digits.
fn encoded(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else {
        return None;
    };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// RFC 3986, section 3.3: what a segment holds as it is, but for `*`.
fn is_of_segments(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()+,;=:@".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_path_have_one_form() {
        for (path, expected) in [
            ("/%61dmin/%7Ea%2db%2E%5f", "/admin/~a-b._"),
            ("/%41", "/A"),
            ("/a%2fb%2Fc", "/a%2Fb%2Fc"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/café", "/caf%C3%A9"),
            ("/a|b\\^`<>\"{}[]", "/a%7Cb%5C%5E%60%3C%3E%22%7B%7D%5B%5D"),
            ("/a%7cb", "/a%7Cb"),
            ("/%3A%40%2a%3b", "/:@%2A;"),
            ("/a*b/*", "/a%2Ab/%2A"),
            ("/%25%36%31", "/%2561"),
            ("/%2561", "/%2561"),
            ("/100%", "/100%25"),
            ("/%g0%4", "/%25g0%254"),
            ("/%%361", "/%2561"),
            ("/%+1%é", "/%25+1%25%C3%A9"),
        ] {
            assert_eq!(form(path), expected, "{path}");
            assert_eq!(form(expected), expected, "the form of {expected}");
        }
    }

    #[test]
    fn a_path_that_is_in_its_form_is_not_copied() {
        let usual = "/shop/~x;v=1,2:@!$&'()+/a-b_c.d";
        assert!(matches!(form(usual), Cow::Borrowed(same) if same == usual));
    }

    #[test]
    fn dots_lead_elsewhere_in_every_spelling() {
        for dots in [".", "..", "%2e", "%2E", ".%2e", "%2E.", "%2e%2E"] {
            assert!(is_dots(dots), "{dots}");
        }
        for other in [
            "", "...", ".a", "a.", "%2e%2f", "..%2F", "%252e", "%2", "%2e%2e.", "é",
        ] {
            assert!(!is_dots(other), "{other}");
        }
    }
}
