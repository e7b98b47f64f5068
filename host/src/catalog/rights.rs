//! What a tenant may do with its tokens, and how much it may have, whoever deploys for it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::record::{Record, Version};
use super::{NotDone, Route, TenantSpec};
use crate::limits::HandlerLimits;
use crate::values::counted;

/// What a tenant changes by itself: it takes no route that it was not given, and has no limit above what everybody has.
/// What the handler has already, because the operator gave it, it may keep.
///
/// # Errors
/// With everything that it may not.
pub(super) fn check(
    tenant: &TenantSpec,
    before: Option<&Version>,
    after: &Version,
    everybody: &HandlerLimits,
) -> Result<(), NotDone> {
    let has = |route: &&Route| {
        let of_before = before.iter().flat_map(|before| &before.routes);
        let is_same = |old: &Route| {
            (&old.host, &old.path, &old.methods) == (&route.host, &route.path, &route.methods)
        };
        of_before.into_iter().any(is_same)
    };
    let is_given = |route: &&Route| tenant.routes.iter().any(|given| route.is_within(given));
    let refused = after
        .routes
        .iter()
        .filter(|route| !has(route) && !is_given(route));
    let mut forbidden: Vec<String> = refused.map(|route| no_route(tenant, route)).collect();
    let own = &after.settings;
    let before = before.map(|before| &before.settings);
    // A handler's `timeout` is that of its bodies too.
    let times = [
        (
            "timeout",
            own.timeout,
            everybody.deadline.min(everybody.body_deadline),
            before.and_then(|it| it.timeout),
        ),
        ("cpu", own.cpu, everybody.cpu, before.and_then(|it| it.cpu)),
    ];
    for (name, asked, most, had) in times {
        let most = most.max(had.unwrap_or(Duration::ZERO));
        if asked.is_some_and(|asked| asked > most) {
            forbidden.push(above(name, humantime::format_duration(most)));
        }
    }
    let most = everybody
        .memory
        .max(before.and_then(|it| it.memory).unwrap_or(0));
    if own.memory.is_some_and(|asked| asked > most) {
        forbidden.push(above("memory", format_args!("{most} bytes")));
    }
    if forbidden.is_empty() {
        Ok(())
    } else {
        Err(NotDone::Forbidden(forbidden))
    }
}

fn above(name: &str, most: impl std::fmt::Display) -> String {
    format!(
        "`{name}` is more than a tenant may ask for: at most {most}; the operator can give more"
    )
}

fn no_route(tenant: &TenantSpec, route: &Route) -> String {
    let name = &tenant.name;
    if tenant.routes.is_empty() {
        return format!(
            "tenant `{name}` may take no routes, so not `{route}`: the operator writes `routes = [\"{route}\"]` into `[tenants.{name}]` of the host's file"
        );
    }
    let given = tenant.routes.iter().take(SHOWN);
    let given: Vec<String> = given.map(|route| format!("`{route}`")).collect();
    format!(
        "`{route}` is no route that tenant `{name}` may take: name one with `--route` that lies within {}, or let the operator add it to `routes` in `[tenants.{name}]`",
        given.join(", ")
    )
}

/// Patterns in one message.
const SHOWN: usize = 10;

/// That there is room for another handler of a tenant.
///
/// # Errors
/// With what it has and may have.
pub(super) fn room_for_another(tenant: &TenantSpec, deployed: usize) -> Result<(), NotDone> {
    let has = tenant.handlers_of_files + deployed;
    match tenant.handlers {
        Some(most) if has >= most => Err(NotDone::NoRoom(format!(
            "tenant `{}` has {} and may have {most}: undeploy one, or let the operator raise its `max_handlers`",
            tenant.name,
            counted(has, "handler")
        ))),
        _ => Ok(()),
    }
}

/// Makes room for the component of a record's current version, where `others` are all other records of its tenant and
/// `before` is what the record was. As long as there is none, the oldest version of this handler goes; the one that
/// served until now stays, since the host goes back to it if the new one fails. A component that is kept already takes
/// no more, so it is never refused.
///
/// # Errors
/// When that is not enough: with what the tenant would keep and may keep.
pub(super) fn room_for_component(
    tenant: &TenantSpec,
    others: &[Arc<Record>],
    before: Option<&Record>,
    record: &mut Record,
) -> Result<(), NotDone> {
    let Some(most) = tenant.stored_bytes else {
        return Ok(());
    };
    let mut of_others: HashMap<&str, u64> = HashMap::new();
    for version in others.iter().flat_map(|record| &record.versions) {
        of_others.insert(&version.digest, version.size);
    }
    let Some(current) = record.current().cloned() else {
        return Ok(());
    };
    let has = |record: &Record| {
        let mut versions = record.versions.iter();
        versions.any(|version| version.digest == current.digest)
    };
    if of_others.contains_key(&*current.digest) || before.is_some_and(has) {
        return Ok(());
    }
    let stays = BTreeSet::from([record.current, before.map_or(0, |before| before.current)]);
    loop {
        let mut kept = of_others.clone();
        for version in &record.versions {
            kept.insert(&version.digest, version.size);
        }
        let used: u64 = kept.values().sum();
        if used <= most {
            return Ok(());
        }
        let goes = |version: &Version| {
            !stays.contains(&version.number) && !of_others.contains_key(&*version.digest)
        };
        let Some(oldest) = record.versions.iter().position(goes) else {
            return Err(NotDone::NoRoom(format!(
                "tenant `{}` would keep {used} bytes of components and may keep {most}, also without the old versions of `{}`: undeploy a handler, send a smaller component, or let the operator raise its `max_stored_bytes`",
                tenant.name, record.name
            )));
        };
        record.versions.remove(oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::version;
    use super::*;

    fn acme(routes: &[&str]) -> TenantSpec {
        TenantSpec {
            name: Arc::from("acme"),
            memory: None,
            concurrent_requests: None,
            requests_per_second: None,
            coarse_clocks: None,
            handlers: Some(3),
            handlers_of_files: 1,
            stored_bytes: Some(10),
            routes: routes
                .iter()
                .map(|route| route.parse().expect("a route"))
                .collect(),
        }
    }

    fn record(name: &str, digests: &[&str]) -> Record {
        let mut record = Record::new(name.parse().expect("a name"));
        for (digest, number) in digests.iter().zip(1..) {
            record.put(version(number, digest));
        }
        record
    }

    /// Versions of three bytes each: the numbers of those that stay.
    fn kept(others: &[&str], before: &[&str], new: &str) -> Option<Vec<u64>> {
        let others = [Arc::new(record("other", others))];
        let before = record("shop", before);
        let mut after = before.clone();
        after.put(version(after.next_number(), new));
        room_for_component(&acme(&[]), &others, Some(&before), &mut after).ok()?;
        Some(
            after
                .versions
                .iter()
                .map(|version| version.number)
                .collect(),
        )
    }

    #[test]
    fn the_oldest_versions_go_until_there_is_room() {
        assert_eq!(kept(&[], &["a", "b"], "c"), Some(vec![1, 2, 3]));
        assert_eq!(kept(&[], &["a", "b", "c"], "d"), Some(vec![2, 3, 4]));
        assert_eq!(kept(&["x"], &["a", "b", "c"], "d"), Some(vec![3, 4]));
        assert_eq!(
            kept(&["x", "y"], &["a", "b"], "c"),
            None,
            "the one that served stays"
        );
        assert_eq!(
            kept(&["x", "y", "z", "a"], &["a"], "a"),
            Some(vec![1, 2]),
            "no more is kept"
        );
        assert_eq!(
            kept(&["x", "y", "z"], &["a"], "x"),
            Some(vec![1, 2]),
            "it is kept already"
        );
        assert_eq!(
            kept(&["a", "x"], &["a", "b"], "c"),
            None,
            "to let go what another has frees nothing"
        );
        assert_eq!(kept(&[], &["a", "a", "b", "c"], "d"), Some(vec![3, 4, 5]));
    }

    #[test]
    fn handlers_of_files_count_too() {
        assert!(room_for_another(&acme(&[]), 1).is_ok());
        let refused = room_for_another(&acme(&[]), 2)
            .expect_err("three")
            .to_string();
        assert!(
            refused.contains("has 3 handlers and may have 3"),
            "{refused}"
        );
    }

    #[test]
    fn a_tenant_keeps_what_it_was_given_and_takes_no_more() {
        let everybody = HandlerLimits::default();
        let (mut before, mut after) = (version(1, "a"), version(2, "b"));
        let refused = |before: Option<&Version>, after: &Version, routes: &[&str]| match check(
            &acme(routes),
            before,
            after,
            &everybody,
        ) {
            Err(NotDone::Forbidden(not)) => not,
            other => panic!("{other:?}"),
        };
        let not = refused(None, &after, &[]);
        assert!(
            not[0].contains("`routes = [\"example.com/shop/*\"]`"),
            "{not:?}"
        );
        let not = refused(None, &after, &["/acme/*"]);
        assert!(not[0].contains("within `/acme/*`"), "{not:?}");
        assert!(check(&acme(&["example.com/*"]), None, &after, &everybody).is_ok());
        assert!(check(&acme(&[]), Some(&before), &after, &everybody).is_ok());

        after.settings.timeout = Some(everybody.deadline * 2);
        after.settings.cpu = Some(everybody.cpu * 2);
        after.settings.memory = Some(everybody.memory * 2);
        assert_eq!(refused(Some(&before), &after, &[]).len(), 3);
        before.settings = after.settings.clone();
        assert!(check(&acme(&[]), Some(&before), &after, &everybody).is_ok());
    }
}
