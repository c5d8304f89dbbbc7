//! The subcommands: what was typed. One file each.

pub mod doctor;
