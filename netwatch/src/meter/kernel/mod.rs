//! The kernel meter: loads the classifier, attaches it, drains its counters and polls its rings.
//! Everything it hands over is in the types of [`crate::flow`], with times since the Unix epoch.
//! When to drain and poll is decided by the caller.

mod attach;
mod cgroups;
mod cpus;
mod drain;
mod egress;
mod feed;
mod flows;
mod fronts;
mod growth;
mod memory;
mod object;
mod packets;
mod process;
mod reader;
mod retire;
mod ring;
mod rings;
pub mod segments;
pub mod sys;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use netwatch_common::config::{Config, defaults};
use netwatch_common::process::ProcessFilter;
use netwatch_common::table::{Control, bucket_count};
use netwatch_common::{stage, stat};

pub use attach::{AttachMethod, AttachedLink, LinkAttacher, LinkSide};
pub use cgroups::{AttachedCgroup, CgroupAttacher, ProcessSelection};
pub use drain::DrainProgress;
pub use egress::{EgressPlace, EgressWatch};
pub use fronts::is_realtime;
pub use growth::MemorySource;
#[cfg(test)]
pub(crate) use packets::load_filter;
pub use packets::{
    DEFAULT_RING_BYTES as CAPTURE_RING_BYTES, LinkTap, MAX_CAPLEN, PacketBatch, PacketRing, PacketStats, PacketTap,
    RingPacket, TapConfig, TappedLink,
};
pub use process::{ProcessTracer, ProcessTracerConfig, event_of};
pub use reader::{RingReader, set_thread_priority};

use crate::error::{Error, Result};
use crate::flow::{DEFAULT_IDLE_TIMEOUT, Increment, ObservationLosses, nanoseconds};
use crate::meter::clock::{self, Clock};
use crate::meter::notification::Notification;
use attach::Attachment;
use cpus::Cpus;
use drain::Drain;
use flows::FlowEntries;
use fronts::Fronts;
use object::{Globals, Loaded};
use rings::{Logger, Rings};
use segments::Segments;
use table::SharedTable;

/// Settings of the classifier, decided before it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelMeterConfig {
    /// Maximum number of flows with an entry of their own; further flows are counted by protocol.
    pub max_flows: u32,
    /// A flow without a packet for this time ends, except for TCP.
    pub idle_timeout: Duration,
    /// Size of the SAMPLES ring in bytes, rounded up to a power of two and to whole pages.
    pub sample_ring_bytes: u32,
    /// Size of the EVENTS ring in bytes, rounded up as well.
    pub event_ring_bytes: u32,
    /// Sample budget of each direction of a flow, in bytes that samples
    /// [charge](netwatch_common::sample::charge). The default is enough for a ClientHello of 4 KiB,
    /// QUIC's Initial packets, 8 datagrams, 32 small messages, or 256 segments of a few bytes, as
    /// in a ClientHello that is sent byte by byte.
    pub sample_budget: u32,
    /// Additionally, one packet in this many is sampled on each CPU. 0, the default, for none.
    pub sample_interval: u32,
    /// Maximum number of bytes copied of these packets, from the Ethernet header on.
    pub snaplen: u32,
    /// Whether packets of busy flows are counted in a front on each CPU. By default on if packets
    /// do not preempt each other: the front counts with plain additions.
    pub front: bool,
    /// Whether the classifier logs packets that it could not read, through the `log` crate. Off by
    /// default.
    pub log: bool,
    /// How to attach: the first of these that the kernel supports. By default clsact, then tcx,
    /// which is right for interfaces that netwatch creates: each tcx link waits for an RCU grace
    /// period of 8 to 16 ms when it is created and when it is removed, where clsact takes 0.1 ms;
    /// and the filters disappear with the interface. For other interfaces tcx is better: its links
    /// disappear with the process.
    pub methods: &'static [AttachMethod],
    /// What it is attached to.
    pub hooks: Hooks,
}

/// What a classifier is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hooks {
    /// Interfaces: frames with an Ethernet header.
    Interfaces,
    /// Cgroups: IP packets of their sockets. Without a front, because packets preempt each other
    /// there.
    Cgroups,
    /// Cgroups, and only the sockets of some processes: see [`ProcessSelection`].
    Processes,
}

impl Default for KernelMeterConfig {
    fn default() -> Self {
        let Config { sample_budget, sample_interval, snaplen, .. } = Config::DEFAULT;
        Self {
            max_flows: defaults::MAX_FLOWS,
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
            sample_ring_bytes: defaults::SAMPLE_RING_BYTES,
            event_ring_bytes: defaults::EVENT_RING_BYTES,
            sample_budget,
            sample_interval,
            snaplen,
            front: !is_realtime(),
            log: false,
            methods: &[AttachMethod::Clsact, AttachMethod::Tcx],
            hooks: Hooks::Interfaces,
        }
    }
}

impl KernelMeterConfig {
    /// The same, without a front where there can be none.
    fn for_hooks(self) -> Self {
        Self { front: self.front && self.hooks == Hooks::Interfaces, ..self }
    }

    fn object(&self) -> &'static [u8] {
        match self.hooks {
            Hooks::Interfaces => object::OBJECT,
            Hooks::Cgroups | Hooks::Processes => object::CGROUP_OBJECT,
        }
    }

    fn globals(&self, fronts: u32) -> Result<Globals> {
        let Self { sample_budget, sample_interval, snaplen, .. } = *self;
        let config = Config {
            sample_budget,
            sample_interval,
            snaplen,
            front: self.front.into(),
            bucket_mask: bucket_count(self.max_flows) - 1,
            free_mask: flows::free_ring_len(self.max_flows) - 1,
            fronts,
            ..Config::DEFAULT
        };
        let log_level = if self.log { rings::LOG_DEBUG } else { rings::LOG_OFF };
        let processes = if self.hooks == Hooks::Processes { process::filter()? } else { ProcessFilter::OFF };
        Ok(Globals { config, log_level, processes })
    }

    fn ring_sizes(&self) -> rings::RingBytes {
        rings::RingBytes {
            samples: rings::ring_bytes(self.sample_ring_bytes) as usize,
            events: rings::ring_bytes(self.event_ring_bytes) as usize,
        }
    }

    fn map_sizes(&self, cpus: u32, fronts: u32) -> [(&'static str, u32); 8] {
        [
            ("BUCKETS", bucket_count(self.max_flows)),
            ("SEGMENTS", segments::count(self.max_flows)),
            ("FREE", flows::free_ring_len(self.max_flows)),
            ("HEADS", cpus),
            ("FRONTS", fronts),
            ("INSTALLED", fronts),
            ("SAMPLES", rings::ring_bytes(self.sample_ring_bytes)),
            ("EVENTS", rings::ring_bytes(self.event_ring_bytes)),
        ]
    }
}

/// The classifier in the kernel. Dropping it detaches and unloads everything.
#[derive(Debug)]
pub struct KernelMeter {
    // Declared first, so dropped first: nothing counts into maps that are being freed.
    attachments: Vec<Attachment>,
    methods: &'static [AttachMethod],
    rings: Rings,
    table: SharedTable,
    drain: Drain,
    clock: Clock,
    /// By how much the kernel's clock was ahead of the one that stops while the machine is
    /// suspended, when the classifier got the parameters of its tick.
    ahead_ns: i64,
    logger: Option<Logger>,
    loaded: Loaded,
}

impl KernelMeter {
    /// Loads the classifier without attaching it. May run on any thread, concurrently with the
    /// setup of the network.
    pub fn load(config: &KernelMeterConfig) -> Result<Self> {
        let config = &config.for_hooks();
        let cpus = Cpus::of_this_machine()?;
        // An array has at least one element.
        let fronts = if config.front { cpus.online().last().map_or(1, |last| last + 1) } else { 1 };
        Self::load_with_fronts(config, cpus, fronts)
    }

    /// Loads the classifier, with fronts for the CPUs below a number.
    fn load_with_fronts(config: &KernelMeterConfig, cpus: Cpus, fronts: u32) -> Result<Self> {
        let segment = segments::create()?;
        let inner_segment = duplicate(&segment)?;
        let inner = [("SEGMENTS", inner_segment.as_fd())];
        let first = |maps: &HashMap<String, OwnedFd>| {
            Segments::new(duplicate(&maps["SEGMENTS"])?, &maps["CONTROL"], segment, config.max_flows)
        };
        let (globals, sizes) = (config.globals(fronts)?, config.map_sizes(cpus.count(), fronts));
        let (loaded, segments) = Loaded::new(config.object(), &globals, &sizes, &inner, Box::new(first))?;
        fill_stages(&loaded)?;
        let fronts = Fronts::new(config.front, cpus, fronts, &loaded)?;
        let ahead_ns = clock::ahead_of_monotonic_ns();
        set_tick(&loaded, segments.control(), &fronts)?;
        let flows =
            FlowEntries::new(segments, loaded.map("FREE"), loaded.map("BUCKETS"), nanoseconds(config.idle_timeout))?;
        let table = SharedTable::new(fronts, flows);
        Ok(Self {
            attachments: Vec::new(),
            methods: config.methods,
            rings: Rings::new(loaded.map("SAMPLES"), loaded.map("EVENTS"), config.ring_sizes())?,
            drain: Drain::new(table.clone(), loaded.map("REMAINDERS"))?,
            table,
            clock: Clock::of_process(),
            ahead_ns,
            logger: config.log.then(|| Logger::new(&loaded)).transpose()?,
            loaded,
        })
    }

    /// Attaches to both directions of the host's end of the link, an interface in the thread's
    /// network namespace.
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

    /// Attaches it to interfaces that netwatch did not create, from any thread.
    pub fn attacher(&self) -> Result<LinkAttacher> {
        LinkAttacher::of(&self.programs())
    }

    /// Attaches it to cgroups, from any thread, if it was loaded for them.
    pub fn cgroup_attacher(&self) -> Result<CgroupAttacher> {
        CgroupAttacher::of(&self.loaded)
    }

    /// Selects processes whose sockets are counted, if it was loaded for [`Hooks::Processes`].
    pub fn process_selection(&self) -> Result<ProcessSelection> {
        ProcessSelection::of(&self.loaded)
    }

    fn programs(&self) -> attach::EntryPrograms<'_> {
        attach::EntryPrograms {
            from_target: self.loaded.program("link_egress").as_fd(),
            to_target: self.loaded.program("link_ingress").as_fd(),
            loopback: self.loaded.program("loopback").as_fd(),
        }
    }

    /// Lets another source create the segments by which the flow table grows.
    pub fn grow_by(&mut self, source: Arc<dyn MemorySource>) {
        self.table.lock().flows.grow_by(source);
    }

    /// All programs of the classifier by name, for benchmarks.
    pub fn named_programs(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.loaded.named_programs()
    }

    /// How the classifier is attached; `None` if it is not.
    pub fn method(&self) -> Option<AttachMethod> {
        self.attachments.first().map(Attachment::method)
    }

    /// Hands over every entry that grew since the last drain, and retires finished flows from the
    /// kernel's table. While packets flow, counters of one entry may differ by a packet; once the
    /// link is down, the result is exact.
    pub fn drain(&mut self, sink: &mut impl FnMut(Increment)) -> Result<()> {
        let mut progress = DrainProgress::default();
        while self.drain_part(&mut progress, sink)? {}
        Ok(())
    }

    /// One part of [`Self::drain`], which takes a few milliseconds; returns false after the last
    /// part. The caller can poll the rings between parts: they are small, and fill up quickly when
    /// many flows arrive.
    pub fn drain_part(&mut self, progress: &mut DrainProgress, sink: &mut impl FnMut(Increment)) -> Result<bool> {
        self.drain.part(progress, self.clock, sink)
    }

    /// Starts a thread that moves records out of the rings of both until [`Self::poll`] and
    /// [`ProcessTracer::poll`] hand them over, and that keeps room in the flow table.
    pub fn start_reader(&self, processes: Option<&ProcessTracer>) -> Result<RingReader> {
        let all = processes.map(ProcessTracer::ring).into_iter().chain(self.rings.shared());
        let (table, clock) = (self.table.clone(), self.clock);
        RingReader::start(all.collect(), move || table.keep_room(clock))
    }

    /// To be called before the rings of this and of the process tracer are polled. A flow is only
    /// handed over with its end after the records that preceded the end.
    pub fn begin_poll(&mut self) {
        self.table.lock().flows.note_poll();
    }

    /// Hands over the records of the rings, events before samples, and grows the flow table ahead
    /// of need. Call this on a timer. Fails if the table could not grow; flows that find no room
    /// are then counted by protocol.
    pub fn poll(&mut self, sink: &mut impl FnMut(Notification)) -> Result<()> {
        self.follow_suspension()?;
        self.rings.poll(self.clock, sink);
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        self.table.keep_room(self.clock);
        self.table.lock().flows.take_failure()
    }

    /// Passes the tick to the classifier again after the machine was suspended: the kernel's clock
    /// has advanced, and its tick count has not.
    fn follow_suspension(&mut self) -> Result<()> {
        /// More than two readings of clocks can be apart, and less than any suspension.
        const MIN_SUSPENSION_NS: u64 = 10_000_000;
        let ahead_ns = clock::ahead_of_monotonic_ns();
        if ahead_ns.abs_diff(self.ahead_ns) < MIN_SUSPENSION_NS {
            return Ok(());
        }
        let table = self.table.lock();
        set_tick(&self.loaded, table.flows.control(), &table.fronts)?;
        drop(table);
        self.ahead_ns = ahead_ns;
        Ok(())
    }

    /// How long the caller may wait before the next [`Self::poll`]: it depends on what the last one
    /// found.
    pub fn next_poll(&self) -> Duration {
        self.rings.next_poll()
    }

    /// Observations lost since the load.
    pub fn lost(&self) -> Result<ObservationLosses> {
        let map = self.loaded.map("STATS");
        let read = |slot: u32| {
            let mut value = [0; 8];
            let failed = |cause| Error::os("read BPF map", "STATS", cause);
            sys::map_lookup(map.as_fd(), &slot.to_ne_bytes(), &mut value).map_err(failed)?;
            Ok(u64::from_ne_bytes(value))
        };
        Ok(ObservationLosses {
            samples: read(stat::SAMPLES_LOST)?,
            unreadable: read(stat::UNREADABLE)?,
            table_full: read(stat::TABLE_FULL)?,
            insert_failed: read(stat::INSERT_BUSY)? + read(stat::BUCKETS_FULL)? + read(stat::SCRATCH_BUSY)?,
            new_flows: read(stat::EVENTS_LOST)?,
            unselected: read(stat::UNSELECTED)?,
        })
    }

    /// Kernel memory of all maps in bytes, as the kernel accounts it, with the current size of the
    /// flow table.
    pub fn memory_bytes(&self) -> Result<u64> {
        let maps: u64 = self.loaded.maps().map(memory_of).sum::<Result<_>>()?;
        Ok(maps + self.table.lock().flows.memory_bytes())
    }

    /// As [`Self::memory_bytes`], with a full flow table.
    pub fn full_memory_bytes(&self, config: &KernelMeterConfig) -> Result<u64> {
        let full = u64::from(segments::count(config.max_flows)) * segments::SEGMENT_BYTES;
        Ok(self.memory_bytes()? - self.table.lock().flows.memory_bytes() + full)
    }

    /// Instructions that the verifier processed, over all programs: the cost of a load, which the
    /// kernel limits.
    pub fn verified_instructions(&self) -> Result<u32> {
        let failed = |cause| Error::os("query", "the programs of the classifier", cause);
        let verified = |program: &OwnedFd| Ok(sys::program_info(program.as_fd()).map_err(failed)?.verified_insns);
        self.loaded.programs().map(verified).sum()
    }

    /// Detaches from all interfaces. Counters can still be drained.
    pub fn detach(&mut self) -> Result<()> {
        self.attachments.drain(..).try_for_each(Attachment::detach)
    }
}

/// Fills STAGES before anything is attached: a packet that finds no next program would not be
/// counted. An object has the programs that its own programs continue in.
fn fill_stages(loaded: &Loaded) -> Result<()> {
    let stages = loaded.map("STAGES");
    for (element, name) in (0_u32..).zip(stage::NAMES) {
        let Some(program) = loaded.loaded(name).map(|program| program.as_raw_fd()) else { continue };
        sys::map_update(stages.as_fd(), &element.to_ne_bytes(), &program.to_ne_bytes())
            .map_err(|cause| Error::os("link program", name, cause))?;
    }
    Ok(())
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd> {
    fd.try_clone().map_err(|cause| Error::os("duplicate", "a file descriptor", cause))
}

/// Passes the classifier the parameters that convert the kernel's tick to a time.
fn set_tick(loaded: &Loaded, control: *mut Control, fronts: &Fronts) -> Result<()> {
    let jiffies = || {
        sys::run_on_cpu(loaded.program("tick").as_fd(), &[], None)
            .map_err(|cause| Error::os("read", "the kernel's tick", cause))?;
        // SAFETY: in a mapped region.
        Ok(unsafe { memory::load(&raw mut (*control).jiffies) })
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
        .ok_or_else(|| Error::other("read", format!("memlock in {path}"), "no such field"))
}
