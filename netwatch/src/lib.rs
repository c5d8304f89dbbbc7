//! netwatch runs a command in its own network namespace and reports exactly what it talks to. The
//! program `netwatch` is a few lines around this library.
//!
//! ARCHITECTURE.md at the top of the repository gives an overview of the modules.

pub mod allow;
pub mod benchmark;
pub mod capture;
pub mod cli;
pub mod commands;
pub mod confine;
pub mod consumer;
pub mod dashboard;
pub mod diff;
pub mod dns;
pub mod doctor;
pub mod error;
pub mod escape;
pub mod exit;
pub mod export;
mod faults;
pub mod filter;
pub mod flow;
pub mod format;
pub mod guardian;
pub mod host;
pub mod import;
pub mod loopback;
mod manual;
pub mod meter;
pub mod name;
pub mod output_policy;
pub mod packets;
mod pidfd;
pub mod policy;
mod proc;
pub mod process;
pub mod readiness;
pub mod record;
pub mod replay;
pub mod report;
mod rights;
pub mod seccomp;
pub mod session;
pub mod settings;
pub mod soak;
pub mod statistics;
pub mod target;
mod terminal;
pub mod threshold;
pub mod undo;
pub mod wire;
