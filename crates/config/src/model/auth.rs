//! User authentication, both sides.

use std::fmt;

use super::scripts::Command;
use super::tls::Material;

/// `auth-user-pass`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Ask: management, systemd-ask-password or the terminal.
    Ask,
    /// Only the username is sent (`username-only`).
    UsernameOnly,
    /// Line 1 username, optional line 2 password.
    From(Material),
}

/// `auth-retry`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthRetry {
    /// Exit after AUTH_FAILED.
    #[default]
    None,
    /// Try again with the same password.
    NoInteract,
    /// Ask again.
    Interact,
}

/// `static-challenge`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticChallenge {
    /// Text shown.
    pub text: String,
    /// Whether the answer is shown while typed.
    pub echo: bool,
    /// Append the answer to the password instead of the SCRV1 form.
    pub concat: bool,
}

/// A pushed session token. Its `Debug` shows nothing of it; it is wiped when dropped.
#[derive(Clone, PartialEq, Eq, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct AuthToken(pub String);

impl fmt::Debug for AuthToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthToken(…)")
    }
}

/// How `auth-user-pass-verify` hands over the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyMethod {
    /// In the environment (needs `script-security 3`).
    ViaEnv,
    /// In a temporary file named by the last argument.
    ViaFile,
}

/// `auth-user-pass-verify`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyScript {
    /// The command.
    pub command: Command,
    /// How it gets the password.
    pub method: VerifyMethod,
}

/// User authentication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// Client: send user and password.
    pub user_pass: Option<Credentials>,
    /// Client: forget user and password after use.
    pub nocache: bool,
    /// Client: what to do after AUTH_FAILED.
    pub retry: AuthRetry,
    /// Client: ask a second factor together with the password.
    pub static_challenge: Option<StaticChallenge>,
    /// Server: command that judges user and password.
    pub verify: Option<VerifyScript>,
    /// Server: user and password may be missing.
    pub optional: bool,
    /// Server: the username becomes the common name.
    pub username_as_common_name: bool,
    /// Server: command called with a client's answer to a challenge.
    pub crresponse: Option<Command>,
}
