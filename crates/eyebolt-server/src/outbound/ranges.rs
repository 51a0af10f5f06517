//! Which addresses may be called. Whoever names an address to us must not reach through us what he can't reach himself:
//! the machine, its network, the metadata of a cloud.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

/// No host on the internet is in here: IANA's registries of special-purpose addresses (RFC 6890 and its updates),
/// multicast, and what was set aside. Ranges that carry an IPv4 address are here as a whole.
const SPECIAL: [&str; 31] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    // With 169.254.169.254, where clouds tell a machine its secrets.
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    // ::, ::1 and IPv4-compatible addresses.
    "::/96",
    // IPv4-mapped.
    "::ffff:0:0/96",
    // NAT64, well-known and local.
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    // Teredo, ORCHID and other protocol assignments.
    "2001::/23",
    "2001:db8::/32",
    // 6to4.
    "2002::/16",
    "3fff::/20",
    "5f00::/16",
    // With fd00:ec2::254, as 169.254.169.254.
    "fc00::/7",
    // Link-local, and what was site-local.
    "fe80::/9",
    "ff00::/8",
];

/// Of IPv6, nothing else was ever given to anybody on the internet: what is outside is no host, or another address in a coat such
/// as `::ffff:0:a.b.c.d` (RFC 2765).
const GLOBAL: &str = "2000::/3";

/// What may be called.
#[derive(Debug, Clone)]
pub(super) struct Ranges {
    global: Ipv6Net,
    special: Vec<IpNet>,
    allowed: Vec<IpNet>,
}

impl Ranges {
    /// Everything on the internet, and these.
    pub(super) fn allowing(allowed: Vec<IpNet>) -> Self {
        let special = SPECIAL.iter().map(|range| range.parse().expect("each of them is a range"));
        let global = GLOBAL.parse().expect("it is a range");
        Self { global, special: special.collect(), allowed }
    }

    /// Whether the operator has allowed this address by name.
    pub(super) fn names(&self, address: IpAddr) -> bool {
        let named = |address: IpAddr| self.allowed.iter().any(|range| range.contains(&address));
        match carried(address) {
            // Who allows NAT64 has not allowed what is behind it.
            Some(inner) => named(inner.into()) || (named(address) && !self.is_special(inner.into())),
            None => named(address),
        }
    }

    /// Whether this address may be called.
    pub(super) fn allow(&self, address: IpAddr) -> bool {
        self.names(address) || !self.is_special(address)
    }

    fn is_special(&self, address: IpAddr) -> bool {
        let global = match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(address) => self.global.contains(&address),
        };
        !global || self.special.iter().any(|range| range.contains(&address))
    }
}

/// The IPv4 address that an IPv6 address of these ranges leads to.
fn carried(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let in_range = |range: &str| range.parse::<Ipv6Net>().is_ok_and(|range| range.contains(&address));
    let octets = address.octets();
    let last = Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]);
    if in_range("2002::/16") {
        return Some(Ipv4Addr::new(octets[2], octets[3], octets[4], octets[5]));
    }
    let compatible = in_range("::/96") && address != Ipv6Addr::UNSPECIFIED && address != Ipv6Addr::LOCALHOST;
    let carries = ["::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96"].into_iter().any(in_range);
    (compatible || carries).then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(allowed: &[&str], address: &str) -> bool {
        Ranges::allowing(allowed.iter().map(|range| range.parse().unwrap()).collect())
            .allow(address.parse().unwrap())
    }

    #[test]
    fn no_special_range_is_called_at_its_beginning_or_its_end() {
        for range in SPECIAL {
            let range: IpNet = range.parse().unwrap();
            assert_eq!(range, range.trunc(), "the range is written by its first address");
            for address in [range.network(), range.broadcast()] {
                assert!(!allows(&[], &address.to_string()), "{address} of {range}");
            }
        }
    }

    #[test]
    fn names_of_the_machine_its_network_and_its_cloud_lead_nowhere() {
        let inside = [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "10.1.2.3",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "224.0.0.251",
            "255.255.255.255",
            "::",
            "::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
            "::ffff:0:8.8.8.8",
            "100:0:0:1::1",
            "1fff::1",
            "4000::1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a00:1",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
            "2001:0:1::1",
            "2001:db8::1",
        ];
        for address in inside {
            assert!(!allows(&[], address), "{address}");
        }
        for outside in ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00::1"] {
            assert!(allows(&[], outside), "{outside}");
        }
    }

    #[test]
    fn what_the_operator_allows_is_called_and_nothing_beside_it() {
        assert!(allows(&["127.0.0.0/8"], "127.0.0.1"));
        assert!(!allows(&["127.0.0.0/8"], "10.0.0.1"));
        assert!(!allows(&["127.0.0.0/8"], "::1"));
        assert!(allows(&["fd00:1::/32"], "fd00:1::5") && !allows(&["fd00:1::/32"], "fd00:ec2::254"));
        // The same address in another coat.
        assert!(allows(&["10.0.0.0/8"], "::ffff:10.0.0.1"));
        assert!(allows(&["64:ff9b::/96"], "64:ff9b::808:808"));
        assert!(!allows(&["64:ff9b::/96"], "64:ff9b::a9fe:a9fe"), "NAT64 leads to the metadata");
        assert!(
            !allows(&["::ffff:0:0:0/96"], "::ffff:0:169.254.169.254"),
            "translation leads to the metadata"
        );
        assert!(!allows(&["2002::/16"], "2002:7f00:1::"), "6to4 leads to the machine");
    }
}
