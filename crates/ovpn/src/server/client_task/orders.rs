//! What others tell a client: the server, the management interface, the data plane.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use ovpn_control::Now;
use ovpn_dco::{self as dco, DelReason};
use ovpn_join::data_plane::lacks_a_key;
use ovpn_wire::message::{Message, Restart};

use super::super::registry::Order;
use super::super::shared::unix_now;
use super::{ClientTask, LINGER};
use crate::sockets;

impl ClientTask {
    pub(super) fn on_order(&mut self, order: Order) -> Option<String> {
        match order {
            Order::Close(reason) => Some(reason.to_owned()),
            Order::Restart { advance } => {
                let restart = Restart { keep_credentials: true, advance, text: String::new() };
                self.session.send_message(Now::system(), &Message::Restart(restart).to_string());
                self.limits.leave = Some((Instant::now() + LINGER, "the server restarts"));
                None
            }
            Order::Leave(message) => {
                self.session.send_message(Now::system(), &message);
                self.limits.leave = Some((Instant::now() + LINGER, "told to go by the management interface"));
                None
            }
            Order::Update(options) => {
                match self.session.send_push_update(Now::system(), &options) {
                    Ok(true) => {
                        tracing::info!("SENT CONTROL [{}]: 'PUSH_UPDATE,{}'", self.name(), options.join(","))
                    }
                    Ok(false) => tracing::info!("PUSH_UPDATE not sent: the client does not know it"),
                    Err(failure) => tracing::warn!("PUSH_UPDATE not sent: {failure}"),
                }
                None
            }
            Order::CheckCertificate => {
                self.check_certificate();
                None
            }
            Order::Plane(event) => self.on_plane(event),
        }
    }

    /// The revocation lists have changed: a client that they name now is cut at once, and told to stay away.
    pub(super) fn check_certificate(&mut self) {
        let Some(chain) = &self.chain else { return };
        let shared = &self.base.shared;
        let now = u64::try_from(unix_now()).unwrap_or_default();
        let Some(why) = shared.tls.revoked_since(chain, now) else { return };
        if self.limits.leave.is_some() {
            return;
        }
        tracing::info!("the client is cut off: {why}");
        self.session.send_message(Now::system(), "HALT,your certificate has been revoked");
        self.leave_data_plane();
        self.limits.leave = Some((Instant::now() + LINGER, "certificate revoked"));
    }

    pub(super) fn on_plane(&mut self, event: dco::Event) -> Option<String> {
        match event {
            // Asked for by this process; it comes late, and the id may be another client's by now.
            dco::Event::PeerDeleted { reason: DelReason::Userspace, .. } => None,
            dco::Event::PeerDeleted { reason, .. } => {
                self.in_data_plane = false;
                match reason {
                    DelReason::Expired => Some("Inactivity timeout (--ping-restart), restarting".to_owned()),
                    _ => Some(format!("Connection reset, restarting [{reason:?}]")),
                }
            }
            dco::Event::KeySwap { key_id, .. } => {
                tracing::info!("the data plane asks for a new key: key {key_id} is used up");
                self.session.renegotiate(Now::system());
                None
            }
            dco::Event::PeerFloat { remote, .. } => {
                // The same socket goes on serving it: the address keeps the form that the socket understands.
                let remote = match (self.base.remote, remote.ip()) {
                    (SocketAddr::V6(_), IpAddr::V4(ip)) => {
                        SocketAddr::new(ip.to_ipv6_mapped().into(), remote.port())
                    }
                    _ => remote,
                };
                tracing::info!("Float requested for peer {} to {}", self.base.peer, sockets::shown(remote));
                self.base.remote = remote;
                self.base.shared.registry().moved(self.base.id, remote);
                self.rename();
                None
            }
            dco::Event::PeerExit { .. } => {
                tracing::info!("OCC exit message received by peer");
                Some("remote-exit".to_owned())
            }
            dco::Event::Lost if !self.in_data_plane => None,
            dco::Event::Lost => {
                let (plane, peer) = (Arc::clone(&self.base.shared.data_plane), self.base.peer);
                let Ok(info) = plane.peer_get(peer) else {
                    self.in_data_plane = false;
                    return Some("the data plane has lost the client".to_owned());
                };
                if lacks_a_key(&*plane, peer) {
                    self.session.renegotiate(Now::system());
                }
                let here = self.base.remote;
                let moved = info.remote.filter(|there| {
                    !self.base.tcp
                        && (there.ip().to_canonical(), there.port())
                            != (here.ip().to_canonical(), here.port())
                });
                moved.and_then(|remote| self.on_plane(dco::Event::PeerFloat { peer, remote }))
            }
            dco::Event::DataPlaneGone => Some("the data plane is gone".to_owned()),
        }
    }
}
