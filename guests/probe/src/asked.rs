//! The query of a request, as it stands: nothing is decoded.

pub(crate) struct Asked<'a>(pub(crate) &'a str);

impl<'a> Asked<'a> {
    pub(crate) fn text(&self, name: &str) -> &'a str {
        let mut pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(key, _)| *key == name)
            .map_or("", |(_, value)| value)
    }

    pub(crate) fn number(&self, name: &str, otherwise: u64) -> u64 {
        self.text(name).parse().unwrap_or(otherwise)
    }
}
