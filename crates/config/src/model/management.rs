//! The management interface.

/// Where it listens (or, as a client, connects).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManagementAddress {
    /// TCP: host and port.
    Tcp(String, u16),
    /// The tunnel's own address, once up (`management tunnel PORT`).
    Tunnel(u16),
    /// A Unix socket.
    Unix(String),
}

/// The management interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Management {
    /// Where; `None`: no interface.
    pub address: Option<ManagementAddress>,
    /// File with the password; `stdin` asks.
    pub password_file: Option<String>,
    /// Connect out instead of listening.
    pub client: bool,
    /// Ask passwords there.
    pub query_passwords: bool,
    /// Ask the remote there.
    pub query_remote: bool,
    /// Ask the proxy there.
    pub query_proxy: bool,
    /// Wait for `hold release`.
    pub hold: bool,
    /// A lost connection is SIGUSR1.
    pub signal: bool,
    /// A lost connection forgets passwords.
    pub forget_disconnect: bool,
    /// Tell up and down.
    pub up_down: bool,
    /// Let it judge clients.
    pub client_auth: bool,
    /// Only this user may connect (Unix socket).
    pub client_user: Option<String>,
    /// Only this group may connect (Unix socket).
    pub client_group: Option<String>,
    /// Log lines kept for it.
    pub log_cache: u32,
    /// Signatures come from there; the words say which paddings it can do.
    pub external_key: Option<Vec<String>>,
    /// The certificate comes from there; the hint is passed on.
    pub external_cert: Option<String>,
}

impl Default for Management {
    fn default() -> Self {
        Self {
            address: None,
            password_file: None,
            client: false,
            query_passwords: false,
            query_remote: false,
            query_proxy: false,
            hold: false,
            signal: false,
            forget_disconnect: false,
            up_down: false,
            client_auth: false,
            client_user: None,
            client_group: None,
            log_cache: 250,
            external_key: None,
            external_cert: None,
        }
    }
}
