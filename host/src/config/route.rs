//! Which requests a handler is for, as written.

use std::str::FromStr as _;

use http::Method;

use super::keys::ROUTE;
use super::reader::{Table, Value};
use crate::catalog::{HostPattern, PathPattern, Route};

/// A route of a handler: a text, `example.com/shop/*`, or a table.
pub(super) fn route(value: &Value<'_>) -> Option<Route> {
    if !value.is_table() {
        let text = value.text()?;
        return Route::from_str(&text)
            .map_err(|error| value.mistake(error))
            .ok();
    }
    let table = value.table(&ROUTE)?;
    let strip_prefix = table.flag("strip_prefix");
    Some(Route {
        strip_prefix,
        ..of_table(&table)?
    })
}

/// What the routes of handlers and those without one have in common.
pub(super) fn of_table(table: &Table<'_>) -> Option<Route> {
    let host = table.parsed("host", HostPattern::from_str);
    let path = table.parsed("path", PathPattern::from_str);
    let methods = table.list("methods");
    let methods = methods.iter().filter_map(|method| method.parsed(method_of));
    Some(Route {
        methods: methods.collect(),
        host: host.unwrap_or_default(),
        path: path?,
        strip_prefix: false,
    })
}

fn method_of(text: &str) -> Result<Method, &'static str> {
    // Methods are told apart by case, so `get` would never come.
    match Method::from_str(text) {
        Ok(method) if !text.contains(|c: char| c.is_ascii_lowercase()) => Ok(method),
        _ => Err("not a method: write it as `GET` or `POST`"),
    }
}
