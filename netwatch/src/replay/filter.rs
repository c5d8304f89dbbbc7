//! Which frames of a capture are counted.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::tally::frames_of;
use crate::capture::{CapturedFrame, expression};
use crate::error::{Error, Result};
use crate::filter::{FilterProgram, FilteredFrame};

/// The filter of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayFilter {
    /// An expression of pcap-filter(7), compiled for each link type in the file.
    Expression(String),
    /// Instructions, for every link type.
    Code(FilterProgram),
}

/// Applies the filter to frames.
pub(super) struct FrameFilter<'a> {
    filter: Option<&'a ReplayFilter>,
    /// The compiled expression by link type.
    programs: BTreeMap<u16, FilterProgram>,
    left_out: u64,
}

impl<'a> FrameFilter<'a> {
    pub(super) fn new(filter: Option<&'a ReplayFilter>) -> Self {
        Self { filter, programs: BTreeMap::new(), left_out: 0 }
    }

    /// Whether the frame is counted.
    pub(super) fn accepts(&mut self, frame: &CapturedFrame<'_>) -> Result<bool> {
        let program = match self.filter {
            None => return Ok(true),
            Some(ReplayFilter::Code(program)) => program,
            Some(ReplayFilter::Expression(text)) => match self.programs.entry(frame.link_number) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(missing) => missing.insert(expression::compile(text, frame.link_number)?),
            },
        };
        if frame.is_egress().is_none() && program.needs_direction() {
            let cause = "the file does not state the direction of each packet";
            let hint = "leave out `inbound` and `outbound`";
            return Err(Error::other("filter", "the capture by direction", cause).hint(hint));
        }
        let filtered = FilteredFrame { bytes: frame.bytes, length: frame.orig_len, is_egress: frame.is_egress() };
        let is_accepted = program.matches(&filtered);
        self.left_out += u64::from(!is_accepted);
        Ok(is_accepted)
    }

    /// The note for the report.
    pub(super) fn note(&self) -> Option<String> {
        self.filter.map(|_| {
            format!(
                "{} did not match the filter and are not in this report; \
                 failures in it may only follow from that",
                frames_of(self.left_out)
            )
        })
    }
}
