//! The capture of interfaces that netwatch did not create, which come and go: each has programs of
//! its own, which number its packets, and all of them share one ring.

use std::os::fd::{AsFd, OwnedFd};

use super::super::attach::{self, Attachment, LinkSide};
use super::super::object::Loaded;
use super::{MAPS, MAX_CAPLEN, MAX_INTERFACES, TapConfig, duplicates, filter};
use crate::error::{Error, Result};
use crate::filter::FilterProgram;

/// A capture that can be attached to any number of interfaces.
#[derive(Debug)]
pub struct LinkTap {
    config: TapConfig,
    /// `None` if the kernel does not apply it.
    filter: Option<FilterProgram>,
    filter_error: Option<String>,
    /// Has the maps.
    first: Loaded,
}

/// An interface that is captured. Dropping it detaches the programs.
#[derive(Debug)]
pub struct TappedLink {
    _attachment: Attachment,
}

impl LinkTap {
    /// Loads the programs, which are attached to no interface yet.
    pub fn load(config: &TapConfig, filter: Option<&FilterProgram>) -> Result<Self> {
        config.check()?;
        let (first, filter_error) = filter::load(config, filter, 0, &[])?;
        let (filter, snaplen) =
            if filter_error.is_some() { (None, MAX_CAPLEN) } else { (filter.cloned(), config.snaplen) };
        Ok(Self { config: TapConfig { snaplen, ..*config }, filter, filter_error, first })
    }

    /// Why the kernel does not apply the filter. Every packet is then captured whole.
    pub fn filter_error(&self) -> Option<&str> {
        self.filter_error.as_deref()
    }

    /// Duplicates of the descriptors for [`super::PacketRing::open`].
    pub fn maps(&self) -> Result<[OwnedFd; 2]> {
        duplicates(MAPS.map(|map| self.first.map(map).as_fd()))
    }

    /// Attaches to an interface of the calling thread's network namespace, by tcx links: the kernel
    /// removes them with this process. Packets have the number in `RingPacket::interface`. Fails
    /// if the kernel does not apply the filter of the capture to this interface too.
    pub fn attach(&self, ifindex: u32, side: LinkSide, number: u32) -> Result<TappedLink> {
        if number >= MAX_INTERFACES {
            return Err(Error::other("capture on", format!("interface {ifindex}"), "the capture had too many"));
        }
        let shared = MAPS.map(|map| (map, self.first.map(map).as_fd()));
        // The reader of the ring relies on the filter.
        let programs = filter::load_exactly(&self.config, self.filter.as_ref(), number, &shared)?;
        let program = |name, is_on: bool| is_on.then(|| programs.program(name).as_fd());
        let from_target = program("capture_egress", self.config.directions.egress);
        let to_target = program("capture_ingress", self.config.directions.ingress);
        let _attachment = attach::capture_of(from_target, to_target, ifindex, side)?;
        Ok(TappedLink { _attachment })
    }
}
