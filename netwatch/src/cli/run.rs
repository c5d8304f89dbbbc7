//! The command line of `netwatch run`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueHint};

use super::capture::{CAPTURE, CaptureArgs};
use super::session::{METERING, SessionArgs};
use crate::error::Result;
use crate::settings::value::{parse_host_ports, parse_line_target, parse_linger, parse_report_interval, parse_time};
use crate::settings::{HostPorts, LineTarget, Linger, RunSettings, SoakSettings};

#[derive(Debug, Args)]
#[command(after_help = AFTER, after_long_help = AFTER_LONG)]
pub(super) struct RunArgs {
    /// Run the command as this user (name or uid) [default: the caller of sudo]
    ///
    /// Without sudo the default is the user that runs netwatch.
    #[arg(short, long, env = "NETWATCH_USER")]
    user: Option<String>,

    #[command(flatten)]
    session: SessionArgs,

    /// End the command after this time and exit with 124: 30s, 5m, 1h30m
    ///
    /// A number without a unit is seconds. The command gets SIGTERM, and SIGKILL 5 seconds later.
    /// The maximum is 3650d.
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

    /// Record the errno of failed socket calls
    ///
    /// Covers connect, sendto, sendmsg and socket. Adds about 0.1 µs to every system call on the
    /// machine.
    #[arg(long, env = "NETWATCH_FAILED_CALLS", value_parser = FalseyValueParser::new(), help_heading = METERING)]
    failed_calls: bool,

    /// Show a live view of the run; the command gets a terminal of its own
    ///
    /// The view of `netwatch top`, and the output of the command in a view of its own. It has
    /// no keyboard. Quitting the view ends the command. `netwatch help live` lists the keys.
    #[arg(long, help_heading = METERING)]
    tui: bool,

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

    /// Search a long run for leaks, trends and storms, and write interim reports
    ///
    /// Findings are notes of the report: connections that never close, rising round trips,
    /// retransmits and failures, reconnect storms, DNS failures, endpoints that appear late, idle
    /// periods.
    #[arg(long, env = "NETWATCH_SOAK", value_parser = FalseyValueParser::new(), help_heading = SOAK)]
    soak: bool,

    /// With --soak: time between interim reports, of which the newest 24 are kept
    #[arg(
        long,
        value_name = "TIME",
        default_value = "1h",
        value_parser = parse_report_interval,
        env = "NETWATCH_REPORT_EVERY",
        help_heading = SOAK
    )]
    report_every: Duration,

    /// With --soak: folder of interim reports [default: the current one]
    #[arg(long, value_name = "DIR", env = "NETWATCH_REPORT_DIR", value_hint = ValueHint::DirPath, help_heading = SOAK)]
    report_dir: Option<PathBuf>,

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
const SOAK: &str = "Soak";

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

Environment: every flag can be set as NETWATCH_<FLAG>; `netwatch help reference` lists the
variables.";

/// The value of `--packets`; the environment can turn it off.
#[derive(Debug, Clone)]
pub(super) struct LinesArg(Option<LineTarget>);

impl LinesArg {
    /// `None` if the environment turned it off.
    pub(super) fn target(self) -> Option<LineTarget> {
        self.0
    }
}

pub(super) fn parse_lines(text: &str) -> Result<LinesArg, std::convert::Infallible> {
    Ok(LinesArg(parse_line_target(text)))
}

impl RunArgs {
    /// The file of `-o`.
    pub(super) fn output(&self) -> Option<&Path> {
        self.session.output()
    }

    pub(super) fn settings(self) -> Result<RunSettings> {
        Ok(RunSettings {
            session: self.session.settings()?,
            user: self.user,
            subnet: self.subnet,
            no_nat: self.no_nat,
            bypass_output_policy: self.bypass_output_policy,
            dns: self.dns,
            publish: self.publish,
            host_loopback: self.host_loopback,
            name: self.name,
            duration: self.duration,
            linger: self.linger,
            drain_timeout: self.drain_timeout,
            in_view: self.tui,
            keylog: self.keylog,
            capture: self.capture.settings(self.packets.and_then(LinesArg::target)),
            failed_calls: self.failed_calls,
            soak: self.soak.then_some(SoakSettings { report_every: self.report_every, report_dir: self.report_dir }),
            command: self.command,
        })
    }
}
