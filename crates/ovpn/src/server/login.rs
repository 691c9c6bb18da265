//! A client's login up to the point where scripts decide: names, missing credentials, the lock, tokens.
//!
//! The certificate is verified before this begins. Source: OpenVPN server behaviour, "Authentication".

use ovpn_crypto::auth_token::TokenSeries;

use super::names;
use super::tokens::{Presented, SessionState, Tokens, Verdict};

/// What a client shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a> {
    /// The common name of its certificate; empty without one.
    pub(crate) common_name: &'a str,
    /// SHA-256 of each certificate of its chain.
    pub(crate) chain: &'a [[u8; 32]],
    /// User name and password, if it sent them.
    pub(crate) credentials: Option<(&'a str, &'a str)>,
    /// One of them was longer than allowed.
    pub(crate) too_long: bool,
}

/// What the configuration asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    /// Something judges user names and passwords.
    pub(crate) passwords: bool,
    /// They may be missing (`auth-user-pass-optional`).
    pub(crate) optional: bool,
    /// `username-as-common-name`.
    pub(crate) username_as_common_name: bool,
    /// `auth-gen-token`.
    pub(crate) tokens: Option<&'a Tokens>,
}

/// Who a client is. After the first success it is locked: renegotiations must show the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The common name, or the user name in its place.
    pub(crate) common_name: String,
    /// The user name, printable.
    pub(crate) username: Option<String>,
    /// SHA-256 of each certificate.
    pub(crate) chain: Vec<[u8; 32]>,
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Login {
    /// Accepted without asking anyone.
    Accept(Candidate),
    /// The password script (or the management interface) decides.
    Ask(Candidate),
    /// Refused: what is logged, and what the client is told after `AUTH_FAILED,`.
    Reject {
        /// For the log.
        log: String,
        /// For the client; may be empty.
        reason: String,
    },
}

/// A client that may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Who it is.
    pub(crate) identity: Identity,
    /// With `auth-gen-token`: what its password was.
    pub(crate) token: Option<Presented>,
}

/// Looks at a client's login. `locked` is who it was at its first login; `first_series` the token series it has had;
/// `now` in unix seconds.
pub(crate) fn examine(
    shown: Shown<'_>,
    rules: Rules<'_>,
    locked: Option<&Identity>,
    first_series: Option<&TokenSeries>,
    now: i64,
) -> Login {
    let reject = |log: &str, reason: &str| Login::Reject { log: log.to_owned(), reason: reason.to_owned() };
    if shown.too_long {
        let text = "Username or password is too long. Maximum length is 128 bytes";
        return reject(text, text);
    }
    let credentials = shown.credentials.filter(|_| rules.passwords);
    if rules.passwords && credentials.is_none() && !rules.optional {
        let text = "Auth Username/Password was not provided by peer";
        return reject(text, text);
    }
    let mut username = credentials.map(|(username, _)| names::printable(username));
    let mut token = None;
    let mut verdict = if rules.passwords { Verdict::Ask } else { Verdict::Accept };
    if let (Some(tokens), Some((user, password))) = (rules.tokens, credentials) {
        let presented = tokens.look_at(user, password, now, first_series);
        token = Some(presented);
        verdict = tokens.verdict(presented);
        if matches!(presented.state, SessionState::AuthenticatedEmptyUser | SessionState::ExpiredEmptyUser) {
            // The name that came with it proves nothing.
            username = None;
        }
    }
    let common_name = match &username {
        Some(name) if rules.username_as_common_name => match names::as_common_name(name) {
            Some(name) => name,
            None => return reject("the user name is longer than a common name may be (64 characters)", ""),
        },
        _ => names::printable(shown.common_name),
    };
    let identity = Identity { common_name, username, chain: shown.chain.to_vec() };
    if let Some(locked) = locked
        && *locked != identity
    {
        return reject(&difference(locked, &identity), "");
    }
    let candidate = Candidate { identity, token };
    match verdict {
        Verdict::Accept => Login::Accept(candidate),
        Verdict::Ask => Login::Ask(candidate),
        Verdict::Reject(reason) => reject("the auth-token is expired or was not made by this server", reason),
    }
}

fn difference(locked: &Identity, shown: &Identity) -> String {
    let changed = |what: &str, was: &str, is: &str| {
        format!("the client changed its {what} from '{was}' to '{is}' on the same connection")
    };
    if locked.common_name != shown.common_name {
        changed("common name", &locked.common_name, &shown.common_name)
    } else if locked.username != shown.username {
        let name = |username: &Option<String>| username.clone().unwrap_or_default();
        changed("user name", &name(&locked.username), &name(&shown.username))
    } else {
        "the client changed its certificate chain on the same connection".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ovpn_config::model::AuthGenToken;
    use ovpn_crypto::auth_token::TokenKey;
    use ovpn_crypto::secret::Secret;

    use super::*;

    const NOW: i64 = 1_795_307_100;
    const SHOWN: Shown<'_> = Shown {
        common_name: "client1",
        chain: &[[1; 32]],
        credentials: Some(("al ice", "pw")),
        too_long: false,
    };
    const RULES: Rules<'_> =
        Rules { passwords: true, optional: false, username_as_common_name: false, tokens: None };

    fn login(shown: Shown<'_>, rules: Rules<'_>) -> Login {
        examine(shown, rules, None, None, NOW)
    }

    fn identity(login: Login) -> Identity {
        match login {
            Login::Accept(candidate) | Login::Ask(candidate) => candidate.identity,
            Login::Reject { log, .. } => panic!("{log}"),
        }
    }

    #[test]
    fn who_decides() {
        assert!(matches!(login(SHOWN, RULES), Login::Ask(_)));
        let certificate_only = Rules { passwords: false, ..RULES };
        let Login::Accept(candidate) = login(SHOWN, certificate_only) else { panic!() };
        assert_eq!(candidate.identity.username, None, "nobody verified the user name");
        let silent = Shown { credentials: None, ..SHOWN };
        assert!(matches!(login(silent, RULES), Login::Reject { .. }));
        assert!(matches!(login(silent, Rules { optional: true, ..RULES }), Login::Ask(_)));
        assert!(matches!(login(silent, certificate_only), Login::Accept(_)));
        assert!(matches!(login(Shown { too_long: true, ..SHOWN }, RULES), Login::Reject { .. }));
    }

    #[test]
    fn user_names_as_common_names() {
        let rules = Rules { username_as_common_name: true, ..RULES };
        assert_eq!(identity(login(SHOWN, rules)).common_name, "al ice");
        assert_eq!(identity(login(SHOWN, RULES)).common_name, "client1");
        let long = "x".repeat(65);
        assert!(matches!(
            login(Shown { credentials: Some((&long, "pw")), ..SHOWN }, rules),
            Login::Reject { .. }
        ));
    }

    #[test]
    fn a_connection_keeps_its_identity() {
        let locked = identity(login(SHOWN, RULES));
        let again = |shown| examine(shown, RULES, Some(&locked), None, NOW);
        assert!(matches!(again(SHOWN), Login::Ask(_)));
        for other in [
            Shown { common_name: "client2", ..SHOWN },
            Shown { credentials: Some(("bob", "pw")), ..SHOWN },
            Shown { chain: &[[2; 32]], ..SHOWN },
        ] {
            assert!(matches!(again(other), Login::Reject { .. }), "{other:?}");
        }
    }

    #[test]
    fn tokens_instead_of_passwords() {
        let options = AuthGenToken { lifetime: None, renewal: None, external_auth: false };
        let tokens =
            Tokens::new(&options, TokenKey::new(&Secret::new([9; 128])), Some(Duration::from_secs(3600)));
        let rules = Rules { tokens: Some(&tokens), ..RULES };
        let series = TokenSeries { session_id: [1; 12], initial_time: NOW };
        let token = tokens.issue(&series, "al ice", NOW);
        let with = |password| Shown { credentials: Some(("al ice", password)), ..SHOWN };
        let Login::Accept(candidate) = login(with(&token), rules) else { panic!() };
        assert_eq!(candidate.token.and_then(|presented| presented.series), Some(series));
        assert!(matches!(login(with("pw"), rules), Login::Ask(_)));
        let late = examine(with(&token), rules, None, None, NOW + 7200);
        assert!(matches!(late, Login::Reject { reason, .. } if reason == "SESSION: token expired"));
        let other = TokenSeries { session_id: [2; 12], initial_time: NOW };
        assert!(matches!(examine(with(&token), rules, None, Some(&other), NOW), Login::Reject { .. }));
        let anonymous = tokens.issue(&series, "", NOW);
        assert_eq!(identity(login(with(&anonymous), rules)).username, None);
    }
}
