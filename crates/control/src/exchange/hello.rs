//! What the two sides tell each other in key-method 2.

use ovpn_crypto::prf::KeySource;
use ovpn_crypto::secret::Secret;
use ovpn_wire::key_method::{KeyMethodStrings, MAX_CREDENTIAL};
use ovpn_wire::peer_info::PeerInfo;

use crate::{Credentials, Failure};

/// What the session puts into the exchange when the time comes.
pub(crate) trait Local {
    /// The strings of our key-method 2; a server knows the client's by then.
    fn hello(&mut self, remote: Option<&RemoteHello>) -> Result<Hello, Failure>;
    /// Fills with random bytes.
    fn random(&mut self, bytes: &mut [u8]);
}

/// Strings of our key-method 2.
#[derive(Debug, Default)]
pub(crate) struct Hello {
    pub(crate) options: String,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) peer_info: String,
}

impl Hello {
    pub(super) fn strings(&self) -> KeyMethodStrings<'_> {
        let credentials = self.credentials.as_ref();
        KeyMethodStrings {
            options: self.options.as_bytes(),
            username: credentials.map(|credentials| credentials.username.as_bytes()),
            password: credentials.map(|credentials| credentials.password.as_bytes()),
            peer_info: Some(self.peer_info.as_bytes()),
        }
    }
}

/// Strings of the peer's key-method 2, cleaned.
#[derive(Debug)]
pub(crate) struct RemoteHello {
    pub(crate) options: String,
    pub(crate) credentials: Option<Credentials>,
    /// Username or password was longer than allowed; both are left out.
    pub(crate) too_long: bool,
    pub(crate) peer_info: PeerInfo,
}

impl RemoteHello {
    pub(super) fn new(strings: &KeyMethodStrings<'_>) -> Self {
        let text = |bytes: &[u8]| -> String {
            String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { '_' } else { c }).collect()
        };
        let too_long = [strings.username, strings.password]
            .iter()
            .any(|value| value.is_some_and(|value| value.len() > MAX_CREDENTIAL));
        let credentials = match (strings.username, strings.password) {
            (None, None) => None,
            _ if too_long => None,
            (username, password) => Some(Credentials {
                username: text(username.unwrap_or_default()),
                password: text(password.unwrap_or_default()),
            }),
        };
        Self {
            options: text(strings.options),
            credentials,
            too_long,
            peer_info: PeerInfo::parse(strings.peer_info.unwrap_or_default()),
        }
    }
}

/// What both sides contributed to a key made without the TLS exporter.
pub(crate) struct KeySources {
    pub(crate) pre_master: Secret<48>,
    pub(crate) client: KeySource,
    pub(crate) server: KeySource,
}

pub(super) fn random_source(local: &mut dyn Local) -> KeySource {
    let mut source = KeySource { random1: Secret::zeroed(), random2: Secret::zeroed() };
    local.random(source.random1.expose_mut());
    local.random(source.random2.expose_mut());
    source
}
