//! STUB
use crate::error::Result;
use crate::netns::publish::Publish;
use crate::state::{Journal, RunId};
pub struct OpenSpec<'a> {
    pub run: &'a RunId,
    pub interface: &'a str,
    pub dns_port: u16,
    pub publish: &'a [Publish],
}
pub fn open(_s: &OpenSpec<'_>, _j: &Journal) -> Result<Vec<String>> {
    Ok(vec![])
}
pub fn remove(_f: u8, _t: &str, _c: &str, _m: &str) -> Result<()> {
    Ok(())
}
