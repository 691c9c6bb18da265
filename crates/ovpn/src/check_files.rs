//! What `ovpn check` sees in the files that a configuration names: missing ones, keys that others can read, certificates that
//! have expired or are not valid yet.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ovpn_config::model::{Credentials, CrlSource, Material, Role};
use ovpn_config::{Class, Config, Diagnostic};
use zeroize::Zeroizing;

use crate::pki;

/// An expiry nearer than this is worth a word, in days.
const SOON: i64 = 30;

/// Everything to be said, at time `now` in seconds since 1970.
pub(crate) fn look(c: &Config, now: u64) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    let today = format!("this machine's clock says {}", pki::day(now));
    let entry = c.connections.first();
    let auth = c.tls.tls_auth.as_ref().or(entry.and_then(|e| e.tls_auth.as_ref())).map(|(key, _)| key);
    let crypt = c.tls.tls_crypt.as_ref().or(entry.and_then(|e| e.tls_crypt.as_ref()));
    let crypt_v2 = c.tls.tls_crypt_v2.as_ref().or(entry.and_then(|e| e.tls_crypt_v2.as_ref()));
    let password = match &c.auth.user_pass {
        Some(Credentials::From(material)) => Some(material),
        _ => None,
    };
    let crl = match &c.tls.crl {
        Some(CrlSource::File(material)) => Some(material),
        _ => None,
    };
    let named = [
        ("ca", c.tls.ca.as_ref(), false),
        ("cert", c.tls.cert.as_ref(), false),
        ("extra-certs", c.tls.extra_certs.as_ref(), false),
        ("crl-verify", crl, false),
        ("key", c.tls.key.as_ref(), true),
        ("pkcs12", c.tls.pkcs12.as_ref(), true),
        ("tls-auth", auth, true),
        ("tls-crypt", crypt, true),
        ("tls-crypt-v2", crypt_v2, true),
        ("auth-user-pass", password, true),
    ];
    for (option, material, secret) in named {
        let Some(material) = material else { continue };
        let span = c.where_given(option);
        let say =
            |class, message: String, help: &str| Diagnostic::new(class, option, span, message).help(help);
        let text = match material {
            Material::Inline(text) => Zeroizing::new(text.clone().into_bytes()),
            Material::Path(path) => match std::fs::read(in_directory(c, path)) {
                Ok(bytes) => {
                    if secret && readable_by_others(&in_directory(c, path)) {
                        out.push(say(
                            Class::Insecure,
                            format!("others on this machine can read {path}"),
                            "take their right away: chmod 600 FILE",
                        ));
                    }
                    Zeroizing::new(bytes)
                }
                Err(error) => {
                    let help = "check the path; it is relative to the working directory";
                    out.push(say(Class::Incomplete, format!("cannot read {path}: {error}"), help));
                    continue;
                }
            },
        };
        if let ("crl-verify", Some(end)) = (option, next_list(&text))
            && end < i64::try_from(now).unwrap_or(i64::MAX)
        {
            out.push(say(
                Class::Incomplete,
                format!(
                    "the revocation list ended on {}, so that every certificate is refused; {today}",
                    day(end)
                ),
                "make a new one: `ovpn profile revoke NAME`, or easy-rsa's `gen-crl`",
            ));
        }
        if matches!(option, "ca" | "cert" | "extra-certs") {
            for (name, (starts, expires)) in certificates(&text) {
                let now = i64::try_from(now).unwrap_or(i64::MAX);
                let days = (expires - now).div_euclid(86_400);
                let date = day(expires);
                if now < starts {
                    let date = day(starts);
                    let text = format!("the certificate {name} is valid only from {date} on; {today}");
                    out.push(say(
                        Class::Incomplete,
                        text,
                        "set the clock; if it is right, have a new one issued",
                    ));
                } else if days < 0 {
                    let help = if c.role == Role::Server {
                        "set the clock if that is wrong, else have its authority issue a new one"
                    } else {
                        "set the clock if that is wrong, else get a new one (from `ovpn init`: `ovpn profile renew NAME`)"
                    };
                    out.push(say(
                        Class::Incomplete,
                        format!("the certificate {name} expired on {date}; {today}"),
                        help,
                    ));
                } else if days < SOON {
                    let text = format!("the certificate {name} expires on {date}, in {days} days");
                    out.push(say(Class::Advice, text, "renew it in time"));
                }
            }
        }
    }
    out
}

/// When a revocation list has to be followed by the next, in seconds since 1970.
fn next_list(pem: &[u8]) -> Option<i64> {
    let block = x509_parser::pem::Pem::iter_from_buffer(pem).find_map(Result::ok)?;
    let (_, list) = x509_parser::parse_x509_crl(&block.contents).ok()?;
    Some(list.next_update()?.timestamp())
}

fn in_directory(c: &Config, path: &str) -> std::path::PathBuf {
    c.process.directory.as_ref().map_or_else(|| path.into(), |directory| Path::new(directory).join(path))
}

fn readable_by_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o007 != 0)
}

fn day(unix: i64) -> String {
    pki::day(u64::try_from(unix).unwrap_or(0))
}

/// Subject, beginning and end of every certificate that can be read; others are for the handshake to judge.
fn certificates(pem: &[u8]) -> Vec<(String, (i64, i64))> {
    x509_parser::pem::Pem::iter_from_buffer(pem)
        .filter_map(Result::ok)
        .filter(|block| block.label.ends_with("CERTIFICATE"))
        .filter_map(|block| {
            let certificate = block.parse_x509().ok()?;
            let validity = certificate.validity();
            let times = (validity.not_before.timestamp(), validity.not_after.timestamp());
            Some((certificate.subject().to_string(), times))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovpn_config::{NoFiles, load_text};

    fn said(text: &str, now: u64) -> Vec<(Class, String, String)> {
        let loaded = load_text("t.conf", text.as_bytes(), &NoFiles);
        look(&loaded.config, now).into_iter().map(|d| (d.class, d.option, d.message)).collect()
    }

    #[test]
    fn missing_open_and_expired() {
        let dir = std::env::temp_dir().join(format!("ovpn-check-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("directory");
        let now = pki::now();
        let (authority, _) = pki::Authority::make("Test", now).expect("authority");
        let key = dir.join("k");
        std::fs::write(&key, "x").expect("key");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("mode");
        let text = format!(
            "client\nremote a\n<ca>\n{}</ca>\ncd {}\ncert missing.crt\nkey k\n",
            authority.certificate(),
            dir.display()
        );
        let got = said(&text, now);
        let want = [(Class::Incomplete, "cert"), (Class::Insecure, "key")];
        assert_eq!(got.iter().map(|(c, o, _)| (*c, o.as_str())).collect::<Vec<_>>(), want);
        let late = said(&text, now + (pki::LONG_DAYS + 2) * 86_400);
        assert!(late[0].2.starts_with("the certificate CN=Test expired on 20"), "{}", late[0].2);
        let near = said(&text, now + (pki::LONG_DAYS - 10) * 86_400);
        assert_eq!(near[0].0, Class::Advice);
        let early = said(&text, 86_400);
        assert!(early[0].2.starts_with("the certificate CN=Test is valid only from 20"), "{}", early[0].2);
        assert!(early[0].2.ends_with("clock says 1970-01-02"), "{}", early[0].2);
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
