//! What the user asked to watch, and how it is made ready.

pub mod mounts;
