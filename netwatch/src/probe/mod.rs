//! STUB
use crate::error::Result;
use crate::flow::*;
#[derive(Debug, Clone, Default)]
pub struct ProbeConfig {
    pub max_flows: u32,
}
pub struct Probe;
impl Probe {
    pub fn load(_c: &ProbeConfig) -> Result<Self> {
        Ok(Self)
    }
    pub fn attach_link(&mut self, _i: &str) -> Result<()> {
        Ok(())
    }
    pub fn attach_loopback(&mut self, _n: std::os::fd::BorrowedFd<'_>) -> Result<()> {
        Ok(())
    }
    pub fn drain(&mut self, _f: &mut dyn FnMut(Increment)) -> Result<()> {
        Ok(())
    }
    pub fn icmp_errors(&mut self, _f: &mut dyn FnMut(FlowKey, IcmpError)) {}
    pub fn lost(&self) -> Lost {
        Lost::default()
    }
}
