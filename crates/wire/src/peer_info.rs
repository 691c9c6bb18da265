//! Peer information lines and IV_PROTO bits.
//!
//! Lines `NAME=value` in the key-method-2 message tell the other side who one is and what one can do. Nothing in the
//! protocol depends on versions: features are negotiated by [`IvProto`] bits.
//! Source: OpenVPN wire protocol, "Peer info".

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// The most lines that are read; the rest is dropped.
const MAX_LINES: usize = 256;

/// Feature bits of `IV_PROTO`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct IvProto(u32);

impl IvProto {
    /// No feature.
    pub const NONE: Self = Self(0);
    /// DATA_V2 packets with a peer id; set whenever any bit is.
    pub const DATA_V2: Self = Self(1 << 1);
    /// The server may push without being asked.
    pub const REQUEST_PUSH: Self = Self(1 << 2);
    /// Data keys from the TLS exporter.
    pub const TLS_KEY_EXPORT: Self = Self(1 << 3);
    /// AUTH_PENDING with keywords.
    pub const AUTH_PENDING_KEYWORDS: Self = Self(1 << 4);
    /// Negotiation between point-to-point peers.
    pub const P2P_NCP: Self = Self(1 << 5);
    /// The `dns` option as 2.6 had it.
    pub const OLD_DNS_OPTION: Self = Self(1 << 6);
    /// The EXIT message and `protocol-flags`.
    pub const CC_EXIT: Self = Self(1 << 7);
    /// AUTH_FAILED,TEMP.
    pub const AUTH_FAILED_TEMP: Self = Self(1 << 8);
    /// Dynamic tls-crypt for renegotiations.
    pub const DYNAMIC_TLS_CRYPT: Self = Self(1 << 9);
    /// The epoch data format.
    pub const EPOCH_DATA: Self = Self(1 << 10);
    /// The `dns` option.
    pub const DNS_OPTION: Self = Self(1 << 11);
    /// PUSH_UPDATE.
    pub const PUSH_UPDATE: Self = Self(1 << 12);

    /// The bits of this number.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The number that is sent.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of these bits are set.
    pub const fn contains(self, bits: Self) -> bool {
        self.0 & bits.0 == bits.0
    }

    /// These bits and those.
    #[must_use]
    pub const fn with(self, bits: Self) -> Self {
        Self(self.0 | bits.0)
    }

    /// These bits without those.
    #[must_use]
    pub const fn without(self, bits: Self) -> Self {
        Self(self.0 & !bits.0)
    }
}

impl BitOr for IvProto {
    type Output = Self;

    fn bitor(self, bits: Self) -> Self {
        self.with(bits)
    }
}

impl BitOrAssign for IvProto {
    fn bitor_assign(&mut self, bits: Self) {
        *self = self.with(bits);
    }
}

impl fmt::Display for IvProto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for IvProto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IvProto({:#x})", self.0)
    }
}

/// `NAME=value` lines in the order they were sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerInfo {
    lines: Vec<(String, String)>,
}

impl PeerInfo {
    /// No lines.
    pub const fn new() -> Self {
        Self { lines: Vec::new() }
    }

    /// Reads what a peer sent. Lines without `=` are dropped; bytes that are no UTF-8 are replaced.
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let lines = text.lines().filter_map(|line| {
            let (name, value) = line.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        Self { lines: lines.take(MAX_LINES).collect() }
    }

    /// Adds a line.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.lines.push((name.to_owned(), value.to_string()));
        self
    }

    /// The value of the first line with this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.lines.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All lines.
    pub fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The feature bits; none if the line is missing or no number.
    pub fn iv_proto(&self) -> IvProto {
        self.get("IV_PROTO").and_then(|value| value.trim().parse().ok()).map_or(IvProto::NONE, IvProto)
    }

    /// The data ciphers that the peer offers, in its order: `IV_CIPHERS`, or both AES-GCM of `IV_NCP=2`, or none.
    pub fn ciphers(&self) -> Vec<&str> {
        match self.get("IV_CIPHERS") {
            Some(list) => list.split(':').filter(|name| !name.is_empty()).collect(),
            None if self.negotiates_ciphers() => vec!["AES-256-GCM", "AES-128-GCM"],
            None => Vec::new(),
        }
    }

    /// Whether the peer takes a pushed cipher.
    pub fn negotiates_ciphers(&self) -> bool {
        let ncp = || self.get("IV_NCP").and_then(|value| value.trim().parse::<u32>().ok());
        self.get("IV_CIPHERS").is_some() || ncp().is_some_and(|level| level >= 2)
    }

    /// The largest tun MTU that may be pushed; a missing line means that none may.
    pub fn mtu(&self) -> Option<u32> {
        self.get("IV_MTU")?.trim().parse().ok()
    }

    /// The ways of pending authentication that the peer knows.
    pub fn sso_methods(&self) -> impl Iterator<Item = &str> {
        self.get("IV_SSO").unwrap_or_default().split(',').filter(|method| !method.is_empty())
    }

    /// The lines that scripts may see as environment variables, cleaned: names that start with `IV_` or `UV_` (and
    /// `ID`) of letters, digits and underscores; in values, white space, unprintable characters, `$`, `(` and the
    /// back quote become `_`. Lines are cut at 255 bytes.
    pub fn environment(&self) -> impl Iterator<Item = (&str, String)> {
        self.lines().filter_map(|(name, value)| {
            let wanted = name.starts_with("IV_") || name.starts_with("UV_") || name == "ID";
            if !wanted || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return None;
            }
            let room = 255usize.checked_sub(name.len() + 1)?;
            let clean = value.chars().map(|c| match c {
                '$' | '(' | '`' => '_',
                c if c.is_whitespace() || c.is_control() => '_',
                c => c,
            });
            let mut cleaned = String::new();
            for c in clean {
                if cleaned.len() + c.len_utf8() > room {
                    break;
                }
                cleaned.push(c);
            }
            Some((name, cleaned))
        })
    }
}

impl fmt::Display for PeerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|(name, value)| writeln!(f, "{name}={value}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bits_of_real_peers() {
        let bits = |list: &[u32]| IvProto(list.iter().map(|bit| 1 << bit).sum());
        assert_eq!(bits(&[1, 2, 3, 4, 6, 7, 8, 9]).bits(), 990);
        let p2p = IvProto::DATA_V2
            | IvProto::TLS_KEY_EXPORT
            | IvProto::P2P_NCP
            | IvProto::OLD_DNS_OPTION
            | IvProto::CC_EXIT
            | IvProto::DYNAMIC_TLS_CRYPT;
        assert_eq!(p2p.bits(), 746);
        let newest = bits(&[1, 2, 3, 4, 7, 8, 9, 10, 11, 12]);
        assert_eq!(newest.bits(), 8094);
        assert_eq!(newest.without(IvProto::EPOCH_DATA | IvProto::PUSH_UPDATE).bits(), 2974);
        assert!(newest.contains(IvProto::DNS_OPTION) && !newest.contains(IvProto::P2P_NCP));
    }

    #[test]
    fn lines_of_a_real_peer() {
        let text = "IV_VER=2.6.14\nIV_PLAT=linux\nIV_MTU=1600\nIV_NCP=2\nIV_PROTO=990\nIV_SSO=openurl,webauth\nnoise\n";
        let info = PeerInfo::parse(text.as_bytes());
        assert_eq!(info.iv_proto().bits(), 990);
        assert_eq!(info.mtu(), Some(1600));
        assert_eq!(info.ciphers(), ["AES-256-GCM", "AES-128-GCM"]);
        assert_eq!(info.sso_methods().collect::<Vec<_>>(), ["openurl", "webauth"]);
        assert_eq!(info.to_string(), text.replace("noise\n", ""));
        let old = PeerInfo::new().with("IV_NCP", 1);
        assert!(!old.negotiates_ciphers() && old.ciphers().is_empty());
        assert_eq!(PeerInfo::parse(b"IV_CIPHERS=A::B\n").ciphers(), ["A", "B"]);
    }

    #[test]
    fn scripts_see_clean_lines() {
        let info = PeerInfo::new()
            .with("IV_GUI_VER", "TestGUI 1.0")
            .with("UV_X", "$(reboot)`é`")
            .with("IV_BAD-NAME", 1)
            .with("LD_PRELOAD", "x")
            .with("UV_LONG", "y".repeat(300));
        let seen: Vec<_> = info.environment().collect();
        assert_eq!(seen[0], ("IV_GUI_VER", "TestGUI_1.0".to_owned()));
        assert_eq!(seen[1], ("UV_X", "__reboot)_é_".to_owned()));
        assert_eq!((seen[2].0, seen[2].1.len()), ("UV_LONG", 247));
        assert_eq!(seen.len(), 3);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let info = PeerInfo::parse(&bytes);
            for (_, value) in info.environment() {
                prop_assert!(value.len() < 255 && !value.contains('$'));
            }
            let again = PeerInfo::parse(info.to_string().as_bytes());
            prop_assert_eq!(again.lines().count(), info.lines().count());
        }
    }
}
