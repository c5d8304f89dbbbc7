//! The subject of a measurement: a loaded program with its maps.

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::programs::tc::{self, NlOptions, TcAttachOptions};
use aya::programs::{SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use netwatch::flow::Traffic;
use netwatch::meter::{KernelMeter, KernelMeterConfig, sys};
use nix::net::if_::if_nametoindex;

use super::frames::BenchFrame;
use crate::Result;

/// The entry point that is measured: packets that the target sent.
const ENTRY: &str = "link_egress";

/// Another classifier than netwatch's.
#[derive(Debug, Clone)]
pub struct OtherClassifier {
    /// The ELF object.
    pub object: PathBuf,
    /// The program to run.
    pub program: String,
    /// `MAP=PROGRAM,PROGRAM…`: programs for the elements of a map of programs.
    pub tail_calls: Vec<String>,
}

/// A program to measure.
pub struct BenchSubject {
    /// Name in the output.
    pub name: &'static str,
    program: OwnedFd,
    owner: SubjectOwner,
}

enum SubjectOwner {
    Netwatch(Box<KernelMeter>),
    /// Maps and programs live as long as the object.
    Other {
        object: Box<Ebpf>,
        entry: String,
    },
}

/// Counts of netwatch.
#[derive(Debug, Default, Clone, Copy)]
pub struct CountedPackets {
    /// Packets under any key.
    pub packets: u64,
    /// Flows with their own entry.
    pub flows: usize,
    /// Packets that were counted without a flow.
    pub overflow: u64,
}

/// Statistics of the kernel about a program. A program that is reached by a tail call has none.
#[derive(Debug, Default, Clone, Copy)]
pub struct RunTime {
    /// Number of runs.
    pub runs: u64,
    /// Total time in nanoseconds.
    pub ns: u64,
}

impl BenchSubject {
    /// netwatch's own classifier.
    pub fn netwatch(name: &'static str, config: &KernelMeterConfig) -> Result<Self> {
        let meter = KernelMeter::load(config).map_err(|error| error.to_string())?;
        let program = meter.named_programs().find(|(name, _)| *name == ENTRY);
        let (_, program) = program.ok_or_else(|| format!("the classifier has no program {ENTRY}"))?;
        let program = duplicate(program)?;
        Ok(Self { name, program, owner: SubjectOwner::Netwatch(Box::new(meter)) })
    }

    /// A program of any object, with maps of the sizes that the object states.
    pub fn of_object(name: &'static str, foreign: &OtherClassifier) -> Result<Self> {
        let mut object = load(&foreign.object)?;
        for link in &foreign.tail_calls {
            link_programs(&mut object, link)?;
        }
        let program = program(&mut object, &foreign.program)?;
        Ok(Self {
            name,
            program,
            owner: SubjectOwner::Other { object: Box::new(object), entry: foreign.program.clone() },
        })
    }

    /// The descriptor of the program.
    pub fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    /// Runs the program once on a frame, as preparation.
    pub fn run(&self, frame: &BenchFrame) -> Result {
        sys::test_run(self.program(), &frame.bytes, &frame.context, 1).map(drop).map_err(|error| self.failed(&error))
    }

    /// The message about a failed test run.
    pub fn failed(&self, error: &std::io::Error) -> String {
        format!("cannot run {}: {error}", self.name)
    }

    /// The meter, if the subject is netwatch.
    pub fn meter(&mut self) -> Option<&mut KernelMeter> {
        match &mut self.owner {
            SubjectOwner::Netwatch(meter) => Some(meter),
            SubjectOwner::Other { .. } => None,
        }
    }

    /// Attaches to both directions of an interface in the network namespace of the thread, by
    /// clsact.
    pub fn attach(&mut self, interface: &str) -> Result {
        let failed = |error: &dyn std::fmt::Display| format!("cannot attach to {interface}: {error}");
        match &mut self.owner {
            SubjectOwner::Netwatch(meter) => {
                let ifindex = if_nametoindex(interface).map_err(|error| failed(&error))?;
                meter.attach_link(ifindex).map_err(|error| error.to_string())
            }
            SubjectOwner::Other { object, entry } => {
                tc::qdisc_add_clsact(interface).map_err(|error| failed(&error))?;
                attach_both(object, entry, interface).map_err(|error| failed(&error))
            }
        }
    }

    /// Runs so far and their time, in both directions; they increase while statistics are on.
    pub fn run_time(&self) -> Result<RunTime> {
        let programs: Vec<BorrowedFd<'_>> = match &self.owner {
            SubjectOwner::Netwatch(meter) => meter.named_programs().map(|(_, program)| program).collect(),
            SubjectOwner::Other { .. } => vec![self.program()],
        };
        let mut sum = RunTime::default();
        for program in programs {
            let info = sys::program_info(program).map_err(|error| self.failed(&error))?;
            sum.runs += info.run_cnt;
            sum.ns += info.run_time_ns;
        }
        Ok(sum)
    }

    /// Reads the rings, as netwatch does on a timer.
    pub fn poll(&mut self) -> Result {
        match &mut self.owner {
            SubjectOwner::Netwatch(meter) => meter.poll(&mut drop).map_err(|error| error.to_string()),
            SubjectOwner::Other { .. } => Ok(()),
        }
    }

    /// Counts since the last call; `None` if the subject is not netwatch.
    pub fn counted(&mut self) -> Result<Option<CountedPackets>> {
        let SubjectOwner::Netwatch(meter) = &mut self.owner else { return Ok(None) };
        let mut counted = CountedPackets::default();
        let mut flows = HashSet::new();
        let drained = meter.drain(&mut |increment| {
            let packets = increment.counters.egress.skbs + increment.counters.ingress.skbs;
            counted.packets += packets;
            match increment.traffic {
                Traffic::Flow(key) => drop(flows.insert(key)),
                Traffic::Overflow(_) => counted.overflow += packets,
                _ => {}
            }
        });
        drained.map_err(|error| error.to_string())?;
        counted.flows = flows.len();
        Ok(Some(counted))
    }
}

/// Loads an object with aya.
pub fn load(object: &Path) -> Result<Ebpf> {
    EbpfLoader::new().load_file(object).map_err(|error| format!("cannot load {}: {error}", object.display()))
}

/// Loads a classifier of an object into the kernel.
pub fn program(object: &mut Ebpf, name: &str) -> Result<OwnedFd> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot load program {name}: {error}");
    let program = object.program_mut(name).ok_or_else(|| failed(&"the object has no program of this name"))?;
    let classifier: &mut SchedClassifier = program.try_into().map_err(|error| failed(&error))?;
    // It may have been loaded already, as the target of a tail call.
    if classifier.fd().is_err() {
        classifier.load().map_err(|error| failed(&error))?;
    }
    duplicate(classifier.fd().map_err(|error| failed(&error))?.as_fd())
}

fn attach_both(
    object: &mut Ebpf,
    entry: &str,
    interface: &str,
) -> std::result::Result<(), aya::programs::ProgramError> {
    for side in [TcAttachType::Ingress, TcAttachType::Egress] {
        let Some(program) = object.program_mut(entry) else { continue };
        let classifier: &mut SchedClassifier = program.try_into()?;
        classifier.attach_with_options(interface, side, TcAttachOptions::Netlink(NlOptions::default()))?;
    }
    Ok(())
}

/// `MAP=PROGRAM,PROGRAM…`
fn link_programs(object: &mut Ebpf, link: &str) -> Result {
    let (map, programs) = link.split_once('=').ok_or_else(|| format!("`{link}` is not MAP=PROGRAM,…"))?;
    for (element, name) in (0..).zip(programs.split(',')) {
        let program = program(object, name)?;
        set_element(object, map, element, &program.as_raw_fd().to_ne_bytes())?;
    }
    Ok(())
}

/// Sets an element of a map of a loaded object.
pub fn set_element(object: &Ebpf, map: &str, element: u32, value: &[u8]) -> Result {
    let found = object.map(map).ok_or_else(|| format!("the object has no map {map}"))?;
    let data = match found {
        aya::maps::Map::ProgramArray(data) | aya::maps::Map::Array(data) => data,
        _ => return Err(format!("{map} is not an array")),
    };
    sys::map_update(data.fd().as_fd(), &element.to_ne_bytes(), value)
        .map_err(|error| format!("cannot set {map}[{element}]: {error}"))
}

fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    fd.try_clone_to_owned().map_err(|error| format!("cannot duplicate a descriptor: {error}"))
}
