//! Networks of addresses, as the configuration writes them: `10.0.0.0/8`; one address stands for itself. And the network that one
//! client has, which is what every limit of an address counts.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A network such as `10.0.0.0/8`; one address stands for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

/// A network that does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no network: write `10.0.0.0/8`, `fd00::/8` or one address")]
pub struct BadNetwork(String);

impl Network {
    /// Whether `address` lies in it. An IPv4 address in IPv6's form counts as itself.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let single = || text.parse::<IpAddr>().map(IpNet::from);
        let network = text.parse::<IpNet>().or_else(|_| single()).ok();
        // `10.1.2.3/8` was meant to be something else.
        network.filter(|network| *network == network.trunc()).map(Self).ok_or_else(|| BadNetwork(text.to_owned()))
    }
}

impl TryFrom<String> for Network {
    type Error = BadNetwork;

    fn try_from(text: String) -> Result<Self, BadNetwork> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.0.to_string()
    }
}

/// Whom an address stands for where addresses are counted: itself, or for IPv6 its /64 network, which one household has to itself.
#[must_use]
pub fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let same = |one: &str, other: &str| household(one.parse().unwrap()) == household(other.parse().unwrap());
        assert!(same("2001:db8:0:1::1", "2001:db8:0:1:ffff::2") && !same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(same("192.0.2.1", "::ffff:192.0.2.1") && !same("192.0.2.1", "192.0.2.2"));
    }

    #[test]
    fn a_network_holds_its_addresses_in_either_form() {
        let ten = "10.0.0.0/8".parse::<Network>().unwrap();
        assert!(ten.contains("10.9.8.7".parse().unwrap()));
        assert!(ten.contains("::ffff:10.9.8.7".parse().unwrap()));
        assert!(!ten.contains("11.0.0.1".parse().unwrap()));
        let one = "::1".parse::<Network>().unwrap();
        assert!(one.contains("::1".parse().unwrap()) && !one.contains("::2".parse().unwrap()));
        for bad in ["", "10.0.0.0/33", "10.1.2.3/8", "10.0.0", "everyone", "0x0a.0.0.1"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
