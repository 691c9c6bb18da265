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

mod build;
pub mod diagnostic;
pub mod features;
pub mod lexer;
mod load;
pub mod manual;
pub mod model;
pub mod source;
pub mod statement;
pub mod table;

pub use diagnostic::{Class, Diagnostic};
pub use features::{Feature, Wanted, features_wanted};
pub use load::{Loaded, PushResult, load_client_options, load_command_line, load_file, load_text};
pub use model::Config;
pub use source::{Place, SourceId, Sources, Span};
pub use statement::{NoFiles, Parser, Reader};
