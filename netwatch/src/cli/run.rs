//! The command line of `netwatch run`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum, ValueHint, value_parser};

use super::capture::{CAPTURE, CaptureArgs};
use super::{ByArg, ColorArgs};
use crate::exit::DEFAULT_THRESHOLD_CODE;
use crate::meter::{MAX_ENTRIES, defaults};
use crate::settings::value::{
    parse_host_ports, parse_idle_timeout, parse_keep, parse_line_target, parse_linger, parse_ring_kib, parse_size,
    parse_status, parse_time,
};
use crate::settings::{EventStyle, HostPorts, LineTarget, Linger, RunSettings, StatusStyle};
use crate::threshold::{Threshold, ThresholdError};

#[derive(Debug, Args)]
#[command(after_help = AFTER, after_long_help = AFTER_LONG)]
pub(super) struct RunArgs {
    /// Run the command as this user (name or uid) [default: the caller of sudo]
    ///
    /// Without sudo the default is the user that runs netwatch.
    #[arg(short, long, env = "NETWATCH_USER")]
    user: Option<String>,

    /// Write the report to FILE
    ///
    /// A text summary, or JSON with --json. Only its owner can read a new file.
    #[arg(short, long, value_name = "FILE", env = "NETWATCH_OUTPUT", value_hint = ValueHint::FilePath)]
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

    /// End the command after this time and exit with 124: 30s, 5m, 1h30m
    ///
    /// The command gets SIGTERM, and SIGKILL 5 seconds later. The maximum is 3650d.
    #[arg(long, value_name = "TIME", value_parser = parse_time, env = "NETWATCH_DURATION")]
    duration: Option<Duration>,

    /// Wait for background processes that outlive the command, at most TIME
    ///
    /// Without a time, wait until the last of them exits. Without this flag, they are ended when
    /// the command exits.
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "forever",
        value_parser = parse_linger,
        env = "NETWATCH_LINGER"
    )]
    linger: Option<Linger>,

    /// Maximum time to wait for unsent data of exited processes
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "5s", env = "NETWATCH_DRAIN_TIMEOUT")]
    drain_timeout: Duration,

    /// Subnet between host and namespace, IPv4 or IPv6 [default: a free one]
    ///
    /// A prefix of /30 or shorter for IPv4, /126 or shorter for IPv6. Repeat the flag to set both.
    #[arg(long, value_name = "CIDR", env = "NETWATCH_SUBNET", value_delimiter = ',', help_heading = NETWORK)]
    subnet: Vec<String>,

    /// Do not masquerade: your routers have a route to the subnet
    #[arg(long, env = "NETWATCH_NO_NAT", value_parser = FalseyValueParser::new(), help_heading = NETWORK)]
    no_nat: bool,

    /// Run also where the host lets the user of the command send nothing
    ///
    /// The firewall rules for packets that the host sends (a kill switch, a policy that denies
    /// outgoing traffic) do not apply to the command, whose packets are forwarded. netwatch
    /// therefore refuses to run where nothing may be sent, and notes what else it finds.
    #[arg(
        long,
        env = "NETWATCH_BYPASS_OUTPUT_POLICY",
        value_parser = FalseyValueParser::new(),
        help_heading = NETWORK
    )]
    bypass_output_policy: bool,

    /// Use this resolver instead of the host's (repeatable)
    #[arg(long, value_name = "ADDR[:PORT]", env = "NETWATCH_DNS", value_delimiter = ',', help_heading = NETWORK)]
    dns: Vec<String>,

    /// Publish a port of the command: [ADDR:]HOST_PORT:PORT[/udp] (repeatable)
    #[arg(long, value_name = "SPEC", env = "NETWATCH_PUBLISH", value_delimiter = ',', help_heading = NETWORK)]
    publish: Vec<String>,

    /// Let the command's localhost lead to ports of the host's localhost
    ///
    /// By a proxy, TCP and UDP, IPv4 and IPv6. Without PORT: every port that the host serves on its
    /// loopback when the run starts.
    #[arg(
        long,
        value_name = "PORT,...",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "all",
        value_parser = parse_host_ports,
        env = "NETWATCH_HOST_LOOPBACK",
        help_heading = NETWORK
    )]
    host_loopback: Option<HostPorts>,

    /// Name the network namespace, so that `ip netns exec NAME` can enter it
    #[arg(long, value_name = "NAME", env = "NETWATCH_NAME", help_heading = NETWORK)]
    name: Option<String>,

    /// Maximum number of flows counted individually
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
    max_flows: u32,

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
    idle_timeout: Duration,

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

    /// Look up names of unnamed addresses after the command exits
    ///
    /// With PTR queries to the host's resolvers: at most 256 addresses, for at most 3 seconds.
    #[arg(long, env = "NETWATCH_RESOLVE", value_parser = FalseyValueParser::new(), help_heading = METERING)]
    resolve: bool,

    /// Neither record nor print arguments of the command and its processes
    ///
    /// They can contain secrets.
    #[arg(long, env = "NETWATCH_NO_CMDLINE", value_parser = FalseyValueParser::new(), help_heading = METERING)]
    no_cmdline: bool,

    /// Record the errno of failed socket calls
    ///
    /// Covers connect, sendto, sendmsg and socket. Adds about 0.1 µs to every system call on the
    /// machine.
    #[arg(long, env = "NETWATCH_FAILED_CALLS", value_parser = FalseyValueParser::new(), help_heading = METERING)]
    failed_calls: bool,

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

    /// Show a live view of the run; the command gets a terminal of its own
    ///
    /// The view of `netwatch top`, and the output of the command in a view of its own. It has
    /// no keyboard. Quitting the view ends the command. `netwatch help live` lists the keys.
    #[arg(long, help_heading = METERING)]
    tui: bool,

    /// What standard error shows meanwhile: line, json[:TIME] or off
    ///
    /// A line at the bottom of the terminal appears when the command has written nothing to it for
    /// two seconds. json prints a line of JSON every 10 seconds, or every TIME, for logs.
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

    /// Print a line for each packet, on standard error or to FILE
    ///
    /// As tcpdump does, and with the direction, the process and the name of the remote.
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "-",
        value_parser = parse_lines,
        env = "NETWATCH_PACKETS",
        help_heading = CAPTURE
    )]
    packets: Option<LinesArg>,

    /// Write the keys of TLS and QUIC connections into the file of -w
    ///
    /// Sets SSLKEYLOGFILE for the command. Every reader of the file can read what these connections
    /// carried: keep it only as long as you need it. `netwatch tail --keylog` can write them too.
    #[arg(
        long,
        env = "NETWATCH_KEYLOG",
        value_parser = FalseyValueParser::new(),
        help_heading = CAPTURE
    )]
    keylog: bool,

    #[command(flatten)]
    capture: CaptureArgs,

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

    /// Maximum size of the recording; beyond it, the recording is incomplete
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
    /// Also if the command succeeds. QUANTITY COMPARISON VALUE, such as 'failed > 0', 'open > 500
    /// for 5m' or 'retransmit_ratio > 1%'. `netwatch help thresholds` lists all.
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

    /// Command to run, with its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "COMMAND",
        value_hint = ValueHint::CommandWithArguments
    )]
    command: Vec<OsString>,
}

const NETWORK: &str = "Network";
const METERING: &str = "Metering";
const RECORDING: &str = "Recording";
const THRESHOLDS: &str = "Thresholds";

const AFTER: &str = "`netwatch run --help` has the details, the exit codes and the signals.";

const AFTER_LONG: &str = "\
Examples:
  sudo netwatch run -- curl -sS https://app.example/     a download
  sudo netwatch run -j -o net.json -- cargo test         the report as JSON in a file
  sudo netwatch run -u root --publish 8080:80 -- nginx   a server that accepts outside connections
  sudo netwatch run --by process -- make                 traffic by process
  sudo netwatch run -w trace.pcapng -- wget -q URL       its packets, for Wireshark

Exit code: the command's own; 128+N if signal N killed it; 121 if it succeeded and a condition of
--fail-if holds; 124 if --duration ended it; 125 if netwatch failed; 126 if the command is not
executable; 127 if it was not found.

Signals: the terminal sends SIGINT and SIGQUIT to the command directly. netwatch forwards SIGTERM,
SIGHUP, and a SIGINT from another process; a second SIGTERM kills the command. SIGUSR1 prints an
interim report.

Environment: every flag can be set as NETWATCH_<FLAG>; `netwatch help environment` lists the
variables.";

/// The value of `--packets`; the environment can turn it off.
#[derive(Debug, Clone)]
struct LinesArg(Option<LineTarget>);

fn parse_lines(text: &str) -> Result<LinesArg, std::convert::Infallible> {
    Ok(LinesArg(parse_line_target(text)))
}

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

impl RunArgs {
    pub(super) fn settings(self) -> RunSettings {
        RunSettings {
            user: self.user,
            output: self.output,
            json: self.json,
            quiet: self.quiet,
            verbose: self.verbose,
            color: self.color.into(),
            subnet: self.subnet,
            no_nat: self.no_nat,
            bypass_output_policy: self.bypass_output_policy,
            dns: self.dns,
            publish: self.publish,
            host_loopback: self.host_loopback,
            resolve: self.resolve,
            name: self.name,
            duration: self.duration,
            linger: self.linger,
            drain_timeout: self.drain_timeout,
            max_flows: self.max_flows,
            idle_timeout: self.idle_timeout,
            sample: self.sample,
            sample_snaplen: self.sample_snaplen,
            events: self.events.map(EventsArg::style),
            in_view: self.tui,
            status: self.status,
            keylog: self.keylog,
            capture: self.capture.settings(self.packets.and_then(|lines| lines.0)),
            sample_buffer: self.sample_buffer,
            by: self.by.into(),
            no_cmdline: self.no_cmdline,
            failed_calls: self.failed_calls,
            record: self.record,
            no_record: self.no_record,
            fail_if: self.fail_if.into_iter().flat_map(|thresholds| thresholds.0).collect(),
            fail_code: self.fail_code,
            keep: self.keep,
            keep_size: self.keep_size,
            record_size: self.record_size,
            command: self.command,
        }
    }
}
