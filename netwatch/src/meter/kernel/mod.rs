//! The kernel half seen from user space: load, attach, drain. The only place that knows the ABI's types and the kernel's
//! clock; everything it hands out is in the words of [`crate::flow`], with times of the Unix epoch. Not: what any of it
//! means to a user, nor when to drain.

mod attach;
mod drain;
mod feed;
mod flows;
mod fronts;
mod logging;
mod memory;
mod object;
mod process;
mod realtime;
mod retire;
mod rings;
mod segments;
pub mod sys;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use netwatch_common::config::{Config, defaults};
use netwatch_common::{stage, stat, table};

pub use attach::AttachMethod;
pub use drain::DrainProgress;
pub use process::{ProcessTracer, ProcessTracerConfig, event_of};
pub use realtime::is_realtime;

use crate::error::{Error, Result};
use crate::flow::{Increment, Lost};
use crate::meter::clock::{self, Clock};
use crate::meter::notification::Notification;
use attach::Attachment;
use drain::Drain;
use flows::Flows;
use fronts::Fronts;
use logging::Logger;
use object::{Globals, Loaded};
use rings::Rings;
use segments::Segments;

/// What is decided before the classifier is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelMeterConfig {
    /// Flows that have an entry of their own; further ones are counted by protocol. 131 072 by default.
    pub max_flows: u32,
    /// Size of the ring of samples in bytes, a power of two and at least a page. 2 MiB by default.
    pub sample_ring_bytes: u32,
    /// Size of the ring of events in bytes, as above. 256 KiB by default.
    pub event_ring_bytes: u32,
    /// What may be sampled of the first packets with payload of each flow and direction, in the bytes that
    /// [`charge`](netwatch_common::sample::charge) takes for one. 8 KiB by default: a hello of 4 KiB, the Initials of QUIC, 8 datagrams, 32 small messages,
    /// or 256 segments of a few bytes, as a hello that is sent byte by byte has them.
    pub sample_budget: u32,
    /// One packet in so many is sampled besides; 0, the default, for none.
    pub sample_interval: u32,
    /// Bytes that are taken of those, from the Ethernet header on. 192 by default.
    pub snaplen: u32,
    /// Whether packets of busy flows are counted in a table of each CPU's own. By default wherever packets do not preempt each other: plain
    /// additions would not stand that.
    pub front: bool,
    /// Whether the classifier tells the `log` crate's logger of packets it could not read or insert. Not by default.
    pub log: bool,
    /// How to attach: the first of these that the kernel has. By default clsact, then tcx, which is right for interfaces of
    /// our own: each tcx link waits for a grace period of RCU, 8 to 16 ms, when it is made and again when it goes, where
    /// clsact takes 0.1 ms; and the filters go with the interface. On interfaces of others tcx comes first: its links go
    /// with the process.
    pub methods: &'static [AttachMethod],
}

impl Default for KernelMeterConfig {
    fn default() -> Self {
        let Config { sample_budget, sample_interval, snaplen, .. } = Config::DEFAULT;
        Self {
            max_flows: defaults::MAX_FLOWS,
            sample_ring_bytes: defaults::SAMPLE_RING_BYTES,
            event_ring_bytes: defaults::EVENT_RING_BYTES,
            sample_budget,
            sample_interval,
            snaplen,
            front: !is_realtime(),
            log: false,
            methods: &[AttachMethod::Clsact, AttachMethod::Tcx],
        }
    }
}

impl KernelMeterConfig {
    fn globals(&self) -> Globals {
        let Self { sample_budget, sample_interval, snaplen, .. } = *self;
        let config = Config {
            sample_budget,
            sample_interval,
            snaplen,
            front: self.front.into(),
            bucket_mask: table::bucket_count(self.max_flows) - 1,
            free_mask: flows::free_ring_len(self.max_flows) - 1,
            ..Config::DEFAULT
        };
        Globals { config, log_level: if self.log { logging::DEBUG } else { logging::OFF } }
    }

    fn ring_sizes(&self) -> rings::Sizes {
        rings::Sizes { samples: self.sample_ring_bytes as usize, events: self.event_ring_bytes as usize }
    }

    fn sizes(&self, cpus: u32) -> [(&'static str, u32); 6] {
        [
            ("BUCKETS", table::bucket_count(self.max_flows)),
            ("SEGMENTS", segments::count(self.max_flows)),
            ("FREE", flows::free_ring_len(self.max_flows)),
            ("FRONTS", cpus),
            ("SAMPLES", self.sample_ring_bytes),
            ("EVENTS", self.event_ring_bytes),
        ]
    }
}

/// The classifier in the kernel. Dropping it detaches and unloads everything.
#[derive(Debug)]
pub struct KernelMeter {
    // Declared first, so dropped first: nothing counts into maps that are going.
    attachments: Vec<Attachment>,
    methods: &'static [AttachMethod],
    rings: Rings,
    drain: Drain,
    clock: Clock,
    logger: Option<Logger>,
    loaded: Loaded,
}

impl KernelMeter {
    /// Loads the classifier; nothing is attached yet. May run on any thread, also beside the set-up of the network.
    pub fn load(config: &KernelMeterConfig) -> Result<Self> {
        let cpus = possible_cpus()?;
        let template = segments::create()?;
        let inner = duplicate(&template)?;
        let first = |maps: &HashMap<String, OwnedFd>| {
            Segments::new(duplicate(&maps["SEGMENTS"])?, &maps["CONTROL"], template, config.max_flows)
        };
        let (loaded, segments) =
            Loaded::new(object::OBJECT, &config.globals(), &config.sizes(cpus), &inner, Box::new(first))?;
        fill_stages(&loaded)?;
        let fronts = Fronts::new(config.front, loaded.program("flush"), loaded.map("FRONTS"), cpus)?;
        set_tick(&loaded, &segments, &fronts)?;
        let flows = Flows::new(segments, loaded.map("FREE"), loaded.map("BUCKETS"))?;
        Ok(Self {
            attachments: Vec::new(),
            methods: config.methods,
            rings: Rings::new(loaded.map("SAMPLES"), loaded.map("EVENTS"), config.ring_sizes())?,
            drain: Drain::new(fronts, flows, loaded.map("REMAINDERS"))?,
            clock: Clock::now(),
            logger: config.log.then(|| Logger::new(&loaded)).transpose()?,
            loaded,
        })
    }

    /// Attaches to both directions of the host's end of the link, an interface of the thread's network namespace.
    pub fn attach_link(&mut self, ifindex: u32) -> Result<()> {
        let programs = self.programs();
        self.attachments.push(attach::link(&programs, ifindex, self.methods)?);
        Ok(())
    }

    /// Attaches to the `lo` of another network namespace.
    pub fn attach_loopback(&mut self, netns: BorrowedFd<'_>) -> Result<()> {
        let programs = self.programs();
        self.attachments.push(attach::loopback(&programs, netns, self.methods)?);
        Ok(())
    }

    fn programs(&self) -> attach::Programs<'_> {
        attach::Programs {
            from_target: self.loaded.program("link_egress").as_fd(),
            to_target: self.loaded.program("link_ingress").as_fd(),
            loopback: self.loaded.program("loopback").as_fd(),
        }
    }

    /// Every program of the classifier by name, for a bench to run, measure or link.
    pub fn named_programs(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.loaded.named_programs()
    }

    /// How it is attached; `None` before.
    pub fn method(&self) -> Option<AttachMethod> {
        self.attachments.first().map(Attachment::method)
    }

    /// Hands over every entry that grew since the last drain, and lets flows that are over leave the kernel's table. While packets flow,
    /// counters of one entry may be a packet apart; after the link is down the result is exact.
    pub fn drain(&mut self, sink: &mut impl FnMut(Increment)) -> Result<()> {
        let mut progress = DrainProgress::default();
        while self.drain_part(&mut progress, sink)? {}
        Ok(())
    }

    /// A part of [`Self::drain`], a few milliseconds' work; false when it was the last one. In between the rings can be looked at, which do not
    /// hold for long what comes when many flows do.
    pub fn drain_part(&mut self, progress: &mut DrainProgress, sink: &mut impl FnMut(Increment)) -> Result<bool> {
        self.drain.part(progress, self.clock, sink)
    }

    /// Hands over what lies in the rings, events before samples, and makes room in the table for the flows to come. The kernel wakes nobody
    /// for either: call it on a timer. Fails if the table could not grow; flows that found no room are then counted by protocol.
    pub fn poll(&mut self, sink: &mut impl FnMut(Notification)) -> Result<()> {
        self.rings.poll(self.clock, sink);
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        self.drain.flows.tend()
    }

    /// How long the next [`Self::poll`] may wait: it depends on what the last one found.
    pub fn next_poll(&self) -> std::time::Duration {
        self.rings.next_poll()
    }

    /// Observations missed since the load.
    pub fn lost(&self) -> Result<Lost> {
        let map = self.loaded.map("STATS");
        let read = |slot: u32| {
            let mut value = [0; 8];
            let failed = |cause| Error::os("read BPF map", "STATS", cause);
            sys::map_lookup(map.as_fd(), &slot.to_ne_bytes(), &mut value).map_err(failed)?;
            Ok(u64::from_ne_bytes(value))
        };
        Ok(Lost {
            samples: read(stat::SAMPLES_LOST)?,
            unreadable: read(stat::UNREADABLE)?,
            table_full: read(stat::TABLE_FULL)?,
            insert_failed: read(stat::INSERT_BUSY)? + read(stat::BUCKETS_FULL)? + read(stat::SCRATCH_BUSY)?,
            new_flows: read(stat::EVENTS_LOST)?,
        })
    }

    /// Kernel memory of all maps in bytes, as the kernel itself accounts it, with the flow table as it is now.
    pub fn memory_bytes(&self) -> Result<u64> {
        let maps: u64 = self.loaded.maps().map(memory_of).sum::<Result<_>>()?;
        Ok(maps + self.drain.flows.memory_bytes())
    }

    /// The same with a full flow table.
    pub fn full_memory_bytes(&self, config: &KernelMeterConfig) -> Result<u64> {
        let full = u64::from(segments::count(config.max_flows)) * segments::SEGMENT_BYTES;
        Ok(self.memory_bytes()? - self.drain.flows.memory_bytes() + full)
    }

    /// Instructions that the verifier looked at, over all programs: what a load costs, and what the kernel bounds.
    pub fn verified_instructions(&self) -> Result<u32> {
        let failed = |cause| Error::os("ask the kernel about", "the classifier", cause);
        let verified = |program: &OwnedFd| Ok(sys::program_info(program.as_fd()).map_err(failed)?.verified_insns);
        self.loaded.programs().map(verified).sum()
    }

    /// Detaches from everything. Counters can still be drained.
    pub fn detach(&mut self) -> Result<()> {
        self.attachments.drain(..).try_for_each(Attachment::detach)
    }
}

/// Before anything is attached: a packet that finds no next stage would not be counted.
fn fill_stages(loaded: &Loaded) -> Result<()> {
    let stages = loaded.map("STAGES");
    for (element, name) in (0_u32..).zip(stage::NAMES) {
        let program = loaded.program(name).as_raw_fd();
        sys::map_update(stages.as_fd(), &element.to_ne_bytes(), &program.to_ne_bytes())
            .map_err(|cause| Error::os("link classifier", name, cause))?;
    }
    Ok(())
}

/// How many CPUs there can ever be.
fn possible_cpus() -> Result<u32> {
    let count = aya::util::nr_cpus().map_err(|(path, cause)| Error::os("read", path, cause))?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd> {
    fd.try_clone().map_err(|cause| Error::os("duplicate", "a descriptor", cause))
}

/// Tells the classifier how to read the kernel's tick as a time.
fn set_tick(loaded: &Loaded, segments: &Segments, fronts: &Fronts) -> Result<()> {
    let jiffies = || {
        sys::run_on_cpu(loaded.program("tick").as_fd(), &[], None)
            .map_err(|cause| Error::os("read the tick of", "the kernel", cause))?;
        // SAFETY: in a region that `segments` owns.
        Ok(unsafe { memory::load(&raw mut (*segments.control()).jiffies) })
    };
    fronts.set_tick(clock::tick_ns(), clock::tick_base_ns(jiffies)?);
    Ok(())
}

fn memory_of(map: &OwnedFd) -> Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", map.as_raw_fd());
    let text = std::fs::read_to_string(&path).map_err(|cause| Error::os("read", &path, cause))?;
    let field = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    field
        .and_then(|value| value.trim().parse().ok())
        .ok_or_else(|| Error::said("find", format!("memlock in {path}"), "the kernel does not say"))
}
