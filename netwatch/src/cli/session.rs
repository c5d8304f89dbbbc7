//! The flags of every live session: of `run` and of `attach`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum, ValueHint, value_parser};

use super::fleet::FleetArgs;
use super::{ByArg, ColorArgs};
use crate::error::Result;
use crate::exit::DEFAULT_THRESHOLD_CODE;
use crate::meter::{MAX_ENTRIES, defaults};
use crate::settings::value::{
    extension, is_json_report, parse_file_size, parse_idle_timeout, parse_keep, parse_ring_kib, parse_size,
    parse_status,
};
use crate::settings::{EventFile, EventStyle, LogRotation, SessionSettings, StatusStyle};
use crate::threshold::{Threshold, ThresholdError};

#[derive(Debug, Args)]
pub(super) struct SessionArgs {
    /// Write the report to FILE
    ///
    /// A text summary, or JSON with --json or if FILE ends in .json. Only its owner can read a new
    /// file.
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "NETWATCH_OUTPUT",
        value_hint = ValueHint::FilePath
    )]
    output: Option<PathBuf>,

    /// Write the report as JSON: to the file of -o, or to standard error
    #[arg(short, long, env = "NETWATCH_JSON", value_parser = FalseyValueParser::new())]
    json: bool,

    /// Print no report; files are still written
    #[arg(short, long, env = "NETWATCH_QUIET", value_parser = FalseyValueParser::new())]
    quiet: bool,

    /// Print what was set up, and add diagnostics to the summary
    #[arg(short, long, env = "NETWATCH_VERBOSE", value_parser = FalseyValueParser::new())]
    verbose: bool,

    #[command(flatten)]
    color: ColorArgs,

    /// Group the traffic in the summary by endpoint or by process
    #[arg(long, value_name = "WHAT", default_value = "endpoint", env = "NETWATCH_BY")]
    by: ByArg,

    #[command(flatten)]
    flows: FlowArgs,

    /// Also sample the head of one packet in N
    ///
    /// The first packets of each flow and all DNS messages are always sampled, because they carry
    /// names.
    #[arg(
        long,
        value_name = "N",
        value_parser = value_parser!(u32).range(1..),
        env = "NETWATCH_SAMPLE",
        help_heading = METERING
    )]
    sample: Option<u32>,

    /// Bytes of each packet that --sample copies, from the Ethernet header on
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = defaults::SNAPLEN,
        value_parser = value_parser!(u32).range(14..=4544),
        env = "NETWATCH_SAMPLE_SNAPLEN",
        help_heading = METERING
    )]
    sample_snaplen: u32,

    /// Size of the sample buffer in KiB, a power of two
    #[arg(
        long,
        value_name = "KIB",
        default_value_t = defaults::SAMPLE_RING_BYTES / 1024,
        value_parser = parse_ring_kib,
        env = "NETWATCH_SAMPLE_BUFFER",
        help_heading = METERING
    )]
    sample_buffer: u32,

    /// Look up names of unnamed addresses at the end
    ///
    /// With PTR queries to the host's resolvers: at most 256 addresses, for at most 3 seconds.
    #[arg(long, env = "NETWATCH_RESOLVE", value_parser = FalseyValueParser::new(), help_heading = METERING)]
    resolve: bool,

    /// Neither record nor print arguments of the command and its processes
    ///
    /// They can contain secrets.
    #[arg(long, env = "NETWATCH_NO_CMDLINE", value_parser = FalseyValueParser::new(), help_heading = METERING)]
    no_cmdline: bool,

    /// Print a line when a connection opens, is named, fails or ends
    ///
    /// On standard error, as text or as JSON lines. See `netwatch help events`.
    #[arg(
        long,
        value_name = "FORMAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "text",
        env = "NETWATCH_EVENTS",
        help_heading = METERING
    )]
    events: Option<EventsArg>,

    #[command(flatten)]
    event_file: EventFileArgs,

    /// What standard error shows meanwhile: line, json[:TIME] or off
    ///
    /// A line at the bottom of the terminal appears when nothing else was written to it for two
    /// seconds. json prints a line of JSON every 10 seconds, or every TIME, for logs.
    /// See `netwatch help live`. -q turns the line off.
    #[arg(
        long,
        value_name = "HOW",
        value_parser = parse_status,
        default_value = "line",
        env = "NETWATCH_STATUS",
        // The last one counts: `--tui` puts one first.
        overrides_with = "status",
        help_heading = METERING
    )]
    status: StatusStyle,

    #[command(flatten)]
    fleet: FleetArgs,

    /// Record the run to FILE and replace an older recording there
    ///
    /// By default the run is recorded to your store, which keeps the newest runs: see `netwatch
    /// history`.
    #[arg(
        long,
        value_name = "FILE",
        env = "NETWATCH_RECORD",
        value_hint = ValueHint::FilePath,
        help_heading = RECORDING
    )]
    record: Option<PathBuf>,

    /// Do not record the run
    #[arg(
        long,
        conflicts_with = "record",
        env = "NETWATCH_NO_RECORD",
        value_parser = FalseyValueParser::new(),
        help_heading = RECORDING
    )]
    no_record: bool,

    /// Maximum number of recordings in your store
    #[arg(
        long,
        value_name = "N",
        default_value_t = 50,
        value_parser = parse_keep,
        env = "NETWATCH_KEEP",
        help_heading = RECORDING
    )]
    keep: usize,

    /// Maximum total size of the recordings in your store
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "1G",
        value_parser = parse_size,
        env = "NETWATCH_KEEP_SIZE",
        help_heading = RECORDING
    )]
    keep_size: u64,

    /// Maximum size of the recording; beyond it, flows that ended are folded
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "512M",
        value_parser = parse_size,
        env = "NETWATCH_RECORD_SIZE",
        help_heading = RECORDING
    )]
    record_size: u64,

    /// Fail if this holds: 'p99(connect) > 50ms' (repeatable)
    ///
    /// `run` fails also if its command succeeds. QUANTITY COMPARISON VALUE, such as 'failed > 0',
    /// 'open > 500 for 5m' or 'retransmit_ratio > 1%'. `failed` are connection attempts; failed DNS
    /// lookups (NXDOMAIN) are `dns_failed`. `netwatch help thresholds` lists all.
    #[arg(
        long,
        value_name = "EXPR",
        value_parser = parse_thresholds,
        env = "NETWATCH_FAIL_IF",
        help_heading = THRESHOLDS
    )]
    fail_if: Vec<ThresholdsArg>,

    /// Exit code if a condition of --fail-if holds
    #[arg(
        long,
        value_name = "N",
        default_value_t = DEFAULT_THRESHOLD_CODE,
        value_parser = value_parser!(u8).range(1..),
        env = "NETWATCH_FAIL_CODE",
        help_heading = THRESHOLDS
    )]
    fail_code: u8,
}

/// The flags of every flow table, also that of `replay`.
#[derive(Debug, Args)]
pub(super) struct FlowArgs {
    /// Maximum number of flows counted individually at a time
    ///
    /// Packets of further flows are counted by protocol.
    #[arg(
        long,
        value_name = "N",
        default_value_t = defaults::MAX_FLOWS,
        value_parser = value_parser!(u32).range(1..=i64::from(MAX_ENTRIES)),
        env = "NETWATCH_MAX_FLOWS",
        help_heading = METERING
    )]
    pub max_flows: u32,

    /// End a flow without packets for TIME, except for TCP
    ///
    /// A later packet between the same ends begins another flow. The default is the one of Linux's
    /// connection tracking for UDP streams. TCP connections end by FIN, RST or a new connection.
    #[arg(
        long,
        value_name = "TIME",
        value_parser = parse_idle_timeout,
        default_value = "120s",
        env = "NETWATCH_IDLE_TIMEOUT",
        help_heading = METERING
    )]
    pub idle_timeout: Duration,
}

/// The heading of flags about how traffic is metered.
pub(super) const METERING: &str = "Metering";
const RECORDING: &str = "Recording";
const THRESHOLDS: &str = "Thresholds";

/// A value of `--fail-if`, read as a whole, so that errors name its columns.
#[derive(Debug, Clone)]
struct ThresholdsArg(Vec<Threshold>);

fn parse_thresholds(text: &str) -> Result<ThresholdsArg, ThresholdError> {
    Threshold::parse_all(text).map(ThresholdsArg)
}

/// The format of `--events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EventsArg {
    /// Text for people
    Text,
    /// One JSON object per line
    Json,
}

impl EventsArg {
    fn style(self) -> EventStyle {
        match self {
            Self::Text => EventStyle::Text,
            Self::Json => EventStyle::Json,
        }
    }
}

/// Where events are written, if not to standard error.
#[derive(Debug, Args)]
struct EventFileArgs {
    /// Append the events to a file instead
    ///
    /// As JSON if its name ends in .json, .ndjson or .jsonl. --events=FORMAT decides otherwise. A
    /// long file becomes FILE.1, and an older one FILE.2.
    #[arg(
        id = "events_file",
        long = "events-file",
        value_name = "FILE",
        env = "NETWATCH_EVENTS_FILE",
        value_hint = ValueHint::FilePath,
        help_heading = METERING
    )]
    path: Option<PathBuf>,

    /// Bytes after which a new file of events begins: 500k, 64m, 1g
    #[arg(
        id = "events_size",
        long = "events-size",
        value_name = "SIZE",
        default_value = "64m",
        value_parser = parse_file_size,
        env = "NETWATCH_EVENTS_SIZE",
        help_heading = METERING
    )]
    max_bytes: u64,

    /// Files of events to keep, with the one that is written
    #[arg(
        id = "events_keep",
        long = "events-keep",
        value_name = "COUNT",
        default_value_t = 10,
        value_parser = value_parser!(u32).range(1..=10_000),
        env = "NETWATCH_EVENTS_KEEP",
        help_heading = METERING
    )]
    max_files: u32,
}

impl EventFileArgs {
    fn settings(self, format: Option<EventsArg>) -> Option<EventFile> {
        let path = self.path?;
        let of_name = if ["json", "ndjson", "jsonl"].contains(&extension(&path).as_str()) {
            EventStyle::Json
        } else {
            EventStyle::Text
        };
        let style = format.map_or(of_name, EventsArg::style);
        Some(EventFile { path, style, rotation: LogRotation { max_bytes: self.max_bytes, max_files: self.max_files } })
    }
}

impl SessionArgs {
    pub(super) fn output(&self) -> Option<&Path> {
        self.output.as_deref()
    }

    pub(super) fn settings(self) -> Result<SessionSettings> {
        Ok(SessionSettings {
            json: is_json_report(self.output.as_deref(), self.json)?,
            output: self.output,
            quiet: self.quiet,
            verbose: self.verbose,
            color: self.color.into(),
            resolve: self.resolve,
            max_flows: self.flows.max_flows,
            idle_timeout: self.flows.idle_timeout,
            sample: self.sample,
            sample_snaplen: self.sample_snaplen,
            events: self.events.map(EventsArg::style).filter(|_| self.event_file.path.is_none()),
            event_file: self.event_file.settings(self.events),
            metrics: self.fleet.metrics(),
            otlp_options: self.fleet.otlp_options(),
            ipfix: self.fleet.ipfix,
            otlp: self.fleet.otlp,
            status: self.status,
            sample_buffer: self.sample_buffer,
            by: self.by.into(),
            no_cmdline: self.no_cmdline,
            record: self.record,
            no_record: self.no_record,
            is_benchmark: false,
            keep: self.keep,
            keep_size: self.keep_size,
            record_size: self.record_size,
            fail_if: self.fail_if.into_iter().flat_map(|thresholds| thresholds.0).collect(),
            fail_code: self.fail_code,
        })
    }
}
