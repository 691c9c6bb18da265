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

use std::collections::{BTreeMap, BTreeSet, HashMap};
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

/// An entry that somebody has or had.
#[derive(Debug, Default)]
struct Entry {
    taken: bool,
    /// Who has it or had it last.
    common_name: Option<String>,
    /// Position in the order of releases; 0 where only the persist file knows it.
    released: u64,
}

impl Entry {
    fn place(&self, handle: u32) -> Place {
        Place { named: self.common_name.is_some(), released: self.released, handle }
    }
}

/// Where a free entry stands in the order in which they are given away: those without a name first, then those that
/// have been free the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    named: bool,
    released: u64,
    handle: u32,
}

/// The pool. Whatever its size, an entry is found at once: servers have thousands.
#[derive(Debug)]
pub(crate) struct AddressPool {
    start_v4: Option<Ipv4Addr>,
    start_v6: Option<Ipv6Addr>,
    size: u32,
    /// Handles that are not here nobody ever had.
    entries: BTreeMap<u32, Entry>,
    /// All handles before it are in `entries`.
    fresh: u32,
    /// Those of `entries` that are free.
    free: BTreeSet<Place>,
    /// Those of `entries` that have a name.
    named: HashMap<String, BTreeSet<u32>>,
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
        Ok(Some(Self {
            start_v4: v4.map(|pool| pool.start),
            start_v6,
            size: size as u32,
            entries: BTreeMap::new(),
            fresh: 0,
            free: BTreeSet::new(),
            named: HashMap::new(),
            releases: 0,
            anonymous,
            fixed,
        }))
    }

    /// Takes an entry for this common name, which may be empty; `None` if all are taken.
    pub(crate) fn acquire(&mut self, common_name: &str) -> Option<Lease> {
        let handle = self.find(common_name)?;
        let entry = self.entries.entry(handle).or_default();
        self.free.remove(&entry.place(handle));
        entry.taken = true;
        if common_name.is_empty() {
            self.rename(handle, None);
        } else if !self.anonymous {
            self.rename(handle, Some(common_name));
        }
        Some(Lease { handle, addresses: self.addresses(handle) })
    }

    fn find(&mut self, common_name: &str) -> Option<u32> {
        let is_free = |handle: &&u32| self.entries.get(handle).is_some_and(|entry| !entry.taken);
        if let Some(own) = self.named.get(common_name).and_then(|handles| handles.iter().find(is_free)) {
            return Some(*own);
        }
        while self.entries.contains_key(&self.fresh) {
            self.fresh += 1;
        }
        if self.fresh < self.size {
            return Some(self.fresh);
        }
        self.free.first().filter(|place| !(self.fixed && place.named)).map(|place| place.handle)
    }

    /// Gives an entry back. Its name stays with it.
    pub(crate) fn release(&mut self, lease: Lease) {
        self.releases += 1;
        if let Some(entry) = self.entries.get_mut(&lease.handle) {
            entry.taken = false;
            entry.released = self.releases;
            self.free.insert(entry.place(lease.handle));
        }
    }

    /// Notes whose a taken entry is.
    fn rename(&mut self, handle: u32, common_name: Option<&str>) {
        let Some(entry) = self.entries.get_mut(&handle) else { return };
        if entry.common_name.as_deref() == common_name {
            return;
        }
        if let Some(before) = &entry.common_name
            && let Some(handles) = self.named.get_mut(before)
        {
            handles.remove(&handle);
            if handles.is_empty() {
                self.named.remove(before);
            }
        }
        if let Some(name) = common_name {
            self.named.entry(name.to_owned()).or_default().insert(handle);
        }
        entry.common_name = common_name.map(str::to_owned);
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
            if self.entries.contains_key(&handle) {
                problems.push(format!("line {}: the address is another client's already", index + 1));
                continue;
            }
            self.entries.insert(handle, Entry::default());
            self.rename(handle, Some(common_name));
            self.free.insert(Place { named: true, released: 0, handle });
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
        (handle < self.size).then_some(handle)
    }

    /// The persist file: a line for each entry that somebody has or had.
    pub(crate) fn save(&self) -> String {
        let mut text = String::new();
        for (&handle, entry) in &self.entries {
            let Some(common_name) = &entry.common_name else { continue };
            let Addresses { v4, v6 } = self.addresses(handle);
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

    /// Against the rule told the plain way: look at every entry.
    #[test]
    fn any_order_of_coming_and_going() {
        const SIZE: u32 = 7;
        for (seed, anonymous, fixed) in [(1, false, false), (2, true, false), (3, false, true)] {
            let range = v4("10.8.0.0", "10.8.0.6");
            let mut pool = AddressPool::new(range, None, anonymous, fixed).unwrap().unwrap();
            let mut plain = vec![(false, None::<String>, 0); SIZE as usize];
            if !anonymous {
                assert!(pool.load("a,10.8.0.3,\nb,10.8.0.1,\n").is_empty());
                (plain[3].1, plain[1].1) = (Some("a".into()), Some("b".into()));
            }
            let (mut leases, mut random, mut releases) = (Vec::new(), seed, 0);
            for _ in 0..2000 {
                random = (random * 1_103_515_245 + 12_345) % (1_u64 << 31);
                let choice = (random >> 8) as usize;
                if choice.is_multiple_of(2) && !leases.is_empty() {
                    let lease: Lease = leases.swap_remove(choice / 2 % leases.len());
                    releases += 1;
                    let entry = &mut plain[lease.handle as usize];
                    (entry.0, entry.2) = (false, releases);
                    pool.release(lease);
                    continue;
                }
                let name = ["", "a", "b", "c", "d", "e"][choice / 2 % 6];
                let free = || plain.iter().enumerate().filter(|(_, entry)| !entry.0);
                let own = free().find(|(_, entry)| !anonymous && entry.1.as_deref() == Some(name));
                let first = free()
                    .filter(|(_, entry)| !(fixed && entry.1.is_some()))
                    .min_by_key(|(_, entry)| (entry.1.is_some(), entry.2));
                let expected = own.or(first).map(|(handle, _)| handle);
                let lease = pool.acquire(name);
                assert_eq!(lease.as_ref().map(|lease| lease.handle as usize), expected);
                if let Some(lease) = lease {
                    let entry = &mut plain[lease.handle as usize];
                    entry.0 = true;
                    if name.is_empty() {
                        entry.1 = None;
                    } else if !anonymous {
                        entry.1 = Some(name.into());
                    }
                    leases.push(lease);
                }
            }
            assert!(releases > 500);
        }
    }

    #[test]
    fn sizes() {
        let size = |v4, v6| AddressPool::new(v4, v6, false, false).map(|pool| pool.map(|p| p.size));
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
