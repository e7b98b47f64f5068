//! What the file refers to and does not say: variables, files, credentials.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io;
use std::path::Path;

use super::keys::REFERENCE;
use super::reader::Value;
use crate::files;
use crate::limits;
use crate::names::{NAME_SHOWN, short};
use crate::secret::Secret;

/// What is outside the file: the environment and other files. Tests bring their own.
pub(super) struct Outside<'a> {
    pub(super) variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// A file of at most so many bytes.
    pub(super) read: &'a dyn Fn(&Path, usize) -> io::Result<Vec<u8>>,
}

impl Outside<'_> {
    pub(super) const REAL: Outside<'static> = Outside {
        variable: &|name| std::env::var_os(name),
        read: &files::read,
    };

    fn variable(&self, name: &str) -> Result<String, String> {
        let shown = short(name);
        match (self.variable)(name).map(OsString::into_string) {
            Some(Ok(value)) => Ok(value),
            Some(Err(_)) => Err(format!(
                "the variable `{shown}` is not UTF-8: set it to a text"
            )),
            None => Err(format!(
                "the variable `{shown}` is not set: set it for the host"
            )),
        }
    }
}

/// References that are wrong, each with why.
pub(super) type Wrong = Vec<(String, String)>;

/// Puts variables in place of `${NAME}`. `$${` is `${` as it stands.
pub(super) fn expand<'t>(text: &'t str, outside: &Outside<'_>) -> Result<Cow<'t, str>, Wrong> {
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let (mut expanded, mut wrong) = (String::new(), Wrong::new());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let before = &rest[..at];
        let after = &rest[at + 2..];
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = after;
            continue;
        }
        expanded.push_str(before);
        let Some((name, behind)) = after.split_once('}') else {
            let message = "`${` without `}`: write `${NAME}`, or `$${` for the signs themselves";
            wrong.push(("${".to_owned(), message.to_owned()));
            rest = "";
            break;
        };
        match variable_name(name).and_then(|()| outside.variable(name)) {
            Ok(value) => expanded.push_str(&value),
            Err(why) => wrong.push((format!("${{{name}}}"), why)),
        }
        rest = behind;
    }
    expanded.push_str(rest);
    if wrong.is_empty() {
        Ok(Cow::Owned(expanded))
    } else {
        Err(wrong)
    }
}

/// A message about a text, with the variables that the text names in place of what they stand for, which may be a secret.
pub(super) fn unexpanded(mut message: String, text: &str, outside: &Outside<'_>) -> String {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("${")
        && let Some((name, behind)) = after.split_once('}')
    {
        let value = outside.variable(name).unwrap_or_default();
        // What is shorter is no secret, and may be a part of any word.
        if value.len() >= SHORTEST_SECRET {
            let instead = format!("${{{name}}}");
            message = message.replace(&value, &instead);
            message = message.replace(&value.escape_debug().to_string(), &instead);
            for beginning in beginnings(&value) {
                let cut = format!("{}…", beginning.escape_debug());
                message = message.replace(&cut, &format!("{instead}…"));
            }
        }
        rest = behind;
    }
    message
}

/// What [`short`] may have left of a value, which stands behind other text or not; the longest first.
fn beginnings(value: &str) -> impl Iterator<Item = &str> {
    let ends = value.char_indices().map(|(end, _)| end);
    let ends: Vec<usize> = ends.take(NAME_SHOWN + 1).collect();
    let beginnings = ends.into_iter().rev().map(move |end| &value[..end]);
    beginnings.filter(|beginning| beginning.len() >= SHORTEST_SECRET)
}

/// Bytes of the shortest text that is taken for a secret.
const SHORTEST_SECRET: usize = 4;

/// What shells take for a name.
fn variable_name(name: &str) -> Result<(), String> {
    let is_name = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_name {
        return Ok(());
    }
    Err(format!(
        "`{}` is no name of a variable: write letters, digits and `_`, or `$${{` for the signs themselves",
        short(name)
    ))
}

impl Value<'_> {
    /// A variable of a guest: said here or elsewhere.
    pub(super) fn variable(&self) -> Option<Secret> {
        if self.is_table() {
            return self.reference();
        }
        self.hide();
        self.text().map(Secret::from)
    }

    /// A secret: never said here, where everybody reads it who may read the file.
    pub(super) fn secret(&self) -> Option<Secret> {
        let secret = if self.is_table() {
            self.reference()?
        } else {
            let is_reference = self.as_written().is_some_and(|text| {
                text.starts_with("${") && text.find('}') == Some(text.len() - 1)
            });
            if !is_reference {
                self.hide();
                self.mistake(
                    "a secret that whoever reads this file can see: write `{ from_file = \"…\" }`, `{ from_env = \"…\" }` or `{ from_credential = \"…\" }`",
                );
                return None;
            }
            self.text()?.into()
        };
        if secret.reveal().is_empty() {
            self.mistake("it is empty, and anyone could show that: put a secret there");
            return None;
        }
        Some(secret)
    }

    fn reference(&self) -> Option<Secret> {
        let table = self.table(&REFERENCE)?;
        let kinds = ["from_env", "from_file", "from_credential"];
        match kinds.map(|kind| table.value(kind)) {
            [Some(name), None, None] => name.in_variable(),
            [None, Some(file), None] => {
                let path = file.path()?;
                file.in_file(&path)
            }
            [None, None, Some(name)] => name.in_credential(),
            _ => {
                table.mistake("a secret comes from one place: write one of `from_env`, `from_file` and `from_credential`");
                None
            }
        }
    }

    fn in_variable(self) -> Option<Secret> {
        let name = self.text()?;
        self.or_mistake(variable_name(&name).and_then(|()| self.reader.outside.variable(&name)))
            .map(Secret::from)
    }

    fn in_credential(self) -> Option<Secret> {
        let name = self.text()?;
        if name.is_empty() || name.contains(['/', '\0']) || name.contains("..") {
            self.mistake("not the name of a credential: write it without `/` and `..`");
            return None;
        }
        let Some(directory) = (self.reader.outside.variable)("CREDENTIALS_DIRECTORY") else {
            self.mistake("there are no credentials, for `$CREDENTIALS_DIRECTORY` is not set: start the host as a systemd service with `LoadCredential=`");
            return None;
        };
        self.in_file(&Path::new(&directory).join(name))
    }

    fn in_file(self, path: &Path) -> Option<Secret> {
        let read = self.reader.read(path, limits::SECRET_BYTES);
        self.or_mistake(Secret::of_bytes(path, read))
    }

    fn or_mistake<T>(&self, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.mistake(message)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, Vec<String>> {
        let outside = Outside {
            variable: &|name| (name == "HOME_1").then(|| "/home/${X}".into()),
            read: &|_, _| unreachable!(),
        };
        expand(text, &outside)
            .map(Cow::into_owned)
            .map_err(|wrong| wrong.into_iter().map(|(what, _)| what).collect())
    }

    #[test]
    fn variables_stand_in_any_text_and_are_put_in_once() {
        for (text, result) in [
            ("", ""),
            ("plain $1 {x} $", "plain $1 {x} $"),
            ("${HOME_1}", "/home/${X}"),
            ("a${HOME_1}/${HOME_1}b", "a/home/${X}//home/${X}b"),
            ("$${HOME_1}", "${HOME_1}"),
            ("$${${HOME_1}", "${/home/${X}"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(result), "{text}");
        }
        for (text, wrong) in [
            ("${NOT} ${HOME_1} ${NEITHER}", &["${NOT}", "${NEITHER}"][..]),
            ("${}", &["${}"]),
            ("${1A}", &["${1A}"]),
            ("${a b}", &["${a b}"]),
            ("${HOME_1", &["${"]),
        ] {
            let wrong: Vec<_> = wrong.iter().map(|&what| what.to_owned()).collect();
            assert_eq!(expanded(text), Err(wrong), "{text}");
        }
    }
}
