//! The 256-byte key block and its slices.
