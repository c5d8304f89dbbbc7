//! The settings of every live session, of `run` and of `attach`, and those of `attach` itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{CaptureOptions, ColorChoice};
use crate::consumer::ipfix::IpfixTarget;
use crate::consumer::metrics::MetricLabel;
use crate::consumer::otlp::{OtlpOptions, OtlpTarget};
use crate::format::summary;
use crate::threshold::Threshold;

/// How a session meters, and what it writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSettings {
    /// File for the report.
    pub output: Option<PathBuf>,
    /// Report as JSON instead of text.
    pub json: bool,
    /// Print no report.
    pub quiet: bool,
    /// Print what was set up.
    pub verbose: bool,
    /// When the summary is colored.
    pub color: ColorChoice,
    /// Look up names of addresses without one at the end.
    pub resolve: bool,
    /// Maximum number of flows counted individually.
    pub max_flows: u32,
    /// A flow without packets for this time ends, except for TCP; at least a second.
    pub idle_timeout: Duration,
    /// Sample one packet in this many, in addition to the first packets of each flow and DNS.
    pub sample: Option<u32>,
    /// Bytes of those packets, from the Ethernet header on.
    pub sample_snaplen: u32,
    /// Write events of connections to standard error.
    pub events: Option<EventStyle>,
    /// Write them to a file instead.
    pub event_file: Option<EventFile>,
    /// Serve metrics for Prometheus.
    pub metrics: Option<MetricsOptions>,
    /// Where flow records are exported.
    pub ipfix: Vec<IpfixTarget>,
    /// Receivers of OpenTelemetry.
    pub otlp: Vec<OtlpTarget>,
    /// How these are reached.
    pub otlp_options: OtlpOptions,
    /// How the session is shown while it lasts.
    pub status: StatusStyle,
    /// Size of the sample ring in KiB, a power of two.
    pub sample_buffer: u32,
    /// How the summary groups traffic.
    pub by: summary::GroupBy,
    /// Do not record process arguments.
    pub no_cmdline: bool,
    /// File for the recording. By default a file in the user's store.
    pub record: Option<PathBuf>,
    /// Do not record the session.
    pub no_record: bool,
    /// It is a run of a benchmark, whose recordings have limits of their own.
    pub is_benchmark: bool,
    /// Number of recordings of this kind kept in the user's store, at least 1.
    pub keep: usize,
    /// Maximum total size of the recordings of this kind in the user's store, in bytes.
    pub keep_size: u64,
    /// Maximum size of the recording, in bytes.
    pub record_size: u64,
    /// Conditions under which the session fails.
    pub fail_if: Vec<Threshold>,
    /// The exit code if nothing else failed and one of them holds.
    pub fail_code: u8,
}

impl SessionSettings {
    /// Whether standard error will have nothing but the report as a JSON document.
    pub fn is_document(&self) -> bool {
        self.json && self.output.is_none() && !self.quiet
    }

    /// Whether the report is printed on standard error, as a summary or as a document: with `-o`,
    /// text is only in the file.
    pub fn prints_report(&self) -> bool {
        !self.quiet && (self.json || self.output.is_none())
    }

    /// Whether messages about the session may be printed on standard error.
    pub fn prints_messages(&self) -> bool {
        !self.quiet && !self.is_document()
    }

    /// Whether a status line may be shown on the terminal.
    pub fn has_status_line(&self) -> bool {
        self.status == StatusStyle::Line && !self.quiet
    }
}

/// Metrics for Prometheus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsOptions {
    /// Where they are served; port 0 chooses a free port.
    pub address: SocketAddr,
    /// The labels of the series of traffic, each once.
    pub labels: Vec<MetricLabel>,
}

/// How events of connections are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventStyle {
    /// Lines of text.
    Text,
    /// Lines of JSON.
    Json,
}

/// A log file of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFile {
    /// Its path.
    pub path: PathBuf,
    /// What it contains.
    pub style: EventStyle,
    /// When another one begins.
    pub rotation: LogRotation,
}

/// How long log files become, and how many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRotation {
    /// Bytes after which a new file begins, at the next end of a line.
    pub max_bytes: u64,
    /// Number of files, at least 1, with the one that is written.
    pub max_files: u32,
}

/// How a session is shown while it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusStyle {
    /// A line on the terminal while the command writes nothing to it.
    Line,
    /// A line of JSON on standard error after each interval of this length.
    Json(Duration),
    /// Not at all.
    Off,
}

/// What `netwatch attach` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachSettings {
    /// Settings that every live session has.
    pub session: SessionSettings,
    /// What is metered; not empty.
    pub targets: Vec<AttachTarget>,
    /// Only the sockets of the processes among the targets and of their descendants, by their
    /// cgroups.
    pub only_processes: bool,
    /// End after this time; at most `MAX_TIME`.
    pub duration: Option<Duration>,
    /// Show a live view, with the messages of netwatch in a view of its own.
    pub in_view: bool,
    /// The capture of packets, if one was requested.
    pub capture: Option<CaptureOptions>,
    /// The capture is not only that of variables, which do not apply to every target.
    pub is_capture_typed: bool,
    /// The words of the command line that name the targets, for the report.
    pub words: Vec<String>,
}

/// What is metered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachTarget {
    /// A network namespace: a name of `ip netns`, or a path.
    Namespace(String),
    /// The network namespace of a process, or its cgroup if it uses that of netwatch.
    Process(u32),
    /// The same of a container: its name, or its id.
    Container(String),
    /// An interface of the network namespace of netwatch.
    Interface {
        /// Its name.
        name: String,
        /// The target is at the other end: it sends what the interface receives.
        is_peer: bool,
    },
    /// The sockets of a cgroup (v2): a path.
    Cgroup(String),
    /// Those of a unit of systemd.
    Unit(String),
}
