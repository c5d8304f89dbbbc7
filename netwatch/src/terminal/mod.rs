//! What every subcommand needs to show something: the terminal's width and colors, standard output, report files, a spinner. Not what is
//! shown: that is [`crate::format`].

mod output;
mod print;
mod show;
mod spinner;

use std::io::Write;

pub(crate) use output::{BUFFER, Output};
pub(crate) use print::{print, print_by};
pub(crate) use show::{PLAIN_WIDTH, Show};
pub(crate) use spinner::Spinner;

use crate::error::Error;

/// Prints an error on standard error. A closed standard error changes nothing.
pub(crate) fn complain(error: &Error) {
    complain_text(&error.to_string());
}

/// Prints a line on standard error, after the program's name.
pub(crate) fn complain_text(message: &str) {
    let _ = writeln!(std::io::stderr(), "netwatch: {message}");
}
