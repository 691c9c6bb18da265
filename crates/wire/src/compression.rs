//! Compression framings of old peers: spoken and expanded, never applied.
