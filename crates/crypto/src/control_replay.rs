//! Replay window of the control channel.
