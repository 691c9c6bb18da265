//! Which drivers this machine has, or why not, in a sentence for people.

use ovpn_dco::netlink::{Command, Request};
use ovpn_dco::{Capabilities, PeerId};
use ovpn_sys::netlink::generic::Family;
use ovpn_sys::netlink::socket::{Protocol, Socket};

use crate::Api;

const EPERM: i32 = 1;

/// What was found of both drivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Availability {
    /// The kernel's own `ovpn`.
    pub ovpn: Probe,
    /// The older `ovpn-dco-v2`.
    pub dco_v2: Probe,
}

/// What was found of one driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// It is there and may be used.
    Available(Capabilities),
    /// It cannot be used; the sentence says why and what would help.
    Unavailable(String),
}

impl Probe {
    /// The capabilities, where it is there.
    pub const fn capabilities(&self) -> Option<&Capabilities> {
        match self {
            Self::Available(capabilities) => Some(capabilities),
            Self::Unavailable(_) => None,
        }
    }
}

/// Looks for both drivers in the network namespace of the calling thread. Nothing is changed, apart from that the
/// kernel may load the module.
pub fn probe() -> Availability {
    match Socket::open(Protocol::Generic) {
        Ok(socket) => Availability { ovpn: one(&socket, Api::Ovpn), dco_v2: one(&socket, Api::DcoV2) },
        Err(error) => {
            let why = Probe::Unavailable(format!("generic netlink cannot be opened: {error}"));
            Availability { ovpn: why.clone(), dco_v2: why }
        }
    }
}

fn one(socket: &Socket, api: Api) -> Probe {
    let name = api.family_name();
    let family = match Family::lookup(socket, name) {
        Ok(Some(family)) => family,
        Ok(None) => return Probe::Unavailable(missing(api)),
        Err(error) => return Probe::Unavailable(format!("{name} cannot be looked up: {error}")),
    };
    // The permission is checked before anything else is: a request for a device that cannot be tells it.
    let request = Request { ifindex: i32::MAX.unsigned_abs(), command: Command::PeerGet(PeerId::MAX) };
    let refusal = match api.encode(&family, &request) {
        Ok(bytes) => socket.request_bytes(bytes.to_vec()).err(),
        Err(error) => return Probe::Unavailable(error.to_string()),
    };
    if refusal.is_some_and(|refusal| refusal.errno() == EPERM) {
        return Probe::Unavailable(format!(
            "the kernel driver {name} needs CAP_NET_ADMIN in the initial user namespace, which this process lacks \
             (run as root; a container's own root does not suffice)"
        ));
    }
    match api.capabilities(socket, &family) {
        Ok(capabilities) => Probe::Available(capabilities),
        Err(error) => Probe::Unavailable(format!("{name} does not tell what it can do: {error}")),
    }
}

fn missing(api: Api) -> String {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy().into_owned();
    match api {
        Api::Ovpn => {
            let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
            let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
            if version < (6, 16) {
                format!("Linux {release} has no driver ovpn: it came with Linux 6.16")
            } else {
                format!(
                    "Linux {release} runs without the module ovpn (built without CONFIG_OVPN, or not installed)"
                )
            }
        }
        Api::DcoV2 => "the module ovpn-dco-v2 is not installed".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the machine: the answer is a driver with its name, or a sentence.
    #[test]
    fn says_what_there_is() {
        let Availability { ovpn, dco_v2 } = probe();
        for (probe, name) in [(ovpn, "ovpn"), (dco_v2, "ovpn")] {
            match probe {
                Probe::Available(capabilities) => assert!(capabilities.version.contains(name)),
                Probe::Unavailable(why) => assert!(why.contains(name) && why.len() > 20, "{why}"),
            }
        }
    }
}
