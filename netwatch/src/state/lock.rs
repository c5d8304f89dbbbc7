//! The lock that parallel runs take around what they share: choosing a subnet, the sysctl ledger.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::{Flock, FlockArg};

use crate::error::{Error, Result};

/// Held by one run at a time; let go on drop, and by the kernel when the process dies.
#[derive(Debug)]
pub struct Exclusive {
    _flock: Flock<File>,
}

impl Exclusive {
    /// Waits for the lock. Critical sections are a few milliseconds long.
    pub fn take() -> Result<Self> {
        let path = super::root()?.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| Error::os("open", path.display().to_string(), error))?;
        let _flock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| Error::os("lock", path.display().to_string(), errno))?;
        Ok(Self { _flock })
    }
}
