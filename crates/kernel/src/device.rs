//! The device: made, or adopted where it is there already, and removed by whoever made it.

use ovpn_dco::{Device, Error, ErrorKind, Mode, Result};
use ovpn_sys::netlink::route::{Link, LinkChange, OvpnMode, Rtnetlink};

use crate::Api;

/// First word of the text on devices that this driver made.
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
    sweep(net, api);
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
            let owner = link.alias.as_deref().and_then(Owner::read);
            if let Some(owner) = &owner
                && *owner != Owner::this()
                && owner.lives() == Some(true)
            {
                let what = format!("device {name} is in use by process {}", owner.process);
                return Err(Error::new(ErrorKind::System(EBUSY), what));
            }
            let persistent = owner.is_none();
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

/// Removes the devices of processes that were killed: such a device has no peers any more, since their sockets went
/// with the process, and its routes lead nowhere.
fn sweep(net: &Rtnetlink, api: Api) {
    let links = match net.links() {
        Ok(links) => links,
        Err(error) => return tracing::debug!(%error, "links cannot be listed"),
    };
    for link in links.into_iter().filter(|link| link.kind.as_deref() == Some(api.link_kind())) {
        let owner = link.alias.as_deref().and_then(Owner::read);
        if let Some(owner) = owner.filter(|owner| owner.lives() == Some(false)) {
            let (device, process) = (&link.name, owner.process);
            match net.link_del(link.index) {
                Ok(()) => {
                    tracing::info!(device, process, "removed the device that a killed process left behind")
                }
                Err(error) => tracing::warn!(device, process, %error, "a killed process's device stays"),
            }
        }
    }
}

/// Who made a device: a process, and what tells it from a later one of the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    process: u32,
    /// When it started, in clock ticks since boot.
    start: u64,
    /// The process namespace that both are told in.
    namespace: String,
}

impl Owner {
    fn this() -> Self {
        let process = std::process::id();
        Self { process, start: start_time(process).unwrap_or(0), namespace: own_namespace() }
    }

    /// As it stands on a device.
    fn text(&self) -> String {
        format!("{ALIAS} {} {} {}", self.process, self.start, self.namespace)
    }

    fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        if words.next() != Some(ALIAS) {
            return None;
        }
        let process = words.next()?.parse().ok()?;
        let start = words.next()?.parse().ok()?;
        Some(Self { process, start, namespace: words.next()?.to_owned() })
    }

    /// `None` where that cannot be told from here.
    fn lives(&self) -> Option<bool> {
        (self.namespace == own_namespace()).then(|| start_time(self.process) == Some(self.start))
    }
}

fn own_namespace() -> String {
    let link = std::fs::read_link("/proc/self/ns/pid");
    link.map_or_else(|_| "unknown".into(), |link| link.to_string_lossy().into_owned())
}

/// Field 22 of the process's `stat`; its name, in parentheses, may hold anything.
fn start_time(process: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, after_name) = text.rsplit_once(") ")?;
    after_name.split(' ').nth(19)?.parse().ok()
}

fn make(net: &Rtnetlink, api: Api, name: &str, mode: Mode) -> Result<Link> {
    net.link_add_ovpn(name, api.link_kind(), ovpn_mode(mode)).map_err(from_netlink)?;
    let link = net.link_by_name(name).map_err(from_netlink)?;
    let change = LinkChange { alias: Some(Owner::this().text()), ..LinkChange::default() };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_told_apart() {
        let this = Owner::this();
        assert!(this.start > 0);
        assert_eq!(Owner::read(&this.text()), Some(this.clone()));
        assert_eq!(this.lives(), Some(true));
        // a later process of the same number
        assert_eq!(Owner { start: this.start + 1, ..this.clone() }.lives(), Some(false));
        assert_eq!(Owner { process: u32::MAX, ..this.clone() }.lives(), Some(false));
        // one of another container cannot be looked up
        assert_eq!(Owner { namespace: "pid:[1]".into(), ..this }.lives(), None);
        for text in ["", "ovpn-rs", "ovpn-rs 1 x pid:[1]", "my vpn 1 2 3"] {
            assert_eq!(Owner::read(text), None, "{text}");
        }
    }
}
