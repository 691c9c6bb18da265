//! Which of the two drivers is spoken to, and in what their messages differ.

use ovpn_dco::netlink::{self, Command, Request};
use ovpn_dco::{Capabilities, CipherAlg, Driver, Error, ErrorKind, Event, KeyInfo, PeerInfo, Result};
use ovpn_sys::netlink::generic::Family;
use ovpn_sys::netlink::message::Message;
use ovpn_sys::netlink::socket::Socket;
use zeroize::Zeroizing;

use crate::dco_v2;

/// First attribute number that only kernels with asymmetric ids know (PEER's TX_ID).
const TX_ID: u16 = 24;

/// A driver's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Api {
    /// The kernel's own `ovpn`.
    Ovpn,
    /// The out-of-tree `ovpn-dco-v2`.
    DcoV2,
}

impl Api {
    /// Name of the generic netlink family.
    pub const fn family_name(self) -> &'static str {
        match self {
            Self::Ovpn => netlink::FAMILY_NAME,
            Self::DcoV2 => dco_v2::FAMILY_NAME,
        }
    }

    /// Kind of its links.
    pub const fn link_kind(self) -> &'static str {
        match self {
            Self::Ovpn => "ovpn",
            Self::DcoV2 => "ovpn-dco",
        }
    }

    /// What the driver behind `family` can do.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn capabilities(self, socket: &Socket, family: &Family) -> Result<Capabilities> {
        let release = rustix::system::uname();
        let release = release.release().to_string_lossy();
        let new = self == Self::Ovpn;
        // Kernels that do not tell their policies are older than the driver: an out-of-tree build.
        let tx_id = new && family.largest_attribute(socket).is_ok_and(|largest| largest >= TX_ID);
        // Only builds for older kernels have a version of their own.
        let own = std::fs::read_to_string(format!("/sys/module/{}/version", self.module()));
        let version = match own {
            Ok(own) => format!("{} {}, Linux {release}", self.module(), own.trim()),
            Err(_) => format!("{}, Linux {release}", self.module()),
        };
        Ok(self.abilities(version, tx_id))
    }

    /// What a driver of this form can do; `tx_id`: asymmetric ids, which came later. Clamping of the MSS is not the
    /// driver's: an open device says whether nf_tables does it.
    pub fn abilities(self, version: String, tx_id: bool) -> Capabilities {
        Capabilities {
            driver: match self {
                Self::Ovpn => Driver::Kernel,
                Self::DcoV2 => Driver::KernelV2,
            },
            version,
            ciphers: vec![CipherAlg::AesGcm, CipherAlg::ChaCha20Poly1305],
            aes_192: true,
            epoch: false,
            data_v1: false,
            tcp: true,
            multi_peer: true,
            multi_peer_tcp: true,
            mss: false,
            tx_id,
            key_del: true,
            float: true,
            framing: false,
            fragment: false,
            system_routes: true,
            peer_exit: false,
        }
    }

    const fn module(self) -> &'static str {
        match self {
            Self::Ovpn => "ovpn",
            Self::DcoV2 => "ovpn_dco_v2",
        }
    }

    /// The request's bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for what the driver has no words for.
    pub(crate) fn encode(self, family: &Family, request: &Request) -> Result<Zeroizing<Vec<u8>>> {
        match self {
            Self::Ovpn => Ok(request.encode(family.id)),
            Self::DcoV2 => dco_v2::encode(family.id, request),
        }
    }

    pub(crate) fn decode_peer(self, payload: &[u8]) -> Result<PeerInfo> {
        match self {
            Self::Ovpn => netlink::decode_peer(payload),
            Self::DcoV2 => dco_v2::decode_peer(payload),
        }
    }

    pub(crate) fn decode_key(self, payload: &[u8]) -> Result<KeyInfo> {
        match self {
            Self::Ovpn => netlink::decode_key(payload),
            Self::DcoV2 => Err(Error::new(ErrorKind::Unsupported, "ovpn-dco-v2 does not tell keys")),
        }
    }

    pub(crate) fn decode_event(self, message: &Message<'_>) -> Result<Option<(u32, Event)>> {
        match self {
            Self::Ovpn => netlink::decode_event(message),
            Self::DcoV2 => dco_v2::decode_event(message),
        }
    }

    /// Whether a dump tells the peer of a point-to-point device.
    pub(crate) const fn dumps_p2p(self) -> bool {
        matches!(self, Self::Ovpn)
    }

    /// The command's number as [`netlink::error_kind`] knows it.
    pub(crate) const fn command_number(command: &Command) -> u8 {
        command.number()
    }
}
