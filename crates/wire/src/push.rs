//! Push replies and their option lines.
