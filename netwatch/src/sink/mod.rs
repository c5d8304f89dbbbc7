//! Where reports go: pure formatting into a given writer. Opening files and asking the terminal are the caller's.

mod escape;
pub mod json;
pub mod summary;

pub use escape::escape;
pub use crate::report::rfc3339;
