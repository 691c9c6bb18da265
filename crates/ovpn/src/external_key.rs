//! A private key that a program at the management interface holds: it is asked for each signature of a handshake.
//!
//! ```text
//!   TLS ─ sign ─▶ Signer ─ >PK_SIGN:DATA,ALGORITHM ─▶ program ─ pk-sig … END ─▶ the handshake goes on
//! ```
//!
//! | key | data | algorithm |
//! |---|---|---|
//! | RSA, PKCS#1 v1.5 | DigestInfo (RFC 8017) | `RSA_PKCS1_PADDING` |
//! | RSA, PSS | digest | `RSA_PKCS1_PSS_PADDING,hashalg=SHA256,saltlen=digest` |
//! | ECDSA | digest | `ECDSA` |
//! | Ed25519 | the message | `ED25519` |
//!
//! Source: OpenVPN management interface, "pk-sig"; OpenVPN manual, "management-external-key".

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ovpn_config::Config;
use ovpn_control::{ExternalSigner, Padding, SignRequest};
use tokio::signal::unix::{SignalKind, signal};

use crate::management::{Handle, Question};

/// Asks the program.
struct Signer {
    management: Handle,
    /// A signature that takes longer comes too late for the handshake.
    limit: Duration,
}

/// Who signs for `management-external-key`, and with which paddings; `None` where it is not configured.
pub(crate) fn signer(
    config: &Config,
    management: Option<&Handle>,
) -> Option<(Arc<dyn ExternalSigner>, Vec<Padding>)> {
    let words = config.management.external_key.as_ref()?;
    let management = management?.clone();
    let paddings = [("pkcs1", Padding::Pkcs1), ("pss", Padding::Pss)];
    let named = |word: &str| words.is_empty() && word == "pkcs1" || words.iter().any(|w| w == word);
    let paddings = paddings.into_iter().filter(|(word, _)| named(word)).map(|(_, padding)| padding).collect();
    Some((Arc::new(Signer { management, limit: config.timers.hand_window }), paddings))
}

/// The certificate that the program has (`management-external-cert`), as PEM text; waits for as long as it takes.
pub(crate) async fn certificate(management: &Handle, hint: &str) -> String {
    let lines = management.ask_block(Question::Certificate(hint.to_owned())).await;
    lines.join("\n") + "\n"
}

fn question(request: &SignRequest) -> Question {
    let (data, algorithm) = match (request.padding, request.hash) {
        (Some(Padding::Pkcs1), _) => (request.digest_info(), "RSA_PKCS1_PADDING".to_owned()),
        (Some(Padding::Pss), hash) => {
            let hash = hash.unwrap_or("SHA256");
            (request.data.clone(), format!("RSA_PKCS1_PSS_PADDING,hashalg={hash},saltlen=digest"))
        }
        (None, Some(_)) => (request.data.clone(), "ECDSA".to_owned()),
        (None, None) => (request.data.clone(), "ED25519".to_owned()),
    };
    Question::Sign { data: STANDARD.encode(data), algorithm }
}

impl Signer {
    async fn ask(&self, request: &SignRequest) -> Result<Vec<u8>, String> {
        let broken = |error: std::io::Error| format!("signals: {error}");
        let mut term = signal(SignalKind::terminate()).map_err(broken)?;
        let mut int = signal(SignalKind::interrupt()).map_err(broken)?;
        let lines = tokio::select! {
            lines = self.management.ask_block(question(request)) => lines,
            () = tokio::time::sleep(self.limit) => {
                let limit = self.limit.as_secs();
                return Err(format!(
                    "no program at the management interface has signed within {limit} s (pk-sig): look at the program \
                     that holds the private key"
                ));
            }
            // Whoever waits for the handshake hears them, too.
            _ = term.recv() => return Err("the process ends".to_owned()),
            _ = int.recv() => return Err("the process ends".to_owned()),
        };
        let text: String = lines.concat().split_whitespace().collect();
        match STANDARD.decode(text) {
            Ok(signature) if !signature.is_empty() => Ok(signature),
            Ok(_) => Err("the program at the management interface sent an empty signature".to_owned()),
            Err(error) => Err(format!("the signature from the management interface is not base64: {error}")),
        }
    }
}

impl ExternalSigner for Signer {
    fn sign(&self, request: &SignRequest) -> Result<Vec<u8>, String> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|error| error.to_string())?;
        // TLS waits here; the other tasks go on elsewhere.
        tokio::task::block_in_place(|| runtime.block_on(self.ask(request)))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(management interface)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_are_asked_for() {
        let ask = |padding, hash| {
            let Question::Sign { data, algorithm } =
                question(&SignRequest { data: vec![7; 32], hash, padding })
            else {
                unreachable!()
            };
            (STANDARD.decode(data).unwrap().len(), algorithm)
        };
        assert_eq!(ask(Some(Padding::Pkcs1), Some("SHA256")), (51, "RSA_PKCS1_PADDING".to_owned()));
        let pss = "RSA_PKCS1_PSS_PADDING,hashalg=SHA384,saltlen=digest".to_owned();
        assert_eq!(ask(Some(Padding::Pss), Some("SHA384")), (32, pss));
        assert_eq!(ask(None, Some("SHA256")), (32, "ECDSA".to_owned()));
        assert_eq!(ask(None, None), (32, "ED25519".to_owned()));
    }
}
