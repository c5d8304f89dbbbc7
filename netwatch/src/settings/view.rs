//! The settings of `netwatch tail`, and of the packets of `netwatch replay`.

use std::path::PathBuf;

use super::{ColorChoice, FilterOption};
use crate::packets::{LineStyle, Rotation, Selection};

/// How packets of a capture are printed and written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ViewSettings {
    /// Print a line for each packet on standard output.
    pub prints: bool,
    /// The style of the lines.
    pub style: LineStyle,
    /// File for the packets; `-` is standard output.
    pub file: Option<PathBuf>,
    /// Replace an existing file.
    pub force: bool,
    /// Write the secrets of TLS connections into the file.
    pub keylog: bool,
    /// When a new file begins.
    pub rotation: Rotation,
    /// End after this number of packets.
    pub count: Option<u64>,
    /// The packets that are printed and written.
    pub only: Selection,
    /// Make each packet visible at once.
    pub unbuffered: bool,
}

/// What `netwatch top` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopSettings {
    /// The beginning of the run's id. By default the only run in progress.
    pub run: Option<String>,
    /// When the view is colored.
    pub color: ColorChoice,
}

/// What `netwatch tail` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailSettings {
    /// The beginning of the run's id. By default the only run in progress.
    pub run: Option<String>,
    /// What happens to the packets.
    pub view: ViewSettings,
    /// Which packets the run passes on.
    pub filter: Option<FilterOption>,
    /// Maximum number of bytes of each packet.
    pub snaplen: u32,
    /// Packets that the command sends.
    pub egress: bool,
    /// Packets that the command receives.
    pub ingress: bool,
    /// Keep super-frames as they were observed.
    pub super_frames: bool,
    /// Size of the ring in KiB, a power of two.
    pub buffer: u32,
}
