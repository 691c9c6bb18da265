//! Authentication tokens of `auth-gen-token`: what a client shows instead of its password after the first login.
//!
//! ```text
//!  "SESS_ID_AT_" || base64( session id (12) || first login (8) || issue (8) || HMAC (32) )
//! ```
//!
//! Times are signed unix seconds, big-endian; the HMAC is HMAC-SHA256 over `username || the 28 bytes before it`. The
//! server keeps nothing: whoever knows the key can check any token. A series keeps its session id and first login; each
//! renewal has a new time of issue. Source: OpenVPN server behaviour, "auth-gen-token".

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::pem;
use crate::secret::{Secret, SecretVec};
use crate::tls_crypt_v2::KeyFileError;

const PREFIX: &[u8] = b"SESS_ID_AT_";
const LABEL: &str = "OpenVPN auth-token server key";
const SIGNED_LEN: usize = 12 + 8 + 8;
const DATA_LEN: usize = SIGNED_LEN + 32;
/// Bytes of a token.
pub const TOKEN_LEN: usize = PREFIX.len() + DATA_LEN.div_ceil(3) * 4;

/// Whether a password has the shape of a token, so that it must be verified as one.
pub fn is_token(password: &[u8]) -> bool {
    password.len() == TOKEN_LEN && password.starts_with(PREFIX)
}

/// What all tokens of one login have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenSeries {
    /// 12 random bytes.
    pub session_id: [u8; 12],
    /// When the first login was, in unix seconds.
    pub initial_time: i64,
}

impl TokenSeries {
    /// The id as scripts see it in `session_id`: 16 base64 characters.
    pub fn env_session_id(&self) -> String {
        STANDARD.encode(self.session_id)
    }
}

/// How long tokens are good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenLimits {
    /// Seconds after which a token is renewed; a token is good for twice that.
    pub renewal: u64,
    /// Seconds that a series is good for after the first login; 0: for ever.
    pub lifetime: u64,
}

/// A token that this server made for this user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// The series, for the next token.
    pub series: TokenSeries,
    /// The token was made for an empty user name: the name given with it proves nothing and must be ignored.
    pub empty_username: bool,
    /// The token is genuine but too old: the client must log in with its real credentials.
    pub expired: bool,
}

/// The token is not one that this server made for this user in this session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidToken {
    /// The shape is wrong.
    #[error("malformed auth-token")]
    Malformed,
    /// Another key, another user, or a forgery.
    #[error("auth-token has a wrong HMAC")]
    Hmac,
    /// A genuine token of another login than the one this session started with.
    #[error("auth-token of another session")]
    OtherSession,
}

/// The server's key: 128 bytes in a file, of which 64..96 sign.
pub struct TokenKey {
    bytes: Secret<128>,
    mac: hmac::Key,
}

impl TokenKey {
    /// Takes 128 bytes, e.g. fresh randomness.
    pub fn new(bytes: &Secret<128>) -> Self {
        let mac = hmac::Key::new(hmac::HMAC_SHA256, &bytes.expose()[64..96]);
        Self { bytes: bytes.clone(), mac }
    }

    /// Reads an `auth-gen-token-secret` file.
    pub fn from_pem(text: &str) -> Result<Self, KeyFileError> {
        let bytes = pem::decode(LABEL, text)?;
        match Secret::from_slice(bytes.expose()) {
            Some(bytes) => Ok(Self::new(&bytes)),
            None => Err(KeyFileError::Length { bytes: bytes.expose().len() }),
        }
    }

    /// The key file: what `genkey auth-token` writes.
    pub fn to_pem(&self) -> String {
        pem::encode(LABEL, self.bytes.expose())
    }

    /// A token of this series for this user, issued at `now` (unix seconds).
    pub fn issue(&self, series: &TokenSeries, username: &[u8], now: i64) -> SecretVec {
        let mut data = Zeroizing::new([0; DATA_LEN]);
        data[..12].copy_from_slice(&series.session_id);
        data[12..20].copy_from_slice(&series.initial_time.to_be_bytes());
        data[20..28].copy_from_slice(&now.to_be_bytes());
        let tag = self.tag(username, &data[..SIGNED_LEN]);
        data[SIGNED_LEN..].copy_from_slice(tag.as_ref());
        let digits = Zeroizing::new(STANDARD.encode(data.as_slice()));
        SecretVec::new([PREFIX, digits.as_bytes()].concat())
    }

    /// Verifies a token at `now` (unix seconds). `started_with` is the series that this connection's first token had,
    /// if there was one: another series is refused.
    pub fn verify(
        &self,
        token: &[u8],
        username: &[u8],
        now: i64,
        limits: TokenLimits,
        started_with: Option<&TokenSeries>,
    ) -> Result<Verified, InvalidToken> {
        let digits = token.strip_prefix(PREFIX).ok_or(InvalidToken::Malformed)?;
        let data = Zeroizing::new(STANDARD.decode(digits).map_err(|_| InvalidToken::Malformed)?);
        let (signed, tag) = data.split_at_checked(SIGNED_LEN).ok_or(InvalidToken::Malformed)?;
        let (session_id, times) = signed.split_first_chunk().ok_or(InvalidToken::Malformed)?;
        let (initial, issued) = times.split_first_chunk().ok_or(InvalidToken::Malformed)?;
        let issued = i64::from_be_bytes(issued.try_into().map_err(|_| InvalidToken::Malformed)?);
        let series = TokenSeries { session_id: *session_id, initial_time: i64::from_be_bytes(*initial) };

        let matches = |username: &[u8]| {
            let expected = self.tag(username, signed);
            crate::secret::equal_in_constant_time(expected.as_ref(), tag)
        };
        let for_user = matches(username);
        if !for_user && !matches(b"") {
            return Err(InvalidToken::Hmac);
        }
        if started_with.is_some_and(|first| first.session_id != series.session_id) {
            return Err(InvalidToken::OtherSession);
        }
        let span = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
        let renewal_over = now >= issued.saturating_add(span(limits.renewal).saturating_mul(2));
        let lifetime_over =
            limits.lifetime != 0 && now > series.initial_time.saturating_add(span(limits.lifetime));
        let expired = now < issued || renewal_over || issued < series.initial_time || lifetime_over;
        Ok(Verified { series, empty_username: !for_user, expired })
    }

    fn tag(&self, username: &[u8], signed: &[u8]) -> hmac::Tag {
        let mut mac = hmac::Context::with_key(&self.mac);
        mac.update(username);
        mac.update(signed);
        mac.sign()
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: TokenLimits = TokenLimits { renewal: 3600, lifetime: 0 };

    fn key() -> TokenKey {
        TokenKey::new(&Secret::new([5; 128]))
    }

    #[test]
    fn a_token_stays_with_its_session() {
        let series = TokenSeries { session_id: [1; 12], initial_time: 1000 };
        let other = TokenSeries { session_id: [2; 12], initial_time: 1000 };
        let token = key().issue(&series, b"alice", 1000);
        let verify = |first| key().verify(token.expose(), b"alice", 1000, LIMITS, first);
        assert!(verify(Some(&series)).is_ok_and(|verified| !verified.expired));
        assert_eq!(verify(Some(&other)), Err(InvalidToken::OtherSession));
        assert_eq!(TokenKey::from_pem(&key().to_pem()).unwrap().bytes.expose(), &[5; 128]);
    }

    proptest! {
        #[test]
        fn any_password_is_refused(mut password: Vec<u8>, prefix in any::<bool>()) {
            if prefix {
                password.splice(0..0, PREFIX.iter().copied());
            }
            prop_assert!(key().verify(&password, b"alice", 1000, LIMITS, None).is_err());
        }

        #[test]
        fn extreme_times_do_not_overflow(initial: i64, issued: i64, now: i64, renewal: u64, lifetime: u64) {
            let series = TokenSeries { session_id: [1; 12], initial_time: initial };
            let token = key().issue(&series, b"", issued);
            prop_assert!(is_token(token.expose()));
            let verified = key().verify(token.expose(), b"", now, TokenLimits { renewal, lifetime }, None);
            prop_assert_eq!(verified.map(|verified| verified.series), Ok(series));
        }
    }
}
