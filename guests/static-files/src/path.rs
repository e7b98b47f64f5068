//! Which file a URL's path means. Whatever could mean a place outside the directory, or could be read in
//! two ways, means no file at all.

/// `/a%20b/c` becomes `a b/c`, and `/` becomes `.`.
pub(crate) fn relative(raw: &str) -> Option<String> {
    let inside = raw.strip_prefix('/')?;
    let inside = inside.strip_suffix('/').unwrap_or(inside);
    if inside.is_empty() {
        return (raw == "/").then(|| ".".to_owned());
    }
    let names: Option<Vec<String>> = inside.split('/').map(name).collect();
    Some(names?.join("/"))
}

/// One segment. Checked after decoding, so that `%2e%2e` and `%2f` are what they stand for.
fn name(segment: &str) -> Option<String> {
    let name = decode(segment)?;
    let safe = !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '\\', '\0']);
    safe.then_some(name)
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A name as a URL carries it: the inverse of decoding.
pub(crate) fn encode(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(byte.into())
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

fn hex(digit: u8) -> Option<u8> {
    Some(char::from(digit).to_digit(16)? as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_inside_or_means_nothing() {
        let table = [
            ("/", Some(".")),
            ("/a/b.txt", Some("a/b.txt")),
            ("/a/", Some("a")),
            ("/a%20b/%C3%A9", Some("a b/é")),
            ("/..a/b..", Some("..a/b..")),
            ("/..", None),
            ("/a/../b", None),
            ("/%2e%2e/b", None),
            ("/.%2E/b", None),
            ("/./a", None),
            ("/a%2fb", None),
            ("/a%5cb", None),
            ("/a%00", None),
            ("//etc/passwd", None),
            ("//", None),
            ("/a//b", None),
            ("/%", None),
            ("/%4", None),
            ("/%+1", None),
            ("/%zz", None),
            ("/%ff", None),
            ("a", None),
            ("", None),
        ];
        for (raw, path) in table {
            assert_eq!(relative(raw).as_deref(), path, "{raw}");
        }
    }

    #[test]
    fn an_encoded_name_decodes_to_itself() {
        for name in ["a b", "100%", "é", "a?b#c", "\"<&>"] {
            assert_eq!(decode(&encode(name)).as_deref(), Some(name));
        }
    }
}
