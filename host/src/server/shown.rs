//! What clients are shown at all doors, for who follows it and for who tells of it.

use std::path::PathBuf;
use std::sync::Arc;

use super::listener::{Listener, Place};
use super::tls::{Certificate, Tls};

/// The certificates of all doors, now and after each change. Cheap to clone.
#[derive(Clone, Default)]
pub struct Certificates(Vec<Shown>);

/// What is shown at one of them.
#[derive(Clone)]
pub struct Shown {
    /// Where. None: at the operator's door.
    pub place: Option<Place>,
    /// What.
    pub tls: Arc<Tls>,
}

impl Certificates {
    /// Those of listeners.
    #[must_use]
    pub fn of(listeners: &[Listener]) -> Self {
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

    /// And those of the operator's door.
    pub fn add(&mut self, tls: Option<Arc<Tls>>) {
        self.0.extend(tls.map(|tls| Shown { place: None, tls }));
    }

    /// Door by door.
    #[must_use]
    pub fn doors(&self) -> &[Shown] {
        &self.0
    }

    /// What is shown now, each certificate once.
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

    /// The files that it is made of.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.0.iter().flat_map(|one| one.tls.files()).collect()
    }
}
