//! Secret bytes: wiped when dropped, never printed.
