//! Where reports go: pure formatting into a given writer. Opening files and asking the terminal are the caller's.

pub mod csv;
pub mod diff;
pub mod history;
pub mod html;
pub mod json;
pub mod markdown;
pub mod summary;
mod words;

pub use crate::escape::escape;
pub use crate::report::rfc3339;
