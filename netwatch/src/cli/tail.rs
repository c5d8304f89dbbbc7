//! The command line of `netwatch tail`.

use clap::Args;

use super::capture::{CAPTURE, CaptureArgs};
use super::display::DisplayArgs;
use crate::settings::{TailSettings, ViewSettings};

#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct TailArgs {
    /// The beginning of the run's id [default: the only run in progress]
    #[arg(value_name = "RUN")]
    run: Option<String>,

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

impl TailArgs {
    pub(super) fn settings(self) -> TailSettings {
        let options = self.capture.options();
        TailSettings {
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
        }
    }
}
