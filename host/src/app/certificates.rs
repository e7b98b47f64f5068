//! Certificates are followed like other files: what changes is taken up, and what ends soon is told.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::pending;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, timeout_at};

use super::reload::{Watch, directory_of};
use crate::config::Listing;
use crate::limits;
use crate::server::{Certificate, Listener, ListenerConfig, Place, Tls};

/// What the clients of all listeners and the operator are shown, now and after each change. Cheap to clone.
#[derive(Clone)]
pub struct Certificates(Vec<Shown>);

/// What is shown at one door. The operator's has no place among the listeners.
#[derive(Clone)]
struct Shown {
    place: Option<Place>,
    tls: Arc<Tls>,
}

impl Certificates {
    pub(super) fn of(listeners: &[Listener]) -> Self {
        let mut all: Vec<Shown> = Vec::new();
        for listener in listeners {
            // Several sockets of systemd share what they have.
            let is_known = |tls: &Arc<Tls>| all.iter().any(|one| Arc::ptr_eq(&one.tls, tls));
            if let Some(tls) = listener.tls().filter(|tls| !is_known(tls)) {
                all.push(Shown {
                    place: Some(listener.place.clone()),
                    tls: Arc::clone(tls),
                });
            }
        }
        Self(all)
    }

    /// And what is shown at the operator's door.
    pub(super) fn follow_too(&mut self, tls: Option<Arc<Tls>>) {
        self.0.extend(tls.map(|tls| Shown { place: None, tls }));
    }

    /// These are wanted from now on at the places that there are.
    pub(super) fn say(&self, listeners: &[ListenerConfig]) {
        for one in &self.0 {
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

    /// What they are shown now, each certificate once.
    #[must_use]
    pub fn now(&self) -> Vec<Certificate> {
        let mut all: Vec<Certificate> = Vec::new();
        for one in self.0.iter().flat_map(|one| one.tls.certificates()) {
            if !all.contains(&one) {
                all.push(one);
            }
        }
        all
    }

    /// Warns of those that end soon, or have ended, or are not good yet.
    fn tell_of_ends(&self) {
        let now = SystemTime::now();
        for warning in self.now().iter().filter_map(|one| warning(one, now)) {
            tracing::warn!("{warning}");
        }
    }

    /// Takes up what changes, until it is dropped.
    pub(super) async fn follow(self) {
        if self.0.is_empty() {
            return pending().await;
        }
        self.tell_of_ends();
        let mut watch = Watch::new();
        let mut seen = Files::of(&self.0).look();
        let mut told = Instant::now();
        loop {
            watch.follow(&Files::of(&self.0).directories());
            let changed = timeout_at(Instant::now() + limits::FILES_LOOK, watch.changed()).await;
            if changed.is_ok() {
                // A certificate and its key are two files.
                sleep(limits::FILES_SETTLE).await;
            }
            let now = block_in_place(|| Files::of(&self.0).look());
            if now != seen {
                seen = now;
                block_in_place(|| self.take_up());
            }
            if told.elapsed() >= limits::CERTIFICATE_LOOK {
                told = Instant::now();
                self.tell_of_ends();
            }
        }
    }

    fn take_up(&self) {
        for Shown { tls, .. } in &self.0 {
            let before = tls.certificates();
            match tls.reload() {
                Ok(()) if tls.certificates() == before => {}
                Ok(()) => tell_all(tls),
                Err(why) => tell_bad(&why),
            }
        }
        self.tell_of_ends();
    }
}

fn tell_all(tls: &Tls) {
    for one in tls.certificates() {
        tracing::info!("the certificate `{}` is taken up", one.file.display());
    }
}

fn tell_bad(why: &anyhow::Error) {
    tracing::error!("certificates are not taken up, those before are shown on: {why:#}");
}

/// The files that all of them are made of.
struct Files(Vec<PathBuf>);

impl Files {
    fn of(all: &[Shown]) -> Self {
        Self(all.iter().flat_map(|one| one.tls.files()).collect())
    }

    fn look(&self) -> Listing {
        Listing::of_files(self.0.iter().map(PathBuf::as_path))
    }

    fn directories(&self) -> BTreeSet<&Path> {
        let directories = self.0.iter().map(|file| directory_of(file));
        directories.take(limits::WATCHED).collect()
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
