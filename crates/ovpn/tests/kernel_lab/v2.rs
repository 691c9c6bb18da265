//! `ovpn-dco-v2`: the conformance suite, and tunnels with stock OpenVPN 2.6 and its offload at the other end.
//!
//! What the older form lacks is told by the suite as not applicable: asymmetric ids, keys read back, events of floats
//! and of used-up keys. What it does otherwise (timers, sockets, broken frames, counters) stands in the suite beside
//! what the others do, with the reason.

use ovpn_dco::conformance;
use ovpn_kernel::{Api, Probe};

use crate::driver::Driver;
use crate::ends::End;
use crate::life;
use crate::tunnel::row;

/// Kind of its links.
const V2: &str = "ovpn-dco";

#[test]
#[ignore = "needs ovpn-dco-v2"]
fn conformance() {
    conformance::run_apart(|| Driver(Api::DcoV2)).assert();
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
    life::killed_and_started_again(V2, false);
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
