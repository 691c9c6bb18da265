//! Namespaces wired together.
//!
//! ```text
//!   Pair:  left veth0 10.10.1.1/24 ─── veth0 10.10.1.2/24 right
//!                fd00:0:0:1::1/64        fd00:0:0:1::2/64
//!   Star:  hub veth1 10.10.1.1 ─── veth1 10.10.1.2 leaf 1
//!              veth2 10.10.2.1 ─── veth2 10.10.2.2 leaf 2 …
//! ```

use crate::Netns;

/// Two namespaces and one cable. Addresses: `10.10.1.1` and `10.10.1.2`, `fd00:0:0:1::1` and `fd00:0:0:1::2`; the
/// interface is `veth1` on both sides.
#[derive(Debug)]
pub struct Pair {
    /// Holds `10.10.1.1`.
    pub left: Netns,
    /// Holds `10.10.1.2`.
    pub right: Netns,
}

impl Pair {
    /// Makes both and wires them.
    ///
    /// # Errors
    /// Without root.
    pub fn new(label: &str) -> anyhow::Result<Self> {
        let left = Netns::new(&format!("{label}-l"))?;
        let right = Netns::new(&format!("{label}-r"))?;
        wire(&left, &right, 1)?;
        Ok(Self { left, right })
    }
}

/// A hub and `n` leaves, each on a cable of its own: leaf `p` (from 1) has `10.10.p.2` and `fd00:0:0:p::2`, the hub
/// `10.10.p.1` and `fd00:0:0:p::1`, both on `veth<p>`.
#[derive(Debug)]
pub struct Star {
    /// The middle.
    pub hub: Netns,
    /// The leaves; the first has number 1.
    pub leaves: Vec<Netns>,
}

impl Star {
    /// Makes a hub and `n` leaves (at most 250).
    ///
    /// # Errors
    /// Without root.
    pub fn new(label: &str, n: u8) -> anyhow::Result<Self> {
        let hub = Netns::new(&format!("{label}-0"))?;
        let mut leaves = Vec::new();
        for p in 1..=n.min(250) {
            let leaf = Netns::new(&format!("{label}-{p}"))?;
            wire(&hub, &leaf, p)?;
            leaves.push(leaf);
        }
        Ok(Self { hub, leaves })
    }
}

fn wire(a: &Netns, b: &Netns, p: u8) -> anyhow::Result<()> {
    a.ip(&format!("link add veth{p} type veth peer name veth{p} netns {}", b.name()))?;
    for (ns, host) in [(a, 1), (b, 2)] {
        ns.ip(&format!("addr add 10.10.{p}.{host}/24 dev veth{p}"))?;
        ns.ip(&format!("addr add fd00:0:0:{p}::{host}/64 dev veth{p} nodad"))?;
        ns.ip(&format!("link set veth{p} up"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_reach_the_hub() {
        let star = Star::new("star", 2).unwrap();
        star.leaves[1].run("ping", &["-c1", "-W2", "10.10.2.1"]).unwrap();
        star.hub.run("ping", &["-6", "-c1", "-W2", "fd00:0:0:1::2"]).unwrap();
    }
}
