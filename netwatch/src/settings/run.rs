//! The settings of `netwatch run`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::{FilterOption, SessionSettings};
use crate::packets::{Rotation, Selection};

/// What `netwatch run` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSettings {
    /// Settings that every live session has.
    pub session: SessionSettings,
    /// User that runs the command: a name or a uid. By default the caller of sudo, otherwise the
    /// user of netwatch.
    pub user: Option<String>,
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
    /// Name of the network namespace, for `ip netns`.
    pub name: Option<String>,
    /// End the command after this time; at most `MAX_TIME`.
    pub duration: Option<Duration>,
    /// Wait for background processes that outlive the command.
    pub linger: Option<Linger>,
    /// Maximum time to wait for unsent data of exited processes; at most
    /// `MAX_TIME`.
    pub drain_timeout: Duration,
    /// Make the secrets of TLS connections available to captures.
    pub keylog: bool,
    /// Show a live view of the run, and run the command on a terminal of its own.
    pub in_view: bool,
    /// The capture of packets, if one was requested.
    pub capture: Option<CaptureOptions>,
    /// Record the errno of failed socket calls.
    pub failed_calls: bool,
    /// A long run: findings, and interim reports as files.
    pub soak: Option<SoakSettings>,
    /// The command and its arguments; not empty.
    pub command: Vec<OsString>,
}

/// Settings of a soak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoakSettings {
    /// An interim report is written after each time of this length.
    pub report_every: Duration,
    /// The folder of interim reports; `None` for the current one.
    pub report_dir: Option<PathBuf>,
}

/// Ports of the host's loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPorts {
    /// Those that the host serves when the run starts.
    All,
    /// These.
    Listed(Vec<u16>),
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
