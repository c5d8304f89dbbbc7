//! Waits for the readiness of descriptors inside the runtime. The only place with the unsafe code
//! that this needs.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use tokio::io::unix::AsyncFd;

use crate::error::{Error, Result};

/// A value that owns a descriptor and keeps it open and unchanged as long as it exists.
pub trait OwnsDescriptor {
    /// The descriptor.
    fn raw(&self) -> RawFd;
}

impl OwnsDescriptor for OwnedFd {
    fn raw(&self) -> RawFd {
        self.as_raw_fd()
    }
}

impl OwnsDescriptor for std::rc::Rc<nix::sys::signalfd::SignalFd> {
    fn raw(&self) -> RawFd {
        self.as_raw_fd()
    }
}

/// The owner of a descriptor that is registered with the runtime; see [`watch`].
#[derive(Debug)]
pub struct Watched<T: OwnsDescriptor>(T);

impl<T: OwnsDescriptor> AsRawFd for Watched<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.raw()
    }
}

impl<T: OwnsDescriptor> std::ops::Deref for Watched<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// Registers the descriptor of `owner` with the runtime. `what` is its name in errors.
pub fn watch<T: OwnsDescriptor>(owner: T, what: &str) -> Result<AsyncFd<Watched<T>>> {
    // SAFETY: `OwnsDescriptor` guarantees a descriptor that stays open as long as the owner exists,
    // and `Watched` owns the owner and never lends it mutably.
    unsafe { AsyncFd::register_with_interest(Watched(owner), tokio::io::Interest::READABLE) }
        .map_err(|error| Error::os("wait for", what, std::io::Error::from(error)))
}
