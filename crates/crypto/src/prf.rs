//! TLS 1.0 PRF and the key-method-2 key expansion, for peers without TLS exporter keys.
//!
//! `PRF(secret, seed) = P_MD5(first half, seed) XOR P_SHA1(second half, seed)`, RFC 2246 section 5; the label is the
//! head of the seed. The chain: pre-master → 48-byte master → 256-byte key block.
//! Source: OpenVPN data-channel key derivation, "Key-method 2 with the TLS 1.0 PRF".

use aws_lc_rs::hmac as aws;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use ovpn_wire::control_packet::SessionId;
use zeroize::Zeroizing;

use crate::key2::Key2;
use crate::secret::Secret;

/// What each side's key-method-2 message contributes.
#[derive(Debug, Clone)]
pub struct KeySource {
    /// Goes into the master secret.
    pub random1: Secret<32>,
    /// Goes into the key block.
    pub random2: Secret<32>,
}

/// Computes the key block. The session ids are those of the session that negotiates the key; "client" and "server"
/// are the TLS roles.
pub fn expand(
    pre_master: &Secret<48>,
    client: &KeySource,
    server: &KeySource,
    client_session: SessionId,
    server_session: SessionId,
) -> Key2 {
    let mut master = Secret::<48>::zeroed();
    let seed: [&[u8]; 3] = [b"OpenVPN master secret", client.random1.expose(), server.random1.expose()];
    tls1_prf(pre_master.expose(), &seed, master.expose_mut());

    let mut block = Secret::<256>::zeroed();
    let seed: [&[u8]; 5] = [
        b"OpenVPN key expansion",
        client.random2.expose(),
        server.random2.expose(),
        client_session.as_bytes(),
        server_session.as_bytes(),
    ];
    tls1_prf(master.expose(), &seed, block.expose_mut());
    Key2::new(block)
}

/// The TLS 1.0 PRF over the parts of a seed, filling `out`.
pub fn tls1_prf(secret: &[u8], seed: &[&[u8]], out: &mut [u8]) {
    let half = secret.len().div_ceil(2);
    let seed = Zeroizing::new(seed.concat());
    out.fill(0);
    p_hash(&seed, out, |parts| md5_hmac(&secret[..half], parts));
    let sha1 = aws::Key::new(aws::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &secret[secret.len() - half..]);
    p_hash(&seed, out, |parts| {
        let mut mac = aws::Context::with_key(&sha1);
        parts.iter().for_each(|part| mac.update(part));
        Zeroizing::new(mac.sign().as_ref().to_vec())
    });
}

/// XORs P_hash onto `out`.
fn p_hash(seed: &[u8], out: &mut [u8], hmac: impl Fn(&[&[u8]]) -> Zeroizing<Vec<u8>>) {
    let mut a = hmac(&[seed]);
    let mut at = 0;
    while at < out.len() {
        let block = hmac(&[&a, seed]);
        for (byte, mask) in out[at..].iter_mut().zip(block.iter()) {
            *byte ^= mask;
        }
        at += block.len();
        a = hmac(&[&a]);
    }
}

fn md5_hmac(key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Md5>::new_from_slice(key) else { unreachable!("HMAC key length") };
    parts.iter().for_each(|part| mac.update(part));
    Zeroizing::new(mac.finalize().into_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_seed_do_not_matter() {
        let prf = |seed: &[&[u8]], len: usize| {
            let mut out = vec![0; len];
            tls1_prf(b"odd", seed, &mut out);
            out
        };
        assert_eq!(prf(&[b"seed"], 40), prf(&[b"se", b"ed"], 40));
        assert_eq!(prf(&[b"seed"], 7), prf(&[b"seed"], 40)[..7]);
        assert_ne!(prf(&[b"seed"], 40), prf(&[b"need"], 40));
    }
}
