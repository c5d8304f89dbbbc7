//! `netwatch run`: the flags, as typed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum, ValueHint};

use super::size::size;
use crate::commands::run::{Plan, run};
use crate::exit::Exit;
use crate::format::summary;
use crate::terminal::complain;

/// What `netwatch run` takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub struct RunArgs {
    /// Run the command as this user (name or uid) [default: who called sudo, else yourself]
    #[arg(short, long, env = "NETWATCH_USER")]
    pub user: Option<String>,

    /// Write the summary (or, with -j, the JSON) to FILE; a new one only its owner can read
    #[arg(short, long, value_name = "FILE", env = "NETWATCH_OUTPUT", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,

    /// JSON: into the file of -o, and on standard error if there is none
    #[arg(short, long, env = "NETWATCH_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,

    /// Print nothing (files are written all the same)
    #[arg(short, long, env = "NETWATCH_QUIET", value_parser = FalseyValueParser::new())]
    pub quiet: bool,

    /// Say what was set up
    #[arg(short, long, env = "NETWATCH_VERBOSE", value_parser = FalseyValueParser::new())]
    pub verbose: bool,

    /// When to colour the summary
    #[arg(long, value_name = "WHEN", default_value = "auto", env = "NETWATCH_COLOR")]
    pub color: ColorChoice,

    /// Use this subnet between host and namespace (IPv4 /30 or larger, IPv6 /126 or larger; repeat for both) [default: a free one]
    #[arg(long, value_name = "CIDR", env = "NETWATCH_SUBNET", value_delimiter = ',')]
    pub subnet: Vec<String>,

    /// Do not translate addresses: your routers know the way back to the subnet
    #[arg(long, env = "NETWATCH_NO_NAT", value_parser = FalseyValueParser::new())]
    pub no_nat: bool,

    /// Ask this resolver instead of the host's own (repeatable)
    #[arg(long, value_name = "ADDR[:PORT]", env = "NETWATCH_DNS", value_delimiter = ',')]
    pub dns: Vec<String>,

    /// Make a port of the command reachable from outside: [ADDR:]HOST_PORT:PORT[/udp] (repeatable)
    #[arg(long, value_name = "SPEC", env = "NETWATCH_PUBLISH", value_delimiter = ',')]
    pub publish: Vec<String>,

    /// Let the gateway's IPv4 address reach services on the host's 127.0.0.1
    #[arg(long, env = "NETWATCH_HOST_LOOPBACK", value_parser = FalseyValueParser::new())]
    pub host_loopback: bool,

    /// When the command is over, ask for names of remotes that have none (PTR, by the host's resolver; at most 256, 3 s)
    #[arg(long, env = "NETWATCH_RESOLVE", value_parser = FalseyValueParser::new())]
    pub resolve: bool,

    /// Name the network namespace, so that `ip netns exec NAME …` can join it
    #[arg(long, value_name = "NAME", env = "NETWATCH_NAME")]
    pub name: Option<String>,

    /// End the command after this time (exit code 124): 30s, 5m, 1h30m
    #[arg(long, value_name = "TIME", value_parser = duration, env = "NETWATCH_DURATION")]
    pub duration: Option<Duration>,

    /// Wait for background processes that the command leaves, at most TIME if given
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "forever", value_parser = linger, env = "NETWATCH_LINGER")]
    pub linger: Option<Linger>,

    /// How long data that exited processes left in their sockets may take to go out
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s", env = "NETWATCH_DRAIN_TIMEOUT")]
    pub drain_timeout: Duration,

    /// Flows counted one by one in the kernel; packets of further ones are counted by protocol
    #[arg(long, value_name = "N", default_value_t = 131_072, value_parser = clap::value_parser!(u32).range(1..=16_777_215), env = "NETWATCH_MAX_FLOWS")]
    pub max_flows: u32,

    /// Sample the head of one packet in N, besides the first ones of each flow and DNS
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), env = "NETWATCH_SAMPLE")]
    pub sample: Option<u32>,

    /// Bytes that --sample takes of a packet, from its Ethernet header on
    #[arg(short, long, value_name = "BYTES", default_value_t = 192, value_parser = clap::value_parser!(u32).range(14..=4544), env = "NETWATCH_SNAPLEN")]
    pub snaplen: u32,

    /// Memory for samples that wait to be read, in KiB (a power of two)
    #[arg(long, value_name = "KIB", default_value_t = 2048, value_parser = ring_kib, env = "NETWATCH_SAMPLE_BUFFER")]
    pub sample_buffer: u32,

    /// What the summary lists traffic by
    #[arg(long, value_name = "WHAT", default_value = "endpoint", env = "NETWATCH_BY")]
    pub by: By,

    /// Leave out the arguments of processes: they can hold secrets
    #[arg(long, env = "NETWATCH_NO_CMDLINE", value_parser = FalseyValueParser::new())]
    pub no_cmdline: bool,

    /// Say with which error connect, sendto, sendmsg and socket failed (costs each system call of the machine about 0.1 µs)
    #[arg(long, env = "NETWATCH_FAILED_CALLS", value_parser = FalseyValueParser::new())]
    pub failed_calls: bool,
    /// Record the run to FILE, for reports of any kind later; an older recording is replaced [default: one of the newest runs that are kept for you, see `netwatch history`]
    #[arg(long, value_name = "FILE", env = "NETWATCH_RECORD", value_hint = ValueHint::FilePath)]
    pub record: Option<PathBuf>,

    /// Do not record the run
    #[arg(long, conflicts_with = "record", env = "NETWATCH_NO_RECORD", value_parser = FalseyValueParser::new())]
    pub no_record: bool,

    /// Runs that are kept without --record, the newest ones
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = keep, env = "NETWATCH_KEEP")]
    pub keep: usize,

    /// Bytes that they may have together
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = size, env = "NETWATCH_KEEP_SIZE")]
    pub keep_size: u64,

    /// Bytes that one recording may have; beyond that it is incomplete, and says so
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = size, env = "NETWATCH_RECORD_SIZE")]
    pub record_size: u64,

    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

const AFTER: &str = "\
Exit code: the command's own; 128+N when signal N killed it; 124 when --duration ended it;
125 netwatch failed; 126 the command is not executable; 127 it was not found.
Signals: INT and QUIT from the terminal reach the command; TERM, HUP and an INT sent by another
process are forwarded, a second TERM kills; USR1 prints interim counters.
Every flag can be given as NETWATCH_<FLAG> in the environment; NETWATCH_LOG=debug shows what the
classifier itself has to say about packets it could not read.";

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What the summary lists traffic by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// A table of remotes.
    Endpoint,
    /// A tree of processes.
    Process,
}

impl From<By> for summary::By {
    fn from(by: By) -> Self {
        match by {
            By::Endpoint => Self::Endpoint,
            By::Process => Self::Process,
        }
    }
}

/// How long to wait for what the command left in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linger {
    /// Until the last process ends.
    Forever,
    /// At most this long.
    For(Duration),
}

fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text).map_err(|error| format!("{error} (like 30s, 5m, 1h30m)"))
}

fn keep(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|runs| *runs > 0)
        .ok_or_else(|| "a number from 1; to keep none there is --no-record".to_owned())
}

fn ring_kib(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(kib) if kib.is_power_of_two() && (4..=1 << 20).contains(&kib) => Ok(kib),
        _ => Err("a power of two from 4 to 1048576".to_owned()),
    }
}

fn linger(text: &str) -> Result<Linger, String> {
    if text == "forever" { Ok(Linger::Forever) } else { duration(text).map(Linger::For) }
}

pub(super) fn main(arguments: RunArgs) -> Exit {
    match Plan::make(arguments) {
        Ok(plan) => run(plan),
        Err(refusal) => {
            complain(&refusal.error);
            refusal.exit
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_powers_of_two() {
        assert_eq!(ring_kib("2048"), Ok(2048));
        for wrong in ["0", "3", "2", "2097152", "much"] {
            assert!(ring_kib(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(duration("soon").is_err());
        assert_eq!(linger("forever"), Ok(Linger::Forever));
        assert_eq!(linger("1m"), Ok(Linger::For(Duration::from_secs(60))));
    }
}
