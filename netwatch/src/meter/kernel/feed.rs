//! Feeds frames to the classifier that were not received on an interface: one by one, or from an
//! interface made for that.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netwatch_common::parse::Hook;

use super::{KernelMeter, attach, sys};
use crate::error::{Error, Result};

impl KernelMeter {
    /// Runs a whole Ethernet frame through the classifier as if it were observed at `hook`. Returns
    /// false if BPF_PROG_TEST_RUN rejects the frame: under 34 bytes of IPv4, under 54 bytes of
    /// IPv6, or longer than a page with its metadata.
    pub fn feed(&self, hook: Hook, frame: &[u8]) -> Result<bool> {
        match sys::test_run(self.entry(hook), frame, &[], 1) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
            Err(error) => Err(refused(error)),
        }
    }

    /// Counts packets sent on an interface of the thread's network namespace as if they were
    /// observed at `hook`.
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
    Error::os("pass a frame to", "the classifier", error).hint("needs CAP_BPF and CAP_NET_ADMIN; run with sudo")
}
