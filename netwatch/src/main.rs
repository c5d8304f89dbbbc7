//! The `netwatch` program.

use std::process::ExitCode;

use netwatch::{cli, commands};

fn main() -> ExitCode {
    cli::parse(std::env::args_os().collect()).map_or_else(|exit| exit, commands::execute).into()
}
