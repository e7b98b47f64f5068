//! Whether a guest may reach an address, whatever names it: a guest reaches the public internet where its grants let it,
//! and of everything else only the networks that are granted word by word. HTTP and sockets ask here, after names are
//! resolved, and connect to the very address that was judged.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::networks::Networks;

/// Whether the guest of a handler with these networks may reach an address.
///
/// An IPv6 address that stands for an IPv4 one, or leads to one through a gateway, is judged as that one; one of ISATAP,
/// which can be in whatever network, as both. Who grants a network grants what is in it, except the services that hand out a
/// machine's credentials ([`Kind::Metadata`]): they are granted by their address alone, and by no network around it.
///
/// # Errors
/// When it is not public, and in none of the networks.
pub fn judge(address: IpAddr, granted: &Networks) -> Result<(), Denied> {
    let address = address.to_canonical();
    let allowed = |address: IpAddr| match kind(address) {
        Kind::Public => Ok(()),
        Kind::Metadata if granted.name(address) => Ok(()),
        Kind::Metadata => Err(Kind::Metadata),
        _ if granted.hold_address(address) => Ok(()),
        kind => Err(kind),
    };
    let denied = |kind| Denied { address, kind };
    // A network that holds the address as it is written is granted with what is behind it, credentials aside.
    let is_granted = granted.hold_address(address);
    for one in judged_as(address).into_iter().flatten() {
        match allowed(one) {
            Err(kind) if kind == Kind::Metadata || !is_granted => return Err(denied(kind)),
            _ => {}
        }
    }
    Ok(())
}

/// An address that a guest may not reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    /// Which.
    pub address: IpAddr,
    /// Why: what it is for, or what is behind it.
    pub kind: Kind,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is {}", self.address, self.kind)
    }
}

impl std::error::Error for Denied {}

/// What an address is for, by IANA's registries of special-purpose addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Everything that is not special.
    Public,
    /// The machine itself.
    Loopback,
    /// `10.0.0.0/8`, `fc00::/7` and the like.
    Private,
    /// `169.254.0.0/16`, `fe80::/10`.
    LinkLocal,
    /// Where a cloud hands out credentials of a machine: `169.254.169.254`, `fd00:ec2::254` and their kin.
    Metadata,
    /// Behind a provider's translation: `100.64.0.0/10`.
    Shared,
    /// `224.0.0.0/4`, `ff00::/8`.
    Multicast,
    /// `255.255.255.255`.
    Broadcast,
    /// `0.0.0.0/8`, `::`: connecting there reaches the machine itself.
    Unspecified,
    /// Examples in documents.
    Documentation,
    /// Reserved for something that is nobody's service.
    Reserved,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Loopback => "this machine's own",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::Metadata => "where the machine's credentials are handed out",
            Self::Shared => "shared behind a provider",
            Self::Multicast => "for many at once",
            Self::Broadcast => "for everybody on the network",
            Self::Unspecified => "no host's",
            Self::Documentation => "an example",
            Self::Reserved => "reserved",
        })
    }
}

/// What an address itself is for; what is behind a translated one is not looked at.
fn kind(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => kind_v6(address),
    }
}

fn kind_v4(address: Ipv4Addr) -> Kind {
    match address.octets() {
        // AWS, Google, Azure, DigitalOcean, OpenStack · tasks of ECS · pods of EKS · Alibaba · Oracle · Azure's wire server.
        [169, 254, 169, 254]
        | [169, 254, 170, 2 | 23]
        | [100, 100, 100, 200]
        | [192, 0, 0, 192]
        | [168, 63, 129, 16] => Kind::Metadata,
        [0, ..] => Kind::Unspecified,
        [127, ..] => Kind::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Kind::Private,
        [100, 64..=127, ..] => Kind::Shared,
        [169, 254, ..] => Kind::LinkLocal,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Kind::Documentation,
        // Protocols' own, the relay of 6to4, benchmarks.
        [192, 0, 0, _] | [192, 88, 99, _] | [198, 18 | 19, ..] => Kind::Reserved,
        [224..=239, ..] => Kind::Multicast,
        [255, 255, 255, 255] => Kind::Broadcast,
        [240..=255, ..] => Kind::Reserved,
        _ => Kind::Public,
    }
}

fn kind_v6(address: Ipv6Addr) -> Kind {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Kind::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Loopback,
        // AWS, its DNS, pods of EKS · Google.
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254 | 0x23] | [0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254] => {
            Kind::Metadata
        }
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Kind::Private,
        [0xfe80..=0xfebf, ..] => Kind::LinkLocal,
        [0xff00..=0xffff, ..] => Kind::Multicast,
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Kind::Documentation,
        // Protocols' own, with Teredo, benchmarks and ORCHID; 6to4.
        [0x2001, 0..=0x01ff, ..] | [0x2002, ..] => Kind::Reserved,
        // All that has been given out.
        [0x2000..=0x3fff, ..] => Kind::Public,
        _ => Kind::Reserved,
    }
}

/// The addresses of which each must be allowed: the IPv4 ones that an IPv6 address leads to, or else itself.
fn judged_as(address: IpAddr) -> [Option<IpAddr>; 2] {
    let itself = [Some(address), None];
    let IpAddr::V6(written) = address else {
        return itself;
    };
    let v4 = |high: u16, low: u16| {
        let address = u32::from(high) << 16 | u32::from(low);
        Some(IpAddr::V4(Ipv4Addr::from(address)))
    };
    match written.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => itself,
        // Compatible, mapped, translated (RFC 4291, RFC 2765) and NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => [v4(high, low), None],
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => [v4(high, low), None],
        // Teredo (RFC 4380): its server, and the client with every bit turned.
        [0x2001, 0, high, low, _, _, inner_high, inner_low] => {
            [v4(high, low), v4(!inner_high, !inner_low)]
        }
        // ISATAP (RFC 5214), in whatever network: that one must be allowed as well.
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => [Some(address), v4(high, low)],
        _ => itself,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::Network;

    fn networks(all: &[&str]) -> Networks {
        let network = |one: &&str| one.parse::<Network>().expect(one);
        all.iter().map(network).collect()
    }

    fn judged(address: &str, granted: &[&str]) -> Result<(), Kind> {
        let address: IpAddr = address.parse().expect(address);
        judge(address, &networks(granted)).map_err(|denied| denied.kind)
    }

    #[test]
    fn only_public_addresses_need_no_word() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "93.184.216.34",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "169.253.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001::1",
            "3fff:1000::1",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
        ] {
            assert_eq!(judged(public, &[]), Ok(()), "{public}");
        }
        for (address, kind) in [
            ("127.0.0.1", Kind::Loopback),
            ("127.255.255.254", Kind::Loopback),
            ("::1", Kind::Loopback),
            ("10.0.0.1", Kind::Private),
            ("172.16.0.1", Kind::Private),
            ("172.31.255.255", Kind::Private),
            ("192.168.1.1", Kind::Private),
            ("fc00::1", Kind::Private),
            ("fdff::1", Kind::Private),
            ("fec0::1", Kind::Private),
            ("169.254.0.1", Kind::LinkLocal),
            ("fe80::1", Kind::LinkLocal),
            ("febf::1", Kind::LinkLocal),
            ("169.254.169.254", Kind::Metadata),
            ("169.254.170.2", Kind::Metadata),
            ("100.100.100.200", Kind::Metadata),
            ("168.63.129.16", Kind::Metadata),
            ("fd00:ec2::254", Kind::Metadata),
            ("fd20:ce::254", Kind::Metadata),
            ("100.64.0.1", Kind::Shared),
            ("100.127.255.255", Kind::Shared),
            ("224.0.0.1", Kind::Multicast),
            ("239.255.255.255", Kind::Multicast),
            ("ff02::1", Kind::Multicast),
            ("255.255.255.255", Kind::Broadcast),
            ("0.0.0.0", Kind::Unspecified),
            ("0.1.2.3", Kind::Unspecified),
            ("::", Kind::Unspecified),
            ("192.0.2.1", Kind::Documentation),
            ("198.51.100.1", Kind::Documentation),
            ("203.0.113.1", Kind::Documentation),
            ("2001:db8::1", Kind::Documentation),
            ("3fff::1", Kind::Documentation),
            ("192.0.0.1", Kind::Reserved),
            ("192.88.99.1", Kind::Reserved),
            ("198.18.0.1", Kind::Reserved),
            ("240.0.0.1", Kind::Reserved),
            ("2001:20::1", Kind::Reserved),
            ("2001:2::1", Kind::Reserved),
            ("100::1", Kind::Reserved),
            ("5f00::1", Kind::Reserved),
            ("64:ff9b:1::1", Kind::Reserved),
            ("4000::1", Kind::Reserved),
        ] {
            assert_eq!(judged(address, &[]), Err(kind), "{address}");
        }
    }

    #[test]
    fn an_address_that_leads_to_another_is_judged_as_that() {
        for (address, kind) in [
            ("::ffff:127.0.0.1", Kind::Loopback),
            ("::ffff:169.254.169.254", Kind::Metadata),
            ("::127.0.0.1", Kind::Loopback),
            ("::10.0.0.1", Kind::Private),
            ("::ffff:0:10.0.0.1", Kind::Private),
            ("64:ff9b::10.0.0.1", Kind::Private),
            ("64:ff9b::169.254.169.254", Kind::Metadata),
            // 6to4 of 192.168.0.1 and of 127.0.0.1.
            ("2002:c0a8:1::1", Kind::Private),
            ("2002:7f00:1::", Kind::Loopback),
            // Teredo: a private server, then a private client behind a public one.
            ("2001:0:a00:1::fefe:fefe", Kind::Private),
            ("2001:0:101:101::f5ff:fffe", Kind::Private),
            ("2606::5efe:10.0.0.1", Kind::Private),
            ("2606::200:5efe:127.0.0.1", Kind::Loopback),
            // ISATAP of 8.8.8.8, in networks that are not public.
            ("fd00:1:2:3:0:5efe:808:808", Kind::Private),
            ("fe80::5efe:808:808", Kind::LinkLocal),
            ("ff02::5efe:808:808", Kind::Multicast),
        ] {
            assert_eq!(judged(address, &[]), Err(kind), "{address}");
        }
    }

    #[test]
    fn what_is_granted_is_reached_and_nothing_beside_it() {
        for (address, granted, allowed) in [
            ("127.0.0.1", "127.0.0.0/8", true),
            ("::ffff:127.0.0.1", "127.0.0.0/8", true),
            ("127.0.0.1", "::ffff:127.0.0.0/104", true),
            ("64:ff9b::7f00:1", "127.0.0.0/8", true),
            ("64:ff9b::7f00:1", "64:ff9b::/96", true),
            ("2002:c0a8:1::1", "2002::/16", true),
            ("::1", "127.0.0.0/8", false),
            ("10.1.0.1", "10.0.0.0/16", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.2", "10.0.0.1", false),
            ("fd00::5", "fd00::/8", true),
            ("fd00:1:2:3:0:5efe:808:808", "fd00::/8", true),
            ("fd00:1:2:3:0:5efe:a00:1", "10.0.0.0/8", false),
            // Credentials of the machine are granted by their address alone.
            ("169.254.169.254", "169.254.0.0/16", false),
            ("169.254.169.254", "169.254.169.254", true),
            ("::ffff:169.254.169.254", "169.254.169.254/32", true),
            ("64:ff9b::169.254.169.254", "64:ff9b::/96", false),
            ("64:ff9b::169.254.169.254", "169.254.169.254", true),
            ("fd00:ec2::254", "fd00::/8", false),
            ("fd00:ec2::254", "fd00:ec2::254", true),
            ("168.63.129.16", "168.63.0.0/16", false),
        ] {
            assert_eq!(
                judged(address, &[granted]).is_ok(),
                allowed,
                "{address} {granted}"
            );
        }
    }
}
