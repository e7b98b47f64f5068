//! Certificates are followed like other files: what changes is taken up, and what ends soon is told.

use std::collections::BTreeSet;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, timeout_at};

use super::reload::{Watch, directory_of};
use crate::config::Listing;
use crate::files;
use crate::limits;
use crate::server::{Certificate, Certificates, ListenerConfig, Tls};

/// These are wanted from now on at the places that there are.
pub(super) fn want(certificates: &Certificates, listeners: &[ListenerConfig]) {
    for one in certificates.doors() {
        let mut listeners = listeners.iter();
        let wanted = listeners
            .find(|it| Some(&it.place) == one.place.as_ref())
            .and_then(|it| it.tls.as_ref());
        match wanted.map(|wanted| one.tls.want(wanted)) {
            Some(Ok(true)) => tell_all(&one.tls),
            Some(Err(why)) => tell_bad(&why),
            Some(Ok(false)) | None => {}
        }
    }
}

/// Takes up what changes, until it is dropped.
pub(super) async fn follow(certificates: Certificates) {
    if certificates.doors().is_empty() {
        return pending().await;
    }
    tell_of_ends(&certificates);
    let mut watch = Watch::new(Arc::default());
    let mut seen = look(&certificates.files());
    let mut told = Instant::now();
    loop {
        watch.follow(&directories(&certificates.files()));
        let changed = timeout_at(Instant::now() + limits::FILES_LOOK, watch.changed()).await;
        if changed.is_ok() {
            // A certificate and its key are two files.
            sleep(limits::FILES_SETTLE).await;
        }
        let now = block_in_place(|| look(&certificates.files()));
        if now != seen {
            // What could not be opened for now is tried again at the next look.
            if block_in_place(|| take_up(&certificates)) {
                seen = now;
            }
        }
        if told.elapsed() >= limits::CERTIFICATE_LOOK {
            told = Instant::now();
            tell_of_ends(&certificates);
        }
    }
}

fn look(files: &[PathBuf]) -> Listing {
    Listing::of_files(files.iter().map(PathBuf::as_path))
}

fn directories(files: &[PathBuf]) -> BTreeSet<&Path> {
    let directories: BTreeSet<&Path> = files.iter().map(|file| directory_of(file)).collect();
    directories.into_iter().take(limits::WATCHED).collect()
}

/// Says whether that is done, be they good or bad.
fn take_up(certificates: &Certificates) -> bool {
    let mut is_done = true;
    for one in certificates.doors() {
        let before = one.tls.certificates();
        match one.tls.reload() {
            Ok(()) if one.tls.certificates() == before => {}
            Ok(()) => tell_all(&one.tls),
            Err(why) => {
                is_done &= !files::is_for_now(why.as_ref());
                tell_bad(&why);
            }
        }
    }
    if is_done {
        tell_of_ends(certificates);
    }
    is_done
}

fn tell_all(tls: &Tls) {
    for one in tls.certificates() {
        tracing::info!("the certificate `{}` is taken up", one.file.display());
    }
}

fn tell_bad(why: &anyhow::Error) {
    tracing::error!("certificates are not taken up, those before are shown on: {why:#}");
}

/// Warns of those that end soon, or have ended, or are not good yet.
fn tell_of_ends(certificates: &Certificates) {
    let now = SystemTime::now();
    for warning in certificates
        .now()
        .iter()
        .filter_map(|one| warning(one, now))
    {
        tracing::warn!("{warning}");
    }
}

fn warning(one: &Certificate, now: SystemTime) -> Option<String> {
    let file = one.file.display();
    if one.not_before > now {
        return Some(format!(
            "the certificate `{file}` is not good yet: clients refuse it; look at the clock of this machine"
        ));
    }
    match one.not_after.duration_since(now) {
        Err(_) => Some(format!(
            "the certificate `{file}` has ended: clients refuse it; renew it, and it is taken up"
        )),
        Ok(left) if left < limits::CERTIFICATE_ENDS => Some(format!(
            "the certificate `{file}` ends in {}: renew it, and it is taken up",
            days(left)
        )),
        Ok(_) => None,
    }
}

fn days(left: Duration) -> String {
    match left.as_secs() / (24 * 3600) {
        0 => "less than a day".to_owned(),
        1 => "a day".to_owned(),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_three_weeks_before_a_certificate_ends() {
        let now = SystemTime::now();
        let day = Duration::from_secs(24 * 3600);
        let one = |from: SystemTime, to: SystemTime| Certificate {
            file: "cert.pem".into(),
            names: Vec::new(),
            not_before: from,
            not_after: to,
        };
        let told = |left: Duration| warning(&one(now - day, now + left), now);
        assert_eq!(told(22 * day), None);
        for (left, what) in [
            (20 * day, "ends in 20 days"),
            (day, "ends in a day"),
            (day / 2, "less than a day"),
        ] {
            let told = told(left).expect("told");
            assert!(told.contains(what) && told.contains("`cert.pem`"), "{told}");
        }
        let ended = warning(&one(now - 2 * day, now - day), now).expect("told");
        assert!(ended.contains("has ended"), "{ended}");
        let early = warning(&one(now + day, now + 90 * day), now).expect("told");
        assert!(early.contains("not good yet"), "{early}");
    }
}
