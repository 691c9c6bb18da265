//! User authentication.

use super::Builder;
use super::arguments::{Bad, Opt};
use crate::diagnostic::Class;
use crate::model::{
    AuthGenToken, AuthRetry, AuthToken, Credentials, StaticChallenge, VerifyClientCert, VerifyMethod,
    VerifyScript,
};

pub(super) fn apply(b: &mut Builder, o: &mut Opt<'_>) -> Result<bool, Bad> {
    let a = &mut b.config.auth;
    match o.name() {
        "auth-user-pass" => {
            a.user_pass = match o.args().first() {
                None => Some(Credentials::Ask),
                Some(arg) if !arg.inline && arg.text == "username-only" => Some(Credentials::UsernameOnly),
                Some(arg) if !arg.inline && (arg.text.is_empty() || arg.text == "stdin") => {
                    Some(Credentials::Ask)
                }
                Some(_) => o.material(0)?.map(Credentials::From).or_else(|| a.user_pass.take()),
            };
        }
        "auth-nocache" => a.nocache = true,
        "auth-retry" => {
            a.retry = o.word(
                0,
                &[
                    ("none", AuthRetry::None),
                    ("nointeract", AuthRetry::NoInteract),
                    ("interact", AuthRetry::Interact),
                ],
            )?;
        }
        "auth-token" => b.pushed.auth_token = Some(AuthToken(o.text(0)?)),
        "auth-token-user" => {
            let text = o.text(0)?;
            match base64(&text).and_then(|bytes| String::from_utf8(bytes).ok()) {
                Some(user) => b.pushed.auth_token_user = Some(user),
                None => {
                    return Err(o.bad(
                        0,
                        "`auth-token-user` is no base64 text",
                        "the server sends something wrong",
                    ));
                }
            }
        }
        "static-challenge" => {
            let text = o.text(0)?;
            let echo = o.word(1, &[("0", false), ("1", true)])?;
            let concat = o.count() > 2 && o.word(2, &[("concat", true), ("scrv1", false)])?;
            a.static_challenge = Some(StaticChallenge { text, echo, concat });
        }
        "auth-user-pass-verify" => {
            let method =
                o.word(1, &[("via-env", VerifyMethod::ViaEnv), ("via-file", VerifyMethod::ViaFile)])?;
            a.verify = o.command(0)?.map(|command| VerifyScript { command, method });
        }
        "auth-user-pass-optional" => a.optional = true,
        "username-as-common-name" => a.username_as_common_name = true,
        "client-crresponse" => a.crresponse = o.command(0)?,
        "auth-gen-token" => {
            let external_auth = o.args().last().is_some_and(|x| x.text == "external-auth");
            let numbers = o.count() - usize::from(external_auth);
            let lifetime = if numbers > 0 { o.timer(0)? } else { None };
            let renewal = if numbers > 1 { o.timer(1)? } else { None };
            b.config.server.auth_gen_token = Some(AuthGenToken { lifetime, renewal, external_auth });
        }
        "auth-gen-token-secret" => b.config.server.auth_gen_token_secret = o.material(0)?,
        "verify-client-cert" => {
            // Stock takes the bare word as `require`.
            b.config.server.verify_client_cert = o.word(
                0,
                &[
                    ("none", VerifyClientCert::None),
                    ("optional", VerifyClientCert::Optional),
                    ("require", VerifyClientCert::Require),
                ],
            )?;
        }
        "client-cert-not-required" => {
            b.config.server.verify_client_cert = VerifyClientCert::None;
            o.say(
                Class::Deprecated,
                "`client-cert-not-required` acts as `verify-client-cert none`",
                "write `verify-client-cert none`",
            );
        }
        "override-username" => b.client.override_username = Some(o.text(0)?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Standard base64, padding optional.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0u32);
    for c in text.trim_end_matches('=').bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_of_rfc_4648() {
        assert_eq!(super::base64("Zm9vYmE=").as_deref(), Some(&b"fooba"[..]));
        assert_eq!(super::base64("Zm9vYg").as_deref(), Some(&b"foob"[..]));
        assert_eq!(super::base64("a*"), None);
    }
}
