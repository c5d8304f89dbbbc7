//! netwatch tells exactly what a program talks to. This library is the whole of it; the binary is a few lines.
//!
//! ARCHITECTURE.md at the top of the repository is the map.

pub mod error;
pub mod flow;
pub mod probe;
pub mod state;
