//! The meter of a live target: the classifier and the programs that report processes and sockets.

use std::fs::File;
use std::time::Duration;

use netwatch_common::parse::protocol;

use super::procfs::ProcFs;
use super::{DrainProgress, KernelMeter, Meter, Notification, ProcessTracer, RingReader, icmp_error, name_sample};
use crate::error::Result;
use crate::flow::{Increment, InterfaceCounters, Traffic};
use crate::process::ProcessEvent;
use crate::session::{MeterLosses, Observed};

/// Reads the counters of the interface.
pub type ReadCounters = Box<dyn FnMut() -> Result<Option<InterfaceCounters>> + Send>;

/// The classifier and, if they could be loaded, the programs that report processes.
pub struct LiveMeter {
    /// Declared first, so that it ends before the rings are unmapped.
    _reader: RingReader,
    classifier: KernelMeter,
    processes: Option<ProcessTracer>,
    system: ProcFs,
    read_counters: ReadCounters,
}

impl LiveMeter {
    /// A meter that uses attached programs. With `cmdline`, the arguments of processes are read.
    /// Starts the thread that moves records out of the rings.
    pub fn new(
        classifier: KernelMeter,
        processes: Option<ProcessTracer>,
        cmdline: bool,
        read_counters: ReadCounters,
    ) -> Result<Self> {
        let reader = classifier.start_reader(processes.as_ref())?;
        let system = ProcFs { cmdline, ..ProcFs::default() };
        Ok(Self { _reader: reader, classifier, processes, system, read_counters })
    }

    /// The classifier.
    pub fn classifier(&mut self) -> &mut KernelMeter {
        &mut self.classifier
    }

    /// Enables lookups of local sockets in the network namespace of this process. The namespace is
    /// held until [`LiveMeter::release_namespace`].
    pub fn watch_local_sockets(&mut self, pid: i32) {
        self.system.unix = File::open(format!("/proc/{pid}/net/unix")).ok();
    }

    /// Passes on events about processes and sockets that were found otherwise than by the programs.
    pub fn deliver_found(&mut self, found: Vec<ProcessEvent>, sink: &mut dyn FnMut(Observed<'_>)) {
        for event in found {
            sink(Observed::Process(event, &mut self.system));
        }
    }

    /// Releases the namespace after the last event.
    pub fn release_namespace(&mut self) {
        self.system.unix = None;
    }
}

impl Meter for LiveMeter {
    /// Polls process events first, so that the sockets of packets are known.
    fn poll(&mut self, sink: &mut dyn FnMut(Observed<'_>)) -> Result<()> {
        self.classifier.begin_poll();
        if let Some(processes) = &mut self.processes {
            let system = &mut self.system;
            system.begin_poll();
            processes.poll(&mut |event| sink(Observed::Process(event, system)));
        }
        self.classifier.poll(&mut |notification| deliver(&notification, sink))
    }

    fn next_poll(&self) -> Duration {
        let processes = self.processes.as_ref().map_or(Duration::MAX, ProcessTracer::next_poll);
        self.classifier.next_poll().min(processes)
    }

    fn drain_part(&mut self, progress: &mut DrainProgress, sink: &mut dyn FnMut(Increment)) -> Result<bool> {
        self.classifier.drain_part(progress, &mut |increment| sink(increment))
    }

    fn losses(&self) -> Result<MeterLosses> {
        let processes = self.processes.as_ref().map(ProcessTracer::lost).transpose()?;
        Ok(MeterLosses { meter: self.classifier.lost()?, processes: processes.unwrap_or_default() })
    }

    fn balance(&mut self) -> Result<Option<InterfaceCounters>> {
        (self.read_counters)()
    }
}

/// Converts a notification of the classifier to observations.
pub(super) fn deliver(notification: &Notification, sink: &mut dyn FnMut(Observed<'_>)) {
    let mut socket = |traffic: Traffic, cookie: u64| {
        if let Traffic::Flow(flow) = traffic {
            sink(Observed::Socket { flow, cookie });
        }
    };
    match notification {
        Notification::NewFlow(new) => {
            new.socket.into_iter().for_each(|cookie| socket(new.traffic, cookie));
            if let Traffic::Flow(flow) = new.traffic
                && flow.protocol == protocol::TCP
            {
                sink(Observed::Begun { flow, time_ns: new.time_ns });
            }
        }
        Notification::SocketChanged(sender) => socket(sender.traffic, sender.socket),
        Notification::Sample(sample) => {
            if let Some(quoted) = icmp_error(notification) {
                sink(Observed::IcmpError(quoted));
            }
            if let Some(sample) = name_sample(sample) {
                sink(Observed::Name(sample));
            }
        }
    }
}
