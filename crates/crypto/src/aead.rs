//! Data-channel ciphers.
