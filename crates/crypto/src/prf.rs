//! TLS 1.0 PRF and the key-method-2 key expansion.
