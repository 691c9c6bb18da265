//! Epoch keys of the data channel.
