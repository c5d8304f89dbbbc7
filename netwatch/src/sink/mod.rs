//! Where reports go: pure formatting into a given writer. Opening files and asking the terminal are the caller's.

pub mod csv;
mod escape;
pub mod history;
pub mod html;
pub mod json;
pub mod markdown;
mod rfc3339;
pub mod summary;
mod words;

pub use escape::escape;
pub use rfc3339::rfc3339;
