//! `wasi:config`, and what else a guest is told from outside: the variables of its environment. A secret that is kept in
//! a file may change while the guest runs; whoever makes an instance gets what is there now.
//!
//! Drafts of the interface are alike but for their names, and no draft is taken for another, so that each that
//! components are known to import is linked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::time::Instant;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use crate::limits;
use crate::observe::Seldom;
use crate::secret::Secret;

/// The names of the one interface: wasmtime's and wasmCloud's, that of the drafts before it, Spin's, and the older one.
pub(crate) const NAMES: [&str; 4] = [
    "wasi:config/store@0.2.0-rc.1",
    "wasi:config/store@0.2.0-draft",
    "wasi:config/store@0.2.0-draft-2024-09-27",
    "wasi:config/runtime@0.2.0-draft",
];

/// What an instance is told, as it was when it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values {
    /// Variables of its environment.
    pub environment: Vec<(String, Secret)>,
    /// What `wasi:config` gives.
    pub config: Vec<(String, Secret)>,
}

/// What the instances of a handler are told.
#[derive(Debug)]
pub struct Told {
    /// Whose guest it is, for the log.
    handler: Arc<str>,
    now: ArcSwap<Values>,
    /// When its files were last looked at. None: it has none.
    looked: Option<Mutex<Instant>>,
    is_looking: AtomicBool,
    unread: Seldom,
}

impl Told {
    /// For the guest of this handler.
    #[must_use]
    pub fn new(handler: Arc<str>, mut values: Values) -> Self {
        // The later of two of a name holds.
        for list in [&mut values.environment, &mut values.config] {
            let said = std::mem::take(list);
            for (name, value) in said {
                list.retain(|(earlier, _)| *earlier != name);
                list.push((name, value));
            }
        }
        let mut all = values.environment.iter().chain(&values.config);
        let is_kept = all.any(|(_, value)| value.file().is_some());
        Self {
            handler,
            now: ArcSwap::from_pointee(values),
            looked: is_kept.then(|| Mutex::new(Instant::now())),
            is_looking: AtomicBool::new(false),
            unread: Seldom::new(limits::REFUSED_PAUSE),
        }
    }

    /// What holds now. Secrets in files are looked at again after [`limits::SECRETS_PAUSE`]; a disk that takes longer than
    /// [`limits::SECRETS_WAIT`] is not waited for, and what was there before holds meanwhile.
    pub async fn now(self: &Arc<Self>) -> Arc<Values> {
        if self.is_due() {
            let told = Arc::clone(self);
            let look = tokio::task::spawn_blocking(move || told.look());
            let _ = tokio::time::timeout(limits::SECRETS_WAIT, look).await;
        }
        self.now.load_full()
    }

    /// Whether these are the values that hold now.
    #[must_use]
    pub fn is(&self, values: &Arc<Values>) -> bool {
        Arc::ptr_eq(&self.now.load(), values)
    }

    /// One at a time looks, also if that takes long.
    fn is_due(&self) -> bool {
        let Some(looked) = &self.looked else {
            return false;
        };
        let mut looked = looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.elapsed() < limits::SECRETS_PAUSE || self.is_looking.swap(true, Ordering::AcqRel)
        {
            return false;
        }
        *looked = Instant::now();
        true
    }

    fn look(&self) {
        let before = self.now.load_full();
        let mut values = (*before).clone();
        let all = values.environment.iter_mut().chain(&mut values.config);
        for (name, value) in all {
            let Some(file) = value.file() else { continue };
            match Secret::in_file(file) {
                Ok(read) => *value = read,
                Err(error) => {
                    if self.unread.count().is_some() {
                        let handler = &*self.handler;
                        tracing::warn!(
                            handler,
                            "`{name}` of `{handler}` stays as it was: {error}: put it there again"
                        );
                    }
                }
            }
        }
        if values != *before {
            self.now.store(Arc::new(values));
            let handler = &*self.handler;
            tracing::info!(
                handler,
                "new instances of `{handler}` get secrets that have changed"
            );
        }
        self.is_looking.store(false, Ordering::Release);
    }
}

/// The interface's error. What is told is in memory, so there is none.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

/// Links the interface under each of its names.
///
/// # Errors
/// When one of them is linked already.
pub fn link<T: 'static>(linker: &mut Linker<T>, told: fn(&T) -> &Values) -> wasmtime::Result<()> {
    for name in NAMES {
        let mut interface = linker.instance(name)?;
        interface.func_wrap(
            "get",
            move |store: StoreContextMut<'_, T>, (key,): (String,)| {
                let mut all = told(store.data()).config.iter();
                let found = all.find(|(name, _)| *name == key);
                let value = found.map(|(_, value)| value.reveal().to_owned());
                Ok((Ok::<_, Error>(value),))
            },
        )?;
        interface.func_wrap("get-all", move |store: StoreContextMut<'_, T>, (): ()| {
            let all = told(store.data()).config.iter();
            let all = all.map(|(name, value)| (name.clone(), value.reveal().to_owned()));
            Ok((Ok::<_, Error>(all.collect::<Vec<_>>()),))
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(config: Vec<(String, Secret)>) -> Arc<Told> {
        Arc::new(Told::new(
            Arc::from("shop"),
            Values {
                environment: Vec::new(),
                config,
            },
        ))
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_has_changed_is_what_holds_after_a_pause() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "old\n").expect("written");
        let secret = Secret::in_file(file.path()).expect("read");
        let told = told(vec![("key".to_owned(), secret)]);
        let value = |values: &Arc<Values>| values.config[0].1.reveal().to_owned();
        let old = told.now().await;
        std::fs::write(file.path(), "new\n").expect("written");
        assert_eq!(
            value(&told.now().await),
            "old",
            "it is not looked at again yet"
        );
        tokio::time::advance(limits::SECRETS_PAUSE).await;
        assert_eq!(value(&told.now().await), "new");
        assert!(!told.is(&old) && value(&old) == "old");

        let new = told.now().await;
        std::fs::remove_file(file.path()).expect("removed");
        tokio::time::advance(limits::SECRETS_PAUSE).await;
        assert_eq!(
            value(&told.now().await),
            "new",
            "what is gone stays as it was"
        );
        assert!(told.is(&new));
    }

    #[test]
    fn the_later_of_two_values_holds() {
        let of = |value: &str| ("key".to_owned(), Secret::from(value.to_owned()));
        let told = told(vec![of("every"), of("own")]);
        assert_eq!(told.now.load().config, [of("own")]);
        assert!(!told.is_due(), "nothing of it can change");
    }
}
