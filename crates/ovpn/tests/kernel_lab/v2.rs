//! `ovpn-dco-v2`: the conformance suite, and tunnels with stock OpenVPN 2.6 and its offload at the other end.
//!
//! What the older form lacks is told by the suite as not applicable: asymmetric ids, keys read back, events of floats
//! and of used-up keys.

use ovpn_dco::conformance;
use ovpn_kernel::{Api, Probe};

use crate::driver::{Driver, in_namespace};
use crate::ends::End;
use crate::life;
use crate::tunnel::{Under, row};

const V2: Under = Under { kind: "ovpn-dco", tells_floats: false };

/// Cases in which the older driver is seen to behave otherwise than the suite demands. Each of them must fail: one that
/// passes is to be taken off this list.
const DIFFERS: [&str; 6] = [
    // it may still tell that a peer expired whose keepalive was turned off
    "keepalive: 0 turns it off",
    // it holds the sockets itself: closing them deletes nothing
    "closing a UDP socket deletes its peers: transport-disconnect",
    "closing a TCP socket deletes its peer: transport-disconnect",
    // its stream parser takes shorter packets
    "a broken TCP frame deletes its peer (transport-error) or ends its port",
    // one of many was missing on the stream; the control channel sends such again
    "control packets over TCP pass untouched, both ways, before and after the peer is made",
    // pings count as inner packets, too
    "keepalive: two devices keep each other alive; counters are those of the pings",
];

#[test]
#[ignore = "needs ovpn-dco-v2"]
fn conformance() {
    let mut report = in_namespace(|| conformance::run(&Driver(Api::DcoV2)));
    for name in DIFFERS {
        assert!(
            report.failed.iter().any(|(failed, _)| *failed == name),
            "passes, take it off the list: {name}"
        );
    }
    report.failed.retain(|(name, _)| !DIFFERS.contains(name));
    report.assert();
}

#[test]
#[ignore = "needs ovpn-dco-v2"]
fn probe_finds_it_and_says_why_it_is_not_the_newer_one() {
    let found = ovpn_kernel::probe();
    assert_eq!(found.dco_v2.capabilities().expect("the driver").driver, ovpn_dco::Driver::KernelV2);
    let Probe::Unavailable(why) = found.ovpn else { panic!("the newer driver, too") };
    assert!(why.contains("it came with Linux 6.16"), "{why}");
}

#[test]
#[ignore = "needs ovpn-dco-v2"]
fn killed_and_started_again() {
    // The driver holds the socket: a killed client's peer goes on pinging until the next start takes its device away.
    life::killed_and_started_again(V2.kind, false);
}

macro_rules! rows {
    ($($name:ident: $server:ident $client:ident $proto:literal;)*) => {
        $(#[test]
        #[ignore = "needs ovpn-dco-v2"]
        fn $name() {
            row(concat!("v2-", $proto), V2, End::$server, End::$client, $proto);
        })*
    };
}

rows! {
    client_stock_dco_udp4: StockDco Kernel "udp4";
    client_stock_dco_tcp4: StockDco Kernel "tcp4";
    server_stock_dco_udp6: Kernel StockDco "udp6";
    server_stock_dco_tcp4: Kernel StockDco "tcp4";
    server_engine_udp4: Kernel Engine "udp4";
}
