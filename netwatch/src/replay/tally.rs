//! What a capture holds, counted beside the engine: so the balance has two sides.

use std::collections::BTreeMap;

use netwatch_common::observation::Observation;
use netwatch_common::parse::{LinkType, Linked};

use super::Local;
use crate::capture::{CapturedFrame, link_name};
use crate::flow::Amount;
use crate::meter::host;
use crate::report::Replay;

/// Sums over all frames.
pub(super) struct Tally<'a> {
    /// Frames, and their lengths on the wire.
    pub frames: Amount,
    local: &'a Local,
    times_ns: Option<(u64, u64)>,
    cut: u64,
    /// Of others than the target, where it is known who that is.
    of_others: u64,
    /// By the number of their link type: how many, and whether they can be read.
    links: BTreeMap<u16, (u64, bool)>,
}

impl<'a> Tally<'a> {
    pub(super) fn new(local: &'a Local) -> Self {
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

    /// What is not as one would expect.
    pub(super) fn notes(&self) -> Vec<String> {
        let unread = self.links.iter().filter(|(_, (_, is_known))| !is_known);
        let unread = unread.map(|(number, (frames, _))| {
            format!("{} of link type {number}, which netwatch cannot read: counted as non-IP", frames_of(*frames))
        });
        let others = (self.of_others > 0).then(|| {
            let frames = frames_of(self.of_others);
            format!("{frames} between addresses none of which is local: the end that opened a flow is taken for local")
        });
        unread.chain(others).collect()
    }

    /// The facts that come from the frames alone.
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
