//! The settings of `netwatch bench` and `netwatch compare`.

use std::ffi::OsString;
use std::path::PathBuf;

use super::RunSettings;
use crate::format::benchmark::BenchmarkFormat;

/// What `netwatch bench` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BenchSettings {
    /// How the command is run.
    pub run: RunSettings,
    /// How often.
    pub repetition: Repetition,
    /// Where the result is written.
    pub output: BenchmarkOutput,
}

/// What `netwatch compare` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompareSettings {
    /// What is compared.
    pub compared: Compared,
    /// Where the result is written.
    pub output: BenchmarkOutput,
}

/// The two sides of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// Runs by number, id or file.
    Recorded([Vec<String>; 2]),
    /// Commands, which are run in turn.
    Commands {
        /// How they are run.
        sides: Box<[RunSettings; 2]>,
        /// How often.
        repetition: Repetition,
    },
}

/// How often a command is run, and what happens around each run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repetition {
    /// Number of measured runs, at least 1.
    pub runs: usize,
    /// Number of runs before them that are not measured.
    pub warmup: usize,
    /// A shell command before each run, which is not metered.
    pub prepare: Option<OsString>,
    /// Continue although a run of the command fails.
    pub ignore_failure: bool,
    /// Write the output of the command to standard error.
    pub show_output: bool,
}

/// Where the result of a benchmark is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BenchmarkOutput {
    /// Its format.
    pub format: BenchmarkFormat,
    /// The file; standard output by default.
    pub file: Option<PathBuf>,
}
