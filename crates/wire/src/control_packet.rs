//! Control packets: acks, message id, payload.
