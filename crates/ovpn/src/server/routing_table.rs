//! Which client a virtual address or network belongs to: tunnel addresses and iroutes.
//!
//! The data plane and the system's routing table move the packets; this table says who owns what, for the status file,
//! for `learn-address`, and so that two clients never fight over a network.
//! Source: OpenVPN server behaviour, "Routing inside the server".

use std::collections::BTreeMap;

use ipnet::IpNet;

/// Names a client for this table.
pub(crate) type ClientId = u64;

/// A network that was taken from, or refused to, a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The network is the client's.
    New,
    /// It was another's; the newer client wins, as in stock.
    TakenFrom(ClientId),
    /// It was the client's already.
    Held,
    /// The client has as many routes as it may have (`max-routes-per-client`).
    TooMany,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Whose it is.
    pub(crate) client: ClientId,
    /// When it was learnt, in unix seconds.
    pub(crate) since: i64,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct RoutingTable {
    rows: BTreeMap<IpNet, Owner>,
}

impl RoutingTable {
    /// Gives a network to a client that may have `limit` rows. `now` in unix seconds.
    pub(crate) fn claim(&mut self, net: IpNet, client: ClientId, limit: u32, now: i64) -> Claim {
        let net = net.trunc();
        let former = self.rows.get(&net).map(|owner| owner.client);
        if former == Some(client) {
            return Claim::Held;
        }
        if self.of(client).count() >= limit as usize {
            return Claim::TooMany;
        }
        self.rows.insert(net, Owner { client, since: now });
        former.map_or(Claim::New, Claim::TakenFrom)
    }

    /// Takes all rows of a client away and returns them.
    pub(crate) fn forget(&mut self, client: ClientId) -> Vec<IpNet> {
        let gone: Vec<IpNet> = self.of(client).collect();
        self.rows.retain(|_, owner| owner.client != client);
        gone
    }

    /// The networks of a client.
    pub(crate) fn of(&self, client: ClientId) -> impl Iterator<Item = IpNet> {
        self.rows.iter().filter(move |(_, owner)| owner.client == client).map(|(net, _)| *net)
    }

    /// All rows in order of address.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (IpNet, Owner)> {
        self.rows.iter().map(|(net, owner)| (*net, *owner))
    }
}

/// A row's network as stock writes it: hosts without a prefix length.
pub(crate) fn show(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn the_newer_client_wins() {
        let mut table = RoutingTable::default();
        assert_eq!(table.claim(net("10.1.2.3/16"), 1, 9, 0), Claim::New);
        assert_eq!(table.claim(net("10.1.0.0/16"), 1, 9, 0), Claim::Held);
        assert_eq!(table.claim(net("10.1.0.0/16"), 2, 9, 0), Claim::TakenFrom(1));
        assert_eq!(table.forget(1), []);
        assert_eq!(table.forget(2), [net("10.1.0.0/16")]);
        assert_eq!(table.rows().count(), 0);
    }

    #[test]
    fn routes_are_counted() {
        let mut table = RoutingTable::default();
        assert_eq!(table.claim(net("10.1.0.0/16"), 1, 1, 0), Claim::New);
        assert_eq!(table.claim(net("10.2.0.0/16"), 1, 1, 0), Claim::TooMany);
        assert_eq!(table.claim(net("10.2.0.0/16"), 2, 1, 0), Claim::New);
    }

    #[test]
    fn hosts_are_shown_bare() {
        assert_eq!([show(net("10.77.0.2/32")), show(net("10.1.0.0/16"))], ["10.77.0.2", "10.1.0.0/16"]);
    }
}
