//! netwatch's exit codes: one type, documented, with a promise that they stay.

use std::process::ExitCode;

/// How a netwatch command ends, and the code that says so.
///
/// | code | meaning |
/// |---|---|
/// | 0–255 | `run`: the command's own exit code |
/// | 128+N | `run`: the command was killed by signal N, or netwatch was asked to end by it before the command ran |
/// | 124 | `run`: `--duration` ended the command |
/// | 125 | netwatch itself failed |
/// | 126 | `run`: the command was found but could not be executed |
/// | 127 | `run`: the command was not found |
/// | 0 / 1 / 2 | other commands: fine / the answer is no / trouble, as grep does it (2 also for a mistyped command line) |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Success,
    /// An asking command (`doctor`, `clean`) answers no.
    No,
    /// A mistyped command line outside `run`.
    Usage,
    /// The watched command ended by itself with this code.
    Command(u8),
    /// The watched command was killed by this signal; or it came while netwatch still set up.
    Signalled(i32),
    /// `--duration` ended the command.
    Duration,
    /// netwatch failed, whatever the command did.
    Failed,
    /// The command could not be executed.
    NotExecutable,
    /// The command was not found.
    NotFound,
}

impl Exit {
    /// The number the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::No => 1,
            Self::Usage => 2,
            Self::Command(code) => code,
            Self::Signalled(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            Self::Duration => 124,
            Self::Failed => 125,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_promised_ones() {
        let table = [
            (Exit::Success, 0),
            (Exit::No, 1),
            (Exit::Usage, 2),
            (Exit::Command(7), 7),
            (Exit::Command(255), 255),
            (Exit::Signalled(libc::SIGTERM), 143),
            (Exit::Signalled(libc::SIGKILL), 137),
            (Exit::Signalled(64), 192),
            (Exit::Duration, 124),
            (Exit::Failed, 125),
            (Exit::NotExecutable, 126),
            (Exit::NotFound, 127),
        ];
        for (exit, code) in table {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
    }
}
