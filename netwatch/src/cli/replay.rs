//! The command line of `netwatch replay`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueHint, value_parser};

use super::ColorArgs;
use super::capture::FilterArgs;
use crate::meter::{MAX_ENTRIES, defaults};
use crate::settings::ReplaySettings;
use crate::settings::value::parse_idle_timeout;

#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct ReplayArgs {
    /// Write the report to FILE
    #[arg(short, long, value_name = "FILE", env = "NETWATCH_REPLAY_OUTPUT", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// Write the report as JSON: to the file of -o, or to standard output
    #[arg(short, long, env = "NETWATCH_JSON", value_parser = FalseyValueParser::new())]
    json: bool,

    /// Print no report; files are still written
    #[arg(short, long, env = "NETWATCH_QUIET", value_parser = FalseyValueParser::new())]
    quiet: bool,

    #[command(flatten)]
    color: ColorArgs,

    /// Address or network of the target (repeatable) [default: flow initiators]
    ///
    /// Packets from these addresses are egress. By default the target is the initiator of each
    /// flow.
    #[arg(long, value_name = "ADDR[/LEN]", env = "NETWATCH_LOCAL", value_delimiter = ',')]
    local: Vec<String>,

    #[command(flatten)]
    filter: FilterArgs,

    /// Count with the classifier in the kernel, by the kernel's clock (needs root)
    #[arg(long, env = "NETWATCH_KERNEL", value_parser = FalseyValueParser::new())]
    kernel: bool,

    /// Maximum number of flows counted individually at a time
    ///
    /// Packets of further flows are counted by protocol.
    #[arg(
        long,
        value_name = "N",
        default_value_t = defaults::MAX_FLOWS,
        value_parser = value_parser!(u32).range(1..=i64::from(MAX_ENTRIES)),
        env = "NETWATCH_MAX_FLOWS"
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
        env = "NETWATCH_IDLE_TIMEOUT"
    )]
    idle_timeout: Duration,

    /// Look up names of unnamed addresses
    ///
    /// With PTR queries to this machine's resolvers: at most 256 addresses, for at most 3 seconds.
    #[arg(long, env = "NETWATCH_RESOLVE", value_parser = FalseyValueParser::new())]
    resolve: bool,

    /// Capture to read, pcap or pcapng; - for standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
}

const AFTER: &str = "\
Examples:
  netwatch replay trace.pcapng                           the traffic in this capture
  netwatch replay -j --local 198.51.100.0/24 trace.pcap  as seen from that network, as JSON
  zcat trace.pcap.gz | netwatch replay -

Exit code: 0; 1 if the capture is damaged (the part before the damage is reported); 2 if the file is
not a capture, or netwatch failed. Link types: Ethernet, Linux cooked, raw IP, BSD null, PPP, PPI.
docs/replay.md describes how a replay differs from a run.";

impl ReplayArgs {
    pub(super) fn settings(self) -> ReplaySettings {
        ReplaySettings {
            output: self.output,
            json: self.json,
            quiet: self.quiet,
            color: self.color.into(),
            local: self.local,
            filter: self.filter.setting(),
            kernel: self.kernel,
            max_flows: self.max_flows,
            idle_timeout: self.idle_timeout,
            resolve: self.resolve,
            file: self.file,
        }
    }
}
