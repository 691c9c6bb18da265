//! Acknowledgements: errno and sentence on the wire, conditions by name in the API.

use ovpn_sys::netlink::message::{
    HEADER_LEN, MessageBuilder, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_MULTI, NLMSG_DONE, NLMSG_ERROR,
    set_sequence,
};

use super::attribute::command;
use crate::{Error, ErrorKind, Result};

const NLMSGERR_ATTR_MSG: u16 = 1;

/// An acknowledgement of the request with this header: success, or errno and sentence. The request's payload is left
/// out, since it may hold keys.
pub fn encode_ack(request_header: &[u8; HEADER_LEN], result: &Result<()>) -> Vec<u8> {
    let mut payload = [0; 4 + HEADER_LEN];
    payload[4..].copy_from_slice(request_header);
    let mut flags = NLM_F_CAPPED;
    let mut text = String::new();
    if let Err(error) = result {
        payload[..4].copy_from_slice(&(-error.errno()).to_ne_bytes());
        text = sentence(error);
        if !text.is_empty() {
            flags |= NLM_F_ACK_TLVS;
        }
    }
    let mut message = MessageBuilder::new(NLMSG_ERROR, flags).header(&payload);
    if !text.is_empty() {
        message.attributes().string(NLMSGERR_ATTR_MSG, &text);
    }
    with_sequence_of(request_header, message.finish())
}

/// The end of a dump.
pub fn encode_done(request_header: &[u8; HEADER_LEN]) -> Vec<u8> {
    with_sequence_of(request_header, MessageBuilder::new(NLMSG_DONE, NLM_F_MULTI).header(&[0; 4]).finish())
}

/// The condition that an errno means in answer to a command. `sentence` is the kernel's own, where it gave one.
pub fn error_kind(errno: i32, command: u8, sentence: &str) -> ErrorKind {
    let no_key = || command == command::KEY_GET && !sentence.contains("peer with id");
    match errno {
        1 => ErrorKind::NotPermitted,
        2 if no_key() => ErrorKind::NoSuchKey,
        2 if sentence.contains("cipher") || sentence.contains("crypto") => ErrorKind::UnsupportedCipher,
        2 => ErrorKind::NoSuchPeer,
        12 => ErrorKind::OutOfMemory,
        17 => ErrorKind::PeerExists,
        19 => ErrorKind::NoSuchDevice,
        22 if command == command::KEY_NEW && sentence.contains("cipher") => ErrorKind::UnsupportedCipher,
        22 if command == command::KEY_NEW && sentence.contains("key") => ErrorKind::BadKey,
        22 => ErrorKind::InvalidArgument,
        34 => ErrorKind::OutOfRange,
        88 => ErrorKind::NotASocket,
        95 => ErrorKind::Unsupported,
        98 => ErrorKind::VpnAddressInUse,
        99 => ErrorKind::BadVpnAddress,
        104 => ErrorKind::Gone,
        other => ErrorKind::System(other),
    }
}

/// A refused request as an error of the API.
pub fn error_from(error: &ovpn_sys::netlink::Error, command: u8) -> Error {
    let mut detail = error.text().to_owned();
    if detail.is_empty()
        && let Some(attribute) = error.missing()
    {
        detail = format!("attribute {attribute} is missing");
    }
    Error::new(error_kind(error.errno(), command, &detail), detail)
}

pub(super) fn with_sequence_of(request_header: &[u8; HEADER_LEN], mut message: Vec<u8>) -> Vec<u8> {
    let number = |at: usize| ovpn_sys::netlink::message::u32_at(request_header, at);
    set_sequence(&mut message, number(8), number(12));
    message
}

/// The sentence, made so that [`error_kind`] reads the same condition out of it.
fn sentence(error: &Error) -> String {
    let hint = match error.kind() {
        ErrorKind::BadKey => "bad key",
        ErrorKind::UnsupportedCipher => "unsupported cipher",
        ErrorKind::NoSuchPeer => "no peer with id",
        _ => return error.detail().to_owned(),
    };
    if error.detail().contains(hint) {
        error.detail().to_owned()
    } else {
        format!("{hint}: {}", error.detail())
    }
}

#[cfg(test)]
mod tests {
    use ovpn_sys::netlink::message::messages;

    use super::*;

    #[test]
    fn conditions_survive_the_wire() {
        let header: [u8; HEADER_LEN] = [32, 0, 0, 0, 16, 0, 5, 0, 7, 0, 0, 0, 9, 0, 0, 0];
        let conditions = [
            (ErrorKind::InvalidArgument, command::PEER_NEW),
            (ErrorKind::OutOfRange, command::PEER_NEW),
            (ErrorKind::NoSuchDevice, command::PEER_NEW),
            (ErrorKind::NotPermitted, command::PEER_NEW),
            (ErrorKind::NotASocket, command::PEER_NEW),
            (ErrorKind::BadVpnAddress, command::PEER_NEW),
            (ErrorKind::VpnAddressInUse, command::PEER_SET),
            (ErrorKind::PeerExists, command::PEER_NEW),
            (ErrorKind::NoSuchPeer, command::PEER_DEL),
            (ErrorKind::NoSuchPeer, command::KEY_GET),
            (ErrorKind::NoSuchKey, command::KEY_GET),
            (ErrorKind::BadKey, command::KEY_NEW),
            (ErrorKind::UnsupportedCipher, command::KEY_NEW),
            (ErrorKind::Unsupported, command::ROUTE_ADD),
            (ErrorKind::OutOfMemory, command::PEER_NEW),
            (ErrorKind::Gone, command::PEER_NEW),
            (ErrorKind::System(5), command::PEER_NEW),
        ];
        for (kind, command) in conditions {
            let message = encode_ack(&header, &Err(Error::new(kind, "why")));
            let message = messages(&message).next().unwrap().unwrap();
            assert_eq!((message.sequence, message.port), (7, 9));
            let error = message.ack().unwrap().unwrap().into_result().unwrap_err();
            assert!(error.text().contains("why"));
            assert_eq!(error_from(&error, command).kind(), kind);
        }
        let message = encode_ack(&header, &Ok(()));
        let message = messages(&message).next().unwrap().unwrap();
        assert_eq!(message.ack().unwrap().unwrap().into_result(), Ok(()));
    }
}
