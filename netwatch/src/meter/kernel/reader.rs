//! A thread that moves records out of the rings and keeps room in the flow table, so that a burst
//! fills neither while the metering thread is busy or waits.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::ring::SharedRing;
use crate::error::{Error, Result};

/// Pause between two moves while records arrive. The kernel notifies once for each: when a record
/// is written to a ring that was empty.
const MOVE_INTERVAL: Duration = Duration::from_millis(4);
/// The thread runs briefly and rarely, but has to run soon when every CPU is busy.
const NICE: i32 = -10;

/// The thread. It ends when this is dropped.
#[derive(Debug)]
pub struct RingReader {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl RingReader {
    /// Starts to move the records of these rings. `keep_room` is called after each move: records
    /// arrive when flows do.
    pub(super) fn start(rings: Vec<SharedRing>, keep_room: impl Fn() + Send + 'static) -> Result<Self> {
        let failed = |cause: std::io::Error| Error::os("start thread", "rings", cause);
        let stop = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC).map_err(|errno| failed(errno.into()))?);
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("rings".into());
        let thread = thread.spawn(move || move_until(&stopped, &rings, &keep_room)).map_err(failed)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for RingReader {
    fn drop(&mut self) {
        // Fails only if the counter of the descriptor is full.
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed; records then wait for the metering thread.
            let _ = thread.join();
        }
    }
}

fn move_until(stop: &EventFd, rings: &[SharedRing], keep_room: &impl Fn()) {
    set_thread_priority(NICE);
    let descriptors: Vec<_> = rings.iter().map(SharedRing::descriptor).collect();
    // SAFETY: `rings` keeps the descriptors open.
    let descriptors = descriptors.into_iter().map(|one| unsafe { BorrowedFd::borrow_raw(one) });
    let readable = |descriptor| PollFd::new(descriptor, PollFlags::POLLIN);
    let mut all: Vec<PollFd> = [stop.as_fd()].into_iter().chain(descriptors).map(readable).collect();
    loop {
        // Fails only if a signal ends the wait.
        let _ = poll(&mut all, PollTimeout::NONE);
        loop {
            let moved: usize = rings.iter().map(SharedRing::move_records).sum();
            keep_room();
            if waits_until_stopped(stop) {
                return;
            }
            if moved == 0 {
                break;
            }
        }
    }
}

/// Sets the nice value of the calling thread, which the threads that it starts take over, relative
/// to that of the main thread: the user may have chosen one. A priority above the default is not
/// permitted everywhere; then the thread only waits longer.
pub fn set_thread_priority(nice: i32) {
    // SAFETY: the calls take no pointer; 0 is the calling thread, and the id of the process that of
    // its main thread.
    let _ = unsafe {
        let base = libc::getpriority(libc::PRIO_PROCESS, std::process::id());
        libc::setpriority(libc::PRIO_PROCESS, 0, base + nice)
    };
}

/// Waits for the interval. Returns true, before that, if the thread is to end.
fn waits_until_stopped(stop: &EventFd) -> bool {
    let mut stops = [PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(MOVE_INTERVAL).unwrap_or(PollTimeout::ZERO);
    poll(&mut stops, timeout).is_ok_and(|ready| ready > 0)
}
