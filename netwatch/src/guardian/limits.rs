//! The limit of open files: raised for netwatch, and restored for the command.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use crate::error::{Error, Result};

/// The limit of open files that netwatch inherited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFileLimit {
    soft: rlim_t,
    hard: rlim_t,
}

impl OpenFileLimit {
    /// Raises the soft limit as far as the hard limit permits.
    pub fn raise() -> Result<Self> {
        let failed = |errno| Error::os("raise", "the limit of open files", errno);
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(failed)?;
        Ok(Self { soft, hard })
    }

    /// Restores the soft limit in the calling process.
    pub(super) fn restore(self) -> nix::Result<()> {
        setrlimit(Resource::RLIMIT_NOFILE, self.soft, self.hard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_and_restored() {
        let read = || getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        let (soft, hard) = read();
        let limit = OpenFileLimit::raise().expect("the hard limit suffices for tests");
        assert_eq!(read(), (hard, hard));
        limit.restore().expect("it is lower");
        assert_eq!(read(), (soft, hard));
    }
}
