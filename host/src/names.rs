//! Names that somebody chose: shown at a bearable length, and guessed at when they are mistyped.

/// Characters of a name that are shown.
pub const NAME_SHOWN: usize = 100;

/// A name, cut.
#[must_use]
pub fn short(name: &str) -> String {
    match name.char_indices().nth(NAME_SHOWN) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// The candidate most like `name`, if it is alike enough to be what was meant.
#[must_use]
pub fn most_alike(
    name: &str,
    candidates: impl Iterator<Item = String>,
    enough: f64,
) -> Option<String> {
    let name = short(name);
    candidates
        .map(|candidate| {
            (
                strsim::normalized_damerau_levenshtein(&name, &candidate),
                candidate,
            )
        })
        .filter(|(likeness, _)| *likeness >= enough)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
