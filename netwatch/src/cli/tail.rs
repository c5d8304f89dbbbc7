//! The command line of `netwatch tail`.

use clap::Args;

use super::capture::{CAPTURE, CaptureArgs, filter_hint};
use super::display::DisplayArgs;
use crate::error::{Error, Result};
use crate::settings::{TailSettings, ViewSettings};

#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct TailArgs {
    /// The beginning of the run's id [default: the only run in progress]
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// The rest of a filter expression without quotes, for its error message
    #[arg(hide = true)]
    rest: Vec<String>,

    /// Print protocol and length only
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    display: DisplayArgs,

    /// Write the keys of TLS and QUIC connections into the file of -w
    ///
    /// For a run with --keylog. Contains the keys from now on. Every reader of the file can read
    /// what these connections carried: keep it only as long as you need it.
    #[arg(long, requires = "file", help_heading = CAPTURE)]
    keylog: bool,

    #[command(flatten)]
    capture: CaptureArgs,
}

const AFTER: &str = "\
Examples:
  sudo netwatch tail                         the packets of the run in progress, as lines
  sudo netwatch tail 3f2a -n -X -c 10        ten packets of this run with their bytes
  sudo netwatch tail -w - | tshark -r -      the packets for another program
  sudo netwatch tail -w part.pcapng          the packets from now on in a file

The user who started a run may watch it without sudo. Exit code: 0; 1 if the run was killed; 2 if
netwatch failed.";

/// Refuses a text that is no part of an id, such as the filter expression that tcpdump has here.
fn require_id(run: Option<&str>, rest: &[String]) -> Result<()> {
    let Some(run) = run else { return Ok(()) };
    let is_id = rest.is_empty() && run.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id {
        return Ok(());
    }
    let words = [&[run.to_owned()], rest].concat();
    let cause = format!("`{}` is not the id of a run", words.join(" "));
    Err(Error::other("find", "the run", cause).hint(filter_hint(&words)))
}

impl TailArgs {
    pub(super) fn settings(self) -> Result<TailSettings> {
        require_id(self.run.as_deref(), &self.rest)?;
        let options = self.capture.options();
        Ok(TailSettings {
            run: self.run,
            filter: options.filter.clone(),
            snaplen: options.snaplen,
            egress: options.egress,
            ingress: options.ingress,
            super_frames: options.super_frames,
            buffer: options.buffer,
            view: ViewSettings {
                prints: options.file.is_none(),
                style: self.display.style(self.quiet),
                rotation: options.rotation(),
                file: options.file,
                force: options.force,
                keylog: self.keylog,
                count: options.count,
                only: options.only,
                // Packets are few or arrive together.
                unbuffered: true,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_where_an_id_is_expected_has_a_hint() {
        let words = |rest: &[&str]| rest.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        for (run, rest) in [("tcp port 80", &[][..]), ("tcp", &["port", "80"]), ("fe", &["or", "tcp"])] {
            let refused = require_id(Some(run), &words(rest)).expect_err("a filter");
            let whole = [&[run], rest].concat().join(" ");
            let hint = format!("hint: a filter is given as --filter '{whole}'");
            assert!(format!("{refused:#}").ends_with(&hint), "{refused:#}");
        }
        require_id(Some("3f2a"), &[]).expect("an id");
        require_id(None, &[]).expect("the only run");
    }
}
