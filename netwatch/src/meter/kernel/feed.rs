//! Frames for the classifier that no interface carries: handed to it one by one, or sent where nobody but it sees them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netwatch_common::parse::Hook;

use super::{KernelMeter, attach, sys};
use crate::error::{Error, Result};

impl KernelMeter {
    /// Runs a whole Ethernet frame through the classifier as if it had been seen at `hook`. False if the kernel takes no such frame this
    /// way (BPF_PROG_TEST_RUN): under 34 bytes of IPv4, under 54 of IPv6, longer than a page with its bookkeeping.
    pub fn feed(&self, hook: Hook, frame: &[u8]) -> Result<bool> {
        match sys::test_run(self.entry(hook), frame, &[], 1) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
            Err(error) => Err(refused(error)),
        }
    }

    /// Counts what an interface of the thread's network namespace sends as if it had been seen at `hook`.
    pub fn attach_egress(&mut self, hook: Hook, ifindex: u32) -> Result<()> {
        let attachment = attach::egress(self.entry(hook), ifindex, self.methods)?;
        self.attachments.push(attachment);
        Ok(())
    }

    fn entry(&self, hook: Hook) -> BorrowedFd<'_> {
        let name = match hook {
            Hook::FromTarget => "link_egress",
            Hook::ToTarget => "link_ingress",
            Hook::Loopback => "loopback",
        };
        self.loaded.program(name).as_fd()
    }
}

fn refused(error: io::Error) -> Error {
    Error::os("hand a frame to", "the classifier", error).hint("needs CAP_BPF and CAP_NET_ADMIN; run with sudo")
}
