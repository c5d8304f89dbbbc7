//! The capture of packets: programs and a ring of their own, loaded and attached only on request.
//! [`PacketTap`] belongs to the process with the rights to attach programs; it passes the
//! descriptors of the maps to the process that reads them with [`PacketRing`].

mod filter;
#[cfg(test)]
mod filter_tests;
mod link_tap;
mod ring;
#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya_obj::generated::bpf_prog_type;
use netwatch_common::capture::{MAX_INTERFACES, MAX_RING_BYTES, MIN_RING_BYTES};

#[cfg(test)]
pub(crate) use filter::load_alone as load_filter;
pub use link_tap::{LinkTap, TappedLink};
pub use netwatch_common::capture::{DEFAULT_RING_BYTES, MAX_CAPLEN};
pub use ring::{PacketBatch, PacketRing, PacketStats, RingPacket};

use super::attach::{self, AttachMethod, Attachment};
use super::object::Loaded;
use super::sys::ProgramKind;
use crate::error::{Error, Result};
use crate::filter::FilterProgram;
use crate::flow::PerDirection;

/// The object, built by `cargo xtask build` and committed.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../bpf/capture.o");

/// The maps that the reader has.
const MAPS: [&str; 2] = ["PACKETS", "CAPTURE_STATS"];

const CLASSIFIER: ProgramKind = ProgramKind { program: bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS, attach: 0 };
/// The reader is woken whenever another such part of the ring is full: often enough that it is
/// scheduled before the ring is full, also by super-frames of 64 KiB.
const WAKEUP_SHARE: u32 = 32;

/// What to capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapConfig {
    /// Maximum number of bytes of each packet, from the Ethernet header on.
    pub snaplen: u32,
    /// Size of the ring in bytes: a power of two.
    pub ring_bytes: u32,
    /// The directions that are captured.
    pub directions: PerDirection<bool>,
    /// Distinguishes the captures of an interface.
    pub slot: u16,
}

impl Default for TapConfig {
    fn default() -> Self {
        let directions = PerDirection { egress: true, ingress: true };
        Self { snaplen: MAX_CAPLEN, ring_bytes: DEFAULT_RING_BYTES, directions, slot: 0 }
    }
}

impl TapConfig {
    /// Refuses values that no capture has.
    pub fn check(&self) -> Result<()> {
        let refuse = |what: &str| Err(Error::other("capture with", what, "the value is out of range"));
        match self {
            Self { snaplen: 0, .. } => refuse("a snap length of 0 bytes"),
            Self { snaplen, .. } if *snaplen > MAX_CAPLEN => refuse(&format!("a snap length of {snaplen} bytes")),
            Self { ring_bytes, .. }
                if !ring_bytes.is_power_of_two() || !(MIN_RING_BYTES..=MAX_RING_BYTES).contains(ring_bytes) =>
            {
                refuse(&format!("a buffer of {ring_bytes} bytes"))
            }
            Self { directions: PerDirection { egress: false, ingress: false }, .. } => refuse("no direction"),
            _ => Ok(()),
        }
    }
}

/// Attached capture programs. Dropping it detaches them; the maps live as long as a descriptor.
#[derive(Debug)]
pub struct PacketTap {
    attachment: Option<Attachment>,
    loaded: Loaded,
    filter_error: Option<String>,
}

impl PacketTap {
    /// Loads the programs and attaches them to the host's end of the link, an interface in the
    /// thread's network namespace. Uses no other threads.
    pub fn attach(
        ifindex: u32,
        config: &TapConfig,
        filter: Option<&FilterProgram>,
        methods: &[AttachMethod],
    ) -> Result<Self> {
        config.check()?;
        let (loaded, filter_error) = filter::load(config, filter, 0, &[])?;
        let program = |name, is_on: bool| is_on.then(|| loaded.program(name).as_fd());
        let egress = program("capture_egress", config.directions.egress);
        let ingress = program("capture_ingress", config.directions.ingress);
        let attachment = attach::capture(egress, ingress, config.slot, ifindex, methods)?;
        Ok(Self { attachment: Some(attachment), loaded, filter_error })
    }

    /// Why the kernel does not apply the filter. Every packet is then captured whole.
    pub fn filter_error(&self) -> Option<&str> {
        self.filter_error.as_deref()
    }

    /// The descriptors for [`PacketRing::open`].
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        MAPS.map(|map| self.loaded.map(map).as_fd())
    }

    /// Detaches the programs.
    pub fn detach(mut self) -> Result<()> {
        self.attachment.take().map_or(Ok(()), Attachment::detach)
    }

    /// Duplicates of the descriptors that keep the programs attached.
    #[cfg(test)]
    fn duplicated_links(&self) -> Vec<OwnedFd> {
        let Some(Attachment::Tcx(links)) = &self.attachment else { return Vec::new() };
        links.iter().map(|link| link.try_clone().expect("duplicated")).collect()
    }

    /// All programs of the capture by name, for benchmarks and tests.
    pub fn named_programs(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.loaded.named_programs()
    }

    /// Duplicates of [`Self::descriptors`].
    pub fn maps(&self) -> Result<[OwnedFd; 2]> {
        duplicates(self.descriptors())
    }
}

fn duplicates(maps: [BorrowedFd<'_>; 2]) -> Result<[OwnedFd; 2]> {
    let [ring, stats] = maps.map(|fd| fd.try_clone_to_owned());
    let failed = |cause| Error::os("duplicate", "a file descriptor", cause);
    Ok([ring.map_err(failed)?, stats.map_err(failed)?])
}

impl Drop for PacketTap {
    fn drop(&mut self) {
        if let Some(attachment) = self.attachment.take() {
            // The interface removes them at the latest.
            let _ = attachment.detach();
        }
    }
}
