//! `netwatch clean`: undo what killed runs left behind.

use crate::error::Result;
use crate::exit::Exit;
use crate::terminal::complain;
use crate::undo;

pub(super) fn main() -> Exit {
    match clean() {
        Ok(cleaned) => {
            eprintln!("netwatch: {}", said(cleaned));
            Exit::Success
        }
        Err(error) => {
            complain(&error);
            Exit::No
        }
    }
}

fn clean() -> Result<usize> {
    let held = undo::Exclusive::take()?;
    crate::commands::undo_steps().undo_dead_runs(&held)
}

fn said(cleaned: usize) -> String {
    match cleaned {
        0 => "nothing to clean".into(),
        1 => "cleaned up after 1 run".into(),
        n => format!("cleaned up after {n} runs"),
    }
}
