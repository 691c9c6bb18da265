//! Longest prefix match: which VPN address an inner address is reached through.
//!
//! ```text
//!   10.8.0.7 ──▶ /32? /24? /0? of those in use, longest first ──▶ via 5.5.5.2  or  on link: 10.8.0.7 itself
//! ```
//!
//! One hash map for each prefix length in use, as OpenVPN's own routing does: a lookup costs as many probes as there
//! are lengths. The routes are those that the system's routing table has for the device.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Where a route leads within the VPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextHop {
    /// To the peer with the destination itself as its VPN address.
    OnLink,
    /// To the peer with this VPN address.
    Via(IpAddr),
}

/// The routes of one device.
#[derive(Debug, Default, Clone)]
pub struct Routes {
    v4: Lengths<u32>,
    v6: Lengths<u128>,
}

impl Routes {
    /// Adds a route or replaces the one of this prefix.
    pub fn insert(&mut self, prefix: IpNet, next_hop: NextHop) {
        match prefix.trunc() {
            IpNet::V4(net) => self.v4.insert(net.network().to_bits(), net.prefix_len(), next_hop),
            IpNet::V6(net) => self.v6.insert(net.network().to_bits(), net.prefix_len(), next_hop),
        }
    }

    /// Removes the route of this prefix; whether there was one.
    pub fn remove(&mut self, prefix: IpNet) -> bool {
        match prefix.trunc() {
            IpNet::V4(net) => self.v4.remove(net.network().to_bits(), net.prefix_len()),
            IpNet::V6(net) => self.v6.remove(net.network().to_bits(), net.prefix_len()),
        }
    }

    /// The route of this very prefix.
    pub fn get(&self, prefix: IpNet) -> Option<NextHop> {
        match prefix.trunc() {
            IpNet::V4(net) => self.v4.get(net.network().to_bits(), net.prefix_len()),
            IpNet::V6(net) => self.v6.get(net.network().to_bits(), net.prefix_len()),
        }
    }

    /// The VPN address that `address` is reached through: itself, unless a route names a gateway.
    #[inline]
    pub fn next_hop(&self, address: IpAddr) -> IpAddr {
        let found = match address {
            IpAddr::V4(v4) => self.v4.longest(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.longest(v6.to_bits()),
        };
        match found {
            Some(NextHop::Via(gateway)) => gateway,
            Some(NextHop::OnLink) | None => address,
        }
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// True where there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl FromIterator<(IpNet, NextHop)> for Routes {
    fn from_iter<I: IntoIterator<Item = (IpNet, NextHop)>>(routes: I) -> Self {
        let mut all = Self::default();
        for (prefix, next_hop) in routes {
            all.insert(prefix, next_hop);
        }
        all
    }
}

/// An address as a number.
trait Bits: Copy + Eq + Hash {
    fn masked(self, prefix_len: u8) -> Self;
}

impl Bits for u32 {
    #[inline]
    fn masked(self, prefix_len: u8) -> Self {
        self & !Self::MAX.checked_shr(prefix_len.into()).unwrap_or(0)
    }
}

impl Bits for u128 {
    #[inline]
    fn masked(self, prefix_len: u8) -> Self {
        self & !Self::MAX.checked_shr(prefix_len.into()).unwrap_or(0)
    }
}

/// The prefix lengths in use, longest first, each with its networks.
#[derive(Debug, Clone)]
struct Lengths<A>(Vec<(u8, FastMap<A, NextHop>)>);

impl<A> Default for Lengths<A> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<A: Bits> Lengths<A> {
    fn insert(&mut self, network: A, prefix_len: u8, next_hop: NextHop) {
        let at = match self.position(prefix_len) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (prefix_len, FastMap::default()));
                at
            }
        };
        if let Some((_, networks)) = self.0.get_mut(at) {
            networks.insert(network, next_hop);
        }
    }

    fn remove(&mut self, network: A, prefix_len: u8) -> bool {
        let Ok(at) = self.position(prefix_len) else { return false };
        let Some((_, networks)) = self.0.get_mut(at) else { return false };
        let removed = networks.remove(&network).is_some();
        if networks.is_empty() {
            self.0.remove(at);
        }
        removed
    }

    fn get(&self, network: A, prefix_len: u8) -> Option<NextHop> {
        let (_, networks) = self.0.get(self.position(prefix_len).ok()?)?;
        networks.get(&network).copied()
    }

    #[inline]
    fn longest(&self, address: A) -> Option<NextHop> {
        self.0.iter().find_map(|(prefix_len, networks)| networks.get(&address.masked(*prefix_len)).copied())
    }

    fn len(&self) -> usize {
        self.0.iter().map(|(_, networks)| networks.len()).sum()
    }

    /// Where this length is, or belongs.
    fn position(&self, prefix_len: u8) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| prefix_len.cmp(other))
    }
}

/// A map for keys that administrators choose (addresses of a VPN, peer ids), not attackers.
pub(crate) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<FastHasher>>;

/// Multiplies and folds; several times as fast as the standard hasher on small integers.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct FastHasher(u64);

impl FastHasher {
    #[inline]
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

impl Hasher for FastHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_ne_bytes(word));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.mix(u64::from(word) + 1);
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    fn write_u128(&mut self, word: u128) {
        self.mix(word as u64);
        self.mix((word >> 64) as u64);
    }

    // Length prefixes of arrays tell nothing here.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// VPN addresses to whatever belongs to them.
#[derive(Debug)]
pub(crate) struct VpnMap<V> {
    v4: FastMap<u32, V>,
    v6: FastMap<u128, V>,
}

impl<V> Default for VpnMap<V> {
    fn default() -> Self {
        Self { v4: FastMap::default(), v6: FastMap::default() }
    }
}

impl<V> VpnMap<V> {
    #[inline]
    pub(crate) fn get(&self, address: IpAddr) -> Option<&V> {
        match address {
            IpAddr::V4(v4) => self.v4.get(&v4.to_bits()),
            IpAddr::V6(v6) => self.v6.get(&v6.to_bits()),
        }
    }

    pub(crate) fn insert_v4(&mut self, address: Ipv4Addr, value: V) {
        self.v4.insert(address.to_bits(), value);
    }

    pub(crate) fn insert_v6(&mut self, address: Ipv6Addr, value: V) {
        self.v6.insert(address.to_bits(), value);
    }

    pub(crate) fn remove(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.v4.remove(&v4.to_bits()),
            IpAddr::V6(v6) => self.v6.remove(&v6.to_bits()),
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_prefix_wins() {
        let via = |gateway| NextHop::Via(ip(gateway));
        let mut routes: Routes = [
            (net("0.0.0.0/0"), via("5.5.5.9")),
            (net("5.5.5.0/24"), NextHop::OnLink),
            (net("11.11.0.0/16"), via("5.5.5.3")),
            (net("11.11.11.11/32"), via("5.5.5.2")),
            (net("fd00::/8"), via("2001:db8::2")),
            (net("::/0"), via("2001:db8::3")),
        ]
        .into_iter()
        .collect();
        assert_eq!(routes.len(), 6);
        assert_eq!(routes.next_hop(ip("11.11.11.11")), ip("5.5.5.2"));
        assert_eq!(routes.next_hop(ip("11.11.11.12")), ip("5.5.5.3"));
        assert_eq!(routes.next_hop(ip("5.5.5.7")), ip("5.5.5.7"));
        assert_eq!(routes.next_hop(ip("9.9.9.9")), ip("5.5.5.9"));
        assert_eq!(routes.next_hop(ip("fd12::1")), ip("2001:db8::2"));
        assert_eq!(routes.next_hop(ip("2001::1")), ip("2001:db8::3"));

        assert!(routes.remove(net("0.0.0.0/0")) && !routes.remove(net("0.0.0.0/0")));
        assert_eq!(routes.next_hop(ip("9.9.9.9")), ip("9.9.9.9"), "without a route: to the address itself");
        routes.insert(net("11.11.11.11/32"), via("5.5.5.4"));
        assert_eq!(routes.get(net("11.11.11.11/32")), Some(via("5.5.5.4")));
        // Host bits do not matter.
        routes.insert(net("11.11.11.99/24"), NextHop::OnLink);
        assert_eq!(routes.next_hop(ip("11.11.11.12")), ip("11.11.11.12"));
    }

    proptest! {
        #[test]
        fn agrees_with_a_linear_search(
            prefixes in proptest::collection::vec((0..8u32, 0..=32u8), 0..40),
            removed in proptest::collection::vec(any::<prop::sample::Index>(), 0..10),
            wanted in proptest::collection::vec(0..8u32, 20),
        ) {
            // Few distinct bits, so that prefixes nest: bits 0, 15 and 31 of the address.
            let spread = |bits: u32| (bits & 1) | (bits & 2) << 14 | (bits & 4) << 29;
            let mut routes = Routes::default();
            let mut slow: Vec<(ipnet::Ipv4Net, NextHop)> = Vec::new();
            for (index, (bits, len)) in prefixes.into_iter().enumerate() {
                let net = ipnet::Ipv4Net::new(spread(bits).into(), len).unwrap().trunc();
                let hop = NextHop::Via(Ipv4Addr::from_bits(index as u32 + 1).into());
                routes.insert(net.into(), hop);
                slow.retain(|(other, _)| *other != net);
                slow.push((net, hop));
            }
            for index in removed {
                if !slow.is_empty() {
                    let (net, _) = slow.remove(index.index(slow.len()));
                    prop_assert!(routes.remove(net.into()));
                }
            }
            prop_assert_eq!(routes.len(), slow.len());
            for bits in wanted {
                let address = Ipv4Addr::from_bits(spread(bits));
                let best = slow.iter().filter(|(net, _)| net.contains(&address)).max_by_key(|(net, _)| net.prefix_len());
                let expected = match best {
                    Some((_, NextHop::Via(gateway))) => *gateway,
                    _ => address.into(),
                };
                prop_assert_eq!(routes.next_hop(address.into()), expected);
            }
        }
    }
}
