//! `netwatch completions SHELL`.

use std::io;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::exit::Exit;

/// For which shell.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// bash, zsh, fish, elvish or powershell
    shell: Shell,
}

pub(super) fn main(arguments: &CompletionsArgs) -> Exit {
    clap_complete::generate(arguments.shell, &mut super::Cli::command(), "netwatch", &mut io::stdout());
    Exit::Success
}
