//! Counts the frames of a capture independently of the engine, for the balance.

use std::collections::BTreeMap;

use netwatch_common::observation::Observation;
use netwatch_common::parse::{LinkType, Linked};

use super::LocalAddresses;
use crate::capture::{CapturedFrame, link_name};
use crate::flow::Amount;
use crate::meter::host;
use crate::report::Replay;

/// Sums over all frames.
pub(super) struct CaptureTally<'a> {
    /// Frames, and their lengths on the wire.
    pub frames: Amount,
    local: &'a LocalAddresses,
    times_ns: Option<(u64, u64)>,
    cut: u64,
    /// Frames between addresses of which none is local.
    of_others: u64,
    /// Frames by the number of their link type, and whether netwatch supports the type.
    links: BTreeMap<u16, (u64, bool)>,
}

impl<'a> CaptureTally<'a> {
    pub(super) fn new(local: &'a LocalAddresses) -> Self {
        Self { frames: Amount::default(), local, times_ns: None, cut: 0, of_others: 0, links: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, frame: &CapturedFrame<'_>, linked: &Linked<'_>, seen: &Observation) {
        self.frames += Amount { skbs: 1, bytes: frame.length() };
        let (earliest, latest) = self.times_ns.unwrap_or((frame.time_ns, frame.time_ns));
        self.times_ns = Some((earliest.min(frame.time_ns), latest.max(frame.time_ns)));
        self.cut += u64::from(host::is_truncated(linked, &seen.packet));
        self.of_others += u64::from(self.local.is_of_others(&seen.packet));
        self.links.entry(frame.link_number).or_insert((0, frame.link != LinkType::Other)).0 += 1;
    }

    /// Notes for the report.
    pub(super) fn notes(&self) -> Vec<String> {
        let unread = self.links.iter().filter(|(_, (_, is_known))| !is_known);
        let unread = unread.map(|(number, (frames, _))| {
            format!("{} of the unsupported link type {number}: counted as non-IP", frames_of(*frames))
        });
        let others = (self.of_others > 0).then(|| {
            let frames = frames_of(self.of_others);
            format!("{frames} between addresses of which none is local: the end that opened a flow counts as local")
        });
        unread.chain(others).collect()
    }

    /// The facts about the capture that follow from its frames.
    pub(super) fn facts(&self) -> Replay {
        let (started_ns, latest_ns) = self.times_ns.unwrap_or_default();
        Replay {
            link_types: self.links.keys().map(|number| link_name(*number)).collect(),
            started_ns,
            duration_ns: latest_ns - started_ns,
            frames: self.frames,
            cut_frames: self.cut,
            ..Replay::default()
        }
    }
}

/// `1 frame`, `2 frames`.
pub(super) fn frames_of(number: u64) -> String {
    if number == 1 { "1 frame".to_owned() } else { format!("{number} frames") }
}
