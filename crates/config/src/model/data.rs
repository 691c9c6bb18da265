//! The data channel: ciphers, framing, MSS.

use std::fmt;
use std::time::Duration;

/// A cipher of the data channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cipher {
    /// AES-128-GCM.
    Aes128Gcm,
    /// AES-192-GCM.
    Aes192Gcm,
    /// AES-256-GCM.
    Aes256Gcm,
    /// ChaCha20-Poly1305.
    ChaCha20Poly1305,
}

impl Cipher {
    /// The default list, most wanted first.
    pub const DEFAULT: [Self; 3] = [Self::Aes256Gcm, Self::Aes128Gcm, Self::ChaCha20Poly1305];

    /// By name, any case; `None` for everything that is no AEAD cipher.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "AES-128-GCM" | "ID-AES128-GCM" => Self::Aes128Gcm,
            "AES-192-GCM" | "ID-AES192-GCM" => Self::Aes192Gcm,
            "AES-256-GCM" | "ID-AES256-GCM" => Self::Aes256Gcm,
            "CHACHA20-POLY1305" => Self::ChaCha20Poly1305,
            _ => return None,
        })
    }

    /// The name used in files and on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "AES-128-GCM",
            Self::Aes192Gcm => "AES-192-GCM",
            Self::Aes256Gcm => "AES-256-GCM",
            Self::ChaCha20Poly1305 => "CHACHA20-POLY1305",
        }
    }
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Compression framing to speak. Nothing sent is ever compressed; what comes compressed is expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// `comp-lzo no|yes|adaptive`: one byte before the packet; LZO1X may arrive.
    CompLzo,
    /// `compress lzo`: as [`Compression::CompLzo`].
    Lzo,
    /// `compress lz4`: one byte, swapped to the packet's end; LZ4 may arrive.
    Lz4,
    /// `compress lz4-v2`: the v2 framing; LZ4 may arrive.
    Lz4V2,
    /// `compress` or `compress stub`: one byte, swapped; never compressed.
    Stub,
    /// `compress stub-v2`: nothing unless the packet starts with 0x50.
    StubV2,
}

/// `allow-compression`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllowCompression {
    /// Refuse any framing.
    No,
    /// Expand, never compress. `yes` is the same here, with a warning.
    #[default]
    Asym,
}

/// `mssfix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MssFix {
    /// Off (`mssfix 0`).
    Off,
    /// Default: 1492 bytes counting all headers if the TUN MTU is 1500, else the TUN MTU. Where [`Data::fragment`] is set
    /// it does not occur: its size is the default.
    Default,
    /// Encapsulated packet at most this many bytes, outside IP header not counted (`mssfix N`).
    Payload(u16),
    /// Encapsulated packet at most this many bytes, outside IP and UDP header counted (`mssfix N mtu`).
    Mtu(u16),
    /// The inner MSS is this value (`mssfix N fixed`).
    Fixed(u16),
}

/// `fragment N [mtu]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Largest UDP payload in bytes (or outside packet, with [`Fragment::mtu`]).
    pub size: u16,
    /// Outside IP and UDP headers count.
    pub mtu: bool,
}

/// `replay-window N [T]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayWindow {
    /// Packets.
    pub packets: u32,
    /// Time.
    pub time: Duration,
}

/// Settings of the data channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// Ciphers offered, most wanted first; never empty.
    pub ciphers: Vec<Cipher>,
    /// Cipher for peers that cannot negotiate.
    pub cipher_fallback: Option<Cipher>,
    /// `cipher`, as written (it is told to old peers; it may be a non-AEAD one).
    pub cipher: Option<String>,
    /// Compression framing configured here.
    pub compression: Option<Compression>,
    /// Whether framing is allowed.
    pub allow_compression: AllowCompression,
    /// `compress migrate`: steer clients away from compression.
    pub compress_migrate: bool,
    /// TCP MSS clamp.
    pub mssfix: MssFix,
    /// Internal fragmentation.
    pub fragment: Option<Fragment>,
    /// Replay window of the control channel (data planes have their own).
    pub replay_window: ReplayWindow,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            ciphers: Cipher::DEFAULT.to_vec(),
            cipher_fallback: None,
            cipher: None,
            compression: None,
            allow_compression: AllowCompression::Asym,
            compress_migrate: false,
            mssfix: MssFix::Default,
            fragment: None,
            replay_window: ReplayWindow { packets: 64, time: Duration::from_secs(15) },
        }
    }
}
