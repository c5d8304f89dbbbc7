//! The flags of `netwatch run` and `netwatch tail` that capture packets, and those of subcommands
//! that filter them.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum, ValueHint, value_parser};

use crate::meter::{CAPTURE_RING_BYTES, MAX_CAPLEN};
use crate::packets::{OnlyCondition, Selection};
use crate::settings::value::{parse_capture_kib, parse_file_size, parse_file_time};
use crate::settings::{CaptureOptions, FilterOption, LineTarget};

pub(super) const CAPTURE: &str = "Capture";
/// Length of the Ethernet header.
const MIN_SNAPLEN: u32 = 14;

#[derive(Debug, Args)]
#[command(next_help_heading = CAPTURE)]
pub(super) struct CaptureArgs {
    /// Write the packets to FILE: pcapng, or pcap if it ends in .pcap
    ///
    /// With .gz or .zst at its end the file is compressed. Only its owner can read it. A pipe may
    /// be given too. `netwatch help capture` describes the file.
    #[arg(short = 'w', long = "write", value_name = "FILE", env = "NETWATCH_WRITE", value_hint = ValueHint::FilePath)]
    file: Option<PathBuf>,

    /// Bytes to capture of each packet, from the Ethernet header on [default: all]
    ///
    /// 0 is all, as for tcpdump.
    #[arg(
        short,
        long,
        value_name = "BYTES",
        value_parser = parse_snaplen,
        env = "NETWATCH_SNAPLEN"
    )]
    snaplen: Option<u32>,

    /// End the capture, not the command, after this number of packets
    #[arg(short, long, value_name = "COUNT", value_parser = value_parser!(u64).range(1..), env = "NETWATCH_COUNT")]
    count: Option<u64>,

    /// Begin a new file when the current one has this size: 100M, 1G
    ///
    /// Files get a number: trace-00001.pcapng. The size is that before compression, in bytes
    /// without a unit: tcpdump's -C counts millions of bytes.
    #[arg(short = 'C', long, value_name = "SIZE", value_parser = parse_file_size, env = "NETWATCH_FILE_SIZE")]
    file_size: Option<u64>,

    /// Begin a new file after this time: 30s, 5m
    #[arg(short = 'G', long, value_name = "TIME", value_parser = parse_file_time, env = "NETWATCH_FILE_TIME")]
    file_time: Option<Duration>,

    /// Keep this number of files and remove the oldest
    #[arg(
        short = 'W',
        long,
        value_name = "COUNT",
        value_parser = value_parser!(u32).range(1..),
        env = "NETWATCH_FILE_COUNT"
    )]
    file_count: Option<u32>,

    /// Capture only packets that the command sends (out) or receives (in)
    ///
    /// inout is both, as for tcpdump.
    #[arg(short = 'Q', long, value_name = "DIRECTION", default_value = "both", env = "NETWATCH_DIRECTION")]
    direction: DirectionArg,

    #[command(flatten)]
    filter: FilterArgs,

    /// Write packets as they arrive instead of once a second
    ///
    /// Without it, the packets of the last second are lost if netwatch is killed (SIGKILL).
    #[arg(short = 'U', long, env = "NETWATCH_UNBUFFERED", value_parser = FalseyValueParser::new())]
    unbuffered: bool,

    /// Keep super-frames of offloading instead of dividing them into packets
    ///
    /// Their checksums stay as the link carried them: those that were left to hardware are not
    /// completed.
    #[arg(long, env = "NETWATCH_SUPER_FRAMES", value_parser = FalseyValueParser::new())]
    super_frames: bool,

    /// Select packets: process=NAME, name=NAME, endpoint=ADDR[:PORT] (repeatable)
    ///
    /// process: the name or id of the process. name: the name of the remote; .app.example includes
    /// the names below, and *.app.example is only those. endpoint: ADDR, ADDR:PORT, NETWORK/LEN or
    /// :PORT of the remote. Conditions of the same kind are alternatives. Counting is not affected.
    #[arg(long, value_name = "CONDITION", env = "NETWATCH_ONLY", value_delimiter = ',')]
    only: Vec<OnlyCondition>,

    /// Replace existing files
    ///
    /// With -C or -G, all files of an earlier series with this name are removed.
    #[arg(long, env = "NETWATCH_FORCE", value_parser = FalseyValueParser::new())]
    force: bool,

    /// Size of the capture buffer in KiB, a power of two
    #[arg(
        long,
        value_name = "KIB",
        default_value_t = CAPTURE_RING_BYTES / 1024,
        value_parser = parse_capture_kib,
        env = "NETWATCH_CAPTURE_BUFFER"
    )]
    capture_buffer: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DirectionArg {
    /// Packets that the command receives
    In,
    /// Packets that the command sends
    Out,
    /// All packets
    #[value(alias = "inout")]
    Both,
}

/// The length of `-s`. As for tcpdump, 0 is that of every packet, and so is more than any has.
fn parse_snaplen(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(0) => Ok(MAX_CAPLEN),
        Ok(bytes) if bytes >= MIN_SNAPLEN => Ok(bytes.min(MAX_CAPLEN)),
        _ => Err(format!("expected a number of bytes from {MIN_SNAPLEN}, the Ethernet header, or 0 for all")),
    }
}

impl CaptureArgs {
    /// `None` without `-w` and `--packets`, which prints to `lines`.
    pub(super) fn settings(self, lines: Option<LineTarget>) -> Option<CaptureOptions> {
        let is_on = self.file.is_some() || lines.is_some();
        is_on.then(|| CaptureOptions { lines, ..self.options() })
    }

    /// The options without lines.
    pub(super) fn options(self) -> CaptureOptions {
        CaptureOptions {
            file: self.file,
            lines: None,
            only: Selection::new(self.only),
            force: self.force,
            snaplen: self.snaplen.unwrap_or(MAX_CAPLEN),
            count: self.count,
            file_size: self.file_size,
            file_time: self.file_time,
            file_count: self.file_count,
            filter: self.filter.setting(),
            egress: self.direction != DirectionArg::In,
            ingress: self.direction != DirectionArg::Out,
            unbuffered: self.unbuffered,
            super_frames: self.super_frames,
            buffer: self.capture_buffer,
        }
    }
}

/// How a filter is given whose words stand where tcpdump expects them.
pub(super) fn filter_hint(words: &[String]) -> String {
    format!("a filter is given as --filter '{}'", words.join(" "))
}

#[derive(Debug, Args)]
pub(super) struct FilterArgs {
    /// Take only packets that match EXPR, in the syntax of tcpdump: "tcp port 80"
    ///
    /// pcap-filter(7) describes the syntax. libpcap compiles the expression, and has to be
    /// installed. A run counts flows whether their packets match or not; a replay counts only
    /// frames that match.
    #[arg(long, value_name = "EXPR", env = "NETWATCH_FILTER", conflicts_with = "filter_code")]
    filter: Option<String>,

    /// Take only packets that match the bytecode in FILE, as `tcpdump -ddd` prints it
    ///
    /// For machines without libpcap: `tcpdump -y EN10MB -ddd EXPR > FILE` on another one.
    #[arg(long, value_name = "FILE", env = "NETWATCH_FILTER_CODE", value_hint = ValueHint::FilePath)]
    filter_code: Option<PathBuf>,
}

impl FilterArgs {
    pub(super) fn setting(self) -> Option<FilterOption> {
        self.filter.map(FilterOption::Expression).or(self.filter_code.map(FilterOption::Code))
    }
}
