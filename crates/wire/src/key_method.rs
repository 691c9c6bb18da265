//! The key-method-2 message: the first application data in each direction of every TLS session.
//!
//! ```text
//!  0 (4)   method 2 (1)   pre-master (48, client only)   random1 (32)   random2 (32)
//!  options string   user name   password   peer info
//! ```
//!
//! A string is `u16 length || bytes || NUL`, the length counting the NUL; an absent string is length 0. The randoms feed
//! the legacy PRF and are sent even where the TLS exporter makes the keys.
//!
//! [`OptionsString`] is the compatibility string `V4,dev-type tun,…` that both sides send and that nobody enforces.
//! Source: OpenVPN wire protocol, "Key-method-2 message", "Options string".

use std::fmt;

use thiserror::Error;

/// The longest message that old peers take.
pub const MAX_LEN: usize = 2048;

/// The most bytes of a user name or password, without the NUL.
pub const MAX_CREDENTIAL: usize = 127;

/// Why a key-method-2 message could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyMethodError {
    /// The message ends before its fixed part or its options string does.
    #[error("truncated key-method message")]
    Truncated,
    /// Another key method than 2.
    #[error("key method {0} instead of 2")]
    Method(u8),
    /// A string without its NUL.
    #[error("string without its final NUL")]
    Unterminated,
    /// A string too long for its 16-bit length.
    #[error("string longer than 65534 bytes")]
    TooLong,
}

/// The strings at the end of the message. Bytes, not text: peers send what they like.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyMethodStrings<'a> {
    /// The options string.
    pub options: &'a [u8],
    /// The user name; `None` where there is no such field or an empty one.
    pub username: Option<&'a [u8]>,
    /// The password or token.
    pub password: Option<&'a [u8]>,
    /// `NAME=value` lines; see [`crate::peer_info`].
    pub peer_info: Option<&'a [u8]>,
}

impl fmt::Debug for KeyMethodStrings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyMethodStrings")
            .field("options", &String::from_utf8_lossy(self.options))
            .field("username", &self.username.map(String::from_utf8_lossy))
            .field("password", &self.password.map(|_| "…"))
            .field("peer_info", &self.peer_info.map(String::from_utf8_lossy))
            .finish()
    }
}

/// A TLS client's message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClientKeyMethod<'a> {
    /// Secret of the legacy PRF.
    pub pre_master: &'a [u8; 48],
    /// Goes into the PRF's master secret.
    pub random1: &'a [u8; 32],
    /// Goes into the PRF's key block.
    pub random2: &'a [u8; 32],
    /// What follows.
    pub strings: KeyMethodStrings<'a>,
}

/// A TLS server's message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ServerKeyMethod<'a> {
    /// Goes into the PRF's master secret.
    pub random1: &'a [u8; 32],
    /// Goes into the PRF's key block.
    pub random2: &'a [u8; 32],
    /// What follows; no user name and no password.
    pub strings: KeyMethodStrings<'a>,
}

impl<'a> ClientKeyMethod<'a> {
    /// Reads a client's message; trailing bytes are ignored.
    pub fn parse(message: &'a [u8]) -> Result<Self, KeyMethodError> {
        let rest = method(message)?;
        let (pre_master, rest) = rest.split_first_chunk().ok_or(KeyMethodError::Truncated)?;
        let (random1, rest) = rest.split_first_chunk().ok_or(KeyMethodError::Truncated)?;
        let (random2, rest) = rest.split_first_chunk().ok_or(KeyMethodError::Truncated)?;
        Ok(Self { pre_master, random1, random2, strings: KeyMethodStrings::parse(rest)? })
    }

    /// The message's bytes, secrets included.
    pub fn to_vec(&self) -> Result<Vec<u8>, KeyMethodError> {
        self.strings.emit(&[self.pre_master, self.random1, self.random2])
    }
}

impl<'a> ServerKeyMethod<'a> {
    /// Reads a server's message; trailing bytes are ignored.
    pub fn parse(message: &'a [u8]) -> Result<Self, KeyMethodError> {
        let rest = method(message)?;
        let (random1, rest) = rest.split_first_chunk().ok_or(KeyMethodError::Truncated)?;
        let (random2, rest) = rest.split_first_chunk().ok_or(KeyMethodError::Truncated)?;
        Ok(Self { random1, random2, strings: KeyMethodStrings::parse(rest)? })
    }

    /// The message's bytes, secrets included.
    pub fn to_vec(&self) -> Result<Vec<u8>, KeyMethodError> {
        self.strings.emit(&[self.random1, self.random2])
    }
}

impl fmt::Debug for ClientKeyMethod<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientKeyMethod").field(&self.strings).finish()
    }
}

impl fmt::Debug for ServerKeyMethod<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerKeyMethod").field(&self.strings).finish()
    }
}

/// Skips the four unread bytes and checks the method.
fn method(message: &[u8]) -> Result<&[u8], KeyMethodError> {
    let (head, rest) = message.split_first_chunk::<5>().ok_or(KeyMethodError::Truncated)?;
    match head[4] & 0x0f {
        2 => Ok(rest),
        other => Err(KeyMethodError::Method(other)),
    }
}

impl<'a> KeyMethodStrings<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, KeyMethodError> {
        let (options, rest) = string(bytes)?.ok_or(KeyMethodError::Truncated)?;
        let mut found = Self { options, ..Self::default() };
        let mut rest = rest;
        for field in [&mut found.username, &mut found.password, &mut found.peer_info] {
            // Peers may leave the last strings out.
            let Some((value, after)) = string(rest)? else { break };
            *field = (!value.is_empty()).then_some(value);
            rest = after;
        }
        Ok(found)
    }

    fn emit(&self, randoms: &[&[u8]]) -> Result<Vec<u8>, KeyMethodError> {
        let mut out = vec![0, 0, 0, 0, 2];
        randoms.iter().for_each(|random| out.extend_from_slice(random));
        let strings = [Some(self.options), self.username, self.password, self.peer_info];
        for value in strings.map(Option::unwrap_or_default) {
            if value.is_empty() {
                out.extend_from_slice(&[0, 0]);
                continue;
            }
            let len = u16::try_from(value.len() + 1).map_err(|_| KeyMethodError::TooLong)?;
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(value);
            out.push(0);
        }
        Ok(out)
    }
}

/// A string without its NUL and what follows it; `None` at the end of the message or where it is cut.
#[allow(clippy::type_complexity)]
fn string(bytes: &[u8]) -> Result<Option<(&[u8], &[u8])>, KeyMethodError> {
    let Some((len, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let Some((value, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len))) else {
        return Ok(None);
    };
    match value {
        [] => Ok(Some((value, rest))),
        [value @ .., 0] => Ok(Some((value, rest))),
        _ => Err(KeyMethodError::Unterminated),
    }
}

/// What goes into the options string of a tun peer that pulls or serves (the p2p-only items are left out unless
/// given).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionsString<'a> {
    /// Legacy arithmetic nobody checks: 1541 over UDP, 1543 over TCP; 4 more with fragment headers.
    pub link_mtu: u32,
    /// The MTU of the tun device.
    pub tun_mtu: u32,
    /// `UDPv4`, `TCPv4_CLIENT`, …: the sender's own.
    pub proto: &'a str,
    /// p2p only: the peer's tunnel address and the own, in this order.
    pub ifconfig: Option<(&'a str, &'a str)>,
    /// Whether any compression framing is on.
    pub comp_lzo: bool,
    /// Whether the fragment header stands before every payload.
    pub fragment: bool,
    /// `0` or `1` where tls-auth has a direction.
    pub key_direction: Option<u8>,
    /// p2p, or where `cipher` is configured and negotiable.
    pub cipher: Option<&'a str>,
    /// The `auth` digest.
    pub auth: &'a str,
    /// Key bits of the configured cipher: 128 by default.
    pub key_size: u32,
    /// Whether tls-auth is in use.
    pub tls_auth: bool,
    /// Whether the sender is the TLS server.
    pub tls_server: bool,
}

impl fmt::Display for OptionsString<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "V4,dev-type tun,link-mtu {},tun-mtu {},proto {}",
            self.link_mtu, self.tun_mtu, self.proto
        )?;
        if let Some((remote, local)) = self.ifconfig {
            write!(f, ",ifconfig {remote} {local}")?;
        }
        if self.comp_lzo {
            f.write_str(",comp-lzo")?;
        }
        if self.fragment {
            f.write_str(",mtu-dynamic")?;
        }
        if let Some(direction) = self.key_direction {
            write!(f, ",keydir {direction}")?;
        }
        if let Some(cipher) = self.cipher {
            write!(f, ",cipher {cipher}")?;
        }
        write!(f, ",auth {},keysize {}", self.auth, self.key_size)?;
        if self.tls_auth {
            f.write_str(",tls-auth")?;
        }
        write!(f, ",key-method 2,{}", if self.tls_server { "tls-server" } else { "tls-client" })
    }
}

/// The value of an item of a peer's options string: `Some("")` for an item without value. Lenient: anything may be
/// missing.
pub fn options_item<'a>(options: &'a str, name: &str) -> Option<&'a str> {
    options.split(',').find_map(|item| {
        let rest = item.strip_prefix(name)?;
        if rest.is_empty() { Some("") } else { rest.strip_prefix(' ') }
    })
}

/// The data cipher that a peer's options string names: only old peers and p2p peers send one. `[null-cipher]` means
/// none at all and is returned as it stands.
pub fn options_cipher(options: &str) -> Option<&str> {
    options_item(options, "cipher").filter(|cipher| !cipher.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strings<'a>(fields: &'a [Vec<u8>; 4]) -> KeyMethodStrings<'a> {
        let field = |index: usize| (!fields[index].is_empty()).then_some(fields[index].as_slice());
        KeyMethodStrings { options: &fields[0], username: field(1), password: field(2), peer_info: field(3) }
    }

    fn field() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..80)
    }

    proptest! {
        #[test]
        fn round_trip(fields in [field(), field(), field(), field()], random1: [u8; 32], tail in field()) {
            let strings = strings(&fields);
            let client = ClientKeyMethod { pre_master: &[7; 48], random1: &random1, random2: &[8; 32], strings };
            let mut bytes = client.to_vec().unwrap();
            bytes.extend_from_slice(&tail);
            prop_assert_eq!(ClientKeyMethod::parse(&bytes), Ok(client));
            let server = ServerKeyMethod { random1: &random1, random2: &[8; 32], strings };
            let bytes = server.to_vec().unwrap();
            prop_assert_eq!(ServerKeyMethod::parse(&bytes), Ok(server));
        }

        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..300), method: bool) {
            if method && bytes.len() > 4 {
                bytes[4] = 2;
            }
            let _ = ClientKeyMethod::parse(&bytes);
            let _ = ServerKeyMethod::parse(&bytes);
        }
    }

    #[test]
    fn peers_may_end_early_or_send_c_style_empty_strings() {
        let head = [&[0, 0, 0, 0, 0xf2][..], &[1; 64]].concat();
        let parse = |tail: &[u8]| {
            let message = [head.as_slice(), tail].concat();
            ServerKeyMethod::parse(&message).map(|server| format!("{:?}", server.strings))
        };
        let only_options = parse(b"\0\x03V4\0").unwrap();
        assert_eq!(parse(b"\0\x03V4\0\0\x01\0\0\x00\0\x01\0").unwrap(), only_options);
        assert_eq!(parse(b"\0\x03V4\0\0\x09cut").unwrap(), only_options);
        assert_eq!(parse(b""), Err(KeyMethodError::Truncated));
        assert_eq!(parse(b"\0\x03V45"), Err(KeyMethodError::Unterminated));
        let mut one = [&head[..], b"\0\0"].concat();
        one[4] = 1;
        assert_eq!(ServerKeyMethod::parse(&one), Err(KeyMethodError::Method(1)));
    }

    #[test]
    fn passwords_are_not_printed() {
        let strings = KeyMethodStrings { password: Some(b"wonderland"), ..Default::default() };
        let server = ServerKeyMethod { random1: &[0x77; 32], random2: &[0x77; 32], strings };
        let text = format!("{server:?}");
        assert!(!text.contains("wonder") && !text.contains("119"), "{text}");
    }

    #[test]
    fn options_strings() {
        let mut options = OptionsString {
            link_mtu: 1541,
            tun_mtu: 1500,
            proto: "UDPv4",
            ifconfig: None,
            comp_lzo: false,
            fragment: false,
            key_direction: None,
            cipher: None,
            auth: "SHA1",
            key_size: 128,
            tls_auth: false,
            tls_server: false,
        };
        let text = "V4,dev-type tun,link-mtu 1541,tun-mtu 1500,proto UDPv4,auth SHA1,keysize 128,key-method 2,tls-client";
        assert_eq!(options.to_string(), text);
        (options.key_direction, options.tls_auth, options.tls_server) = (Some(0), true, true);
        (options.cipher, options.ifconfig) = (Some("AES-256-GCM"), Some(("10.78.0.1", "10.78.0.2")));
        options.fragment = true;
        let text = "V4,dev-type tun,link-mtu 1541,tun-mtu 1500,proto UDPv4,ifconfig 10.78.0.1 10.78.0.2,mtu-dynamic,keydir 0,\
                    cipher AES-256-GCM,auth SHA1,keysize 128,tls-auth,key-method 2,tls-server";
        assert_eq!(options.to_string(), text);
        assert_eq!(options_cipher(text), Some("AES-256-GCM"));
        assert_eq!(options_item(text, "tun-mtu"), Some("1500"));
        assert_eq!(options_item(text, "tls"), None);
        assert_eq!(options_item(text, "comp-lzo"), None);
        assert_eq!(options_item("V4,comp-lzo,x", "comp-lzo"), Some(""));
    }
}
