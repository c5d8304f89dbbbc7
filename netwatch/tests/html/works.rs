//! The page at work.
