//! The lock that parallel runs take around what they share: choosing a subnet, the switch
//! register, undoing.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::{Error, Result};

/// Pause between two attempts to take the lock.
const RETRY_INTERVAL: Duration = Duration::from_micros(500);

/// Number of locks that this process holds: of several threads, one does and the others wait.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// The lock, held by one run at a time. Released on drop, and by the kernel when the process dies.
#[derive(Debug)]
pub struct Exclusive {
    _flock: Flock<File>,
    _counted: Counted,
}

/// Counts a lock in [`HELD`] from its creation to its drop, which follows that of the lock itself.
#[derive(Debug)]
struct Counted;

impl Counted {
    fn new() -> Self {
        HELD.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        HELD.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Exclusive {
    /// Waits for the lock. Usually a few milliseconds, but seconds while another process undoes
    /// many runs, so that a thread that serves anything must not call this.
    pub fn take() -> Result<Self> {
        let (path, file) = open()?;
        let _flock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| Error::os("lock", path, errno))?;
        Ok(Self { _flock, _counted: Counted::new() })
    }

    /// Whether this process holds it: then it must not be stopped, because all other runs would
    /// wait for it to continue.
    pub fn is_held_here() -> bool {
        HELD.load(Ordering::SeqCst) > 0
    }

    /// Takes the lock unless another run holds it.
    pub fn try_take() -> Result<Option<Self>> {
        let (path, file) = open()?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(_flock) => Ok(Some(Self { _flock, _counted: Counted::new() })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(Error::os("lock", path, errno)),
        }
    }

    /// Waits for the lock until `check` fails. For threads with blocked signals, which cannot
    /// interrupt [`Self::take`].
    pub fn take_while(check: impl Fn() -> Result<()>) -> Result<Self> {
        loop {
            if let Some(held) = Self::try_take()? {
                return Ok(held);
            }
            check()?;
            thread::sleep(RETRY_INTERVAL);
        }
    }
}

fn open() -> Result<(String, File)> {
    let path = super::root()?.join("lock");
    let shown = path.display().to_string();
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    match options.open(&path) {
        Ok(file) => Ok((shown, file)),
        Err(error) => {
            let is_forbidden = error.kind() == std::io::ErrorKind::PermissionDenied;
            let error = Error::os("open", shown, error);
            Err(if is_forbidden { error.hint("run with sudo") } else { error })
        }
    }
}
