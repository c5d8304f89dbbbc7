//! Meters: sources of counts. A meter counts every packet of one target and reports new flows,
//! their sockets, process events and the heads of packets. [`kernel`] is the classifier in the
//! kernel; [`host`] applies the same rules without a kernel. Only this module uses aya, the types
//! of the ABI and the clock of the kernel.

use std::time::Duration;

use crate::error::Result;
use crate::flow::{Increment, InterfaceCounters};
use crate::session::{MeterLosses, Observed};

mod abi;
mod clock;
pub mod host;
mod icmp;
pub mod kernel;
mod live;
mod local_path;
mod name_sample;
mod notification;
mod payload;
mod procfs;

pub use clock::{thread_cpu_ns, unix_now_ns};
pub use netwatch_common::config::defaults;
pub use netwatch_common::sample::MAX_SNAPLEN;
pub use netwatch_common::table::MAX_ENTRIES;

pub use host::{PacketFlow, PacketFlows, PacketOrigin};
pub use kernel::{
    AttachMethod, AttachedCgroup, AttachedLink, CAPTURE_RING_BYTES, CgroupAttacher, DrainProgress, EgressPlace,
    EgressWatch, Hooks, KernelMeter, KernelMeterConfig, LinkAttacher, LinkSide, LinkTap, MAX_CAPLEN, MemorySource,
    PacketBatch, PacketRing, PacketStats, PacketTap, ProcessSelection, ProcessTracer, ProcessTracerConfig, RingPacket,
    RingReader, TapConfig, TappedLink, event_of, is_realtime, segments, set_thread_priority, sys,
};
pub use live::{LiveMeter, ReadCounters};
pub use name_sample::{name_sample, name_sample_from_capture};
pub use notification::{NewFlow, Notification, Sample, SampleReason, SocketChange, icmp_error};

/// A source of counts.
pub trait Meter {
    /// Delivers the observations since the last call. The work is bounded: observations that arrive
    /// during the call may be left for the next one. An error loses observations, never counts.
    fn poll(&mut self, sink: &mut dyn FnMut(Observed<'_>)) -> Result<()>;

    /// Maximum time until the next [`Meter::poll`].
    fn next_poll(&self) -> Duration;

    /// Delivers a part of the counts since the last drain, a few milliseconds of work. Returns
    /// false after the last part. With many flows, a whole drain takes longer than the rings have
    /// room, so poll between two parts.
    fn drain_part(&mut self, progress: &mut DrainProgress, sink: &mut dyn FnMut(Increment)) -> Result<bool>;

    /// Observations that were lost so far.
    fn losses(&self) -> Result<MeterLosses>;

    /// What the counts have to balance with: the counters of the interface so far. `None` if no
    /// interface counts the packets of the target.
    fn balance(&mut self) -> Result<Option<InterfaceCounters>>;
}
