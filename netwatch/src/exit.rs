//! The exit codes of netwatch. They are part of its interface and do not change.

use std::process::ExitCode;

/// The code of [`Exit::Threshold`] without `--fail-code`.
pub const DEFAULT_THRESHOLD_CODE: u8 = 121;

/// How a subcommand ends, and its exit code.
///
/// | code | meaning |
/// |---|---|
/// | 0–255 | `run`: the command's own exit code |
/// | 128+N | `run`: signal N killed the command, or ended netwatch before the command ran |
/// | 121 | `run`, `attach`: a threshold of `--fail-if` was crossed, or the code of `--fail-code` |
/// | 124 | `run`: `--duration` ended the command |
/// | 125 | `run`: netwatch failed, or its command line is invalid |
/// | 126 | `run`: the command is not executable |
/// | 127 | `run`: the command was not found |
/// | 0 / 1 / 2 | other subcommands, as grep: success / negative result / error |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Success.
    Success,
    /// A negative result: `run` would fail here, something changed or is not allowed, a capture is
    /// damaged, the clean-up failed.
    Negative,
    /// A subcommand other than `run` failed, or its command line is invalid.
    Error,
    /// The command exited with this code.
    Command(u8),
    /// This signal killed the command, or ended netwatch during the set-up.
    Signalled(i32),
    /// The command succeeded, and a threshold was crossed: the code of `--fail-code`.
    Threshold(u8),
    /// `--duration` ended the command.
    Duration,
    /// netwatch failed, regardless of the command.
    Failed,
    /// The command could not be executed.
    NotExecutable,
    /// The command was not found.
    NotFound,
}

impl Exit {
    /// The exit code of the process.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Negative => 1,
            Self::Error => 2,
            Self::Command(code) | Self::Threshold(code) => code,
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
    fn exit_codes_are_stable() {
        let table = [
            (Exit::Success, 0),
            (Exit::Negative, 1),
            (Exit::Error, 2),
            (Exit::Command(7), 7),
            (Exit::Command(255), 255),
            (Exit::Signalled(libc::SIGTERM), 143),
            (Exit::Signalled(libc::SIGKILL), 137),
            (Exit::Signalled(64), 192),
            (Exit::Threshold(DEFAULT_THRESHOLD_CODE), 121),
            (Exit::Threshold(3), 3),
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
