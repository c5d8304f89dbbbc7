//! Our own small programs beside netwatch's (`netwatch-ebpf/src/bin/reference.rs`), and the driver
//! that turns one frame into many flows.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::Ebpf;

use super::frames::Frame;
use super::subject::{self, Foreign, Subject};
use crate::Result;

/// Where the object is.
#[derive(Debug, Clone)]
pub struct Reference(pub PathBuf);

impl Reference {
    /// The least that a classifier can do.
    pub fn empty(&self) -> Result<Subject> {
        self.subject("empty", "empty")
    }

    /// Hash map, atomic adds, `bpf_ktime_get_ns`.
    pub fn plain(&self) -> Result<Subject> {
        self.subject("plain hash", "plain")
    }

    fn subject(&self, name: &'static str, program: &str) -> Result<Subject> {
        let foreign = Foreign { object: self.0.clone(), program: program.to_owned(), tail_calls: Vec::new() };
        Subject::of_object(name, &foreign)
    }
}

/// Sends packets of many flows, in turns, through one program.
pub struct Driver {
    object: Ebpf,
    program: OwnedFd,
}

/// What the driver does. The layout is that of `Steer` in the object.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Steer {
    next: u64,
    flows: u64,
    first: u64,
    port_at: u32,
    address_at: u32,
    sequence_at: u32,
    payload: u32,
    sequence: u32,
    zero: u32,
}

impl Driver {
    /// Loads it, to go on in `target`.
    pub fn new(object: &Path, target: BorrowedFd<'_>) -> Result<Self> {
        let mut object = subject::load(object)?;
        let program = subject::program(&mut object, "driver")?;
        subject::set_element(&object, "TARGET", 0, &target.as_raw_fd().to_ne_bytes())?;
        Ok(Self { object, program })
    }

    /// From now on `flows` flows take turns, the first of them flow number `first`.
    pub fn steer(&self, frame: &Frame, first: u64, flows: u64) -> Result {
        let Frame { ports_at, address_at, payload, .. } = *frame;
        let steer = Steer {
            first,
            flows,
            port_at: ports_at,
            address_at,
            sequence_at: ports_at + 4,
            payload,
            sequence: 1000,
            ..Steer::default()
        };
        // SAFETY: integers without padding.
        let bytes = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(&steer).cast::<u8>(), size_of::<Steer>()) };
        subject::set_element(&self.object, "STEER", 0, bytes)
    }

    /// The program to run.
    pub fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}
