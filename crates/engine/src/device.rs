//! Making the device.

use ovpn_dco::{Error, ErrorKind, Result};
use ovpn_sys::netlink::route::{LinkChange, Rtnetlink};
use ovpn_sys::tun::{Offloads, Tun, TunQueue};

/// The kernel driver's default: 1500 less the overhead of TCP over IPv6.
const DEFAULT_MTU: u32 = 1416;

/// How many frames wait for a worker that is late: as many as in front of a network card.
const QUEUE_LEN: u16 = 1000;

/// An open device.
pub(crate) struct TunDevice {
    pub(crate) name: String,
    pub(crate) ifindex: u32,
    pub(crate) offloads: Offloads,
    pub(crate) queues: Vec<TunQueue>,
}

/// Makes a device, or takes over the one that has the name.
pub(crate) fn open(name: &str, queues: usize, mtu: Option<u32>) -> Result<TunDevice> {
    let tun = Tun::open(name, queues).map_err(|error| {
        let known = Error::from(error);
        Error::new(known.kind(), format!("cannot open the TUN device {name}"))
    })?;
    let failed = |error: ovpn_sys::netlink::Error| {
        Error::new(ErrorKind::System(5), format!("cannot set up {}: {error}", tun.name))
    };
    let rtnetlink = Rtnetlink::open().map_err(failed)?;
    let link = rtnetlink.link_by_name(&tun.name).map_err(failed)?;
    if !tun.existed
        && let Err(error) = tun.set_queue_len(QUEUE_LEN)
    {
        tracing::debug!(%error, device = %tun.name, "the queue keeps its length");
    }
    if !tun.steered {
        tracing::debug!(device = %tun.name, "the kernel chooses the queues, and may reorder a flow that it moves");
    }
    let mtu = mtu.or((!tun.existed).then_some(DEFAULT_MTU));
    if let Some(mtu) = mtu
        && mtu != link.mtu
    {
        let change = LinkChange { mtu: Some(mtu), ..LinkChange::default() };
        rtnetlink.link_change(link.index, &change).map_err(failed)?;
    }
    Ok(TunDevice { name: tun.name, ifindex: link.index, offloads: tun.offloads, queues: tun.queues })
}
