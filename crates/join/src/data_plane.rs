//! What the control plane decided, in the words of the data plane.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ovpn_config::model::{Compression, Fragment, MssFix, Timers};
use ovpn_control::{Cipher, DataFormat, DataKey, Event, KeySlot, Negotiated};
use ovpn_dco::{self as dco, CipherAlg, DataPlane, Framing, Keepalive, KeyConfig, KeyDirection, PeerUpdate};

use crate::mss::{self, Outside};

/// Carries out what a key event says: a key is installed, used, or dropped. `None` for every other event. A peer that
/// the data plane has removed by itself is no failure: its own event says why, and may still be on its way.
///
/// # Errors
/// The data plane's own; [`dco::ErrorKind::OutOfRange`] for a key whose numbers no data plane takes.
pub fn on_key_event(plane: &dyn DataPlane, peer: dco::PeerId, event: &Event) -> Option<dco::Result<()>> {
    let result = match event {
        Event::InstallKey { slot: place, key } => match key_config(key) {
            Some(key) => plane.key_new(peer, slot(*place), &key),
            None => Err(dco::Error::new(dco::ErrorKind::OutOfRange, "a negotiated key is out of range")),
        },
        Event::UseKey { .. } => plane.key_swap(peer),
        Event::DropKey { slot: place } => plane.key_del(peer, slot(*place)),
        _ => return None,
    };
    Some(unless_gone(result))
}

fn unless_gone(result: dco::Result<()>) -> dco::Result<()> {
    result.or_else(|error| if error.kind() == dco::ErrorKind::NoSuchPeer { Ok(()) } else { Err(error) })
}

/// A negotiated key as a data plane takes it; `None` where its numbers are out of range.
pub fn key_config(key: &DataKey) -> Option<KeyConfig> {
    let direction = |direction: &ovpn_control::DataKeyDirection| KeyDirection {
        cipher_key: direction.cipher_key.clone(),
        nonce_tail: direction.nonce_tail,
    };
    Some(KeyConfig {
        key_id: dco::KeyId::new(key.key_id.get())?,
        cipher: match key.cipher {
            Cipher::Aes128Gcm | Cipher::Aes192Gcm | Cipher::Aes256Gcm => CipherAlg::AesGcm,
            Cipher::ChaCha20Poly1305 => CipherAlg::ChaCha20Poly1305,
        },
        format: match key.format {
            DataFormat::V1 => dco::DataFormat::V1,
            DataFormat::V2 => dco::DataFormat::V2,
            DataFormat::Epoch => dco::DataFormat::Epoch,
        },
        key_len: u8::try_from(key.cipher.key_len()).ok()?,
        encrypt: direction(&key.encrypt),
        decrypt: direction(&key.decrypt),
    })
}

/// The data plane's name for a slot.
pub const fn slot(slot: KeySlot) -> dco::KeySlot {
    match slot {
        KeySlot::Primary => dco::KeySlot::Primary,
        KeySlot::Secondary => dco::KeySlot::Secondary,
    }
}

/// The id for `peer_new`: the negotiated one; peers without ids share 0, as each has its own transport address.
pub fn peer_id(negotiated: &Negotiated) -> dco::PeerId {
    negotiated.peer_id.and_then(dco::PeerId::new).or(dco::PeerId::new(0)).unwrap_or(dco::PeerId::MAX)
}

/// Whether a peer has no key to send with: after lost events, the one that said so may be among them.
pub fn lacks_a_key(data_plane: &dyn DataPlane, peer: dco::PeerId) -> bool {
    let key = data_plane.key_get(peer, dco::KeySlot::Primary);
    key.is_err_and(|error| error.kind() == dco::ErrorKind::NoSuchKey)
}

/// The framing that a compression option stands for.
pub const fn framing(compression: Option<Compression>) -> Framing {
    match compression {
        None | Some(Compression::StubV2) => Framing::None,
        Some(Compression::CompLzo | Compression::Lzo) => Framing::Lzo,
        Some(Compression::Lz4 | Compression::Stub) => Framing::Swap,
        Some(Compression::Lz4V2) => Framing::V2,
    }
}

/// Where data goes on the outside and what stands before it inside, as far as sizes depend on it.
pub fn outside(
    remote: SocketAddr,
    tcp: bool,
    format: DataFormat,
    framing: Framing,
    fragment: Option<Fragment>,
) -> Outside {
    Outside {
        ipv6: matches!(remote.ip().to_canonical(), IpAddr::V6(_)),
        tcp,
        epoch: format == DataFormat::Epoch,
        v1: format == DataFormat::V1,
        framing: framing.overhead() as u16,
        fragment: fragment.is_some(),
    }
}

/// Keepalive and MSS of a peer.
pub fn peer_update(timers: &Timers, mssfix: MssFix, tun_mtu: u16, outside: Outside) -> PeerUpdate {
    /// The longest interval that data planes take; also "never" for one of the two timers while the other is wanted.
    const DAY: Duration = Duration::from_secs(86_400);
    let timeout = timers.ping_restart.or(timers.ping_exit);
    let keepalive = match (timers.ping, timeout) {
        (None, None) => Keepalive::default(),
        (interval, timeout) => {
            Keepalive { interval: interval.unwrap_or(DAY).min(DAY), timeout: timeout.unwrap_or(DAY).min(DAY) }
        }
    };
    PeerUpdate {
        keepalive: Some(keepalive),
        mss: Some(mss::mss(mssfix, tun_mtu, outside)),
        ..PeerUpdate::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key that is ready just when the peer's connection ends must not hide why the peer went.
    #[test]
    fn a_peer_that_is_gone_is_no_failure() {
        let result = |kind| unless_gone(Err(dco::Error::new(kind, "")));
        assert!(result(dco::ErrorKind::NoSuchPeer).is_ok());
        assert!(result(dco::ErrorKind::NoSuchKey).is_err());
    }

    #[test]
    fn one_timer_alone_does_not_turn_both_off() {
        let remote = "192.0.2.1:1194".parse().unwrap();
        let outside = outside(remote, false, DataFormat::V2, Framing::None, None);
        let timers = Timers { ping_restart: Some(Duration::from_secs(60)), ..Timers::default() };
        let update = peer_update(&timers, MssFix::Default, 1500, outside);
        let keepalive = update.keepalive.unwrap();
        assert_eq!(keepalive.timeout, Duration::from_secs(60));
        assert!(!keepalive.interval.is_zero());
        assert_eq!(update.mss, Some(1400));
        let update = peer_update(&Timers::default(), MssFix::Off, 1500, outside);
        assert_eq!(update.keepalive, Some(Keepalive::default()));
    }
}
