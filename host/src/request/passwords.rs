//! Who a client is, by name and password (RFC 7617).
//!
//! A check costs much CPU on purpose, so it has a thread of low priority, few go on at once, and few wait: a flood of wrong
//! passwords gets a 503, slows nobody who serves, and nobody whose password was right lately.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use tokio::time::timeout;

use super::Failure;
use crate::catalog::BasicAuth;
use crate::{limits, priority};

/// The name that a request shows, if its password is right.
pub(super) async fn name(auth: &BasicAuth, headers: &HeaderMap) -> Result<Arc<str>, Failure> {
    let wrong = || Failure::Unauthorized(auth.challenge.clone());
    let (name, password) = shown(headers).ok_or_else(wrong)?;
    if auth.passwords.are_known(&name, &password) {
        return Ok(Arc::from(name));
    }
    let place = auth.passwords.checks.admit().await?;
    let passwords = Arc::clone(&auth.passwords);
    let check = move || {
        let is_right = passwords.are_right(&name, &password);
        // A client that has left meanwhile takes nobody's place: this has its own until here.
        drop(place);
        is_right.then(|| Arc::from(name))
    };
    let checked = timeout(
        limits::PASSWORD_CHECK,
        priority::work("password", limits::NICEST, check),
    )
    .await;
    let Ok(Ok(name)) = checked else {
        return Err(Failure::Overload);
    };
    name.ok_or_else(wrong)
}

/// Name and password of `authorization`, if there is one.
fn shown(headers: &HeaderMap) -> Option<(String, String)> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let field = fields.next().filter(|_| fields.next().is_none())?;
    let (scheme, shown) = field.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let shown = String::from_utf8(STANDARD.decode(shown.trim()).ok()?).ok()?;
    let (name, password) = shown.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_name_and_a_password_are_in_one_field() {
        let shown = |value: &'static str| {
            let field = (header::AUTHORIZATION, HeaderValue::from_static(value));
            shown(&HeaderMap::from_iter([field]))
        };
        // `ann:se:cret`.
        let right = Some(("ann".to_owned(), "se:cret".to_owned()));
        assert_eq!(shown("Basic YW5uOnNlOmNyZXQ="), right);
        assert_eq!(shown("bASIC  YW5uOnNlOmNyZXQ="), right);
        for bad in [
            "Basic",
            "Basic !",
            "Bearer YW5uOnNlOmNyZXQ=",
            "Basic YW5u",
            "Basic /////w==",
            "",
        ] {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }
}
