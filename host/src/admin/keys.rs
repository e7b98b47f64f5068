//! Who may come in at the operator's door: who shows nothing where nothing is asked for, and who shows a token.

use std::sync::Arc;

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};

use super::listen::Token;
use crate::catalog::Who;

/// Tokens, and whose they are. Those of tenants change while the door is open.
pub struct Keys {
    operator: Option<Digest>,
    tenants: ArcSwap<Vec<Key>>,
}

type Digest = [u8; 32];

struct Key {
    digest: Digest,
    who: Who,
}

impl Keys {
    /// The operator has this token, if any. Without one the operator is who can open the door.
    #[must_use]
    pub fn new(operator: Option<&Token>) -> Self {
        Self {
            operator: operator.map(digest),
            tenants: ArcSwap::default(),
        }
    }

    /// These are the tokens of tenants from now on.
    pub fn say<'a>(&self, tenants: impl IntoIterator<Item = (&'a Arc<str>, &'a [Token])>) {
        let of_tenant = |(tenant, tokens): (&Arc<str>, &'a [Token])| {
            let key = |(at, token): (usize, &Token)| Key {
                digest: digest(token),
                who: Who::of_tenant(tenant, at + 1),
            };
            tokens.iter().enumerate().map(key).collect::<Vec<_>>()
        };
        let keys = tenants.into_iter().flat_map(of_tenant).collect();
        self.tenants.store(Arc::new(keys));
    }

    /// Who shows this; the operator is called `operator`. It takes the same time whatever is wrong with it: digests are
    /// compared, all of them, and every byte. A token that is a tenant's too is the tenant's, who may do less.
    pub(super) fn who(&self, shown: &str, operator: &Arc<str>) -> Option<Who> {
        let shown = Sha256::digest(shown).into();
        let mut who = None;
        if self
            .operator
            .as_ref()
            .is_some_and(|mine| are_same(mine, &shown))
        {
            who = Some(Who::operator(operator));
        }
        for key in self.tenants.load().iter() {
            if are_same(&key.digest, &shown) {
                who = Some(key.who.clone());
            }
        }
        who
    }
}

fn digest(token: &Token) -> Digest {
    Sha256::digest(token.reveal()).into()
}

fn are_same(mine: &Digest, theirs: &Digest) -> bool {
    let bytes = mine.iter().zip(theirs);
    let different = bytes.fold(0, |different, (mine, theirs)| different | (mine ^ theirs));
    std::hint::black_box(different) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn token(text: &str) -> Token {
        Token::new(Secret::from(text.to_owned()), "it").expect("a token")
    }

    #[test]
    fn a_token_is_known_by_all_of_it_and_tells_whose_it_is() {
        let keys = Keys::new(Some(&token("0123456789abcdef")));
        let (acme, of_acme) = (
            Arc::from("acme"),
            [token("acmeacmeacmeacme"), token("another-of-acme's")],
        );
        keys.say([(&acme, &of_acme[..])]);
        let who = |shown: &str| {
            keys.who(shown, &Arc::from("token"))
                .map(|who| who.to_string())
        };
        assert_eq!(who("0123456789abcdef").as_deref(), Some("token"));
        assert_eq!(
            who("acmeacmeacmeacme").as_deref(),
            Some("tenant acme, token 1")
        );
        assert_eq!(
            who("another-of-acme's").as_deref(),
            Some("tenant acme, token 2")
        );
        for other in [
            "",
            "0123456789abcdeg",
            "0123456789abcde",
            "0123456789abcdef0",
            "acmeacmeacmeacm",
        ] {
            assert_eq!(who(other), None, "{other}");
        }
        keys.say([(&acme, &of_acme[1..])]);
        assert_eq!(who("acmeacmeacmeacme"), None);
    }

    #[test]
    fn a_token_of_two_is_his_who_may_do_less() {
        let keys = Keys::new(Some(&token("0123456789abcdef")));
        keys.say([(&Arc::from("acme"), &[token("0123456789abcdef")][..])]);
        let who = keys.who("0123456789abcdef", &Arc::from("token"));
        assert!(who.is_some_and(|who| who.tenant().is_some()));
    }
}
