//! The classifier in the kernel, from user space: load, attach, drain. The only place that sees the ABI, aya and kernel time.

mod attach;
mod clock;
mod drain;
mod icmp;
mod object;
mod samples;
mod sys;
mod translate;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use netwatch_common::config::Config;
use netwatch_common::{stage, stat};

use crate::error::{Error, Result};
use crate::flow::{FlowKey, IcmpError, Increment, Lost};
use attach::Attached;
use drain::Drain;
use object::Loaded;
use samples::Samples;

/// Sizes that the user may choose.
#[derive(Debug, Clone, Copy)]
pub struct ProbeConfig {
    /// Flows counted one by one; packets of further ones are counted by protocol.
    pub max_flows: u32,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self { max_flows: 131_072 }
    }
}

/// The classifier, loaded. What is attached goes with it.
pub struct Probe {
    attached: Vec<Attached>,
    drain: Drain,
    samples: Samples,
    loaded: Loaded,
}

impl Probe {
    /// Loads the classifier and makes its maps. May run in any thread.
    pub fn load(config: &ProbeConfig) -> Result<Self> {
        let loaded = Loaded::new(object::OBJECT, &Config::DEFAULT, &[("FLOWS", config.max_flows)])?;
        fill_stages(&loaded)?;
        let samples = Samples::open(loaded.map("SAMPLES"))?;
        Ok(Self { attached: Vec::new(), drain: Drain::default(), samples, loaded })
    }

    /// Attaches both directions to the host's end of the link, in the caller's network namespace.
    pub fn attach_link(&mut self, interface: &str) -> Result<()> {
        let index = attach::index_of(interface)?;
        let (egress, ingress) = (self.loaded.program("link_egress"), self.loaded.program("link_ingress"));
        self.attached.push(attach::ingress(egress.as_fd(), interface, index)?);
        self.attached.push(attach::egress(ingress.as_fd(), interface, index)?);
        Ok(())
    }

    /// Attaches to the `lo` of the target's namespace.
    pub fn attach_loopback(&mut self, netns: BorrowedFd<'_>) -> Result<()> {
        let program = self.loaded.program("loopback");
        self.attached.push(attach::within(netns, || attach::egress(program.as_fd(), "lo", attach::index_of("lo")?))?);
        Ok(())
    }

    /// How the classifier is attached: `tcx` or `clsact`.
    pub fn method(&self) -> &'static str {
        self.attached.first().map_or("none", Attached::method)
    }

    /// Hands over what grew since the last time. Exact once nothing moves on the link any more; a live one may miss the packet that is just being counted.
    pub fn drain(&mut self, grown: &mut dyn FnMut(Increment)) -> Result<()> {
        self.drain.run(&self.loaded, grown)
    }

    /// Hands over the ICMP errors among the samples: the flow whose packet an error quotes, and the error.
    pub fn icmp_errors(&mut self, found: &mut dyn FnMut(FlowKey, IcmpError)) {
        self.samples.each(|header, bytes| {
            if let Some((flow, error)) = icmp::quoted(header, bytes) {
                found(flow, error);
            }
        });
    }

    /// What was not observed, by reason, so far.
    pub fn lost(&self) -> Lost {
        let read = |slot: u32| self.stat(slot).unwrap_or(0);
        Lost {
            samples: read(stat::SAMPLES_LOST),
            unreadable: read(stat::UNREADABLE),
            table_full: read(stat::TABLE_FULL),
            insert_failed: read(stat::INSERT_BUSY) + read(stat::INSERT_FAILED),
            new_flows: read(stat::EVENTS_LOST),
            ..Lost::default()
        }
    }

    fn stat(&self, slot: u32) -> std::io::Result<u64> {
        let mut value = [0; 8];
        sys::map_lookup(self.loaded.map("STATS").as_fd(), &slot.to_ne_bytes(), &mut value)?;
        Ok(u64::from_ne_bytes(value))
    }

    /// Kernel memory of all maps, in bytes, as the kernel itself accounts for it.
    pub fn memory_bytes(&self) -> Result<u64> {
        self.loaded.maps().map(memory_of).sum()
    }
}

/// Tells the programs where they continue.
fn fill_stages(loaded: &Loaded) -> Result<()> {
    use std::os::fd::AsRawFd;
    for (index, name) in (0_u32..).zip(stage::NAMES) {
        let program = loaded.program(name).as_raw_fd().to_ne_bytes();
        sys::map_update(loaded.map("STAGES").as_fd(), &index.to_ne_bytes(), &program)
            .map_err(|cause| Error::os("link classifier", name, cause))?;
    }
    Ok(())
}

/// `memlock` in the descriptor's fdinfo (kernel/bpf/syscall.c, bpf_map_show_fdinfo).
fn memory_of(map: &OwnedFd) -> Result<u64> {
    use std::os::fd::AsRawFd;
    let path = PathBuf::from(format!("/proc/self/fdinfo/{}", map.as_raw_fd()));
    let text = std::fs::read_to_string(&path).map_err(|cause| Error::os("read", path.display().to_string(), cause))?;
    Ok(text.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests;
