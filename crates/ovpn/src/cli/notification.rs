//! Notifications, one JSON object a line, in the shape of the kernel's netlink tools:
//!
//! ```json
//! {"name":"peer-del-ntf","msg":{"ifindex":3,"peer":{"del-reason":"expired","id":12}}}
//! {"name":"peer-float-ntf","msg":{"ifindex":3,"peer":{"id":1,"remote-ipv4":"10.10.1.3","remote-port":1}}}
//! {"name":"key-swap-ntf","msg":{"ifindex":3,"keyconf":{"peer-id":1,"key-id":0}}}
//! ```
//!
//! Names of things that the kernel does not know (`peer-exit-ntf`, `lost-ntf`, `gone-ntf`) follow the same pattern.

use std::net::SocketAddr;

use ovpn_dco::{DelReason, Event};
use serde_json::{Value, json};

/// One line of JSON, without its end.
pub(crate) fn json_line(ifindex: u32, event: &Event) -> String {
    let (name, key, content) = match event {
        Event::PeerDeleted { peer, reason } => {
            ("peer-del-ntf", "peer", json!({"del-reason": reason_name(*reason), "id": peer.get()}))
        }
        Event::PeerFloat { peer, remote } => ("peer-float-ntf", "peer", float(peer.get(), *remote)),
        Event::KeySwap { peer, key_id } => {
            ("key-swap-ntf", "keyconf", json!({"peer-id": peer.get(), "key-id": key_id.get()}))
        }
        Event::PeerExit { peer } => ("peer-exit-ntf", "peer", json!({"id": peer.get()})),
        Event::Lost => ("lost-ntf", "peer", json!({})),
        Event::DataPlaneGone => ("gone-ntf", "peer", json!({})),
    };
    json!({"name": name, "msg": {"ifindex": ifindex, key: content}}).to_string()
}

/// One line for people.
pub(crate) fn text_line(ifindex: u32, event: &Event) -> String {
    match event {
        Event::PeerDeleted { peer, reason } => {
            format!("ifindex {ifindex}: peer {peer} deleted ({})", reason_name(*reason))
        }
        Event::PeerFloat { peer, remote } => format!("ifindex {ifindex}: peer {peer} floated to {remote}"),
        Event::KeySwap { peer, key_id } => format!("ifindex {ifindex}: peer {peer} used up key {key_id}"),
        Event::PeerExit { peer } => format!("ifindex {ifindex}: peer {peer} announced its exit"),
        Event::Lost => format!("ifindex {ifindex}: notifications were lost"),
        Event::DataPlaneGone => format!("ifindex {ifindex}: the data plane is gone"),
    }
}

fn float(id: u32, remote: SocketAddr) -> Value {
    match remote {
        SocketAddr::V4(v4) => {
            json!({"id": id, "remote-ipv4": v4.ip().to_string(), "remote-port": v4.port()})
        }
        SocketAddr::V6(v6) => json!({
            "id": id,
            "remote-ipv6": v6.ip().to_string(),
            "remote-ipv6-scope-id": v6.scope_id(),
            "remote-port": v6.port(),
        }),
    }
}

const fn reason_name(reason: DelReason) -> &'static str {
    match reason {
        DelReason::Teardown => "teardown",
        DelReason::Userspace => "userspace",
        DelReason::Expired => "expired",
        DelReason::TransportError => "transport-error",
        DelReason::TransportDisconnect => "transport-disconnect",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovpn_dco::{KeyId, PeerId};

    #[test]
    fn the_shapes() {
        let peer = PeerId::new(12).unwrap();
        let parse = |event: &Event| -> Value { serde_json::from_str(&json_line(3, event)).unwrap() };
        assert_eq!(
            parse(&Event::PeerDeleted { peer, reason: DelReason::Expired }),
            json!({"name":"peer-del-ntf","msg":{"ifindex":3,"peer":{"del-reason":"expired","id":12}}})
        );
        assert_eq!(
            parse(&Event::PeerFloat { peer, remote: "10.10.1.3:1".parse().unwrap() }),
            json!({"name":"peer-float-ntf","msg":{"ifindex":3,"peer":{"id":12,"remote-ipv4":"10.10.1.3","remote-port":1}}})
        );
        assert_eq!(
            parse(&Event::KeySwap { peer, key_id: KeyId::FIRST }),
            json!({"name":"key-swap-ntf","msg":{"ifindex":3,"keyconf":{"peer-id":12,"key-id":0}}})
        );
    }
}
