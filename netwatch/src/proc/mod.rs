//! Parsers of /proc: one for each file that more than one module reads.

pub mod mountinfo;
pub mod stat;
