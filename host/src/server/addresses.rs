//! How many connections each address has open, where that has a ceiling.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Those that have some.
#[derive(Debug, Default)]
pub(super) struct Addresses(Mutex<HashMap<IpAddr, usize>>);

/// One connection in the count of its address, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    /// One more of this address, if it may have so many.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Counted> {
        let address = counted_as(address);
        let mut addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = addresses.entry(address).or_default();
        if *open >= most {
            return None;
        }
        *open += 1;
        Some(Counted {
            addresses: Arc::clone(self),
            address,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let addresses = &self.addresses.0;
        let mut addresses = addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = addresses.get_mut(&self.address) {
            *open -= 1;
            if *open == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

/// Whom an address is counted to. One client of IPv6 has a network of 2^64 addresses (RFC 6177), and one of IPv4 is the same
/// whichever socket it came by.
#[must_use]
pub fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(network.into())
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_count_and_a_network_of_ipv6_has_one() {
        let addresses = Arc::new(Addresses::default());
        let enter = |address: &str| addresses.enter(address.parse().unwrap(), 2);
        let first = enter("192.0.2.1").expect("one of two");
        let second = enter("::ffff:192.0.2.1").expect("two of two");
        assert!(enter("192.0.2.1").is_none());
        let other = enter("192.0.2.2").expect("another");
        let networks = [enter("2001:db8::1"), enter("2001:db8::ffff:2")].map(Option::unwrap);
        assert!(enter("2001:db8::3").is_none());
        let neighbour = enter("2001:db8:0:1::1").expect("another network");
        drop(first);
        let again = enter("192.0.2.1").expect("a place again");
        drop((again, second, other, networks, neighbour));
        assert!(addresses.0.lock().unwrap().is_empty(), "nothing is kept");
    }
}
