//! A client has sent its key-method 2 and waits for the server's.

use ovpn_crypto::prf::KeySource;
use ovpn_crypto::secret::Secret;
use ovpn_wire::key_method::ServerKeyMethod;

use super::confirming::Confirming;
use super::hello::{KeySources, RemoteHello};
use crate::tls::Tls;
use crate::{Failure, FailureKind};

/// Waits for the server's key-method 2.
pub(crate) struct KeySent {
    pub(super) tls: Tls,
    pub(super) pre_master: Secret<48>,
    pub(super) source: KeySource,
}

impl KeySent {
    /// The server's key-method 2 is here.
    pub(super) fn receive_key(self, record: &[u8]) -> Result<(Confirming, RemoteHello), Failure> {
        let theirs = ServerKeyMethod::parse(record).map_err(|error| {
            Failure::new(
                FailureKind::Protocol,
                format!("the server's key-method message is unreadable ({error})"),
            )
        })?;
        let sources = KeySources {
            pre_master: self.pre_master,
            client: self.source,
            server: KeySource {
                random1: Secret::new(*theirs.random1),
                random2: Secret::new(*theirs.random2),
            },
        };
        Ok((Confirming { tls: self.tls, sources }, RemoteHello::new(&theirs.strings)))
    }
}
