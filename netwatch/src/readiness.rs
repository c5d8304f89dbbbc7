//! Waiting for descriptors of ours inside the runtime: the one place that vouches for them.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use tokio::io::unix::AsyncFd;

use crate::error::{Error, Result};

/// Something that owns one descriptor and keeps it open, and the same, for as long as it lives.
pub trait Owns {
    /// The descriptor.
    fn raw(&self) -> RawFd;
}

impl Owns for OwnedFd {
    fn raw(&self) -> RawFd {
        self.as_raw_fd()
    }
}

impl Owns for std::rc::Rc<nix::sys::signalfd::SignalFd> {
    fn raw(&self) -> RawFd {
        self.as_raw_fd()
    }
}

/// What [`watch`] returns: the owner, with its descriptor known to the runtime.
#[derive(Debug)]
pub struct Watched<T: Owns>(T);

impl<T: Owns> AsRawFd for Watched<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.raw()
    }
}

impl<T: Owns> std::ops::Deref for Watched<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// Registers `owner` with the runtime. `what` names it in the error.
pub fn watch<T: Owns>(owner: T, what: &str) -> Result<AsyncFd<Watched<T>>> {
    // SAFETY: `Owns` promises one descriptor that stays open for the owner's life, and `Watched`
    // owns the owner and never gives it out mutably.
    unsafe { AsyncFd::register_with_interest(Watched(owner), tokio::io::Interest::READABLE) }
        .map_err(|error| Error::os("wait for", what, std::io::Error::from(error)))
}
