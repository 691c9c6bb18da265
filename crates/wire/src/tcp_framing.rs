//! Length-prefixed packets in a TCP stream.
