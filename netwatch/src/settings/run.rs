//! The settings of `netwatch run`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::{ColorChoice, FilterOption};
use crate::format::summary;
use crate::packets::{Rotation, Selection};
use crate::threshold::Threshold;

/// What `netwatch run` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSettings {
    /// User that runs the command: a name or a uid. By default the caller of sudo, otherwise the
    /// user of netwatch.
    pub user: Option<String>,
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
    /// Subnets between host and namespace (CIDR): at most one for each address family; free ones by
    /// default.
    pub subnet: Vec<String>,
    /// Do not masquerade the command's addresses.
    pub no_nat: bool,
    /// Run also where the host lets the user of the command send nothing.
    pub bypass_output_policy: bool,
    /// Resolvers to use instead of the host's: addresses with or without a port.
    pub dns: Vec<String>,
    /// Published ports: `[ADDR:]HOST_PORT:PORT[/udp]`.
    pub publish: Vec<String>,
    /// Ports of the host's loopback that the command reaches by its own.
    pub host_loopback: Option<HostPorts>,
    /// Look up names of addresses without one after the command exits.
    pub resolve: bool,
    /// Name of the network namespace, for `ip netns`.
    pub name: Option<String>,
    /// End the command after this time; at most `MAX_TIME`.
    pub duration: Option<Duration>,
    /// Wait for background processes that outlive the command.
    pub linger: Option<Linger>,
    /// Maximum time to wait for unsent data of exited processes; at most
    /// `MAX_TIME`.
    pub drain_timeout: Duration,
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
    /// Make the secrets of TLS connections available to captures.
    pub keylog: bool,
    /// Show a live view of the run, and run the command on a terminal of its own.
    pub in_view: bool,
    /// How the run is shown while it lasts.
    pub status: StatusStyle,
    /// The capture of packets, if one was requested.
    pub capture: Option<CaptureOptions>,
    /// Size of the sample ring in KiB, a power of two.
    pub sample_buffer: u32,
    /// How the summary groups traffic.
    pub by: summary::GroupBy,
    /// Do not record process arguments.
    pub no_cmdline: bool,
    /// Record the errno of failed socket calls.
    pub failed_calls: bool,
    /// File for the recording. By default a file in the user's store.
    pub record: Option<PathBuf>,
    /// Do not record the run.
    pub no_record: bool,
    /// Number of recordings kept in the user's store, at least 1.
    pub keep: usize,
    /// Maximum total size of the recordings in the user's store, in bytes.
    pub keep_size: u64,
    /// Maximum size of the recording, in bytes.
    pub record_size: u64,
    /// Conditions under which the run fails.
    pub fail_if: Vec<Threshold>,
    /// The exit code if the command succeeds and one of them holds.
    pub fail_code: u8,
    /// The command and its arguments; not empty.
    pub command: Vec<OsString>,
}

/// Ports of the host's loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPorts {
    /// Those that the host serves when the run starts.
    All,
    /// These.
    Listed(Vec<u16>),
}

/// How events of connections are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventStyle {
    /// Lines of text.
    Text,
    /// Lines of JSON.
    Json,
}

/// How a run is shown while it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusStyle {
    /// A line on the terminal while the command writes nothing to it.
    Line,
    /// A line of JSON on standard error after each interval of this length.
    Json(Duration),
    /// Not at all.
    Off,
}

/// Where the lines of packets are printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineTarget {
    /// On standard error.
    StandardError,
    /// To a file.
    File(PathBuf),
}

/// How packets are captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureOptions {
    /// The file.
    pub file: Option<PathBuf>,
    /// Print a line for each packet.
    pub lines: Option<LineTarget>,
    /// The packets that are written and printed.
    pub only: Selection,
    /// Replace an existing file.
    pub force: bool,
    /// Maximum number of bytes of each packet.
    pub snaplen: u32,
    /// End the capture after this number of packets.
    pub count: Option<u64>,
    /// Begin a new file when the current one has this length in bytes.
    pub file_size: Option<u64>,
    /// Begin a new file after this time.
    pub file_time: Option<Duration>,
    /// Number of files that are kept.
    pub file_count: Option<u32>,
    /// Which packets are captured.
    pub filter: Option<FilterOption>,
    /// Capture packets that the command sends.
    pub egress: bool,
    /// Capture packets that the command receives.
    pub ingress: bool,
    /// Write packets as they arrive.
    pub unbuffered: bool,
    /// Keep super-frames as they were observed.
    pub super_frames: bool,
    /// Size of the ring in KiB, a power of two.
    pub buffer: u32,
}

impl CaptureOptions {
    /// When a new file begins.
    pub fn rotation(&self) -> Rotation {
        Rotation { max_bytes: self.file_size, max_time: self.file_time, max_files: self.file_count }
    }
}

/// How long to wait for background processes that outlive the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linger {
    /// Until the last process exits.
    Forever,
    /// At most this long.
    For(Duration),
}
