//! Peers files of the test tool.
//!
//! ```text
//!   UDP: peer_id tx_id laddr lport raddr rport vpnip        TCP: peer_id tx_id vpnip
//! ```
//!
//! `laddr` and `lport` are what clients use as the server's address; the server itself does not read them.

use std::net::{IpAddr, SocketAddr};

use ovpn_dco::{PeerId, VpnAddrs};

use super::grammar::{GrammarError, peer_id, vpn_address};

/// At most so many rows.
pub(crate) const MAX_ROWS: usize = 10;

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerRow {
    /// The peer's id.
    pub(crate) id: PeerId,
    /// The id in packets sent to it.
    pub(crate) tx_id: PeerId,
    /// Its address (UDP).
    pub(crate) remote: Option<SocketAddr>,
    /// Its VPN address.
    pub(crate) vpn: VpnAddrs,
}

/// Why a peers file is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeersFileError {
    /// A row with another number of columns.
    #[error("line {line}: {got} columns, not {wanted}")]
    Columns { line: usize, got: usize, wanted: usize },
    /// A column that is not what it must be.
    #[error("line {line}: {error}")]
    Value { line: usize, error: GrammarError },
    /// A column that is no address.
    #[error("line {line}: {given:?} is no address with port")]
    Address { line: usize, given: String },
    /// More rows than a file may have.
    #[error("more than {MAX_ROWS} rows")]
    TooLong,
}

/// Reads a UDP peers file.
///
/// # Errors
/// See [`PeersFileError`].
pub(crate) fn udp(text: &str) -> Result<Vec<PeerRow>, PeersFileError> {
    rows(text, |line, columns: [&str; 7]| {
        let [id, tx_id, _, _, host, port, vpn] = columns;
        let address = || PeersFileError::Address { line, given: format!("{host} {port}") };
        let host: IpAddr = host.parse().map_err(|_| address())?;
        let port: u16 = port.parse().map_err(|_| address())?;
        row(line, id, tx_id, Some(SocketAddr::new(host, port)), vpn)
    })
}

/// Reads a TCP peers file.
///
/// # Errors
/// See [`PeersFileError`].
pub(crate) fn tcp(text: &str) -> Result<Vec<PeerRow>, PeersFileError> {
    rows(text, |line, [id, tx_id, vpn]: [&str; 3]| row(line, id, tx_id, None, vpn))
}

fn rows<const N: usize>(
    text: &str,
    read: impl Fn(usize, [&str; N]) -> Result<PeerRow, PeersFileError>,
) -> Result<Vec<PeerRow>, PeersFileError> {
    let mut rows = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let columns: Vec<&str> = line.split_whitespace().collect();
        if columns.is_empty() {
            continue;
        }
        if rows.len() == MAX_ROWS {
            return Err(PeersFileError::TooLong);
        }
        let (line, got) = (number + 1, columns.len());
        let columns = columns.try_into().map_err(|_| PeersFileError::Columns { line, got, wanted: N })?;
        rows.push(read(line, columns)?);
    }
    Ok(rows)
}

fn row(
    line: usize,
    id: &str,
    tx_id: &str,
    remote: Option<SocketAddr>,
    vpn: &str,
) -> Result<PeerRow, PeersFileError> {
    let at = |error| PeersFileError::Value { line, error };
    Ok(PeerRow {
        id: peer_id("peer_id", id).map_err(at)?,
        tx_id: peer_id("tx_id", tx_id).map_err(at)?,
        remote,
        vpn: vpn_address(vpn).map_err(at)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes() {
        let udp = udp("1 10 10.10.1.1 1 10.10.1.2 1 5.5.5.2\n\n4 13 fd00::1 1 fd00::2 7 5.5.5.5\n").unwrap();
        assert_eq!(udp.len(), 2);
        assert_eq!(udp[1].remote, Some("[fd00::2]:7".parse().unwrap()));
        assert_eq!((udp[0].id.get(), udp[0].tx_id.get()), (1, 10));
        let tcp = tcp("1 10 5.5.5.2\n").unwrap();
        assert_eq!((tcp[0].remote, tcp[0].vpn.v4), (None, Some("5.5.5.2".parse().unwrap())));
    }

    #[test]
    fn wrong_rows_name_their_line() {
        assert_eq!(tcp("1 10 5.5.5.2\n1 10\n").unwrap_err().to_string(), "line 2: 2 columns, not 3");
        assert!(udp("1 10 a 1 nowhere 1 5.5.5.2").unwrap_err().to_string().starts_with("line 1"));
        assert!(tcp("x 10 5.5.5.2").is_err());
        assert!(tcp(&"1 10 5.5.5.2\n".repeat(11)).is_err());
    }
}
