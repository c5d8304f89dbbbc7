//! The meter of a live target: the classifier, and the programs that report processes and sockets.

use std::fs::File;
use std::time::Duration;

use super::procfs::ProcFs;
use super::{DrainProgress, KernelMeter, Meter, Notification, ProcessTracer, icmp_error, name_sample};
use crate::error::Result;
use crate::flow::{Increment, Traffic};
use crate::session::{MeterLosses, Observed};

/// The classifier and, where they could be loaded, the process programs.
pub struct LiveMeter {
    probe: KernelMeter,
    processes: Option<ProcessTracer>,
    look: ProcFs,
}

impl LiveMeter {
    /// A meter of attached programs. With `cmdline`, arguments of processes are read.
    pub fn new(probe: KernelMeter, processes: Option<ProcessTracer>, cmdline: bool) -> Self {
        Self { probe, processes, look: ProcFs { cmdline, ..ProcFs::default() } }
    }

    /// The classifier.
    pub fn classifier(&mut self) -> &mut KernelMeter {
        &mut self.probe
    }

    /// From now on, local sockets of this process's network namespace are looked up. It is held
    /// until [`LiveMeter::release_namespace`].
    pub fn watch_local_sockets(&mut self, pid: i32) {
        self.look.unix = File::open(format!("/proc/{pid}/net/unix")).ok();
    }

    /// No more events will come: the namespace is not held any more.
    pub fn release_namespace(&mut self) {
        self.look.unix = None;
    }
}

impl Meter for LiveMeter {
    /// Process events first, so that a packet's socket is known.
    fn poll(&mut self, sink: &mut dyn FnMut(Observed<'_>)) -> Result<()> {
        if let Some(processes) = &mut self.processes {
            let look = &mut self.look;
            look.names = None;
            processes.poll(&mut |event| sink(Observed::Process(event, look)));
        }
        self.probe.poll(&mut |notice| deliver(&notice, sink))
    }

    fn next_poll(&self) -> Duration {
        let processes = self.processes.as_ref().map_or(Duration::MAX, ProcessTracer::next_poll);
        self.probe.next_poll().min(processes)
    }

    fn drain_part(&mut self, progress: &mut DrainProgress, sink: &mut dyn FnMut(Increment)) -> Result<bool> {
        self.probe.drain_part(progress, &mut |increment| sink(increment))
    }

    fn losses(&self) -> Result<MeterLosses> {
        let processes = self.processes.as_ref().map(ProcessTracer::lost).transpose()?;
        Ok(MeterLosses { meter: self.probe.lost()?, processes: processes.unwrap_or_default() })
    }
}

/// A notice of the classifier as a session takes it.
pub(super) fn deliver(notice: &Notification, sink: &mut dyn FnMut(Observed<'_>)) {
    let mut socket = |traffic: Traffic, cookie: u64| {
        if let Traffic::Flow(flow) = traffic {
            sink(Observed::Socket { flow, cookie });
        }
    };
    match notice {
        Notification::NewFlow(new) => new.socket.into_iter().for_each(|cookie| socket(new.traffic, cookie)),
        Notification::SocketChanged(sender) => socket(sender.traffic, sender.socket),
        Notification::Sample(sample) => {
            if let Some(quoted) = icmp_error(notice) {
                sink(Observed::IcmpError(quoted));
            }
            if let Some(sample) = name_sample(sample) {
                sink(Observed::Name(sample));
            }
        }
    }
}
