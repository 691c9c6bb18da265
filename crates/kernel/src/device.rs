//! The device: made, or adopted where it is there already, and removed by whoever made it.

use ovpn_dco::{Device, Error, ErrorKind, Mode, Result};
use ovpn_sys::netlink::route::{Link, LinkChange, OvpnMode, Rtnetlink};

use crate::Api;

/// Text on devices that this driver made, by which one that a killed process left behind is known.
const ALIAS: &str = "ovpn-rs";
/// Highest number tried for a name without number.
const LAST_NUMBER: u32 = 255;

const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EBUSY: i32 = 16;

/// An open device.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) device: Device,
    /// It was there before and stays when this process ends.
    pub(crate) persistent: bool,
    /// It was there before, so that somebody else may be using it.
    pub(crate) adopted: bool,
}

/// Opens the device `name`; a name without number stands for the first free one.
pub(crate) fn open(net: &Rtnetlink, api: Api, name: &str, mode: Mode) -> Result<Opened> {
    if name.ends_with(|c: char| c.is_ascii_digit()) {
        return open_named(net, api, name, mode);
    }
    for number in 0..=LAST_NUMBER {
        let name = format!("{name}{number}");
        match make(net, api, &name, mode) {
            Err(error) if error.errno() == EEXIST => {}
            Err(error) => return Err(error),
            Ok(link) => return Ok(Opened { device: device(link, mode), persistent: false, adopted: false }),
        }
    }
    Err(Error::new(ErrorKind::System(EEXIST), format!("{name}0 to {name}{LAST_NUMBER} are all taken")))
}

fn open_named(net: &Rtnetlink, api: Api, name: &str, mode: Mode) -> Result<Opened> {
    match make(net, api, name, mode) {
        Ok(link) => Ok(Opened { device: device(link, mode), persistent: false, adopted: false }),
        Err(error) if error.errno() == EEXIST => {
            let link = net.link_by_name(name).map_err(from_netlink)?;
            let kind = link.kind.clone().unwrap_or_else(|| "hardware".into());
            if kind != api.link_kind() {
                let what = format!("device {name} exists and is of kind {kind}, not {}", api.link_kind());
                return Err(Error::new(ErrorKind::System(EEXIST), what));
            }
            if link.ovpn_mode.is_some_and(|there| there != ovpn_mode(mode)) {
                let what =
                    format!("device {name} exists in the other mode; delete it with `ip link del {name}`");
                return Err(Error::new(ErrorKind::System(EEXIST), what));
            }
            let persistent = link.alias.as_deref() != Some(ALIAS);
            Ok(Opened { device: device(link, mode), persistent, adopted: true })
        }
        Err(error) => Err(error),
    }
}

/// What is said of a device that another process uses.
pub(crate) fn busy(device: &Device, peers: usize) -> Error {
    let what = format!("device {} is in use: it has {peers} peers", device.name);
    Error::new(ErrorKind::System(EBUSY), what)
}

fn make(net: &Rtnetlink, api: Api, name: &str, mode: Mode) -> Result<Link> {
    net.link_add_ovpn(name, api.link_kind(), ovpn_mode(mode)).map_err(from_netlink)?;
    let link = net.link_by_name(name).map_err(from_netlink)?;
    let change = LinkChange { alias: Some(ALIAS.into()), ..LinkChange::default() };
    if let Err(error) = net.link_change(link.index, &change) {
        tracing::debug!(device = name, %error, "the device has no mark of ours");
    }
    Ok(link)
}

/// Deletes it; gone already is as good.
pub(crate) fn remove(net: &Rtnetlink, device: &Device) {
    match net.link_del(device.ifindex) {
        Ok(()) => tracing::debug!(device = device.name, "device removed"),
        Err(error) if error.errno() == ENODEV => {}
        Err(error) => tracing::warn!(device = device.name, %error, "device is left behind"),
    }
}

fn device(link: Link, mode: Mode) -> Device {
    Device { name: link.name, ifindex: link.index, mode }
}

const fn ovpn_mode(mode: Mode) -> OvpnMode {
    match mode {
        Mode::P2p => OvpnMode::P2p,
        Mode::MultiPeer => OvpnMode::MultiPeer,
    }
}

/// An rtnetlink error as one of the API, with all that it says.
pub(crate) fn from_netlink(error: ovpn_sys::netlink::Error) -> Error {
    let kind = match error.errno() {
        1 => ErrorKind::NotPermitted,
        12 => ErrorKind::OutOfMemory,
        19 => ErrorKind::NoSuchDevice,
        95 => ErrorKind::Unsupported,
        errno => ErrorKind::System(errno),
    };
    // the errno's own text is added again where the error is shown
    let text = error.to_string();
    let system = std::io::Error::from_raw_os_error(error.errno()).to_string();
    let detail = text.strip_suffix(&system).unwrap_or(&text).trim_end_matches([':', ' ']);
    Error::new(kind, detail)
}
