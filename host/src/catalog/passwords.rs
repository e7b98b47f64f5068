//! Names and the hashes of their passwords. Checking one costs a tenth of a second of CPU on purpose, so who was right is
//! remembered for a while.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use crate::gate::Gate;
use crate::limits;

/// What a file of passwords says, and who has shown one lately.
pub struct Passwords {
    /// bcrypt, by name.
    hashes: HashMap<Box<str>, Box<str>>,
    /// Checked for a name that nobody has, so that it takes as long as for one that takes longest.
    any: Box<str>,
    known: Mutex<HashMap<[u8; 32], Instant>>,
    /// Checks of this file that go on: a flood at one keeps nobody out who is in another.
    pub checks: Gate,
}

impl Passwords {
    /// These names, each with its hash.
    #[must_use]
    pub fn new(hashes: HashMap<Box<str>, Box<str>>) -> Self {
        let any = hashes.values().max_by_key(|hash| cost(hash));
        let any = any.cloned().unwrap_or_default();
        Self {
            hashes,
            any,
            known: Mutex::default(),
            checks: Gate::new(
                limits::PASSWORD_CHECKS,
                limits::PASSWORD_CHECKS_WAITING,
                limits::PASSWORD_CHECK_WAIT,
            ),
        }
    }

    /// Whether this was right not long ago, from when on it is remembered anew. Costs a digest.
    #[must_use]
    pub fn are_known(&self, name: &str, password: &str) -> bool {
        let Some(shown) = self.shown(name, password) else {
            return false;
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(since) = known.get_mut(&shown).filter(|since| is_fresh(since)) else {
            return false;
        };
        *since = Instant::now();
        true
    }

    /// Whether this is right. For a name that nobody has it takes as long as for one of the dearest hashes. It computes for long: not on a thread that serves.
    #[must_use]
    pub fn are_right(&self, name: &str, password: &str) -> bool {
        let hash = self.hashes.get(name);
        let is_right = bcrypt::verify(password, hash.unwrap_or(&self.any)).unwrap_or(false);
        let Some(shown) = self.shown(name, password).filter(|_| is_right) else {
            return false;
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= limits::PASSWORDS_KNOWN {
            known.retain(|_, since| is_fresh(since));
        }
        if known.len() >= limits::PASSWORDS_KNOWN {
            known.clear();
        }
        known.insert(shown, Instant::now());
        true
    }

    /// What is remembered of a password that was shown. The hash has a salt.
    fn shown(&self, name: &str, password: &str) -> Option<[u8; 32]> {
        let hash = self.hashes.get(name)?;
        let mut digest = Sha256::new();
        for part in [name, hash, password] {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        Some(digest.finalize().into())
    }
}

/// Of `$2b$12$…` it is 12.
fn cost(hash: &str) -> Option<u32> {
    hash.split('$').nth(2)?.parse().ok()
}

fn is_fresh(since: &Instant) -> bool {
    since.elapsed() < limits::PASSWORD_KNOWN
}

/// Says the same: who was right lately does not count.
impl PartialEq for Passwords {
    fn eq(&self, other: &Self) -> bool {
        self.hashes == other.hashes
    }
}

impl Eq for Passwords {}

/// Neither names nor hashes.
impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Passwords of {}", self.hashes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `htpasswd -nbB -C 4 ann secret`.
    const ANN: &str = "$2y$04$";

    #[test]
    fn who_was_right_is_known_and_nobody_else() {
        let hash = bcrypt::hash_with_salt("secret", 4, [7; 16]).expect("a hash");
        let hash = hash.format_for_version(bcrypt::Version::TwoY);
        assert!(hash.starts_with(ANN), "{hash}");
        let all = HashMap::from([(Box::from("ann"), Box::from(&*hash))]);
        let passwords = Passwords::new(all);
        assert!(!passwords.are_known("ann", "secret"));
        assert!(!passwords.are_right("ann", "Secret"));
        assert!(!passwords.are_right("bob", "secret"));
        assert!(passwords.are_right("ann", "secret"));
        assert!(passwords.are_known("ann", "secret"));
        for (name, password) in [("ann", "Secret"), ("bob", "secret"), ("ann", "")] {
            assert!(!passwords.are_known(name, password), "{name} {password}");
        }
        assert!(!format!("{passwords:?}").contains("ann"));
    }
}
