//! Where counts come from. A meter counts every packet of one target and reports new flows, their
//! sockets, process events and the heads of packets. [`kernel`] is the classifier in the kernel,
//! [`host`] the same rules without one. Only this module uses aya, the types of the ABI and the
//! kernel's clock.

use std::time::Duration;

use crate::error::Result;
use crate::flow::Increment;
use crate::session::{MeterLosses, Observed};

mod abi;
mod clock;
pub mod host;
mod icmp;
pub mod kernel;
mod live;
mod name_sample;
mod notification;
mod procfs;

pub use netwatch_common::config::defaults;
pub use netwatch_common::sample::MAX_SNAPLEN;
pub use netwatch_common::table::MAX_ENTRIES;

pub use kernel::{
    AttachMethod, DrainProgress, KernelMeter, KernelMeterConfig, ProcessTracer, ProcessTracerConfig, event_of,
    is_realtime, sys,
};
pub use live::LiveMeter;
pub use name_sample::{name_sample, name_sample_from_capture};
pub use notification::{NewFlow, Notification, Sample, SampleReason, SocketChange, icmp_error};

/// A source of counts.
pub trait Meter {
    /// Delivers what was observed besides counts since the last call. Bounded: what arrives
    /// meanwhile may wait for the next call. An error costs detail, never counts.
    fn poll(&mut self, sink: &mut dyn FnMut(Observed<'_>)) -> Result<()>;

    /// How long the next [`Meter::poll`] may wait.
    fn next_poll(&self) -> Duration;

    /// Delivers a part of what was counted since the last drain, a few milliseconds of work; false
    /// when it was the last part. Poll between two parts: the rings do not hold for long what
    /// arrives when there are many flows.
    fn drain_part(&mut self, progress: &mut DrainProgress, sink: &mut dyn FnMut(Increment)) -> Result<bool>;

    /// Observations that were missed so far.
    fn losses(&self) -> Result<MeterLosses>;
}
