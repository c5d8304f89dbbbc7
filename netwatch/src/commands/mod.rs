//! What each subcommand does.

pub mod run;
