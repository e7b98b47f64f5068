//! Addresses by network: whom to believe, whom to let in.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

use crate::client::Peer;
use crate::limits;

/// Some networks. An IPv4 address that is written as IPv6 (`::ffff:10.0.0.1`) is the IPv4 address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    nets: Vec<IpNet>,
    unix: bool,
}

/// A network, an address, or every client of a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Addresses of TCP: `10.0.0.0/8`, `::1`.
    Addresses(IpNet),
    /// `unix`: whoever may open a socket that is a file.
    Unix,
}

impl Networks {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nets.is_empty() && !self.unix
    }

    /// Takes others in.
    pub fn add(&mut self, others: &Self) {
        self.nets.extend(&others.nets);
        self.unix |= others.unix;
    }

    /// Each of them, as people write it.
    pub fn written(&self) -> impl Iterator<Item = String> {
        let all = self.nets.iter().map(|net| match net.prefix_len() {
            length if length == net.max_prefix_len() => net.addr().to_string(),
            _ => net.to_string(),
        });
        all.chain(self.unix.then(|| "unix".to_owned()))
    }

    /// Whether this end of a connection is in one of them.
    #[must_use]
    pub fn hold(&self, peer: &Peer) -> bool {
        match peer {
            Peer::Address(address) => self.hold_address(address.ip()),
            Peer::Unix => self.unix,
        }
    }

    /// Whether this address is in one of them.
    #[must_use]
    pub fn hold_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.nets.iter().any(|net| net.contains(&address))
    }

    /// Whether one of them is this address alone.
    #[must_use]
    pub fn name(&self, address: IpAddr) -> bool {
        self.nets.contains(&IpNet::from(address.to_canonical()))
    }
}

/// Whether a network is too wide to be granted to a guest: who writes it means all addresses, or grants them with a few
/// more like it.
#[must_use]
pub fn is_too_wide(net: &IpNet) -> bool {
    net.prefix_len()
        < match net {
            IpNet::V4(_) => limits::GRANTED_V4_BITS,
            IpNet::V6(_) => limits::GRANTED_V6_BITS,
        }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(all: I) -> Self {
        let mut networks = Self::default();
        for one in all {
            match one {
                Network::Addresses(net) => networks.nets.push(net),
                Network::Unix => networks.unix = true,
            }
        }
        networks
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Addresses(address.to_canonical().into()));
        }
        let net: IpNet = text.parse().map_err(|_| BadNetwork::NoNetwork)?;
        if net.trunc() != net {
            return Err(BadNetwork::NotItsFirst(net.trunc()));
        }
        Ok(Self::Addresses(canonical(net)))
    }
}

/// `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
fn canonical(net: IpNet) -> IpNet {
    let short = match net.addr().to_canonical() {
        IpAddr::V4(address) if matches!(net, IpNet::V6(_)) => {
            let length = net.prefix_len().checked_sub(96);
            length.and_then(|length| Ipv4Net::new(address, length).ok())
        }
        _ => None,
    };
    short.map_or(net, IpNet::V4)
}

/// Why a text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadNetwork {
    /// It is something else.
    NoNetwork,
    /// It names an address of this network as if it were all of it.
    NotItsFirst(IpNet),
}

impl fmt::Display for BadNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNetwork => f.write_str(
                "not a network: write `10.0.0.0/8`, `fd00::/8`, an address, or `unix` for every client of a Unix socket",
            ),
            Self::NotItsFirst(net) => write!(
                f,
                "an address with bits behind the length of its network: write `{net}` for all of it, or the address alone"
            ),
        }
    }
}

impl std::error::Error for BadNetwork {}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(all: &[&str]) -> Networks {
        all.iter()
            .map(|one| one.parse::<Network>().expect(one))
            .collect()
    }

    #[test]
    fn an_address_is_in_a_network_however_it_is_written() {
        let some = networks(&["10.0.0.0/8", "::1", "2001:db8::/32", "::ffff:192.0.2.0/120"]);
        for (address, is_in) in [
            ("10.255.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("11.0.0.1", false),
            ("::ffff:11.0.0.1", false),
            ("::1", true),
            ("::2", false),
            ("2001:db8:ffff::1", true),
            ("192.0.2.200", true),
            ("192.0.3.1", false),
        ] {
            let peer = Peer::Address((address.parse::<IpAddr>().expect(address), 80).into());
            assert_eq!(some.hold(&peer), is_in, "{address}");
        }
        assert!(!some.hold(&Peer::Unix));
        assert!(networks(&["unix"]).hold(&Peer::Unix));
        let nobody = Networks::default();
        assert!(nobody.is_empty() && !nobody.hold(&Peer::Unix));
    }

    #[test]
    fn what_is_on_the_way_to_all_addresses_is_too_wide() {
        for (text, is_wide) in [
            ("0.0.0.0/0", true),
            ("0.0.0.0/1", true),
            ("128.0.0.0/1", true),
            ("254.0.0.0/7", true),
            ("::ffff:0.0.0.0/97", true),
            ("10.0.0.0/8", false),
            ("127.0.0.1", false),
            ("::/0", true),
            ("::/1", true),
            ("2000::/3", true),
            ("fc00::/6", true),
            ("fc00::/7", false),
            ("fd00::/8", false),
        ] {
            let Ok(Network::Addresses(net)) = text.parse() else {
                panic!("{text} is no network");
            };
            assert_eq!(is_too_wide(&net), is_wide, "{text}");
        }
    }

    #[test]
    fn what_is_no_network_is_told_with_what_is() {
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0",
            "localhost",
            "10.0.0.0/8 ",
            "*",
            "10.0.0.1:80",
            "fe80::1%eth0",
        ] {
            assert_eq!(bad.parse::<Network>(), Err(BadNetwork::NoNetwork), "{bad}");
        }
        let refused = "10.0.0.1/8".parse::<Network>().expect_err("bits");
        assert!(refused.to_string().contains("`10.0.0.0/8`"), "{refused}");
    }
}
