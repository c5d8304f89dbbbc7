//! The ring of samples, read on a timer.

use std::os::fd::OwnedFd;

use aya::maps::{Map, MapData, RingBuf};
use netwatch_common::sample::SampleHeader;

use crate::error::{Error, Result};

const HEADER: usize = size_of::<SampleHeader>();

/// The reader's end.
pub(super) struct Samples {
    ring: RingBuf<MapData>,
}

impl Samples {
    pub(super) fn open(map: &OwnedFd) -> Result<Self> {
        let failed = |cause: &dyn std::fmt::Display| Error::said("read", "the ring of samples", cause.to_string());
        let fd = map.try_clone().map_err(|cause| Error::os("duplicate", "a map's descriptor", cause))?;
        let data = MapData::from_fd(fd).map_err(|cause| failed(&cause))?;
        let ring = RingBuf::try_from(Map::RingBuf(data)).map_err(|cause| failed(&cause))?;
        Ok(Self { ring })
    }

    /// Every sample that is there: its header, and the packet's bytes as far as they were kept.
    pub(super) fn each(&mut self, mut seen: impl FnMut(&SampleHeader, &[u8])) {
        while let Some(record) = self.ring.next() {
            let Some((header, bytes)) = record.split_at_checked(HEADER) else { continue };
            // SAFETY: as many bytes as the type has; the kernel half wrote one there.
            let header = unsafe { header.as_ptr().cast::<SampleHeader>().read_unaligned() };
            let kept = bytes.len().min(header.caplen as usize);
            seen(&header, &bytes[..kept]);
        }
    }
}
