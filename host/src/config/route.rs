//! Which requests a handler is for, as written.

use std::str::FromStr as _;
use std::sync::Arc;

use http::Method;

use super::keys::ROUTE;
use super::policy::policy;
use super::reader::{Table, Value};
use crate::catalog::{HostPattern, PathPattern, Policy, Route};

/// A route of a handler: a text, `example.com/shop/*`, or a table. What it does not say of its policy, `every` does.
pub(super) fn route(value: &Value<'_>, every: Option<&Arc<Policy>>) -> Option<Route> {
    if !value.is_table() {
        let text = value.text()?;
        let mut route = Route::from_str(&text)
            .map_err(|error| value.mistake(error))
            .ok()?;
        route.policy = every.cloned();
        return Some(route);
    }
    let table = value.table(&ROUTE)?;
    let strip_prefix = table.flag("strip_prefix");
    Some(Route {
        strip_prefix,
        ..of_table(&table, every)?
    })
}

/// What the routes of handlers and those without one have in common.
pub(super) fn of_table(table: &Table<'_>, every: Option<&Arc<Policy>>) -> Option<Route> {
    let host = table.parsed("host", HostPattern::from_str);
    let path = table.parsed("path", PathPattern::from_str);
    let methods = table.list("methods");
    let methods = methods.iter().filter_map(|method| method.parsed(method_of));
    let policy = policy(table, every);
    Some(Route {
        methods: methods.collect(),
        host: host.unwrap_or_default(),
        path: path?,
        strip_prefix: false,
        policy,
    })
}

pub(super) fn method_of(text: &str) -> Result<Method, &'static str> {
    // Methods are told apart by case, so `get` would never come.
    match Method::from_str(text) {
        Ok(method) if !text.contains(|c: char| c.is_ascii_lowercase()) => Ok(method),
        _ => Err("not a method: write it as `GET` or `POST`"),
    }
}
