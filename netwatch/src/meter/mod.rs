//! Where counts come from. A meter counts every packet of one target and reports new flows, their sockets and the heads of packets; [`kernel`]
//! is the classifier in the kernel, [`host`] the same rules without one. The only place that uses aya, the ABI's types and the kernel's clock.

mod abi;
mod clock;
pub mod host;
mod icmp;
pub mod kernel;
mod name_sample;
mod notification;

pub use netwatch_common::config::defaults;
pub use netwatch_common::sample::MAX_SNAPLEN;
pub use netwatch_common::table::MAX_ENTRIES;

pub use kernel::{
    AttachMethod, DrainProgress, KernelMeter, KernelMeterConfig, ProcessTracer, ProcessTracerConfig, event_of,
    is_realtime, sys,
};
pub use name_sample::{name_sample, name_sample_from_capture};
pub use notification::{NewFlow, Notification, Sample, SampleReason, SocketChange, icmp_error};
