//! Reading a request's target, and writing numbers.

pub(crate) fn path(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

/// The value of one parameter, as it stands: nothing is decoded.
pub(crate) fn query<'a>(target: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = target.split_once('?')?;
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// The bindings print `Scheme::Http` and `ErrorCode::InternalError(..)`: this gives `Http` and `InternalError`.
pub(crate) fn variant(value: &impl std::fmt::Debug) -> String {
    let printed = format!("{value:?}");
    let variant = printed.split("::").nth(1).unwrap_or_default();
    variant
        .split(['(', ' '])
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// The same in WIT's spelling: `connection-refused`.
pub(crate) fn kebab(value: &impl std::fmt::Debug) -> String {
    let mut name = String::new();
    for letter in variant(value).chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// FNV-1a with 64 bits: enough to see that a body arrived unchanged.
pub(crate) struct Fnv(pub(crate) u64);

impl Fnv {
    pub(crate) fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

/// Fields that would break a head apart, or are none.
pub(crate) const BAD_FIELDS: [(&str, &[u8]); 6] = [
    ("", b"x"),
    ("two words", b"x"),
    ("x-colon:", b"x"),
    ("x-line", b"a\r\nx-more: b"),
    ("x-nul", b"a\0b"),
    ("x-feed", b"a\nb"),
];
