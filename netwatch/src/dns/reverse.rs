//! Reverse lookups for `--resolve`: the names that the host's resolver returns for addresses, after
//! the command has exited.

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::wire::Name;

/// Maximum number of addresses that are looked up; the others get no name.
pub const MAX_ADDRESSES: usize = 256;
/// Timeout of all lookups together.
pub const TOTAL_TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum number of threads, because the resolver of the C library blocks.
const MAX_THREADS: usize = 16;

/// Names of those addresses that have one and are resolved before the timeout. Threads that are
/// still waiting then are detached.
pub fn names(addresses: impl Iterator<Item = IpAddr>) -> Vec<(IpAddr, Name)> {
    let addresses: Vec<IpAddr> = addresses.take(MAX_ADDRESSES).collect();
    let count = addresses.len();
    let results = look_up(addresses);
    let deadline = Instant::now() + TOTAL_TIMEOUT;
    let next = |_| results.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok();
    let received = (0..count).map_while(next);
    received.filter_map(|(address, name)| Some((address, name?))).collect()
}

fn look_up(addresses: Vec<IpAddr>) -> Receiver<(IpAddr, Option<Name>)> {
    let (sender, receiver) = channel();
    let threads = addresses.len().min(MAX_THREADS);
    let queue = Arc::new(Mutex::new(addresses));
    for _ in 0..threads {
        let (sender, queue) = (sender.clone(), Arc::clone(&queue));
        // With fewer threads, some names may be missing at the timeout.
        let _ = thread::Builder::new().name("resolve".into()).spawn(move || {
            let next = || queue.lock().ok()?.pop();
            while let Some(address) = next() {
                let _ = sender.send((address, name(address)));
            }
        });
    }
    receiver
}

/// Calls getnameinfo(3), which uses the sources configured in nsswitch.conf.
fn name(address: IpAddr) -> Option<Name> {
    let (storage, length) = sockaddr(address);
    let mut host = [0_u8; libc::NI_MAXHOST as usize];
    // SAFETY: the address is on the stack and has this length; the buffer has the length that is
    // passed, and no service is requested.
    let failed = unsafe {
        libc::getnameinfo(
            (&raw const storage).cast(),
            length,
            host.as_mut_ptr().cast(),
            libc::NI_MAXHOST,
            std::ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    let end = host.iter().position(|byte| *byte == 0)?;
    if failed == 0 { Name::new(&host[..end]) } else { None }
}

fn sockaddr(address: IpAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    use nix::sys::socket::{SockaddrLike, SockaddrStorage};
    let address = SockaddrStorage::from(SocketAddr::new(address, 0));
    // SAFETY: a `SockaddrStorage` contains a `sockaddr_storage`, which is copied.
    let storage = unsafe { address.as_ptr().cast::<libc::sockaddr_storage>().read() };
    (storage, address.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_the_loopback_address() {
        let named = names(["127.0.0.1".parse().unwrap()].into_iter());
        assert!(named.iter().any(|(_, name)| name.as_str() == "localhost"), "{named:?}");
    }

    #[test]
    fn resolves_nothing_without_addresses() {
        assert_eq!(names(std::iter::empty()), []);
    }
}
