//! HTTP Digest authentication: the proof of a password that a proxy asks for.
//!
//! ```text
//!   H(A1) = H(user:realm:password)        (-sess: H(H(user:realm:password):nonce:cnonce))
//!   H(A2) = H(method:uri)
//!   response = H(H(A1):nonce:nc:cnonce:qop:H(A2)), or without qop H(H(A1):nonce:H(A2))
//! ```
//!
//! Source: RFC 7616, sections 3.4.1 to 3.4.3.

use aws_lc_rs::digest;
use md5::{Digest as _, Md5};
use zeroize::Zeroizing;

/// The hash a proxy names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// `MD5`, what every proxy knows.
    Md5,
    /// `SHA-256`.
    Sha256,
}

/// A proxy's challenge, and what the answer is about.
#[derive(Debug, Clone, Copy)]
pub struct DigestRequest<'a> {
    /// The hash.
    pub hash: Hash,
    /// The `-sess` form of the hash's name.
    pub session: bool,
    /// As the proxy sent it.
    pub realm: &'a str,
    /// As the proxy sent it.
    pub nonce: &'a str,
    /// Our nonce; `Some` where the proxy offers `qop=auth`.
    pub cnonce: Option<&'a str>,
    /// `CONNECT`.
    pub method: &'a str,
    /// `HOST:PORT`.
    pub uri: &'a str,
}

/// The count of requests with one nonce: always the first.
pub const NONCE_COUNT: &str = "00000001";

impl DigestRequest<'_> {
    /// The `response` field, hexadecimal.
    #[must_use]
    pub fn response(&self, username: &str, password: &str) -> String {
        let mut a1 = self.hex(&[username, self.realm, password]);
        if self.session {
            a1 = self.hex(&[&a1, self.nonce, self.cnonce.unwrap_or_default()]);
        }
        let a2 = self.hex(&[self.method, self.uri]);
        match self.cnonce {
            Some(cnonce) => self.hex(&[&a1, self.nonce, NONCE_COUNT, cnonce, "auth", &a2]).to_string(),
            None => self.hex(&[&a1, self.nonce, &a2]).to_string(),
        }
    }

    /// The hash of the parts, joined by colons.
    fn hex(&self, parts: &[&str]) -> Zeroizing<String> {
        let text = Zeroizing::new(parts.join(":"));
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Zeroizing::new(match self.hash {
            Hash::Md5 => hex(&Md5::digest(text.as_bytes())),
            Hash::Sha256 => hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616, section 3.9.1.
    #[test]
    fn the_example_of_the_standard() {
        let request = DigestRequest {
            hash: Hash::Md5,
            session: false,
            realm: "http-auth@example.org",
            nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            cnonce: Some("f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"),
            method: "GET",
            uri: "/dir/index.html",
        };
        let password = "Circle of Life";
        assert_eq!(request.response("Mufasa", password), "8ca523f5e9506fed4657c9700eebdbec");
        let sha = DigestRequest { hash: Hash::Sha256, ..request };
        assert_eq!(
            sha.response("Mufasa", password),
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
        );
    }

    /// RFC 2069's form, without qop: RFC 2617's example with the response that its errata name.
    #[test]
    fn without_qop() {
        let request = DigestRequest {
            hash: Hash::Md5,
            session: false,
            realm: "testrealm@host.com",
            nonce: "dcd98b7102dd2f0e8b11d0f600bfb0c093",
            cnonce: None,
            method: "GET",
            uri: "/dir/index.html",
        };
        assert_eq!(request.response("Mufasa", "CircleOfLife"), "1949323746fe6a43ef61f9606e7febea");
    }
}
