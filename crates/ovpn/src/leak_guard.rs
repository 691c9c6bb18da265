//! `block-leaks`: whatever happens to the tunnel, nothing leaves this machine outside of it.
//!
//! ```text
//!   table inet ovpn-block-leaks      made before the first packet, removed at the end of a run that was told to end
//!     pass: loopback · the tunnel · the server's addresses · DHCP · neighbour discovery
//!     drop: everything else, forwarded packets too
//! ```
//!
//! The table is the program's own and always replaced as a whole, in one transaction. Names are resolved at the start,
//! while DNS still passes; from then on the addresses found are used. A run that fails leaves the table in force, and
//! so does a killed one: `nft delete table inet ovpn-block-leaks` opens the way again, as does another run that ends
//! orderly.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::nft;
use crate::outcome::{Fatal, Outcome};

const TABLE: &str = "ovpn-block-leaks";
const OPTION: &str = "block-leaks";

/// The table is in force by this process, maybe by a former run of it (SIGHUP).
static RAISED: AtomicBool = AtomicBool::new(false);

/// The table in force.
#[derive(Debug)]
pub(crate) struct LeakGuard {
    open: Open,
}

/// What passes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Open {
    device: Option<String>,
    addresses: BTreeSet<IpAddr>,
    dns: bool,
}

impl LeakGuard {
    /// Puts the table in force where `block-leaks` is given; what a former run left is removed where it is not.
    ///
    /// # Errors
    /// When nft is missing or denied.
    pub(crate) fn raise(wanted: bool) -> Result<Option<Self>, Fatal> {
        if !wanted {
            if RAISED.swap(false, Ordering::Relaxed) {
                remove();
            }
            return Ok(None);
        }
        let guard = Self { open: Open { dns: true, ..Open::default() } };
        nft::apply(OPTION, &ruleset(&guard.open))?;
        RAISED.store(true, Ordering::Relaxed);
        tracing::info!("block-leaks: only the tunnel may carry traffic (nftables table inet {TABLE})");
        Ok(Some(guard))
    }

    /// Lets packets to a server or proxy pass.
    ///
    /// # Errors
    /// When the table cannot be changed.
    pub(crate) fn pass(&mut self, address: IpAddr) -> Result<(), Fatal> {
        let mut open = self.open.clone();
        open.addresses.insert(address.to_canonical());
        self.change(open)
    }

    /// Lets packets into the tunnel pass.
    ///
    /// # Errors
    /// As [`pass`](Self::pass).
    pub(crate) fn device(&mut self, name: &str) -> Result<(), Fatal> {
        self.change(Open { device: Some(name.to_owned()), ..self.open.clone() })
    }

    /// Names are resolved: DNS outside of the tunnel ends.
    ///
    /// # Errors
    /// As [`pass`](Self::pass).
    pub(crate) fn end_dns(&mut self) -> Result<(), Fatal> {
        self.change(Open { dns: false, ..self.open.clone() })
    }

    /// Whether names can still be resolved outside of the tunnel.
    pub(crate) const fn resolves(&self) -> bool {
        self.open.dns
    }

    /// The run has ended so: a run that was told to end opens the way, anything else leaves it closed.
    pub(crate) fn ended(self, result: &Result<Outcome, Fatal>) {
        match result {
            Ok(Outcome::Exit(_)) => {
                RAISED.store(false, Ordering::Relaxed);
                remove();
            }
            Ok(Outcome::Reload) => {}
            Err(_) => tracing::warn!(
                "block-leaks: traffic stays blocked; open the way with `nft delete table inet {TABLE}`"
            ),
        }
    }

    fn change(&mut self, open: Open) -> Result<(), Fatal> {
        if open != self.open {
            nft::apply(OPTION, &ruleset(&open))?;
            self.open = open;
        }
        Ok(())
    }
}

fn remove() {
    if let Err(error) = nft::apply(OPTION, &format!("delete table inet {TABLE}\n")) {
        tracing::warn!("{error}; open the way with `nft delete table inet {TABLE}`");
    }
}

fn ruleset(open: &Open) -> String {
    let mut rules = String::from("oifname \"lo\" accept\n");
    let mut forwarded = String::new();
    if let Some(device) = &open.device {
        rules.push_str(&format!("oifname \"{device}\" accept\n"));
        forwarded.push_str(&format!("oifname \"{device}\" accept\niifname \"{device}\" accept\n"));
    }
    for address in &open.addresses {
        let family = if address.is_ipv4() { "ip" } else { "ip6" };
        rules.push_str(&format!("{family} daddr {address} accept\n"));
    }
    rules.push_str("udp sport 68 udp dport 67 accept\nudp sport 546 udp dport 547 accept\n");
    rules.push_str(
        "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept\n",
    );
    if open.dns {
        rules.push_str("meta l4proto { tcp, udp } th dport { 53, 853 } accept\n");
    }
    format!(
        "table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\nchain output {{\ntype filter hook output \
         priority filter; policy drop;\n{rules}}}\nchain forward {{\ntype filter hook forward priority filter; policy \
         drop;\n{forwarded}}}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_what_was_said() {
        let closed = ruleset(&Open::default());
        assert_eq!(closed.matches("policy drop").count(), 2);
        assert_eq!(closed.matches("accept").count(), 4, "{closed}");
        let open = Open {
            device: Some("tun0".to_owned()),
            addresses: ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()].into(),
            dns: true,
        };
        let text = ruleset(&open);
        for wanted in [
            "oifname \"tun0\" accept",
            "ip daddr 192.0.2.1 accept",
            "ip6 daddr 2001:db8::1 accept",
            "53, 853",
        ] {
            assert!(text.contains(wanted), "{text}");
        }
    }
}
