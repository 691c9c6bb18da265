//! Addresses for clients: `ifconfig-pool`, `ifconfig-ipv6-pool` and `ifconfig-pool-persist`.
//!
//! ```text
//!  handle        0          1          2      …
//!  IPv4   start + 0  start + 1  start + 2
//!  IPv6    base + 0   base + 1   base + 2        both families share the handle
//! ```
//!
//! A client gets the entry that its common name had last, else one that nobody ever had, else the one that was free the
//! longest. Source: OpenVPN server behaviour, "Pools", "ifconfig-pool-persist".

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ovpn_config::model::{Pool, PoolIpv6};

/// The most entries of a pool.
const MAX_ENTRIES: u32 = 1 << 16;

/// A pool that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PoolError {
    /// The end is before the start.
    #[error("ifconfig-pool: the last address is before the first")]
    Reversed,
    /// One address, or more than 65536.
    #[error("address pool of {0} addresses: it must have 2 to 65536")]
    Size(u64),
}

/// What a client gets; at least one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// Its IPv4 address.
    pub(crate) v4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub(crate) v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// Those there are.
    pub(crate) fn list(&self) -> Vec<IpAddr> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6)).collect()
    }
}

/// A taken entry. It goes back with [`AddressPool::release`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an entry that is dropped stays taken"]
pub(crate) struct Lease {
    handle: u32,
    /// Its addresses.
    pub(crate) addresses: Addresses,
}

#[derive(Debug, Clone, Default)]
struct Entry {
    taken: bool,
    /// Who has it or had it last.
    common_name: Option<String>,
    /// Position in the order of releases; 0: never used.
    released: u64,
}

/// The pool.
#[derive(Debug)]
pub(crate) struct AddressPool {
    start_v4: Option<Ipv4Addr>,
    start_v6: Option<Ipv6Addr>,
    entries: Vec<Entry>,
    releases: u64,
    /// `duplicate-cn`: names mean nothing.
    anonymous: bool,
    /// `ifconfig-pool-persist FILE 0`: entries of other names are never given away.
    fixed: bool,
}

impl AddressPool {
    /// A pool of one or both families; `None` where neither is configured. `anonymous` with `duplicate-cn`, `fixed` with
    /// a persist file that is never written.
    pub(crate) fn new(
        v4: Option<Pool>,
        v6: Option<PoolIpv6>,
        anonymous: bool,
        fixed: bool,
    ) -> Result<Option<Self>, PoolError> {
        let mut size = None;
        let mut limit = |entries: u64| size = Some(size.map_or(entries, |other: u64| other.min(entries)));
        if let Some(pool) = v4 {
            let (start, end) = (u32::from(pool.start), u32::from(pool.end));
            let span = end.checked_sub(start).ok_or(PoolError::Reversed)?;
            limit(u64::from(span) + 1);
        }
        let mut start_v6 = None;
        if let Some(pool) = v6 {
            let (base, bits) = (u128::from(pool.base.addr()), pool.base.prefix_len());
            // Only the low 32 bits count as the host part, and the network's own address is never given away.
            let first = if base as u32 == 0 { base + 1 } else { base };
            start_v6 = Some(Ipv6Addr::from(first));
            limit(match 128u32.checked_sub(u32::from(bits)) {
                Some(host_bits @ ..=16) => {
                    let hosts = 1u64 << host_bits;
                    hosts.saturating_sub(first as u64 & (hosts - 1))
                }
                _ => u64::from(MAX_ENTRIES),
            });
        }
        let Some(size) = size else { return Ok(None) };
        if size < 2 || size > u64::from(MAX_ENTRIES) {
            return Err(PoolError::Size(size));
        }
        let entries = vec![Entry::default(); size as usize];
        let start_v4 = v4.map(|pool| pool.start);
        Ok(Some(Self { start_v4, start_v6, entries, releases: 0, anonymous, fixed }))
    }

    /// Takes an entry for this common name, which may be empty; `None` if all are taken.
    pub(crate) fn acquire(&mut self, common_name: &str) -> Option<Lease> {
        let handle = self.find(common_name)?;
        let entry = self.entries.get_mut(handle as usize)?;
        entry.taken = true;
        if common_name.is_empty() {
            entry.common_name = None;
        } else if !self.anonymous {
            entry.common_name = Some(common_name.to_owned());
        }
        Some(Lease { handle, addresses: self.addresses(handle) })
    }

    fn find(&self, common_name: &str) -> Option<u32> {
        let free = || self.entries.iter().enumerate().filter(|(_, entry)| !entry.taken);
        let own = (!self.anonymous)
            .then(|| free().find(|(_, entry)| entry.common_name.as_deref() == Some(common_name)))
            .flatten();
        let found = own.or_else(|| {
            free()
                .filter(|(_, entry)| !(self.fixed && entry.common_name.is_some()))
                .min_by_key(|(_, entry)| (entry.common_name.is_some(), entry.released))
        });
        found.map(|(handle, _)| handle as u32)
    }

    /// Gives an entry back. Its name stays with it.
    pub(crate) fn release(&mut self, lease: Lease) {
        self.releases += 1;
        if let Some(entry) = self.entries.get_mut(lease.handle as usize) {
            entry.taken = false;
            entry.released = self.releases;
        }
    }

    fn addresses(&self, handle: u32) -> Addresses {
        Addresses {
            v4: self.start_v4.map(|start| Ipv4Addr::from(u32::from(start).wrapping_add(handle))),
            v6: self.start_v6.map(|start| Ipv6Addr::from(u128::from(start).wrapping_add(handle.into()))),
        }
    }

    /// Reads a persist file: lines `CN,IPv4,IPv6`, either address may be empty or, in old files, the last missing;
    /// where the two disagree, IPv4 counts. Returns a message for each line that means nothing here.
    pub(crate) fn load(&mut self, text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        if self.anonymous {
            return problems;
        }
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            // Names may contain commas: the addresses are the last two fields, or the last one of an old file.
            let handle = self.persisted(line);
            let Some((common_name, handle)) = handle else {
                problems.push(format!("line {}: no address of the pool: {line}", index + 1));
                continue;
            };
            match self.entries.get_mut(handle as usize) {
                Some(entry) if entry.common_name.is_none() => {
                    entry.common_name = Some(common_name.to_owned())
                }
                _ => problems.push(format!("line {}: the address is another client's already", index + 1)),
            }
        }
        problems
    }

    fn persisted<'a>(&self, line: &'a str) -> Option<(&'a str, u32)> {
        let mut fields = line.rsplitn(3, ',');
        let (last, middle, name) = (fields.next()?, fields.next()?, fields.next());
        if let Some(name) = name
            && (middle.is_empty() || middle.parse::<Ipv4Addr>().is_ok())
        {
            return Some((name, self.handle_of(middle).or_else(|| self.handle_of(last))?));
        }
        let (name, address) = line.rsplit_once(',')?;
        Some((name, self.handle_of(address)?))
    }

    fn handle_of(&self, address: &str) -> Option<u32> {
        let handle = if let Ok(v4) = address.parse::<Ipv4Addr>() {
            u32::from(v4).checked_sub(self.start_v4?.into())?
        } else {
            let offset = u128::from(address.parse::<Ipv6Addr>().ok()?).checked_sub(self.start_v6?.into())?;
            u32::try_from(offset).ok()?
        };
        ((handle as usize) < self.entries.len()).then_some(handle)
    }

    /// The persist file: a line for each entry that somebody has or had.
    pub(crate) fn save(&self) -> String {
        let mut text = String::new();
        for (handle, entry) in self.entries.iter().enumerate() {
            let Some(common_name) = &entry.common_name else { continue };
            let Addresses { v4, v6 } = self.addresses(handle as u32);
            let show = |address: Option<String>| address.unwrap_or_default();
            let (v4, v6) = (show(v4.map(|a| a.to_string())), show(v6.map(|a| a.to_string())));
            text.push_str(&format!("{common_name},{v4},{v6}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(start: &str, end: &str) -> Option<Pool> {
        Some(Pool { start: start.parse().unwrap(), end: end.parse().unwrap(), prefix: None })
    }

    fn v6(base: &str) -> Option<PoolIpv6> {
        Some(PoolIpv6 { base: base.parse().unwrap() })
    }

    fn pool(anonymous: bool, fixed: bool) -> AddressPool {
        let both = AddressPool::new(v4("10.8.0.2", "10.8.0.4"), v6("fd77::1000/64"), anonymous, fixed);
        both.unwrap().unwrap()
    }

    fn take(pool: &mut AddressPool, name: &str) -> Option<(Lease, String)> {
        let lease = pool.acquire(name)?;
        let text = format!("{} {}", lease.addresses.v4.unwrap(), lease.addresses.v6.unwrap());
        Some((lease, text))
    }

    #[test]
    fn families_share_the_handle() {
        let mut pool = pool(false, false);
        let (_a, first) = take(&mut pool, "a").unwrap();
        let (_b, second) = take(&mut pool, "b").unwrap();
        assert_eq!((first.as_str(), second.as_str()), ("10.8.0.2 fd77::1000", "10.8.0.3 fd77::1001"));
        let _c = take(&mut pool, "c").unwrap();
        assert!(take(&mut pool, "d").is_none());
    }

    #[test]
    fn a_name_comes_back_to_its_address() {
        let mut pool = pool(false, false);
        let (a, first) = take(&mut pool, "a").unwrap();
        pool.release(a);
        let (_b, other) = take(&mut pool, "b").unwrap();
        assert_ne!(first, other);
        let (_a, again) = take(&mut pool, "a").unwrap();
        assert_eq!(first, again);
    }

    #[test]
    fn the_longest_free_entry_is_given_away_first() {
        let mut pool = pool(false, false);
        let (a, _) = take(&mut pool, "a").unwrap();
        let (b, of_b) = take(&mut pool, "b").unwrap();
        let (c, _) = take(&mut pool, "c").unwrap();
        pool.release(b);
        pool.release(c);
        pool.release(a);
        assert_eq!(take(&mut pool, "d").unwrap().1, of_b);
    }

    #[test]
    fn duplicate_names_are_strangers() {
        let mut pool = pool(true, false);
        let (a, _) = take(&mut pool, "a").unwrap();
        let (_other, _) = take(&mut pool, "a").unwrap();
        pool.release(a);
        assert_eq!(pool.save(), "");
    }

    #[test]
    fn persist_file_round_trip() {
        let mut before = pool(false, false);
        let _ = take(&mut before, "al,ice").unwrap();
        let _ = take(&mut before, "bob").unwrap();
        let file = before.save();
        assert_eq!(file, "al,ice,10.8.0.2,fd77::1000\nbob,10.8.0.3,fd77::1001\n");
        let mut after = pool(false, false);
        assert_eq!(after.load(&format!("# comment\n\n{file}")), Vec::<String>::new());
        assert_eq!(after.save(), file);
        assert_eq!(take(&mut after, "bob").unwrap().1, "10.8.0.3 fd77::1001");
        assert_eq!(take(&mut after, "carol").unwrap().1, "10.8.0.4 fd77::1002");
    }

    #[test]
    fn old_and_odd_persist_files() {
        let mut pool = pool(false, false);
        let problems = pool.load("a,10.8.0.3\nb,10.9.0.1,\nc,,fd77::1002\nd,10.8.0.3,fd77::1000\nnonsense\n");
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert_eq!(pool.save(), "a,10.8.0.3,fd77::1001\nc,10.8.0.4,fd77::1002\n");
    }

    #[test]
    fn fixed_entries_are_never_given_away() {
        let mut pool = pool(false, true);
        assert!(pool.load("a,10.8.0.2,\nb,10.8.0.3,\n").is_empty());
        assert_eq!(take(&mut pool, "c").unwrap().1, "10.8.0.4 fd77::1002");
        assert!(take(&mut pool, "d").is_none());
        assert!(take(&mut pool, "a").is_some());
    }

    #[test]
    fn sizes() {
        let size = |v4, v6| AddressPool::new(v4, v6, false, false).map(|pool| pool.map(|p| p.entries.len()));
        assert_eq!(size(None, None), Ok(None));
        assert_eq!(size(v4("10.0.0.2", "10.0.255.254"), None), Ok(Some(65533)));
        assert_eq!(size(v4("10.0.0.0", "10.2.0.0"), None), Err(PoolError::Size(131073)));
        assert_eq!(size(v4("10.0.0.5", "10.0.0.5"), None), Err(PoolError::Size(1)));
        assert_eq!(size(v4("10.0.0.5", "10.0.0.4"), None), Err(PoolError::Reversed));
        assert_eq!(size(None, v6("fd77::/64")), Ok(Some(65536)));
        assert_eq!(size(None, v6("fd77::2/112")), Ok(Some(65534)));
        assert_eq!(size(None, v6("fd77::/120")), Ok(Some(255)));
        assert_eq!(size(v4("10.0.0.2", "10.0.0.11"), v6("fd77::/64")), Ok(Some(10)));
        let mut first = AddressPool::new(None, v6("fd77::/64"), false, false).unwrap().unwrap();
        assert_eq!(first.acquire("a").unwrap().addresses.v6, Some("fd77::1".parse().unwrap()));
    }
}
