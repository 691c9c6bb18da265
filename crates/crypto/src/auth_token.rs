//! Authentication tokens of auth-gen-token.
