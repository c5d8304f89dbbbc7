//! Where reports go: pure formatting into a given writer. Opening files and asking the terminal are the caller's.

mod escape;
pub mod history;
pub mod json;
mod rfc3339;
pub mod summary;

pub use escape::escape;
pub use rfc3339::rfc3339;
