//! systemd's journal: whether a stream leads to it, and entries in its own protocol.
//!
//! ```text
//! MESSAGE=text\n                        a value of one line
//! NAME\n<length, 8 bytes, little endian>value\n    any value
//! ```
//!
//! Source: systemd, "Native Journal Protocol" and `systemd.exec(5)`, `$JOURNAL_STREAM`.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

const SOCKET: &str = "/run/systemd/journal/socket";

/// Whether the journal reads this stream: systemd then names its device and inode in `$JOURNAL_STREAM`.
pub(super) fn is_reader_of(stream: impl AsFd) -> bool {
    let Ok(stat) = rustix::fs::fstat(stream) else { return false };
    std::env::var("JOURNAL_STREAM").is_ok_and(|named| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// The way to the journal.
pub(super) fn connect() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(SOCKET)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// One entry; `peer` may be empty.
pub(super) fn entry(name: &str, severity: u8, peer: &str, message: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 96);
    let severity = severity.to_string();
    for (field, value) in
        [("MESSAGE", message), ("PRIORITY", &severity), ("SYSLOG_IDENTIFIER", name), ("OVPN_PEER", peer)]
    {
        if value.is_empty() {
            continue;
        }
        out.extend_from_slice(field.as_bytes());
        if value.contains('\n') {
            out.push(b'\n');
            out.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            out.push(b'=');
        }
        out.extend_from_slice(value.as_bytes());
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        assert_eq!(entry("ovpn", 4, "", "x"), b"MESSAGE=x\nPRIORITY=4\nSYSLOG_IDENTIFIER=ovpn\n");
        let two = entry("ovpn", 5, "anna/192.0.2.1:5", "a\nb");
        assert!(two.starts_with(b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\nPRIORITY=5\n"), "{two:?}");
        assert!(two.ends_with(b"OVPN_PEER=anna/192.0.2.1:5\n"));
    }
}
