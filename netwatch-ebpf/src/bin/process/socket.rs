//! Sockets of IPv4 and IPv6: who makes, binds, connects and uses them. A record for each step but for uses, of which only the first by
//! another process or program than before makes one.

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::bpf_get_socket_cookie;
use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::programs::RawTracePointContext;
use netwatch_common::address::Address;
use netwatch_common::process::{Closed, Known, Socket, TURNS, kind, lost};

use crate::maps::{self, SOCKETS, count, tell};
use crate::{exec, task};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// Its failures are its packets', or its connection's.
const TCP: u16 = 6;

/// An address and port of a socket.
struct Place {
    address: Address,
    port: u16,
    family: u16,
    protocol: u16,
}

/// `cgroup/sock_create`.
///
/// # Safety
/// The context is the program's own.
#[inline(always)]
pub unsafe fn made(ctx: *mut bpf_sock) {
    // SAFETY: the caller's promise.
    let (family, protocol, cookie) = unsafe { ((*ctx).family, (*ctx).protocol, bpf_get_socket_cookie(ctx.cast())) };
    let place = Place { address: Address::default(), port: 0, family: family as u16, protocol: protocol as u16 };
    // SAFETY: the caller's promise.
    step(kind::MADE, cookie, unsafe { bpf_get_netns_cookie(ctx.cast()) }, place);
}

/// `cgroup/sock_release`: the last that had it closes it. The context has no field for its own address and port here; it is the `struct sock`
/// at run time, which can be read like any other memory of the kernel.
///
/// # Safety
/// As [`made`].
#[inline(always)]
pub unsafe fn closed(ctx: *mut bpf_sock) {
    // SAFETY: the caller's promise.
    let (family, protocol, cookie, netns, port) = unsafe {
        let cookie = bpf_get_socket_cookie(ctx.cast());
        ((*ctx).family, (*ctx).protocol, cookie, bpf_get_netns_cookie(ctx.cast()), (*ctx).dst_port)
    };
    let sock = ctx as u64;
    let (local, remote) = if family == u32::from(AF_INET6) {
        let local: [u64; 2] = task::kernel(sock, maps::sock_v6_rcv_saddr());
        // SAFETY: four words of the context.
        (Address::from_words(local), unsafe { v6((&raw const (*ctx).dst_ip6).cast()) })
    } else {
        let local: u32 = task::kernel(sock, maps::sock_rcv_saddr());
        // SAFETY: the caller's promise.
        (Address::v4(&local.to_ne_bytes()), Address::v4(&unsafe { (*ctx).dst_ip4 }.to_ne_bytes()))
    };
    // What is closed is used no more; of one that the table has lost there is nothing to remove.
    let _ = SOCKETS.remove(cookie);
    tell(Closed {
        head: task::head(kind::CLOSED),
        cookie,
        netns,
        local,
        remote,
        local_port: task::kernel(sock, maps::sock_num()),
        remote_port: u16::from_be(port),
        family: family as u16,
        protocol: protocol as u16,
    });
}

/// `cgroup/post_bind4`.
///
/// # Safety
/// As [`made`].
#[inline(always)]
pub unsafe fn bound4(ctx: *mut bpf_sock) {
    // SAFETY: the caller's promise.
    let (address, port, protocol, cookie) =
        unsafe { ((*ctx).src_ip4, (*ctx).src_port, (*ctx).protocol, bpf_get_socket_cookie(ctx.cast())) };
    let place = Place {
        address: Address::v4(&address.to_ne_bytes()),
        port: port as u16,
        family: AF_INET,
        protocol: protocol as u16,
    };
    // SAFETY: the caller's promise.
    step(kind::BOUND, cookie, unsafe { bpf_get_netns_cookie(ctx.cast()) }, place);
}

/// `cgroup/post_bind6`.
///
/// # Safety
/// As [`made`].
#[inline(always)]
pub unsafe fn bound6(ctx: *mut bpf_sock) {
    // SAFETY: the caller's promise.
    let (words, port, protocol, cookie) = unsafe {
        ((&raw const (*ctx).src_ip6).cast::<u32>(), (*ctx).src_port, (*ctx).protocol, bpf_get_socket_cookie(ctx.cast()))
    };
    // SAFETY: four words of the context.
    let address = unsafe { v6(words) };
    let place = Place { address, port: port as u16, family: AF_INET6, protocol: protocol as u16 };
    // SAFETY: the caller's promise.
    step(kind::BOUND, cookie, unsafe { bpf_get_netns_cookie(ctx.cast()) }, place);
}

/// `cgroup/connect4`.
///
/// # Safety
/// As [`made`].
#[inline(always)]
pub unsafe fn connect4(ctx: *mut bpf_sock_addr) {
    // SAFETY: the caller's promise.
    unsafe { step(kind::CONNECT, bpf_get_socket_cookie(ctx.cast()), bpf_get_netns_cookie(ctx.cast()), place4(ctx)) }
}

/// `cgroup/connect6`.
///
/// # Safety
/// As [`made`].
#[inline(always)]
pub unsafe fn connect6(ctx: *mut bpf_sock_addr) {
    // SAFETY: the caller's promise.
    unsafe { step(kind::CONNECT, bpf_get_socket_cookie(ctx.cast()), bpf_get_netns_cookie(ctx.cast()), place6(ctx)) }
}

/// `cgroup/sendmsg4`: a message with an address.
///
/// # Safety
/// As [`made`].
#[inline(always)]
pub unsafe fn sendmsg4(ctx: *mut bpf_sock_addr) {
    // SAFETY: the caller's promise.
    unsafe { used(bpf_get_socket_cookie(ctx.cast()), Some(place4(ctx)), || Some(AF_INET)) }
}

/// `cgroup/sendmsg6`: a message with an address.
///
/// # Safety
/// As [`made`].
#[inline(always)]
pub unsafe fn sendmsg6(ctx: *mut bpf_sock_addr) {
    // SAFETY: the caller's promise.
    unsafe { used(bpf_get_socket_cookie(ctx.cast()), Some(place6(ctx)), || Some(AF_INET6)) }
}

/// `cgroup/recvmsg4` and `cgroup/recvmsg6`: a message whose sender was asked for.
///
/// # Safety
/// As [`made`].
#[inline(always)]
pub unsafe fn received(ctx: *mut bpf_sock_addr) {
    // SAFETY: the caller's promise.
    unsafe { used(bpf_get_socket_cookie(ctx.cast()), None, || Some((*ctx).family as u16)) }
}

/// The tracepoint `sock_send_length` (Linux 6.3): the one place that sees TCP's senders, and what no message came of.
#[inline(always)]
pub fn sent(ctx: &RawTracePointContext) {
    let (sock, result) = (ctx.arg(0), ctx.arg::<u64>(1) as i32);
    let Some(cookie) = cookie_of(sock) else { return };
    if result >= 0 {
        return used(cookie, None, || family_of(sock));
    }
    let Some(family) = family_of(sock) else { return };
    let Some(known) = SOCKETS.get_ptr_mut(cookie) else { return };
    // SAFETY: the value is the map's and plain data; of two that fail at the same time one may be counted for both.
    let (address, port, protocol, failures) = unsafe {
        let known = &mut *known;
        if known.port == 0 || known.protocol == TCP || is_no_failure(result) {
            return;
        }
        known.failures = known.failures.saturating_add(1);
        (known.address, known.port, known.protocol, known.failures)
    };
    if failures > TURNS {
        return count(lost::FAILURES);
    }
    let (head, errno) = (task::head(kind::NOT_SENT), -result as u16);
    tell(Socket { head, cookie, netns: 0, address, port, family, protocol, errno });
}

/// EAGAIN, EINTR, and the kernel's own for a call that is begun anew after a signal (include/linux/errno.h): no message failed for good, and
/// whoever does not wait gets the first of them in any number.
#[inline(always)]
fn is_no_failure(result: i32) -> bool {
    matches!(-result, 4 | 11 | 512..=516)
}

/// The tracepoint `sock_recv_length` (Linux 6.3): a process may only read from a socket that it was given. A message may be empty.
#[inline(always)]
pub fn received_length(ctx: &RawTracePointContext) {
    let (sock, result) = (ctx.arg(0), ctx.arg::<u64>(1) as i32);
    if result >= 0
        && let Some(cookie) = cookie_of(sock)
    {
        used(cookie, None, || family_of(sock));
    }
}

/// Of a `struct sock`, if it has one.
#[inline(always)]
fn cookie_of(sock: u64) -> Option<u64> {
    let cookie: u64 = task::kernel(sock, maps::sock_cookie());
    (cookie != 0).then_some(cookie)
}

/// Of a `struct sock`, if it is the internet's.
#[inline(always)]
fn family_of(sock: u64) -> Option<u16> {
    let family: u16 = task::kernel(sock, maps::sock_family());
    (family == AF_INET || family == AF_INET6).then_some(family)
}

/// A step in the life of a socket: always told.
#[inline(always)]
fn step(kind: u32, cookie: u64, netns: u64, place: Place) {
    let Place { address, port, family, protocol } = place;
    let goes = kind == kind::CONNECT;
    let known = Known {
        pid: task::pid(),
        program: task::current_program(),
        protocol,
        port: if goes { port } else { 0 },
        address: if goes { address } else { Address::default() },
        turns: 0,
        failures: 0,
        executed: exec::count(),
    };
    if SOCKETS.insert(cookie, known, 0).is_err() {
        count(lost::SOCKETS);
    }
    tell(Socket { head: task::head(kind), cookie, netns, address, port, family, protocol, errno: 0 });
}

/// A use of a socket: told if another process, or another program of it, used it last. Its `family`, if it is one of the internet's, and the
/// program are asked for only where that may be: reading the kernel's memory is what costs most here.
#[inline(always)]
fn used(cookie: u64, to: Option<Place>, family: impl FnOnce() -> Option<u16>) {
    let (pid, executed) = (task::pid(), exec::count());
    let known = SOCKETS.get_ptr_mut(cookie);
    if let Some(known) = known {
        // SAFETY: the value is the map's; another process that uses the socket at the same time may only make a record more.
        unsafe {
            if let Some(to) = &to {
                ((*known).address, (*known).port) = (to.address, to.port);
            }
            // 0 where nothing tells of executed programs: then it is the program that has to be compared.
            if (*known).pid == pid && executed != 0 && (*known).executed == executed {
                return;
            }
        }
    }
    let Some(family) = family() else { return };
    let program = task::current_program();
    let (protocol, address, port) = to.map_or((0, Address::default(), 0), |to| (to.protocol, to.address, to.port));
    let protocol = match known {
        // SAFETY: as above.
        Some(known) => match unsafe { change_hands(known, pid, program, executed) } {
            Some(protocol) => protocol,
            None => return,
        },
        None => {
            let known = Known { address, port, protocol, pid, program, executed, turns: 0, failures: 0 };
            if SOCKETS.insert(cookie, known, 0).is_err() {
                count(lost::SOCKETS);
            }
            protocol
        }
    };
    tell(Socket { head: task::head(kind::USED), cookie, netns: 0, address, port, family, protocol, errno: 0 });
}

/// Notes who has the socket now. Its protocol, if that is another than before, and is to be told.
///
/// # Safety
/// `known` is a live value of SOCKETS.
#[inline(always)]
unsafe fn change_hands(known: *mut Known, pid: u32, program: u32, executed: u32) -> Option<u16> {
    // SAFETY: the caller's promise.
    unsafe {
        let is_same = (*known).pid == pid && (*known).program == program;
        ((*known).pid, (*known).program, (*known).executed) = (pid, program, executed);
        if is_same || (*known).turns >= TURNS {
            return None;
        }
        (*known).turns += 1;
        Some((*known).protocol)
    }
}

/// # Safety
/// As [`made`].
#[inline(always)]
unsafe fn place4(ctx: *mut bpf_sock_addr) -> Place {
    // SAFETY: the caller's promise.
    let (address, port, protocol) = unsafe { ((*ctx).user_ip4, (*ctx).user_port, (*ctx).protocol) };
    Place {
        address: Address::v4(&address.to_ne_bytes()),
        port: u16::from_be(port as u16),
        family: AF_INET,
        protocol: protocol as u16,
    }
}

/// # Safety
/// As [`made`].
#[inline(always)]
unsafe fn place6(ctx: *mut bpf_sock_addr) -> Place {
    // SAFETY: the caller's promise; four words of the context.
    let (address, port, protocol) =
        unsafe { (v6((&raw const (*ctx).user_ip6).cast()), (*ctx).user_port, (*ctx).protocol) };
    Place { address, port: u16::from_be(port as u16), family: AF_INET6, protocol: protocol as u16 }
}

/// # Safety
/// There are four words in network order. Each is read by itself: the verifier allows a context no other reads.
#[inline(always)]
unsafe fn v6(words: *const u32) -> Address {
    // SAFETY: the caller's promise.
    let [a, b, c, d] = [0, 1, 2, 3].map(|at| unsafe { words.add(at).read_volatile() });
    let word = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Address::from_words([word(a, b), word(c, d)])
}
