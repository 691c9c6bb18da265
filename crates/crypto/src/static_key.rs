//! Static key files.
