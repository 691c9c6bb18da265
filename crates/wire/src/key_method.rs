//! The key-method-2 message.
