//! Makes the filter of a capture from what was typed.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::capture::expression;
use crate::error::{Error, Result};
use crate::filter::FilterProgram;
use crate::replay::ReplayFilter;
use crate::rights;
use crate::settings::FilterOption;
use crate::target::user::Identity;

/// Link type of Ethernet (<https://www.tcpdump.org/linktypes.html>).
const ETHERNET: u16 = 1;
/// Maximum size of a file with instructions; the longest filter is shorter.
const MAX_CODE_BYTES: u64 = 1 << 20;

/// The filter of a run. libpcap parses the expression in a process with the rights of the caller.
///
/// # Safety
/// The process has a single thread.
pub(super) unsafe fn of_run(option: &FilterOption, caller: &Identity) -> Result<FilterProgram> {
    match option {
        FilterOption::Expression(text) => {
            // SAFETY: guaranteed by the caller.
            unsafe { rights::in_child(caller, "the filter", || expression::compile(text, ETHERNET)) }
        }
        FilterOption::Code(path) => rights::as_user((caller.uid, caller.gid), || read_code(path)),
    }
}

/// The filter of a replay. Its expression is compiled for each link type in the file.
pub(super) fn of_replay(option: &FilterOption) -> Result<ReplayFilter> {
    match option {
        FilterOption::Expression(text) => Ok(ReplayFilter::Expression(text.clone())),
        FilterOption::Code(path) => {
            let caller = rights::caller()?;
            rights::as_user((caller.uid, caller.gid), || read_code(path)).map(ReplayFilter::Code)
        }
    }
}

/// Reads instructions as `tcpdump -ddd` prints them.
fn read_code(path: &Path) -> Result<FilterProgram> {
    let name = || path.display().to_string();
    let failed = |cause| Error::os("read filter code of", name(), cause);
    let mut text = String::new();
    File::open(path).map_err(failed)?.take(MAX_CODE_BYTES).read_to_string(&mut text).map_err(failed)?;
    text.parse().map_err(|cause: String| {
        Error::other("use filter code of", name(), cause).hint("write it with `tcpdump -y EN10MB -ddd EXPR`")
    })
}
