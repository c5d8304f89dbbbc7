//! The replay engine in the kernel: gives each frame to the classifier as if it passed an interface
//! at the time of the replay.

use std::collections::BTreeMap;

use netwatch_common::parse::{Hook, Linked};

use super::ethernet::AddedBytes;
use super::inject::Injector;
use super::tally::frames_of;
use super::{CaptureSession, FrameFate, FrameOutcome, LocalAddresses, ReplayEngine, ReplayPlan, drain};
use crate::capture::ethernet::to_ethernet;
use crate::error::{Error, Result};
use crate::flow::Amount;
use crate::meter::host::{self, FrameReader};
use crate::meter::{KernelMeter, KernelMeterConfig, LiveMeter, Meter};
use crate::session::{CaptureScope, Scope};

/// Number of frames between two polls of the rings. A frame uses up to 5 KiB of a ring of 2 MiB.
const POLL_INTERVAL: u32 = 256;

/// Why a frame cannot be given to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum LeftOut {
    /// The capture contains only a part of it, but frames in the kernel are complete.
    Cut,
    /// The protocol above its link layer has no EtherType.
    Foreign,
    /// It is shorter than an Ethernet header or longer than the largest packet, so no interface
    /// sends it.
    Size,
}

/// The engine in the kernel.
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
            meter: LiveMeter::new(KernelMeter::load(&config)?, None, false, Box::new(|| Ok(None)))?,
            local: plan.local.clone(),
            reader: FrameReader::default(),
            injector: Injector::default(),
            added: AddedBytes::default(),
            left_out: BTreeMap::new(),
            unpolled: 0,
        })
    }

    /// Gives a frame to the classifier. Returns the number of bytes that were added to it, or why
    /// it was left out.
    fn give_to_kernel(&mut self, frame: &Linked<'_>, is_cut: bool, hook: Hook) -> Result<Result<i64, LeftOut>> {
        if is_cut {
            return Ok(Err(LeftOut::Cut));
        }
        let Some((bytes, added)) = to_ethernet(frame) else { return Ok(Err(LeftOut::Foreign)) };
        let classifier = self.meter.classifier();
        if classifier.feed(hook, &bytes)? || self.injector.send(classifier, hook, &bytes)? {
            return Ok(Ok(added));
        }
        Ok(Err(LeftOut::Size))
    }

    fn poll(&mut self, session: &mut CaptureSession) -> Result<()> {
        self.unpolled = 0;
        self.meter.poll(&mut |observed| session.observe(observed))
    }
}

impl ReplayEngine for KernelEngine {
    fn count(
        &mut self,
        frame: &Linked<'_>,
        stated: Option<Hook>,
        time_ns: u64,
        session: &mut CaptureSession,
    ) -> Result<FrameOutcome> {
        let local = &self.local;
        let hook = |packet: &_| local.hook_or(stated, packet);
        // Parsed with a new reader first: the shared reader must not store a first fragment that
        // the kernel does not get.
        let seen = FrameReader::default().read(frame, hook, time_ns);
        let is_cut = host::is_truncated(frame, &seen.packet);
        match self.give_to_kernel(frame, is_cut, self.local.hook_or(stated, &seen.packet))? {
            Ok(added) => {
                let seen = self.reader.read(frame, |packet| self.local.hook_or(stated, packet), time_ns);
                self.added.note(&seen, added);
                self.unpolled += 1;
                if self.unpolled >= POLL_INTERVAL {
                    self.poll(session)?;
                }
                Ok(FrameOutcome { seen, fate: FrameFate::GivenToKernel })
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
            let why = "the flow table is full, and Ethernet headers were added to the frames";
            return Err(Error::other("replay through", "the kernel", why).hint("raise --max-flows, or omit --kernel"));
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
                LeftOut::Foreign => "with a protocol that has no EtherType",
                LeftOut::Size => "of a length that no interface sends",
            };
            format!("{frames} left out, {why}: they cannot be given to the kernel")
        };
        (sum, self.left_out.iter().map(note).collect())
    }
}
