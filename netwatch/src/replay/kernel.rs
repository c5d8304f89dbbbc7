//! Counting by the classifier in the kernel: each frame is handed to it as if an interface had carried it, at the time of the replay.

use std::collections::BTreeMap;

use netwatch_common::parse::{Hook, Linked};

use super::ethernet::{self, AddedBytes};
use super::inject::Injector;
use super::tally::frames_of;
use super::{CaptureSession, FrameFate, FrameOutcome, LocalAddresses, ReplayEngine, ReplayPlan, drain};
use crate::error::{Error, Result};
use crate::flow::Amount;
use crate::meter::host::{self, FrameReader};
use crate::meter::{KernelMeter, KernelMeterConfig, LiveMeter, Meter};
use crate::session::{CaptureScope, Scope};

/// Frames between two looks into the rings: each of them may fill 5 KiB of 2 MiB.
const POLL: u32 = 256;

/// Why a frame cannot be handed to a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum LeftOut {
    /// Only a part of it is there, and a kernel's frames are whole.
    Cut,
    /// Its link layer carries something that Ethernet has no number for.
    Foreign,
    /// No interface sends it: shorter than an Ethernet header, or longer than the largest packet.
    Size,
}

/// The kernel's engine.
pub(super) struct KernelEngine {
    meter: LiveMeter,
    local: LocalAddresses,
    reader: FrameReader,
    injector: Injector,
    added: AddedBytes,
    left_out: BTreeMap<LeftOut, Amount>,
    unpolled: u32,
}

impl KernelEngine {
    pub(super) fn new(plan: &ReplayPlan) -> Result<Self> {
        let config = KernelMeterConfig { max_flows: plan.max_flows, ..KernelMeterConfig::default() };
        Ok(Self {
            meter: LiveMeter::new(KernelMeter::load(&config)?, None, false),
            local: plan.local.clone(),
            reader: FrameReader::default(),
            injector: Injector::default(),
            added: AddedBytes::default(),
            left_out: BTreeMap::new(),
            unpolled: 0,
        })
    }

    /// The bytes that were added to it, or why it was left out.
    fn hand_over(&mut self, frame: &Linked<'_>, is_cut: bool, hook: Hook) -> Result<Result<i64, LeftOut>> {
        if is_cut {
            return Ok(Err(LeftOut::Cut));
        }
        let Some((bytes, longer)) = ethernet::to_ethernet(frame) else { return Ok(Err(LeftOut::Foreign)) };
        let classifier = self.meter.classifier();
        if classifier.feed(hook, &bytes)? || self.injector.send(classifier, hook, &bytes)? {
            return Ok(Ok(longer));
        }
        Ok(Err(LeftOut::Size))
    }

    fn poll(&mut self, session: &mut CaptureSession) -> Result<()> {
        self.unpolled = 0;
        self.meter.poll(&mut |observed| session.observe(observed))
    }
}

impl ReplayEngine for KernelEngine {
    fn count(&mut self, frame: &Linked<'_>, time_ns: u64, session: &mut CaptureSession) -> Result<FrameOutcome> {
        let hook = |packet: &_| self.local.hook(packet);
        // First with a reader that remembers nothing: the kernel will not know of a first fragment that it never gets.
        let seen = FrameReader::default().read(frame, hook, time_ns);
        let is_cut = host::is_truncated(frame, &seen.packet);
        match self.hand_over(frame, is_cut, self.local.hook(&seen.packet))? {
            Ok(longer) => {
                let seen = self.reader.read(frame, |packet| self.local.hook(packet), time_ns);
                self.added.note(&seen, longer);
                self.unpolled += 1;
                if self.unpolled >= POLL {
                    self.poll(session)?;
                }
                Ok(FrameOutcome { seen, fate: FrameFate::HandedOver })
            }
            Err(why) => {
                let bytes = netwatch_common::parse::Frame::len(frame).into();
                *self.left_out.entry(why).or_default() += Amount { skbs: 1, bytes };
                Ok(FrameOutcome { seen, fate: FrameFate::LeftOut })
            }
        }
    }

    fn finish(&mut self, session: &mut CaptureSession) -> Result<()> {
        self.poll(session)?;
        let lost = self.meter.losses()?.meter;
        if lost.table_full + lost.insert_failed > 0 && !self.added.is_empty() {
            let why = "there are more flows than it has room for, and their frames had to be given Ethernet headers";
            return Err(
                Error::other("replay through", "the kernel", why).hint("raise --max-flows, or leave out --kernel")
            );
        }
        let added = &mut self.added;
        drain(&mut self.meter, session, |increment| added.subtract(CaptureScope::default().orient(increment)))
    }

    fn left_out(&self) -> (Amount, Vec<String>) {
        let mut sum = Amount::default();
        self.left_out.values().for_each(|amount| sum += *amount);
        let note = |(why, amount): (&LeftOut, &Amount)| {
            let frames = frames_of(amount.skbs);
            let why = match why {
                LeftOut::Cut => "cut by the capture",
                LeftOut::Foreign => "of a link layer's own, which Ethernet has no number for",
                LeftOut::Size => "of a length that no interface sends",
            };
            format!("{frames} left out, {why}: a kernel cannot be handed them")
        };
        (sum, self.left_out.iter().map(note).collect())
    }
}
