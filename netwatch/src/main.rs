//! The `netwatch` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    netwatch::cli::main(std::env::args_os().collect()).into()
}
