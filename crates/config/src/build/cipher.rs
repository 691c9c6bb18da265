//! Ciphers of the data channel: what is asked for, and what is left of it when only AEAD ciphers exist.

use super::Builder;
use super::arguments::{Bad, Opt, short};
use crate::diagnostic::{Class, Diagnostic};
use crate::model::Cipher;
use crate::source::Span;
use crate::table::Contexts;

/// What the file says about ciphers.
#[derive(Clone, Debug, Default)]
pub(super) struct Wish {
    cipher: Option<(String, Span)>,
    list: Option<(String, Vec<Cipher>, Span)>,
    fallback: Option<(String, Option<Cipher>, Span)>,
    ncp_disable: Option<Span>,
}

pub(super) fn apply(b: &mut Builder, o: &mut Opt<'_>) -> Result<bool, Bad> {
    match o.name() {
        "cipher" => {
            let name = o.text(0)?;
            b.pushed.cipher = Cipher::from_name(&name);
            b.ciphers.cipher = Some((name, o.span()));
        }
        "data-ciphers" | "ncp-ciphers" => {
            let text = o.text(0)?;
            let list = parse_list(&text, o)?;
            if o.name() == "ncp-ciphers" && b.wants_advice() {
                o.say(
                    Class::Deprecated,
                    "`ncp-ciphers` is the old name of `data-ciphers`",
                    format!("write `data-ciphers {}`", names(&list)),
                );
            }
            b.ciphers.list = Some((text, list, o.span()));
        }
        "data-ciphers-fallback" => {
            let name = o.text(0)?;
            let cipher = Cipher::from_name(&name);
            b.ciphers.fallback = Some((name, cipher, o.span()));
        }
        "ncp-disable" => b.ciphers.ncp_disable = Some(o.span()),
        "key-derivation" => b.pushed.tls_ekm |= o.word(0, &[("tls-ekm", true)])?,
        "protocol-flags" => {
            for (at, arg) in o.args().iter().enumerate() {
                match arg.text.as_str() {
                    "cc-exit" => b.pushed.cc_exit = true,
                    "tls-ekm" => b.pushed.tls_ekm = true,
                    "dyn-tls-crypt" => b.pushed.dyn_tls_crypt = true,
                    "aead-epoch" => b.pushed.aead_epoch = true,
                    other => {
                        let message = format!("the protocol flag {} is not known", short(other));
                        return Err(o.bad(at, message, "the peer is newer than this program"));
                    }
                }
            }
        }
        "peer-id" => b.pushed.peer_id = Some(o.number(0, 0..=0xff_ffff)?),
        "no-iv" | "no-replay" => {
            let text = format!(
                "`{}` has no effect; packets always carry their number and are checked by it",
                o.name()
            );
            o.say(Class::Ignored, text, "remove it");
        }
        "secret" => {
            b.flags.secret = true;
            o.say(
                Class::Unsupported,
                "static key mode is not supported",
                "use TLS: make a certificate on each side and name the other's with `peer-fingerprint`",
            );
        }
        "allow-deprecated-insecure-static-crypto" => {
            o.say(Class::Ignored, "there is no static key mode to allow", "use TLS with `peer-fingerprint`");
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn names(list: &[Cipher]) -> String {
    let list = if list.is_empty() { &Cipher::DEFAULT } else { list };
    list.iter().map(|c| c.name()).collect::<Vec<_>>().join(":")
}

/// AEAD ciphers of a list, in order. Known others are left out with a word; unknown ones are errors unless marked `?`.
fn parse_list(text: &str, o: &mut Opt<'_>) -> Result<Vec<Cipher>, Bad> {
    let mut out: Vec<Cipher> = Vec::new();
    let mut dropped = Vec::new();
    for entry in text.split(':').map(str::trim).filter(|e| !e.is_empty()) {
        let (name, optional) = match entry.strip_prefix('?') {
            Some(name) => (name, true),
            None => (entry, false),
        };
        let found = match Cipher::from_name(name) {
            Some(cipher) => vec![cipher],
            None if name == "DEFAULT" => Cipher::DEFAULT.to_vec(),
            None if optional || is_old(name) => {
                dropped.push(name);
                continue;
            }
            None => {
                let message = format!("\"{}\" is no cipher", short(name));
                return Err(o.bad(
                    0,
                    message,
                    "the ciphers are AES-256-GCM, AES-128-GCM, AES-192-GCM and CHACHA20-POLY1305",
                ));
            }
        };
        for cipher in found {
            if !out.contains(&cipher) {
                out.push(cipher);
            }
        }
    }
    if !dropped.is_empty() && !out.is_empty() {
        o.say(
            Class::Ignored,
            format!(
                "{} cannot be offloaded and {} left out",
                dropped.join(", "),
                if dropped.len() == 1 { "is" } else { "are" }
            ),
            "remove it; every release since 2.4 knows AES-256-GCM",
        );
    }
    Ok(out)
}

/// Whether a name is that of a cipher which stock knows and no data plane here does.
fn is_old(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["-CBC", "-CFB", "-CFB1", "-CFB8", "-OFB", "-CTR", "-CCM", "-OCB", "-XTS"]
        .iter()
        .any(|end| name.ends_with(end))
        || matches!(
            name.as_str(),
            "NONE" | "BF" | "DES" | "3DES" | "AES" | "BLOWFISH" | "CHACHA20" | "DEFAULT" | "[NULL-CIPHER]"
        )
}

impl Builder {
    /// Resolves the wishes into the data channel's list; says so where something forced cannot be.
    pub(super) fn finish_ciphers(&mut self) {
        let wish = self.ciphers.clone();
        let pull = self.flags.client || self.flags.pull;
        let data = &mut self.config.data;
        data.cipher = wish.cipher.as_ref().map(|(name, _)| name.clone());
        let named = wish.cipher.as_ref().and_then(|(name, _)| Cipher::from_name(name));
        let mut say = Vec::new();
        match &wish.list {
            Some((text, list, span)) if list.is_empty() => {
                say.push(
                    Diagnostic::new(
                        Class::Unsupported,
                        "data-ciphers",
                        Some(*span),
                        format!("`data-ciphers {}` names no cipher that can be offloaded", short(text)),
                    )
                    .help("add AES-256-GCM: `data-ciphers AES-256-GCM`"),
                );
            }
            Some((_, list, _)) => data.ciphers.clone_from(list),
            None => {}
        }
        if let Some(span) = wish.ncp_disable {
            let old = wish.cipher.as_ref().filter(|_| named.is_none());
            match (old, named) {
                (Some((name, _)), _) if wish.list.is_none() => say.push(
                    Diagnostic::new(
                        Class::Unsupported,
                        "ncp-disable",
                        Some(span),
                        format!(
                            "`ncp-disable` with `cipher {}` forces a cipher that cannot be offloaded",
                            short(name)
                        ),
                    )
                    .help("remove `ncp-disable` and write `data-ciphers AES-256-GCM`"),
                ),
                (_, Some(cipher)) if wish.list.is_none() => {
                    data.ciphers = vec![cipher];
                    say.push(
                        Diagnostic::new(
                            Class::Deprecated,
                            "ncp-disable",
                            Some(span),
                            "`ncp-disable` was removed from OpenVPN",
                        )
                        .help(format!("write `data-ciphers {cipher}` instead")),
                    );
                }
                _ => say.push(
                    Diagnostic::new(
                        Class::Ignored,
                        "ncp-disable",
                        Some(span),
                        "`ncp-disable` has no effect; ciphers are negotiated",
                    )
                    .help("remove it; `data-ciphers` says which"),
                ),
            }
        } else if let Some((name, span)) = wish.cipher.as_ref().filter(|_| named.is_none()) {
            let first = data.ciphers.first().copied().unwrap_or(Cipher::Aes256Gcm);
            let class = if name.eq_ignore_ascii_case("none") { Class::Ignored } else { Class::Deprecated };
            say.push(
                Diagnostic::new(
                    class,
                    "cipher",
                    Some(*span),
                    format!(
                        "`cipher {}` is not used: an AEAD cipher is negotiated, {first} first",
                        short(name)
                    ),
                )
                .help("remove the line, or write `data-ciphers AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305`"),
            );
        }
        if let (Some(cipher), Some(version)) = (named, self.config.compat_mode)
            && version < (2, 5, 0)
            && !data.ciphers.contains(&cipher)
        {
            data.ciphers.push(cipher);
        }
        match &wish.fallback {
            Some((_, Some(cipher), _)) => data.cipher_fallback = Some(*cipher),
            Some((name, None, span)) => say.push(
                Diagnostic::new(
                    Class::Ignored,
                    "data-ciphers-fallback",
                    Some(*span),
                    format!("`data-ciphers-fallback {}` cannot be offloaded: peers that cannot negotiate are refused", short(name)),
                )
                .help("name an AEAD cipher, or remove the line"),
            ),
            // Between two peers an explicit cipher is the fallback.
            None if !pull && !self.flags.mode_server => data.cipher_fallback = named,
            None => {}
        }
        self.diagnostics.extend(say);
    }

    /// Ciphers of one client of a server.
    pub(super) fn finish_client_ciphers(&mut self) {
        if !self.context.contains(Contexts::CLIENT) {
            return;
        }
        let wish = self.ciphers.clone();
        let one = wish.cipher.as_ref().and_then(|(name, _)| Cipher::from_name(name)).map(|c| vec![c]);
        self.client.data_ciphers = wish.list.map(|(_, list, _)| list).filter(|l| !l.is_empty()).or(one);
        self.client.cipher_fallback = wish.fallback.and_then(|(_, cipher, _)| cipher);
    }
}
