//! The validated settings of each subcommand, as plain values. No clap and no I/O: `cli` makes them
//! from the command line, `commands` acts on them.

mod benchmark;
mod ports;
mod recorded;
mod report;
mod run;
mod session;
pub(crate) mod value;
mod view;

use std::path::PathBuf;

pub use benchmark::{BenchSettings, BenchmarkOutput, CompareSettings, Compared, Repetition};
pub use ports::{PortsSettings, RunSource};
pub use recorded::{CheckSettings, DiffSettings, ExportSettings, HistorySettings, LearnSettings, ReplaySettings};
pub use report::{ReportFormat, ReportSettings};
pub use run::{CaptureOptions, HostPorts, LineTarget, Linger, RunSettings, SoakSettings};
pub use session::{
    AttachSettings, AttachTarget, EventFile, EventStyle, LogRotation, MetricsOptions, SessionSettings, StatusStyle,
};
pub use view::{TailSettings, TopSettings, ViewSettings};

/// One invocation of netwatch: a subcommand and its settings.
#[derive(Debug)]
pub enum Invocation {
    /// Run a command and report its traffic.
    Run(Box<RunSettings>),
    /// Meter what runs already, and report its traffic.
    Attach(Box<AttachSettings>),
    /// Report the traffic in a capture file.
    Replay(Box<ReplaySettings>),
    /// Print or write the packets of a live run.
    Tail(Box<TailSettings>),
    /// Show a live run in the terminal.
    Top(TopSettings),
    /// Generate a report from recorded runs.
    Report(Box<ReportSettings>),
    /// List the network access that a program needs.
    Ports(Box<PortsSettings>),
    /// Check whether runs reached only what a policy allows.
    Check(Box<CheckSettings>),
    /// Write the smallest policy that allows what runs reached.
    Learn(Box<LearnSettings>),
    /// Compare recorded runs.
    Diff(DiffSettings),
    /// Run a command repeatedly and measure it.
    Bench(Box<BenchSettings>),
    /// Compare the costs of two commands, or of recorded runs.
    Compare(Box<CompareSettings>),
    /// Check whether this machine can run netwatch.
    Doctor,
    /// List the runs in progress.
    List {
        /// Write JSON instead of a table.
        json: bool,
    },
    /// List, show or remove recorded runs.
    History(HistorySettings),
    /// Export tables from recorded runs.
    Export(ExportSettings),
    /// Remove what killed runs left on the host.
    Clean,
    /// Print this text: help, a man page, a completion script.
    Print(Vec<u8>),
    /// Print the set-up steps that a test build can make fail.
    #[cfg(feature = "faults")]
    Faults,
}

/// Which packets are captured, or counted by a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterOption {
    /// Those that match an expression of pcap-filter(7).
    Expression(String),
    /// Those that match the instructions in a file, as `tcpdump -ddd` prints them.
    Code(PathBuf),
}

/// When output is colored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}
