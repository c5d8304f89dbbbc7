//! Reads the PACKETS ring. The records of a batch stay in the ring until the batch is released, so
//! that they are copied once: from the packet into the ring.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use netwatch_common::capture::{INTERFACE_SHIFT, PacketHeader, slot};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::super::sys;
use crate::error::{Error, Result};
use crate::flow::{Direction, PerDirection};
use crate::meter::abi;
use crate::meter::clock::Clock;

/// The header that the kernel puts before each record (include/uapi/linux/bpf.h).
const RECORD_HEADER_BYTES: u64 = 8;
/// The record is still being written.
const BUSY: u32 = 1 << 31;
/// The record is to be skipped.
const DISCARDED: u32 = 1 << 30;

/// How many records before its turn a record is loaded, if all have the same length.
const RECORDS_AHEAD: u64 = 4;
/// Number of bytes that are loaded of a record: header and headers of the packet. The CPU continues
/// by itself.
const FETCHED_BYTES: u64 = 256;
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

/// The reader of the ring.
#[derive(Debug)]
pub struct PacketRing {
    _map: OwnedFd,
    stats: OwnedFd,
    /// Becomes readable when the programs wake the reader. The map itself is readable whenever it
    /// has a record: waiting for it would return for every packet.
    wakeups: Epoll,
    /// The position of the reader, which the kernel reads.
    consumer: Mapping,
    /// The position of the programs, then the ring twice, so that no record is divided.
    producer: Mapping,
    ring_bytes: u64,
    page_bytes: u64,
    clock: Clock,
}

/// A packet in the ring.
#[derive(Debug, Clone, Copy)]
pub struct RingPacket<'a> {
    /// Time, nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// Cookie of the sending socket of the target, if it is known.
    pub socket: Option<u64>,
    /// Packets of both directions that were lost before this one, since the capture began.
    pub lost: u64,
    /// The direction, as the target sees it.
    pub direction: Direction,
    /// The number of the interface in a capture of several; otherwise 0.
    pub interface: u32,
    /// Length of the packet in bytes, as the interface counts it.
    pub orig_len: u32,
    /// Payload bytes of each packet that offloading combined into this one; 0 without offloading.
    pub gso_size: u32,
    /// Number of these packets; 0 or 1 without offloading.
    pub gso_segs: u32,
    /// Protocol and value of a VLAN tag that is stored outside the frame.
    pub vlan: Option<(u16, u16)>,
    /// The captured bytes, from the Ethernet header on.
    pub bytes: &'a [u8],
}

/// Counters of the capture programs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PacketStats {
    /// Packets that were observed.
    pub observed: PerDirection<u64>,
    /// Packets that found no room in the ring.
    pub ring_full: PerDirection<u64>,
    /// Packets that are longer than the longest record and were captured up to its length.
    pub too_long: PerDirection<u64>,
    /// Packets whose bytes could not be read.
    pub unreadable: PerDirection<u64>,
    /// Packets that did not match the filter.
    pub filtered: PerDirection<u64>,
}

impl PacketStats {
    /// Packets that match the filter and are not in the ring.
    pub fn lost(&self) -> PerDirection<u64> {
        PerDirection {
            egress: self.ring_full.egress + self.unreadable.egress,
            ingress: self.ring_full.ingress + self.unreadable.ingress,
        }
    }
}

impl PacketRing {
    /// Maps the ring of [`super::PacketTap::descriptors`], which has `ring_bytes` bytes.
    pub fn open([map, stats]: [OwnedFd; 2], ring_bytes: u32) -> Result<Self> {
        let failed = |cause| Error::os("map BPF ring", "PACKETS", cause);
        let waiting = |errno| Error::os("wait for", "packets", errno);
        // SAFETY: sysconf has no memory arguments.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
        let ring_bytes = u64::from(ring_bytes);
        let writable = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let consumer = Mapping::new(&map, 0, page_bytes, writable).map_err(failed)?;
        let producer =
            Mapping::new(&map, page_bytes, page_bytes + 2 * ring_bytes, ProtFlags::PROT_READ).map_err(failed)?;
        let wakeups = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(waiting)?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0);
        wakeups.add(&map, event).map_err(waiting)?;
        Ok(Self { _map: map, stats, wakeups, consumer, producer, ring_bytes, page_bytes, clock: Clock::of_process() })
    }

    /// Waits until the programs wake the reader, until `wake` is readable, or for `timeout`.
    pub fn wait(&self, timeout: Duration, wake: BorrowedFd<'_>) -> Result<()> {
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let mut fds = [self.wakeups.0.as_fd(), wake].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        // Takes the wake-up, so that the next call waits for another one.
        let taken =
            poll(&mut fds, timeout).and_then(|_| self.wakeups.wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO));
        match taken {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(Error::os("wait for", "packets", errno)),
        }
    }

    /// Bytes of records in the ring.
    pub fn filled_bytes(&self) -> u64 {
        let from = self.consumer.position().load(Ordering::Acquire);
        self.producer.position().load(Ordering::Acquire) - from
    }

    /// The complete records that are in the ring now, at most about `max_bytes`.
    pub fn batch(&mut self, max_bytes: u64) -> PacketBatch<'_> {
        let from = self.consumer.position().load(Ordering::Acquire);
        let produced = self.producer.position().load(Ordering::Acquire);
        let mut to = from;
        while to < produced && to - from < max_bytes {
            let length = self.header(to).load(Ordering::Acquire) as u32;
            if length & BUSY != 0 {
                break;
            }
            let bytes = record_bytes(length);
            self.fetch(to + bytes * RECORDS_AHEAD, bytes);
            to += bytes;
        }
        PacketBatch { ring: self, from, to }
    }

    /// The kernel's header of the record at a position: length and flags in the low half.
    fn header(&self, position: u64) -> &AtomicU64 {
        // SAFETY: records start at multiples of eight bytes within the ring.
        unsafe { AtomicU64::from_ptr(self.at(position).cast_mut().cast()) }
    }

    /// Starts to load a record that is expected at a position, from its first byte on. The CPU
    /// that wrote it has it in its own cache, and the address of each record depends on the length
    /// of the one before it.
    fn fetch(&self, position: u64, bytes: u64) {
        #[cfg(target_arch = "x86_64")]
        for line in (0..bytes.min(FETCHED_BYTES)).step_by(CACHE_LINE) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: the instruction is part of x86-64, and any address is allowed.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.at(position).wrapping_add(line as usize).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (position, bytes);
    }

    fn at(&self, position: u64) -> *const u8 {
        let offset = self.page_bytes + (position & (self.ring_bytes - 1));
        // SAFETY: within the mapping, which has the ring twice.
        unsafe { self.producer.start.as_ptr().add(offset as usize) }
    }

    /// The counters so far.
    pub fn stats(&self) -> Result<PacketStats> {
        let read = |slot: u32| {
            let mut value = [0; 8];
            sys::map_lookup(self.stats.as_fd(), &slot.to_ne_bytes(), &mut value)
                .map_err(|cause| Error::os("read BPF map", "CAPTURE_STATS", cause))?;
            Ok(u64::from_ne_bytes(value))
        };
        let both = |slot| Ok(PerDirection { egress: read(slot)?, ingress: read(slot + 1)? });
        Ok(PacketStats {
            observed: both(slot::OBSERVED)?,
            ring_full: both(slot::RING_FULL)?,
            too_long: both(slot::TOO_LONG)?,
            unreadable: both(slot::UNREADABLE)?,
            filtered: both(slot::FILTERED)?,
        })
    }
}

fn record_bytes(header: u32) -> u64 {
    let length = u64::from(header & !(BUSY | DISCARDED));
    (length + RECORD_HEADER_BYTES).next_multiple_of(8)
}

/// Records that stay in the ring until this is dropped.
#[derive(Debug)]
pub struct PacketBatch<'a> {
    ring: &'a mut PacketRing,
    from: u64,
    to: u64,
}

impl PacketBatch<'_> {
    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// Bytes in the ring.
    pub fn bytes(&self) -> u64 {
        self.to - self.from
    }

    /// The packets, oldest first.
    pub fn packets(&self) -> impl Iterator<Item = RingPacket<'_>> {
        let mut next = self.from;
        let records = std::iter::from_fn(move || {
            let position = (next < self.to).then_some(next)?;
            let header = self.ring.header(position).load(Ordering::Acquire) as u32;
            next += record_bytes(header);
            Some((position, header))
        });
        records.filter(|(_, header)| header & DISCARDED == 0).map(|(position, header)| self.packet(position, header))
    }

    fn packet(&self, position: u64, header: u32) -> RingPacket<'_> {
        let length = (header & !(BUSY | DISCARDED)) as usize;
        assert!(length >= size_of::<PacketHeader>(), "a record of only {length} bytes");
        let start = self.ring.at(position + RECORD_HEADER_BYTES);
        // SAFETY: a complete record, which the kernel does not change until the batch is released.
        let record = unsafe { std::slice::from_raw_parts(start, length) };
        // SAFETY: long enough; plain data for which any bytes are valid.
        let header: PacketHeader = unsafe { record.as_ptr().cast::<PacketHeader>().read_unaligned() };
        let bytes = &record[size_of::<PacketHeader>()..];
        RingPacket {
            time_ns: self.ring.clock.unix_ns(header.time_ns),
            socket: Some(header.cookie).filter(|cookie| *cookie != 0),
            lost: header.lost,
            direction: abi::direction(header.direction as u8),
            interface: header.direction >> INTERFACE_SHIFT,
            orig_len: header.orig_len,
            gso_size: header.gso_size,
            gso_segs: header.gso_segs,
            vlan: (header.vlan != 0).then_some(((header.vlan >> 16) as u16, header.vlan as u16)),
            bytes: &bytes[..bytes.len().min(header.caplen as usize)],
        }
    }
}

impl Drop for PacketBatch<'_> {
    /// The kernel may overwrite the records from now on.
    fn drop(&mut self) {
        self.ring.consumer.position().store(self.to, Ordering::Release);
    }
}

/// Memory of the ring that starts with a position.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory belongs to the map, not to a thread; positions and headers are accessed
// atomically, and records only while they belong to the reader.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(map: &OwnedFd, offset: u64, bytes: u64, protection: ProtFlags) -> io::Result<Self> {
        let bytes = bytes as usize;
        let length = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, map, offset as i64) }?;
        Ok(Self { start: start.cast(), bytes })
    }

    fn position(&self) -> &AtomicU64 {
        // SAFETY: a page-aligned word that both sides access atomically.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().cast()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and there are no references into it.
        let _gone = unsafe { munmap(self.start.cast(), self.bytes) };
    }
}
