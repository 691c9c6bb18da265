//! Peer information lines and IV_PROTO bits.
