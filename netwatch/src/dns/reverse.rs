//! `--resolve`: names of addresses, as the host itself would look them up, when the command is over.

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::wire::Name;

/// Addresses that are asked for at most: the others stay without a name.
pub const MAX_ADDRESSES: usize = 256;
/// How long all answers together may take.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// Questions under way at once. The C library's resolver blocks.
const THREADS: usize = 16;

/// Names of as many of these addresses as have one and answer in time. Threads that still wait then are left to themselves.
pub fn names(addresses: impl Iterator<Item = IpAddr>) -> Vec<(IpAddr, Name)> {
    let addresses: Vec<IpAddr> = addresses.take(MAX_ADDRESSES).collect();
    let count = addresses.len();
    let answers = ask(addresses);
    let deadline = Instant::now() + PATIENCE;
    let next = |_| answers.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok();
    let answered = (0..count).map_while(next);
    answered.filter_map(|(address, name)| Some((address, name?))).collect()
}

fn ask(addresses: Vec<IpAddr>) -> Receiver<(IpAddr, Option<Name>)> {
    let (sender, receiver) = channel();
    let threads = addresses.len().min(THREADS);
    let queue = Arc::new(Mutex::new(addresses));
    for _ in 0..threads {
        let (sender, queue) = (sender.clone(), Arc::clone(&queue));
        // One thread fewer asks later or not at all: a name is missing, nothing else.
        let _ = thread::Builder::new().name("resolve".into()).spawn(move || {
            let next = || queue.lock().ok()?.pop();
            while let Some(address) = next() {
                let _ = sender.send((address, name(address)));
            }
        });
    }
    receiver
}

/// getnameinfo(3), which asks whatever nsswitch.conf says.
fn name(address: IpAddr) -> Option<Name> {
    let (storage, length) = nix_address(address);
    let mut host = [0_u8; libc::NI_MAXHOST as usize];
    // SAFETY: the address lives on this stack with its length; the buffer's length is given, and no service is wanted.
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

fn nix_address(address: IpAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    use nix::sys::socket::{SockaddrLike, SockaddrStorage};
    let address = SockaddrStorage::from(SocketAddr::new(address, 0));
    // SAFETY: a `SockaddrStorage` is one, and it is copied.
    let storage = unsafe { address.as_ptr().cast::<libc::sockaddr_storage>().read() };
    (storage, address.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_address_has_a_name() {
        let named = names(["127.0.0.1".parse().unwrap()].into_iter());
        assert!(named.iter().any(|(_, name)| name.as_str() == "localhost"), "{named:?}");
    }

    #[test]
    fn nothing_is_asked_for_nobody() {
        assert_eq!(names(std::iter::empty()), []);
    }
}
