//! STUB
use crate::error::Result;
use crate::netns::nat::Nat;
use crate::state::{Journal, RunId};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
#[derive(Debug)]
pub struct Forwarding(OwnedFd);
impl Forwarding {
    pub fn enable(_run: &RunId, _journal: &Journal, interface: &str, _nat: &Nat, _v6: bool) -> Result<Self> {
        for e in std::fs::read_dir("/proc/sys/net/ipv4/conf").into_iter().flatten().flatten() {
            let n = e.file_name();
            if n != "all" && n != "default" && n != "lo" {
                let _ = std::fs::write(e.path().join("forwarding"), "1");
            }
        }
        let _ = interface;
        Ok(Self(nix::sys::eventfd::EventFd::new().unwrap().into()))
    }
    pub fn refresh(&mut self, _nat: &Nat) -> Result<()> {
        Ok(())
    }
}
impl AsFd for Forwarding {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
pub fn release(_run: &RunId, _cookie: u64) -> Result<bool> {
    Ok(true)
}
