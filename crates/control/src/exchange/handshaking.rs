//! TLS shakes hands; then key-method 2 goes (client) or comes and goes (server).

use ovpn_crypto::prf::KeySource;
use ovpn_crypto::secret::Secret;
use ovpn_wire::key_method::{ClientKeyMethod, ServerKeyMethod};
use zeroize::Zeroizing;

use super::confirming::Confirming;
use super::hello::{KeySources, Local, RemoteHello, random_source};
use super::key_sent::KeySent;
use crate::tls::Tls;
use crate::{Failure, FailureKind};

/// Waits for TLS; a server then for the client's key-method 2.
pub(crate) struct Handshaking {
    pub(super) tls: Tls,
}

impl Handshaking {
    /// Client: TLS is done, our key-method 2 goes out with the last flight.
    pub(super) fn send_key(mut self, local: &mut dyn Local) -> Result<KeySent, Failure> {
        let mut pre_master = Secret::<48>::zeroed();
        local.random(pre_master.expose_mut());
        let source = random_source(local);
        let hello = local.hello(None)?;
        let message = ClientKeyMethod {
            pre_master: pre_master.expose(),
            random1: source.random1.expose(),
            random2: source.random2.expose(),
            strings: hello.strings(),
        };
        let bytes = Zeroizing::new(message.to_vec().map_err(too_long)?);
        self.tls.send(&bytes);
        Ok(KeySent { tls: self.tls, pre_master, source })
    }

    /// Server: the client's key-method 2 is here, ours answers it.
    pub(super) fn receive_key(
        mut self,
        record: &[u8],
        local: &mut dyn Local,
    ) -> Result<(Confirming, RemoteHello), Failure> {
        let theirs = ClientKeyMethod::parse(record).map_err(|error| {
            Failure::new(
                FailureKind::Protocol,
                format!("the client's key-method message is unreadable ({error})"),
            )
        })?;
        let remote = RemoteHello::new(&theirs.strings);
        let source = random_source(local);
        let hello = local.hello(Some(&remote))?;
        let message = ServerKeyMethod {
            random1: source.random1.expose(),
            random2: source.random2.expose(),
            strings: hello.strings(),
        };
        let bytes = Zeroizing::new(message.to_vec().map_err(too_long)?);
        self.tls.send(&bytes);
        let sources = KeySources {
            pre_master: Secret::new(*theirs.pre_master),
            client: KeySource {
                random1: Secret::new(*theirs.random1),
                random2: Secret::new(*theirs.random2),
            },
            server: source,
        };
        Ok((Confirming { tls: self.tls, sources }, remote))
    }
}

fn too_long(error: ovpn_wire::key_method::KeyMethodError) -> Failure {
    Failure::new(
        FailureKind::Protocol,
        format!(
            "our key-method message cannot be written ({error}): shorten username, password or setenv lines"
        ),
    )
}
