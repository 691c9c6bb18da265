//! Text messages of the control channel.
