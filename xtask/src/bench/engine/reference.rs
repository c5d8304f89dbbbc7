//! The reference programs that netwatch is compared with (`netwatch-ebpf/src/bin/reference`), and
//! the driver that turns one frame into many flows.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::Ebpf;

use super::frames::BenchFrame;
use super::subject::{self, BenchSubject, OtherClassifier};
use crate::Result;

#[path = "../../../../netwatch-ebpf/src/bin/reference/steer.rs"]
mod steer;

use steer::Steer;

/// The path of the object.
#[derive(Debug, Clone)]
pub struct Reference(pub PathBuf);

impl Reference {
    /// A classifier that does nothing.
    pub fn empty(&self) -> Result<BenchSubject> {
        self.subject("empty", "empty")
    }

    /// Hash map, atomic adds, `bpf_ktime_get_ns`.
    pub fn plain(&self) -> Result<BenchSubject> {
        self.subject("plain hash", "plain")
    }

    fn subject(&self, name: &'static str, program: &str) -> Result<BenchSubject> {
        let foreign = OtherClassifier { object: self.0.clone(), program: program.to_owned(), tail_calls: Vec::new() };
        BenchSubject::of_object(name, &foreign)
    }
}

/// Sends packets of many flows in turn through one program.
pub struct Driver {
    object: Ebpf,
    program: OwnedFd,
}

impl Driver {
    /// Loads the driver, which continues in `target`.
    pub fn new(object: &Path, target: BorrowedFd<'_>) -> Result<Self> {
        let mut object = subject::load(object)?;
        let program = subject::program(&mut object, "driver")?;
        subject::set_element(&object, "TARGET", 0, &target.as_raw_fd().to_ne_bytes())?;
        Ok(Self { object, program })
    }

    /// Lets `flows` flows take turns from now on, beginning with flow number `first`.
    pub fn steer(&self, frame: &BenchFrame, first: u64, flows: u64) -> Result {
        let BenchFrame { ports_at, address_at, payload, .. } = *frame;
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
