//! One TLS session: bytes of the stream in and out, one plaintext per record.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustls::{AlertDescription, Connection, Error, ProtocolVersion};
use zeroize::Zeroizing;

use super::verifier::PeerVerifier;
use crate::PeerChain;
use crate::event::TlsFacts;
use crate::verify::PeerIs;

/// Why TLS failed, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFailure(pub(crate) String);

impl TlsFailure {
    pub(super) fn setup(error: Error) -> Self {
        Self(format!("TLS could not be started ({error})"))
    }
}

/// The longest TLS record: header, 2^14 bytes and the most that ciphers add (RFC 5246).
const MAX_RECORD: usize = 5 + 16_384 + 2048;

/// One TLS session.
pub(crate) struct Tls {
    /// Boxed, so that states of a key are cheap to hand on.
    connection: Box<Connection>,
    peer: Arc<PeerVerifier>,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("handshaking", &self.connection.is_handshaking()).finish_non_exhaustive()
    }
}

impl Tls {
    pub(super) fn new(mut connection: Connection, peer: Arc<PeerVerifier>) -> Self {
        connection.set_buffer_limit(None);
        Self { connection: Box::new(connection), peer, incoming: Vec::new(), outgoing: Vec::new() }
    }

    /// Takes the next bytes of the stream, and returns the plaintext of each complete record that held one.
    pub(crate) fn receive(&mut self, unix: u64, bytes: &[u8]) -> Result<Vec<Zeroizing<Vec<u8>>>, TlsFailure> {
        self.peer.unix.store(unix, Ordering::Relaxed);
        self.incoming.extend_from_slice(bytes);
        let mut plaintexts = Vec::new();
        let mut used = 0;
        let result = loop {
            let rest = self.incoming.get(used..).unwrap_or_default();
            let Some(&[.., high, low]) = rest.first_chunk::<5>() else { break Ok(()) };
            let end = 5 + usize::from(u16::from_be_bytes([high, low]));
            if end > MAX_RECORD {
                break Err(TlsFailure("what the peer sent is not TLS".into()));
            }
            let Some(record) = rest.get(..end) else { break Ok(()) };
            match Self::record(&mut self.connection, record) {
                Ok(Some(plaintext)) => plaintexts.push(plaintext),
                Ok(None) => {}
                Err(error) => break Err(TlsFailure(self.explain(&error))),
            }
            used += end;
        };
        self.incoming.drain(..used.min(self.incoming.len()));
        self.collect();
        result.map(|()| plaintexts)
    }

    fn record(connection: &mut Connection, mut record: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        use std::io::Read;
        while !record.is_empty() {
            match connection.read_tls(&mut record) {
                Ok(0) | Err(_) => return Err(Error::General("the TLS session is closed".into())),
                Ok(_) => {}
            }
            let state = connection.process_new_packets()?;
            let length = state.plaintext_bytes_to_read();
            if length > 0 {
                let mut plaintext = Zeroizing::new(vec![0; length]);
                return match connection.reader().read_exact(&mut plaintext) {
                    Ok(()) => Ok(Some(plaintext)),
                    Err(error) => Err(Error::General(error.to_string())),
                };
            }
        }
        Ok(None)
    }

    /// Moves what TLS wants to send into the stream.
    fn collect(&mut self) {
        while self.connection.wants_write() {
            if self.connection.write_tls(&mut self.outgoing).is_err() {
                break;
            }
        }
    }

    /// Starts the handshake of a client.
    pub(crate) fn begin(&mut self) {
        self.collect();
    }

    /// Whether the handshake is done, as far as this side knows.
    pub(crate) fn is_established(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// Writes one message as one record.
    pub(crate) fn send(&mut self, message: &[u8]) {
        use std::io::Write;
        // Cannot fail: the buffer has no limit and is memory.
        let written = self.connection.writer().write_all(message);
        debug_assert!(written.is_ok());
        self.collect();
    }

    /// Says goodbye.
    pub(crate) fn close(&mut self) {
        self.connection.send_close_notify();
        self.collect();
    }

    /// Whether bytes of the stream wait to be sent.
    pub(crate) fn has_output(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Takes up to `limit` bytes of the stream.
    pub(crate) fn take_output(&mut self, limit: usize) -> Vec<u8> {
        let length = limit.min(self.outgoing.len());
        self.outgoing.drain(..length).collect()
    }

    /// Exports keying material without context.
    pub(crate) fn export(&self, label: &str, out: &mut [u8]) -> Result<(), TlsFailure> {
        match self.connection.export_keying_material(out, label.as_bytes(), None) {
            Ok(_) => Ok(()),
            Err(error) => Err(TlsFailure(format!("TLS gives no keying material ({error})"))),
        }
    }

    /// The verified chain of the peer.
    pub(crate) fn chain(&self) -> Option<PeerChain> {
        self.peer.found().and_then(Result::ok)
    }

    /// Facts for the log.
    pub(crate) fn facts(&self) -> TlsFacts {
        let name = |version| match version {
            ProtocolVersion::TLSv1_2 => "TLSv1.2".to_owned(),
            ProtocolVersion::TLSv1_3 => "TLSv1.3".to_owned(),
            other => format!("{other:?}"),
        };
        TlsFacts {
            version: self.connection.protocol_version().map(name).unwrap_or_default(),
            suite: self
                .connection
                .negotiated_cipher_suite()
                .map(|suite| format!("{:?}", suite.suite()))
                .unwrap_or_default(),
            group: self
                .connection
                .negotiated_key_exchange_group()
                .map(|group| format!("{:?}", group.name()))
                .unwrap_or_default(),
        }
    }

    fn explain(&self, error: &Error) -> String {
        let (peer, our) = match self.peer.peer {
            PeerIs::Client => ("client", "server"),
            PeerIs::Server => ("server", "client"),
        };
        match error {
            Error::InvalidCertificate(reason) => match self.peer.found() {
                Some(Err(refusal)) => refusal.sentence,
                _ => format!("the {peer}'s certificate was refused ({reason})"),
            },
            Error::NoCertificatesPresented => format!(
                "the {peer} sent no certificate: give it `cert` and `key`, or allow clients without by \
                 `verify-client-cert none`"
            ),
            Error::AlertReceived(alert) => explain_alert(*alert, peer, our),
            Error::PeerIncompatible(reason) => format!(
                "the {peer} has no TLS version, cipher suite or group in common with us ({reason:?}): it must speak \
                 TLS 1.2 with ECDHE and AES-GCM, or TLS 1.3; see `tls-version-min` and `tls-cipher` on both sides"
            ),
            Error::DecryptError => {
                format!(
                    "a TLS record of the {peer} could not be decrypted: try again, or check the path for tampering"
                )
            }
            other => format!("TLS with the {peer} failed ({other})"),
        }
    }
}

fn explain_alert(alert: AlertDescription, peer: &str, our: &str) -> String {
    use AlertDescription as A;
    match alert {
        A::UnknownCA => format!(
            "the {peer} does not know the CA of our certificate: both sides need certificates of the same CA"
        ),
        A::CertificateExpired => {
            format!(
                "the {peer} says that our certificate has expired or is not valid yet: compare both machines' clocks, \
                 and renew the certificate if both are right"
            )
        }
        A::CertificateRevoked => format!("the {peer} says that our certificate is revoked: get a new one"),
        A::CertificateRequired => {
            format!("the {peer} demands a certificate and we have none: set `cert` and `key`")
        }
        A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateUnknown
        | A::AccessDenied
        | A::DecryptError => {
            format!(
                "the {peer} refused our certificate ({alert:?}): it must be a {our} certificate that the {peer}'s \
                 rules accept, and valid already by the {peer}'s clock; its log says which"
            )
        }
        A::ProtocolVersion | A::HandshakeFailure | A::InsufficientSecurity => format!(
            "the {peer} found no TLS version or cipher suite in common with us ({alert:?}): see `tls-version-min` and \
             `tls-cipher` on both sides"
        ),
        other => format!("the {peer} broke off the TLS handshake ({other:?}): its log says why"),
    }
}
