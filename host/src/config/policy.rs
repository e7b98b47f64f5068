//! What the host does on a route around the handler's answer, as written.

use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr as _;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::host::networks;
use super::keys::{BASIC_AUTH, CORS, HEADER_CHANGES};
use super::reader::{Table, Value};
use super::route::method_of;
use crate::catalog::{
    Access, BasicAuth, Cors, ErrorPages, HeaderChanges, Origins, Passwords, Policy,
};
use crate::limits;
use crate::names::short;
use crate::values;

/// The keys of a table that say something of it.
const KEYS: [&str; 7] = [
    "headers",
    "allow",
    "deny",
    "cors",
    "basic_auth",
    "error_pages",
    "compress",
];

/// What a table says of it, and for the rest what holds of every route.
pub(super) fn policy(table: &Table<'_>, every: Option<&Arc<Policy>>) -> Option<Arc<Policy>> {
    if !KEYS.iter().any(|key| table.has(key)) {
        return every.cloned();
    }
    let every = every.map(|every| Policy::clone(every)).unwrap_or_default();
    let networks = |key, unsaid| match table.has(key) {
        true => networks(table, key),
        false => unsaid,
    };
    let cors = table.table("cors", &CORS);
    let basic_auth = table.table("basic_auth", &BASIC_AUTH);
    Some(Arc::new(Policy {
        headers: match table.table("headers", &HEADER_CHANGES) {
            Some(table) => headers(&table, every.headers),
            None => every.headers,
        },
        access: Access {
            allow: networks("allow", every.access.allow),
            deny: networks("deny", every.access.deny),
        },
        cors: match cors {
            Some(table) => self::cors(&table),
            None => every.cors,
        },
        basic_auth: match basic_auth {
            Some(table) => self::basic_auth(&table),
            None => every.basic_auth,
        },
        pages: pages(table, every.pages),
        compress: if table.has("compress") {
            table.flag("compress")
        } else {
            every.compress
        },
    }))
}

/// Beside those of every route, but for those of the same name.
fn headers(table: &Table<'_>, every: HeaderChanges) -> HeaderChanges {
    let fields = |key| {
        let fields = table.named(key).into_iter();
        let field = |(name, value): (HeaderName, Option<HeaderValue>)| Some((name, value?));
        fields
            .filter_map(|named| {
                let name = changed(&named.value, named.name);
                let value = named.value.parsed(values::header);
                field((name?, value))
            })
            .collect::<Vec<_>>()
    };
    let own = HeaderChanges {
        set: fields("set"),
        add: fields("add"),
        remove: table
            .list("remove")
            .iter()
            .filter_map(|value| changed(value, &value.text()?))
            .collect(),
    };
    let is_own = |name: &HeaderName| {
        let said = own.set.iter().chain(&own.add).map(|(name, _)| name);
        said.chain(&own.remove).any(|other| other == name)
    };
    let mut changes = every;
    changes.set.retain(|(name, _)| !is_own(name));
    changes.add.retain(|(name, _)| !is_own(name));
    changes.remove.retain(|name| !is_own(name));
    changes.set.extend(own.set);
    changes.add.extend(own.add);
    changes.remove.extend(own.remove);
    changes
}

/// A header that may be changed: not those that say how the answer is sent.
fn changed(at: &Value<'_>, name: &str) -> Option<HeaderName> {
    let Ok(name) = HeaderName::from_str(name) else {
        at.mistake(format_args!(
            "`{}` is no name of a header",
            short(name).escape_debug()
        ));
        return None;
    };
    let is_fixed = [
        header::CONNECTION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::DATE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ]
    .contains(&name)
        || matches!(
            name.as_str(),
            "keep-alive" | "proxy-connection" | "x-request-id"
        );
    if is_fixed {
        at.mistake(format_args!(
            "`{name}` is the host's own, it says how the answer is sent: leave it out"
        ));
        return None;
    }
    Some(name)
}

fn cors(table: &Table<'_>) -> Option<Cors> {
    let written = table.list("origins");
    let origins = written.iter().filter_map(|it| it.parsed(values::origin));
    let origins: Vec<HeaderValue> = origins.collect();
    let is_any = origins.iter().any(|origin| origin == "*");
    let credentials = table.flag("credentials");
    if let Some(value) = table.value("origins") {
        if is_any && origins.len() > 1 {
            value.mistake("`*` is every origin: leave out the others, or it");
        }
        if is_any && credentials {
            value.mistake(
                "no browser takes `*` with `credentials`, and nobody should: name the origins",
            );
        }
        if value.is_empty_list() {
            value.mistake(
                "no origin: name one, such as `https://app.example.com`, or leave out `cors`",
            );
        }
    }
    let mut cors = Cors::of(match is_any {
        true => Origins::Any,
        false => Origins::These(origins),
    });
    if let Some(methods) = joined(table, "methods", |text| {
        method_of(text).map(|method| method.to_string())
    }) {
        cors.methods = methods;
    }
    let name = |text: &str| match HeaderName::from_str(text) {
        Ok(name) => Ok(name.to_string()),
        Err(_) => Err("not the name of a header: write one such as `x-token`"),
    };
    cors.headers = joined(table, "headers", name);
    cors.expose = joined(table, "expose", name);
    cors.credentials = credentials;
    let seconds = |text: &str| values::duration(text).map(|it| HeaderValue::from(it.as_secs()));
    cors.max_age = table.parsed("max_age", seconds);
    Some(cors)
}

/// A list as it stands in a header. None if it is not said.
fn joined<E: Display>(
    table: &Table<'_>,
    key: &str,
    parse: impl Fn(&str) -> Result<String, E>,
) -> Option<HeaderValue> {
    table.value(key)?;
    let all = table.list(key);
    let all = all.iter().filter_map(|it| it.parsed(&parse));
    HeaderValue::try_from(all.collect::<Vec<_>>().join(", ")).ok()
}

fn basic_auth(table: &Table<'_>) -> Option<BasicAuth> {
    let realm = table.parsed("realm", |text| match text {
        text if text.contains(['"', '\\']) => {
            Err("not a realm: write a text without quotes and backslashes".to_owned())
        }
        text => values::header(text).map(|_| text.to_owned()),
    });
    let realm = realm.unwrap_or_else(|| REALM.to_owned());
    let challenge = format!("Basic realm=\"{realm}\", charset=\"UTF-8\"");
    let file = table.value("file")?;
    let text = String::from_utf8(contents(&file, limits::PASSWORD_FILE)?);
    let text = text.map_err(|_| "it is not UTF-8".to_owned());
    let passwords = text.and_then(|text| passwords(&text));
    let passwords = passwords.map_err(|wrong| {
        file.mistake(format_args!(
            "{wrong}: make it with `htpasswd -B`, one `NAME:HASH` a line"
        ));
    });
    Some(BasicAuth {
        passwords: Arc::new(passwords.ok()?),
        challenge: HeaderValue::try_from(challenge).ok()?,
    })
}

/// What is asked for where nobody says it.
const REALM: &str = "restricted";

/// `NAME:HASH` a line, where the hash is one of bcrypt. Mistakes name lines and no more.
fn passwords(text: &str) -> Result<Passwords, String> {
    let mut hashes = HashMap::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, hash) = line
            .split_once(':')
            .ok_or_else(|| format!("line {number} has no colon"))?;
        if name.is_empty() || name.len() > limits::NAME || name.contains(char::is_control) {
            return Err(format!(
                "the name of line {number} has not 1 to {} characters, or some that cannot be shown",
                limits::NAME
            ));
        }
        let cost = bcrypt_cost(hash)
            .ok_or_else(|| format!("the hash of line {number} is not one of bcrypt"))?;
        if cost > limits::PASSWORD_COST {
            return Err(format!(
                "the hash of line {number} costs 2^{cost} rounds, and more than 2^{} are not taken: make it with `-C 10`",
                limits::PASSWORD_COST
            ));
        }
        if hashes.insert(Box::from(name), Box::from(hash)).is_some() {
            return Err(format!("the name of line {number} has been there before"));
        }
    }
    if hashes.is_empty() {
        return Err("nobody is in it".to_owned());
    }
    Ok(Passwords::new(hashes))
}

/// `$2y$COST$` and 53 characters.
fn bcrypt_cost(hash: &str) -> Option<u32> {
    let rest = ["$2a$", "$2b$", "$2y$"]
        .iter()
        .find_map(|version| hash.strip_prefix(version))?;
    let (cost, after) = rest.split_once('$')?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"./".contains(&byte);
    let is_hash = after.len() == 53 && after.bytes().all(is_plain) && cost.len() == 2;
    cost.parse().ok().filter(|cost| is_hash && *cost >= 4)
}

/// Statuses and classes of them, each with its page.
fn pages(table: &Table<'_>, every: ErrorPages) -> ErrorPages {
    let mut pages = every;
    for named in table.named("error_pages") {
        let page = || contents(&named.value, limits::FIXED_BODY).map(Bytes::from);
        let status = named
            .name
            .parse()
            .ok()
            .filter(|code| (400..=599).contains(code));
        match (named.name, status) {
            ("4xx", _) => pages.of_clients = page(),
            ("5xx", _) => pages.of_servers = page(),
            (_, Some(code)) => {
                if let (Ok(status), Some(page)) = (StatusCode::from_u16(code), page()) {
                    pages.by_status.retain(|(other, _)| *other != status);
                    pages.by_status.push((status, page));
                }
            }
            _ => named.value.mistake(
                "not the status of an error: write one from 400 to 599, or `4xx` or `5xx` for the others",
            ),
        }
    }
    pages
}

/// What is in a file that stands here. A change of it is a change of what is read.
pub(super) fn contents(file: &Value<'_>, most: usize) -> Option<Vec<u8>> {
    let path = file.path()?;
    let bytes = file.reader.contents(&path, most);
    bytes
        .map_err(|error| {
            file.mistake(format_args!("`{}` cannot be read: {error}", path.display()));
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC";

    #[test]
    fn only_hashes_of_bcrypt_that_can_be_checked_in_time_are_passwords() {
        assert!(passwords(&format!("# people\n\nzoe:{HASH}\nbob:{HASH}\n")).is_ok());
        for (bad, why) in [
            (String::new(), "nobody"),
            ("zoe".to_owned(), "line 1 has no colon"),
            ("zoe:secret".to_owned(), "line 1 is not one of bcrypt"),
            ("zoe:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=".to_owned(), "bcrypt"),
            ("zoe:$apr1$x$y".to_owned(), "bcrypt"),
            (format!("zoe:{}", HASH.replace("$05$", "$31$")), "2^31"),
            (format!("zoe:{HASH}\nzoe:{HASH}"), "line 2 has been"),
            (format!(":{HASH}"), "line 1 has not 1"),
        ] {
            let refused = passwords(&bad).expect_err(&bad);
            assert!(refused.contains(why), "{refused}");
            assert!(
                !refused.contains("zoe") && !refused.contains("secret"),
                "{refused}"
            );
        }
    }
}
