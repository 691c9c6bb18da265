//! The OpenVPN configuration language.
//!
//! ```text
//!  bytes ──lexer──► lines of tokens ──statement──► options with spans ──build──► Config (typed)
//!            │                │ one table of options │                   │
//!            └────────────────┴──── diagnostics ─────┴───────────────────┘
//! ```
//!
//! Nothing here opens a file: a reader is passed in.
#![forbid(unsafe_code)]

pub mod model;
pub mod source;

pub use model::Config;
pub use source::{Place, SourceId, Sources, Span};
