//! The command line of `netwatch replay`.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueHint, value_parser};

use super::ColorArgs;
use super::capture::{FilterArgs, filter_hint};
use super::display::DisplayArgs;
use super::session::FlowArgs;
use crate::error::{Error, Result};
use crate::packets::{OnlyCondition, Selection};
use crate::settings::value::is_json_report;
use crate::settings::{ReplaySettings, ViewSettings};

#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct ReplayArgs {
    /// Write the report to FILE
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "NETWATCH_REPLAY_OUTPUT",
        value_hint = ValueHint::FilePath
    )]
    output: Option<PathBuf>,

    /// Write the report as JSON: to the file of -o, or to standard output
    #[arg(short, long, env = "NETWATCH_JSON", value_parser = FalseyValueParser::new())]
    json: bool,

    /// Print no report; with --packets, print protocol and length only
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

    #[command(flatten)]
    flows: FlowArgs,

    /// Look up names of unnamed addresses
    ///
    /// With PTR queries to this machine's resolvers: at most 256 addresses, for at most 3 seconds.
    #[arg(long, env = "NETWATCH_RESOLVE", value_parser = FalseyValueParser::new())]
    resolve: bool,

    /// Print a line for each packet instead of the report
    #[arg(long, conflicts_with = "kernel", env = "NETWATCH_REPLAY_PACKETS", value_parser = FalseyValueParser::new())]
    packets: bool,

    #[command(flatten)]
    display: DisplayArgs,

    /// Write the packets to FILE: pcapng, or pcap if it ends in .pcap
    ///
    /// With .gz or .zst at its end the file is compressed. - is standard output, and then no report
    /// is printed.
    #[arg(
        short = 'w',
        long = "write",
        value_name = "FILE",
        conflicts_with = "kernel",
        env = "NETWATCH_REPLAY_WRITE",
        value_hint = ValueHint::FilePath
    )]
    write: Option<PathBuf>,

    /// Print or write at most this number of packets
    #[arg(short, long, value_name = "COUNT", value_parser = value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Select packets: process=NAME, name=NAME, endpoint=ADDR[:PORT] (repeatable)
    ///
    /// As in `netwatch run`. The report is about all packets.
    #[arg(long, value_name = "CONDITION", value_delimiter = ',')]
    only: Vec<OnlyCondition>,

    /// Replace an existing file of -w
    #[arg(long, env = "NETWATCH_FORCE", value_parser = FalseyValueParser::new())]
    force: bool,

    /// Capture to read, pcap or pcapng; - for standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,

    /// A filter expression as for tcpdump, for its error message
    #[arg(hide = true)]
    rest: Vec<String>,
}

const AFTER: &str = "\
Examples:
  netwatch replay trace.pcapng                           the traffic in this capture
  netwatch replay -j --local 198.51.100.0/24 trace.pcap  as seen from that network, as JSON
  netwatch replay --packets trace.pcapng                 its packets as lines, as tcpdump -r
  netwatch replay -q -w web.pcap --only endpoint=:443 trace.pcapng

Exit code: 0; 1 if the capture is damaged (the part before the damage is reported); 2 if the file is
not a capture, or netwatch failed. Link types: Ethernet, Linux cooked, raw IP, BSD null, PPP, PPI.
`netwatch help replaying` describes how a replay differs from a run.";

impl ReplayArgs {
    pub(super) fn settings(self) -> Result<ReplaySettings> {
        if !self.rest.is_empty() {
            return Err(Error::other("replay", format!("`{}`", self.rest.join(" ")), "it is not a flag")
                .hint(filter_hint(&self.rest)));
        }
        Ok(ReplaySettings {
            json: is_json_report(self.output.as_deref(), self.json)?,
            output: self.output,
            quiet: self.quiet,
            color: self.color.into(),
            local: self.local,
            filter: self.filter.setting(),
            kernel: self.kernel,
            max_flows: self.flows.max_flows,
            idle_timeout: self.flows.idle_timeout,
            resolve: self.resolve,
            view: ViewSettings {
                prints: self.packets,
                style: self.display.style(self.quiet),
                file: self.write,
                force: self.force,
                count: self.count,
                only: Selection::new(self.only),
                unbuffered: self.display.is_line_buffered(),
                ..ViewSettings::default()
            },
            file: self.file,
        })
    }
}
