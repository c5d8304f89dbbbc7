//! What differs between runs: endpoints, ports, protocols, names, processes and failures that appeared, vanished, or changed by more than a
//! threshold. Pure; docs/diff.md is the manual. Not: how it is written, which is [`crate::format::diff`]'s.

mod book;
mod compare;
mod picture;
mod range;
mod subject;

pub use compare::{Change, Difference, How, Measure, Side, compare};
pub use range::Range;
pub use subject::{Kind, Port, Subject};

/// What counts as a difference.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Numbers have to differ by more than this factor, at least 1.
    pub factor: f64,
    /// And by at least so many bytes on the wire.
    pub min_bytes: u64,
    /// Or by at least so many connections, questions, processes or attempts.
    pub min_count: u64,
    /// What is compared.
    pub only: Vec<Kind>,
    /// In what way.
    pub hows: Vec<How>,
}

impl Default for Options {
    fn default() -> Self {
        Self { factor: 2.0, min_bytes: 10_000, min_count: 10, only: Kind::ALL.into(), hows: How::ALL.into() }
    }
}
