//! The lock that parallel runs take around what they share: choosing a subnet, the switch
//! register, undoing.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::holder::{self, ContinuedHolder};
use crate::error::{Error, Result};

/// Pauses between attempts to take the lock: the first, and the longest.
const RETRY_INTERVALS: [Duration; 2] = [Duration::from_micros(500), Duration::from_millis(4)];
/// Time between two checks whether the process that holds the lock is stopped.
const HOLDER_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Number of [`Exclusive`] values in this process. It can be 2 for a moment: a thread may take the
/// lock before the thread that released it has dropped its value.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// The lock, held by one run at a time. Released on drop, and by the kernel when the process dies.
#[derive(Debug)]
pub struct Exclusive {
    _flock: Flock<File>,
    _counted: Counted,
}

/// Counts an [`Exclusive`] in [`HELD`]. It is dropped after the lock has been released.
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
    /// Waits for the lock. That usually takes a few milliseconds, but seconds while another process
    /// undoes many runs. So a thread that serves anything must not call this.
    pub fn take() -> Result<Self> {
        Self::take_while(|| Ok(()))
    }

    /// Whether this process holds it: then it must not be stopped, because all other runs would
    /// wait for it to continue.
    pub fn is_held_here() -> bool {
        HELD.load(Ordering::SeqCst) > 0
    }

    /// Takes the lock unless another run holds it.
    fn try_take() -> Result<Option<Self>> {
        let (path, file) = open()?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(_flock) => Ok(Some(Self { _flock, _counted: Counted::new() })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(Error::os("lock", path, errno)),
        }
    }

    /// Waits for the lock until `check` fails. A stopped process that holds the lock is continued
    /// until it has released the lock, because a signal to one run must not delay the others.
    pub fn take_while(check: impl Fn() -> Result<()>) -> Result<Self> {
        let mut wait = LockWait::new();
        loop {
            if let Some(held) = Self::try_take()? {
                wait.continued.iter().for_each(ContinuedHolder::stop_again);
                return Ok(held);
            }
            check()?;
            wait.pause();
        }
    }
}

/// A wait for the lock.
struct LockWait {
    interval: Duration,
    last_check: Instant,
    continued: Vec<ContinuedHolder>,
}

impl LockWait {
    fn new() -> Self {
        Self { interval: RETRY_INTERVALS[0], last_check: Instant::now(), continued: Vec::new() }
    }

    fn pause(&mut self) {
        thread::sleep(self.interval);
        self.interval = (self.interval * 2).min(RETRY_INTERVALS[1]);
        if self.last_check.elapsed() >= HOLDER_CHECK_INTERVAL {
            // A failure to find the holder only makes the wait longer.
            self.continued.extend(open().ok().and_then(|(_, lock)| holder::continue_stopped(&lock)));
            self.last_check = Instant::now();
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
