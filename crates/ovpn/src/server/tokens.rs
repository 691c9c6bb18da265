//! `auth-gen-token`: what a password that is a token means, and new tokens.
//!
//! Source: OpenVPN server behaviour, "auth-gen-token".

use std::fmt;
use std::time::Duration;

use ovpn_config::model::AuthGenToken;
use ovpn_crypto::auth_token::{TokenKey, TokenLimits, TokenSeries, is_token};

/// What scripts see as `session_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionState {
    /// A real password.
    Initial,
    /// A good token.
    Authenticated,
    /// A genuine token that is too old.
    Expired,
    /// Looks like a token and is none of ours.
    Invalid,
    /// A good token made for an empty user name.
    AuthenticatedEmptyUser,
    /// A token made for an empty user name that is too old.
    ExpiredEmptyUser,
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Initial => "Initial",
            Self::Authenticated => "Authenticated",
            Self::Expired => "Expired",
            Self::Invalid => "Invalid",
            Self::AuthenticatedEmptyUser => "AuthenticatedEmptyUser",
            Self::ExpiredEmptyUser => "ExpiredEmptyUser",
        })
    }
}

/// What a client presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Presented {
    /// Its kind.
    pub(crate) state: SessionState,
    /// The series of a genuine token, to be continued.
    pub(crate) series: Option<TokenSeries>,
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The token is proof enough.
    Accept,
    /// Refused; the text goes to the client after `AUTH_FAILED,`.
    Reject(&'static str),
    /// Scripts decide.
    Ask,
}

/// The server's tokens.
#[derive(Debug)]
pub(crate) struct Tokens {
    key: TokenKey,
    limits: TokenLimits,
    external_auth: bool,
}

impl Tokens {
    /// As configured; `renegotiation` is `reneg-sec`, the renewal where none is given.
    pub(crate) fn new(options: &AuthGenToken, key: TokenKey, renegotiation: Option<Duration>) -> Self {
        let renewal = options.renewal.or(renegotiation).unwrap_or(Duration::from_secs(3600));
        let limits = TokenLimits {
            renewal: renewal.as_secs(),
            lifetime: options.lifetime.map_or(0, |lifetime| lifetime.as_secs()),
        };
        Self { key, limits, external_auth: options.external_auth }
    }

    /// How often a connected client gets a new token.
    pub(crate) const fn renewal(&self) -> Duration {
        Duration::from_secs(self.limits.renewal)
    }

    /// Looks at a password. `first` is the series that this connection had before; `now` in unix seconds.
    pub(crate) fn look_at(
        &self,
        username: &str,
        password: &str,
        now: i64,
        first: Option<&TokenSeries>,
    ) -> Presented {
        if !is_token(password.as_bytes()) {
            return Presented { state: SessionState::Initial, series: None };
        }
        let verified = self.key.verify(password.as_bytes(), username.as_bytes(), now, self.limits, first);
        let Ok(verified) = verified else {
            return Presented { state: SessionState::Invalid, series: None };
        };
        let state = match (verified.expired, verified.empty_username) {
            (false, false) => SessionState::Authenticated,
            (false, true) => SessionState::AuthenticatedEmptyUser,
            (true, false) => SessionState::Expired,
            (true, true) => SessionState::ExpiredEmptyUser,
        };
        Presented { state, series: Some(verified.series) }
    }

    /// What a presented password means for the login.
    pub(crate) const fn verdict(&self, presented: Presented) -> Verdict {
        match presented.state {
            SessionState::Initial | SessionState::AuthenticatedEmptyUser => Verdict::Ask,
            _ if self.external_auth => Verdict::Ask,
            SessionState::Authenticated => Verdict::Accept,
            SessionState::Expired | SessionState::ExpiredEmptyUser => {
                Verdict::Reject("SESSION: token expired")
            }
            SessionState::Invalid => Verdict::Reject(""),
        }
    }

    /// A token for an accepted client. `now` in unix seconds.
    pub(crate) fn issue(&self, series: &TokenSeries, username: &str, now: i64) -> String {
        let token = self.key.issue(series, username.as_bytes(), now);
        String::from_utf8_lossy(token.expose()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use ovpn_crypto::secret::Secret;

    use super::*;

    const NOW: i64 = 1_795_307_100;

    fn tokens(external_auth: bool) -> Tokens {
        let options =
            AuthGenToken { lifetime: Some(Duration::from_secs(86400)), renewal: None, external_auth };
        Tokens::new(&options, TokenKey::new(&Secret::new([9; 128])), Some(Duration::from_secs(3600)))
    }

    #[test]
    fn a_token_is_proof_until_it_expires() {
        let tokens = tokens(false);
        let series = TokenSeries { session_id: [1; 12], initial_time: NOW };
        let token = tokens.issue(&series, "alice", NOW);
        let judge = |user, password: &str, now| {
            let presented = tokens.look_at(user, password, now, None);
            (presented.state, tokens.verdict(presented))
        };
        assert_eq!(judge("alice", "wonderland", NOW), (SessionState::Initial, Verdict::Ask));
        assert_eq!(judge("alice", &token, NOW + 7199), (SessionState::Authenticated, Verdict::Accept));
        let expired = Verdict::Reject("SESSION: token expired");
        assert_eq!(judge("alice", &token, NOW + 7200), (SessionState::Expired, expired));
        assert_eq!(judge("mallory", &token, NOW), (SessionState::Invalid, Verdict::Reject("")));
        let anonymous = tokens.issue(&series, "", NOW);
        assert_eq!(judge("x", &anonymous, NOW), (SessionState::AuthenticatedEmptyUser, Verdict::Ask));
    }

    #[test]
    fn scripts_judge_tokens_too_if_told_so() {
        let tokens = tokens(true);
        let presented = tokens.look_at("alice", &format!("SESS_ID_AT_{}", "A".repeat(80)), NOW, None);
        assert_eq!((presented.state, tokens.verdict(presented)), (SessionState::Invalid, Verdict::Ask));
        assert_eq!(tokens.renewal(), Duration::from_secs(3600));
    }
}
