//! The management interface.

use super::Builder;
use super::arguments::{Bad, Opt, short};
use crate::diagnostic::Class;
use crate::model::ManagementAddress;

pub(super) fn apply(b: &mut Builder, o: &mut Opt<'_>) -> Result<bool, Bad> {
    let m = &mut b.config.management;
    match o.name() {
        "management" => {
            let host = o.text(0)?;
            m.password_file = o.get(2).map(str::to_owned);
            m.address = Some(if o.is(1, "unix") {
                ManagementAddress::Unix(host)
            } else if host == "tunnel" {
                ManagementAddress::Tunnel(o.port(1)?)
            } else {
                let port = o.port(1)?;
                let loopback =
                    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback());
                if !loopback && m.password_file.is_none() {
                    o.say(
                        Class::Insecure,
                        "the management interface is open to the network without a password",
                        "use a Unix socket (`management PATH unix`), or add a password file",
                    );
                }
                ManagementAddress::Tcp(host, port)
            });
        }
        "management-client" => m.client = true,
        "management-query-passwords" => m.query_passwords = true,
        "management-query-remote" => m.query_remote = true,
        "management-query-proxy" => m.query_proxy = true,
        "management-hold" => m.hold = true,
        "management-signal" => m.signal = true,
        "management-forget-disconnect" => m.forget_disconnect = true,
        "management-up-down" => m.up_down = true,
        "management-client-auth" => m.client_auth = true,
        "management-client-user" => m.client_user = Some(o.text(0)?),
        "management-client-group" => m.client_group = Some(o.text(0)?),
        "management-log-cache" => m.log_cache = o.number(0, 1..=1_000_000)?,
        "management-external-key" => {
            let words: Vec<String> = o.args().iter().map(|a| a.text.clone()).collect();
            for (at, word) in words.iter().enumerate() {
                if !matches!(word.as_str(), "nopadding" | "pkcs1" | "pss" | "digest") {
                    let text = format!("`management-external-key` does not know {}", short(word));
                    return Err(o.bad(at, text, "the words are pkcs1, pss, nopadding and digest"));
                }
            }
            if !words.is_empty() && !words.iter().any(|word| word == "pkcs1" || word == "pss") {
                o.say(
                    Class::Unsupported,
                    "a program that signs without padding or a digest of its own cannot be asked",
                    "write `management-external-key pkcs1`, or `pss`, and let the program pad",
                );
            }
            m.external_key = Some(words);
        }
        "management-external-cert" => m.external_cert = Some(o.text(0)?),
        _ => return Ok(false),
    }
    Ok(true)
}
