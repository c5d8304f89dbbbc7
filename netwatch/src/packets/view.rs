//! Prints and writes the frames of a capture that was made before, or that another process makes.

use std::collections::HashMap;
use std::net::IpAddr;

use super::identity::PacketIdentity;
use super::only::Selection;
use super::output::{OutputPacket, PacketOutput};
use super::printer::PacketPrinter;
use super::writer::CaptureWriter;
use crate::capture::CapturedFrame;
use crate::capture::comment::{self, CommentedProcess};
use crate::capture::ethernet::to_ethernet;
use crate::capture::write::WritablePacket;
use crate::error::Result;
use crate::flow::{Direction, FlowKey};

/// Maximum number of addresses of which a name is remembered.
const MAX_NAMES: usize = 65_536;

/// What a view does with frames.
#[derive(Debug)]
pub struct ViewSpec {
    /// Writes them to files.
    pub writer: Option<CaptureWriter>,
    /// Prints a line for each.
    pub printer: Option<PacketPrinter>,
    /// The frames that are printed and written.
    pub only: Selection,
    /// Maximum number of these frames.
    pub max_packets: Option<u64>,
    /// Make each frame visible at once.
    pub is_unbuffered: bool,
}

/// What is known about a frame besides its bytes.
#[derive(Debug)]
pub struct ViewedFrame<'a> {
    /// The frame.
    pub frame: &'a CapturedFrame<'a>,
    /// Its direction, if it is known.
    pub direction: Option<Direction>,
    /// Its flow, if it belongs to one.
    pub flow: Option<FlowKey>,
    /// Its process and the name of its remote. The comments of the frame take precedence.
    pub identity: PacketIdentity,
}

/// Prints and writes frames.
#[derive(Debug)]
pub struct PacketView {
    output: PacketOutput,
    is_unbuffered: bool,
    /// The section that is being read, and the numbers of its interfaces in the new file.
    interfaces: (u32, Vec<u32>),
    names: HashMap<IpAddr, String>,
}

impl PacketView {
    /// Starts a view. The head of the file is written with the first frame.
    pub fn new(spec: ViewSpec) -> Self {
        let ViewSpec { writer, printer, only, max_packets, is_unbuffered } = spec;
        let output = PacketOutput::new(writer, printer, only, max_packets);
        Self { output, is_unbuffered, interfaces: Default::default(), names: HashMap::new() }
    }

    /// Whether the requested number of frames was reached.
    pub fn is_full(&self) -> bool {
        self.output.is_full()
    }

    /// Number of frames that were printed or written, and of those that were not selected.
    pub fn counts(&self) -> (u64, u64) {
        (self.output.written(), self.output.left_out())
    }

    /// Prints and writes a frame, if it is selected.
    pub fn frame(&mut self, viewed: ViewedFrame<'_>) -> Result<()> {
        let ViewedFrame { frame, direction, flow, mut identity } = viewed;
        let mut comments = frame.comments;
        for text in &mut comments {
            if let Some(name) = text.and_then(comment::parse_remote) {
                identity.name = Some(name.into());
                *text = None;
            } else if let Some(process) = text.and_then(CommentedProcess::parse) {
                identity.set_process(&process);
            }
        }
        if let (Some(flow), Some(name)) = (&flow, &identity.name)
            && self.names.len() < MAX_NAMES
        {
            self.names.insert(flow.remote.addr, name.as_ref().to_owned());
        }
        let interface = self.interface(frame);
        if let Some(writer) = &mut self.output.writer {
            writer.add_secrets(frame.secrets);
        }
        let mut lost = frame.lost_before;
        if !self.output.selects(flow.as_ref(), &identity, frame.time_ns, &mut lost) {
            return Ok(());
        }
        let ethernet = self.output.printer.is_some().then(|| to_ethernet(&frame.linked())).flatten();
        let record = WritablePacket {
            time_ns: frame.time_ns,
            interface,
            flags: frame.flags,
            orig_len: frame.orig_len,
            parts: [frame.bytes, &[]],
            comments: &comments,
            pid: identity.pid,
            lost_before: 0,
            encoded: None,
        };
        let ethernet = ethernet.as_ref().map(|(bytes, _)| bytes.as_ref());
        let packet = OutputPacket { record, direction, ethernet, flow: flow.as_ref(), identity: &identity };
        let names = || self.names.iter().map(|(address, name)| (*address, name.as_str()));
        self.output.packet(&packet, lost, names)?;
        if self.is_unbuffered { self.output.flush() } else { Ok(()) }
    }

    /// The number that the frame's interface has in the new file.
    fn interface(&mut self, frame: &CapturedFrame<'_>) -> u32 {
        let (section, index) = frame.interface;
        let Some(writer) = &mut self.output.writer else { return index };
        if self.interfaces.0 != section {
            self.interfaces = (section, Vec::new());
        }
        let numbers = &mut self.interfaces.1;
        if let Some(new) = frame.interfaces.get(numbers.len()..).filter(|new| !new.is_empty()) {
            let first = writer.add_interfaces(new);
            numbers.extend((first..).take(new.len()));
        }
        numbers.get(index as usize).copied().unwrap_or_default()
    }

    /// Makes the frames so far visible.
    pub fn flush(&mut self) -> Result<()> {
        self.output.flush()
    }

    /// Completes the file, which states `comment`. `lost` packets were lost after the last frame.
    /// Returns the error that ended the lines, if one did.
    pub fn finish(mut self, lost: u64, comment: &str) -> Result<()> {
        let names = self.names.iter().map(|(address, name)| (*address, name.as_str()));
        self.output.finish(lost, names, comment)?;
        self.output.take_lines_error().map_or(Ok(()), Err)
    }
}
