//! `netwatch replay`: the flags, as typed, and what becomes of the report.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::builder::FalseyValueParser;
use clap::{Args, ValueHint};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{Gid, Uid};

use super::ColorChoice;
use crate::capture::{Capture, End};
use crate::dns::reverse;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::replay::{Local, Plan, Progress, Replayed, Resolve, replay};
use crate::target::user::Identity;
use crate::terminal::{Output, Show, complain, print_by};

/// What `netwatch replay` takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct ReplayArgs {
    /// Write the summary (or, with -j, the JSON) to FILE
    #[arg(short, long, value_name = "FILE", env = "NETWATCH_REPLAY_OUTPUT", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// JSON: into the file of -o, and on standard output if there is none
    #[arg(short, long, env = "NETWATCH_JSON", value_parser = FalseyValueParser::new())]
    json: bool,

    /// Print nothing (files are written all the same)
    #[arg(short, long, env = "NETWATCH_QUIET", value_parser = FalseyValueParser::new())]
    quiet: bool,

    /// When to colour the summary
    #[arg(long, value_name = "WHEN", default_value = "auto", env = "NETWATCH_COLOR")]
    color: ColorChoice,

    /// An address or network of the target: what it sent is egress (repeatable) [default: the end that opened each flow]
    #[arg(long, value_name = "ADDR[/LEN]", env = "NETWATCH_LOCAL", value_delimiter = ',')]
    local: Vec<String>,

    /// Let the classifier in the kernel count, by the kernel's clock (needs root)
    #[arg(long, env = "NETWATCH_KERNEL", value_parser = FalseyValueParser::new())]
    kernel: bool,

    /// Flows counted one by one at a time; packets of further ones are counted by protocol
    #[arg(long, value_name = "N", default_value_t = 131_072, value_parser = clap::value_parser!(u32).range(1..=16_777_216), env = "NETWATCH_MAX_FLOWS")]
    max_flows: u32,

    /// Ask for names of remotes that have none (PTR, by this machine's resolver; at most 256, 3 s)
    #[arg(long, env = "NETWATCH_RESOLVE", value_parser = FalseyValueParser::new())]
    resolve: bool,

    /// The capture, pcap or pcapng; - for standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
}

const AFTER: &str = "\
Examples:
  netwatch replay trace.pcapng                           what did this capture hold?
  netwatch replay -j --local 198.51.100.0/24 trace.pcap  seen from that network, as JSON
  zcat trace.pcap.gz | netwatch replay -

Exit code: 0; 1 when the file is broken half-way (what comes before is reported); 2 when it is not
a capture, or netwatch failed. Link types: Ethernet, Linux cooked, raw IP, BSD null, PPP, PPI.
docs/replay.md says how a replay differs from a run.";

pub(super) fn main(arguments: &ReplayArgs) -> Exit {
    match replayed(arguments) {
        Ok(exit) => exit,
        Err(error) => {
            complain(&error);
            Exit::Usage
        }
    }
}

fn replayed(arguments: &ReplayArgs) -> Result<Exit> {
    let local =
        Local::new(arguments.local.iter().map(String::as_str)).map_err(|why| Error::said("use", "--local", why))?;
    let resolve: Resolve = |addresses| reverse::names(addresses.into_iter());
    let resolve = arguments.resolve.then_some(resolve);
    let plan = Plan { local, by_kernel: arguments.kernel, max_flows: arguments.max_flows, resolve };
    let mut capture = Capture::open(&arguments.file, &STOP)?;
    let output = arguments.output.as_deref().map(|path| Output::create(path, caller()?)).transpose()?;
    let show = Show::on(&io::stdout(), arguments.json, arguments.quiet, arguments.color);
    stop_on_signals()?;
    let mut progress = Progress::new(capture.size());
    let done = if arguments.quiet {
        replay(&mut capture, &plan, &mut ())?
    } else {
        replay(&mut capture, &plan, &mut progress)?
    };
    drop(progress);
    print_by(|out| show.screen(&done.report, output.is_some(), out))?;
    if let Some(output) = output {
        output.write(|out| show.file(&done.report, out))?;
    }
    Ok(exit_of(&done))
}

/// Under sudo, files are written as who called it.
fn caller() -> Result<(Uid, Gid)> {
    let caller = Identity::of_sudo()?;
    Ok(caller.map_or((Uid::effective(), Gid::effective()), |caller| (caller.uid, caller.gid)))
}

fn exit_of(done: &Replayed) -> Exit {
    match &done.end {
        End::Whole | End::Stopped { .. } => Exit::Success,
        End::Broken(broken) => {
            complain(&broken.error);
            Exit::No
        }
    }
}

/// Set by a signal: the report then says how far it got.
static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_signal: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// The first signal ends the reading, also a read that waits; a second one ends netwatch. A signal that is ignored stays so (nohup).
fn stop_on_signals() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(stop), SaFlags::SA_RESETHAND, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let failed = |errno| Error::os("listen to", signal.as_str(), errno);
        // SAFETY: the handler does nothing but store into an atomic.
        let before = unsafe { sigaction(signal, &action) }.map_err(failed)?;
        if matches!(before.handler(), SigHandler::SigIgn) {
            // SAFETY: what was there before.
            unsafe { sigaction(signal, &before) }.map_err(failed)?;
        }
    }
    Ok(())
}
