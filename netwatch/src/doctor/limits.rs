//! The resource limits that `run` requires.

use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t};

use super::Check;
use crate::error::{Error, Result};

/// Minimum number of open files: half of the limit is for the DNS forwarder, a quarter for the
/// proxy of `--host-loopback`, the rest for netwatch itself.
const MIN_OPEN_FILES: rlim_t = 128;
/// Size of the largest file that a run always writes, bytes: its journal.
const MIN_FILE_BYTES: rlim_t = 4096;
/// The largest recording by default, bytes.
const RECORDING_BYTES: rlim_t = 512 << 20;

const OPEN_FILES_ADVICE: &str = "a run needs 128: raise it with `ulimit -Hn` before netwatch starts";
const FILE_SIZE_ADVICE: &str = "raise the limit for the size of files (`ulimit -f`)";

/// Fails if a limit is too low for a run, before the run changes anything.
pub fn require_limits() -> Result<()> {
    let hard = limit(Resource::RLIMIT_NOFILE)?.1;
    if hard < MIN_OPEN_FILES {
        return Err(Error::other("start", "the run", too_few_files(hard)).hint(OPEN_FILES_ADVICE));
    }
    match limit(Resource::RLIMIT_FSIZE)?.0 {
        size if size < MIN_FILE_BYTES => {
            Err(Error::os("write", "the files of a run", Errno::EFBIG).hint(FILE_SIZE_ADVICE))
        }
        _ => Ok(()),
    }
}

pub(super) fn checks() -> Vec<Check> {
    let check = |resource, judge: fn((rlim_t, rlim_t)) -> Check| match limit(resource) {
        Ok(found) => judge(found),
        Err(error) => Check::warn("limits", error.to_string(), "nothing to do"),
    };
    vec![check(Resource::RLIMIT_NOFILE, check_open_files), check(Resource::RLIMIT_FSIZE, check_file_size)]
}

/// Checks the hard limit, because a run raises its soft limit to it.
fn check_open_files((_, hard): (rlim_t, rlim_t)) -> Check {
    match hard {
        hard if hard < MIN_OPEN_FILES => Check::fail("open files", too_few_files(hard), OPEN_FILES_ADVICE),
        hard => Check::ok("open files", format!("up to {hard}")),
    }
}

fn check_file_size((soft, _): (rlim_t, rlim_t)) -> Check {
    let found = format!("the limit of file sizes (RLIMIT_FSIZE) is {soft} bytes");
    match soft {
        RLIM_INFINITY => Check::ok("file size", "unlimited"),
        soft if soft < MIN_FILE_BYTES => Check::fail("file size", found, FILE_SIZE_ADVICE),
        soft if soft < RECORDING_BYTES => {
            let advice = format!("recordings and captures fail beyond it: {FILE_SIZE_ADVICE}, or use --no-record");
            Check::warn("file size", found, advice)
        }
        _ => Check::ok("file size", found),
    }
}

fn too_few_files(hard: rlim_t) -> String {
    format!("the hard limit of open files (RLIMIT_NOFILE) is {hard}")
}

/// The soft and the hard limit.
fn limit(resource: Resource) -> Result<(rlim_t, rlim_t)> {
    getrlimit(resource).map_err(|errno| Error::os("read", "a resource limit", errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::CheckStatus::{Fail, Ok, Warn};

    #[test]
    fn low_limits_fail_or_warn() {
        assert_eq!([64, 127, 128].map(|hard| check_open_files((64, hard)).status), [Fail, Fail, Ok]);
        let sizes = [0, 4095, 4096, 1 << 20, 1 << 30, RLIM_INFINITY];
        assert_eq!(sizes.map(|soft| check_file_size((soft, RLIM_INFINITY)).status), [Fail, Fail, Warn, Warn, Ok, Ok]);
    }
}
