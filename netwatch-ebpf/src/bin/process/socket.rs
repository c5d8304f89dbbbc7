//! IPv4 and IPv6 sockets: reports which process creates, binds, connects, uses and closes them.
//! Every operation is reported except uses: of those, only the first by another process or program
//! than before. The creation is reported with the first other operation.

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::bpf_get_socket_cookie;
use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::programs::RawTracePointContext;
use netwatch_common::address::Address;
use netwatch_common::process::{ClosedRecord, MAX_REPORTS_PER_SOCKET, SocketRecord, SocketState, flag, kind, lost};

use crate::maps::{self, SOCKETS, count_loss, report};
use crate::{exec, task};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// Not reported on failure: failures of TCP show in its packets, or in a failed connection.
const TCP: u16 = 6;
const UDP: u16 = 17;

/// A local or remote address of a socket.
struct SocketAddress {
    address: Address,
    port: u16,
    family: u16,
    protocol: u16,
}

/// `cgroup/sock_create`.
///
/// # Safety
/// The context belongs to the program.
#[inline(always)]
pub unsafe fn created(ctx: *mut bpf_sock) {
    // SAFETY: guaranteed by the caller.
    let (family, protocol, cookie) = unsafe { ((*ctx).family, (*ctx).protocol, bpf_get_socket_cookie(ctx.cast())) };
    // SAFETY: guaranteed by the caller.
    let netns = unsafe { bpf_get_netns_cookie(ctx.cast()) };
    let (family, protocol) = (family as u16, protocol as u16);
    let has_ports = protocol == TCP || protocol == UDP;
    let state = SocketState {
        uid: task::uid(),
        is_unreported: has_ports.into(),
        start_ns: task::current_start_time(),
        netns,
        ..new_state(protocol, task::current_program(), exec::count())
    };
    insert(cookie, state);
    // Raw and ICMP sockets receive packets without any other operation.
    if !has_ports {
        let (head, address) = (task::head(kind::CREATED), Address::default());
        report(SocketRecord { head, cookie, netns, address, port: 0, family, protocol, errno: 0 });
    }
}

/// `cgroup/sock_release`: the last user of the socket closes it. The context has no fields for the
/// local address and port; at run time it is the `struct sock`, which can be read as kernel memory.
///
/// # Safety
/// As for [`created`].
#[inline(always)]
pub unsafe fn closed(ctx: *mut bpf_sock) {
    // SAFETY: guaranteed by the caller.
    let (family, protocol, cookie, netns, port) = unsafe {
        let cookie = bpf_get_socket_cookie(ctx.cast());
        ((*ctx).family, (*ctx).protocol, cookie, bpf_get_netns_cookie(ctx.cast()), (*ctx).dst_port)
    };
    let sock = ctx as u64;
    let (local, remote) = if family == u32::from(AF_INET6) {
        let local: [u64; 2] = task::read_kernel(sock, maps::sock_v6_rcv_saddr());
        // SAFETY: four words of the context.
        (Address::from_words(local), unsafe { v6((&raw const (*ctx).dst_ip6).cast()) })
    } else {
        let local: u32 = task::read_kernel(sock, maps::sock_rcv_saddr());
        // SAFETY: guaranteed by the caller.
        (Address::v4(&local.to_ne_bytes()), Address::v4(&unsafe { (*ctx).dst_ip4 }.to_ne_bytes()))
    };
    let local_port: u16 = task::read_kernel(sock, maps::sock_num());
    if let Some(state) = SOCKETS.get_ptr_mut(cookie) {
        // SAFETY: a live map value, plain data.
        let state = unsafe { &mut *state };
        if state.is_unreported != 0 {
            // Without a port, nothing was done with it.
            if local_port == 0 {
                let _ = SOCKETS.remove(cookie);
                return;
            }
            report_created(state, cookie, family as u16);
        }
    }
    // Fails if the socket was evicted; then there is nothing to remove.
    let _ = SOCKETS.remove(cookie);
    report(ClosedRecord {
        head: task::head(kind::CLOSED),
        cookie,
        netns,
        local,
        remote,
        local_port,
        remote_port: u16::from_be(port),
        family: family as u16,
        protocol: protocol as u16,
    });
}

/// `cgroup/post_bind4`.
///
/// # Safety
/// As for [`created`].
#[inline(always)]
pub unsafe fn bound4(ctx: *mut bpf_sock) {
    // SAFETY: guaranteed by the caller.
    let (address, port, protocol, cookie) =
        unsafe { ((*ctx).src_ip4, (*ctx).src_port, (*ctx).protocol, bpf_get_socket_cookie(ctx.cast())) };
    let address = SocketAddress {
        address: Address::v4(&address.to_ne_bytes()),
        port: port as u16,
        family: AF_INET,
        protocol: protocol as u16,
    };
    // SAFETY: guaranteed by the caller.
    operation(kind::BOUND, cookie, unsafe { bpf_get_netns_cookie(ctx.cast()) }, address);
}

/// `cgroup/post_bind6`.
///
/// # Safety
/// As for [`created`].
#[inline(always)]
pub unsafe fn bound6(ctx: *mut bpf_sock) {
    // SAFETY: guaranteed by the caller.
    let (words, port, protocol, cookie) = unsafe {
        ((&raw const (*ctx).src_ip6).cast::<u32>(), (*ctx).src_port, (*ctx).protocol, bpf_get_socket_cookie(ctx.cast()))
    };
    // SAFETY: four words of the context.
    let address = unsafe { v6(words) };
    let address = SocketAddress { address, port: port as u16, family: AF_INET6, protocol: protocol as u16 };
    // SAFETY: guaranteed by the caller.
    operation(kind::BOUND, cookie, unsafe { bpf_get_netns_cookie(ctx.cast()) }, address);
}

/// `cgroup/connect4`.
///
/// # Safety
/// As for [`created`].
#[inline(always)]
pub unsafe fn connect4(ctx: *mut bpf_sock_addr) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        operation(kind::CONNECT, bpf_get_socket_cookie(ctx.cast()), bpf_get_netns_cookie(ctx.cast()), destination4(ctx))
    }
}

/// `cgroup/connect6`.
///
/// # Safety
/// As for [`created`].
#[inline(always)]
pub unsafe fn connect6(ctx: *mut bpf_sock_addr) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        operation(kind::CONNECT, bpf_get_socket_cookie(ctx.cast()), bpf_get_netns_cookie(ctx.cast()), destination6(ctx))
    }
}

/// `cgroup/sendmsg4`: a message with a destination.
///
/// # Safety
/// As for [`created`].
#[inline(always)]
pub unsafe fn sendmsg4(ctx: *mut bpf_sock_addr) {
    // SAFETY: guaranteed by the caller.
    unsafe { used(bpf_get_socket_cookie(ctx.cast()), Some(destination4(ctx)), || Some(AF_INET)) }
}

/// `cgroup/sendmsg6`: a message with a destination.
///
/// # Safety
/// As for [`created`].
#[inline(always)]
pub unsafe fn sendmsg6(ctx: *mut bpf_sock_addr) {
    // SAFETY: guaranteed by the caller.
    unsafe { used(bpf_get_socket_cookie(ctx.cast()), Some(destination6(ctx)), || Some(AF_INET6)) }
}

/// `cgroup/recvmsg4` and `cgroup/recvmsg6`: a message was received, and the caller requested the
/// sender's address.
///
/// # Safety
/// As for [`created`].
#[inline(always)]
pub unsafe fn received(ctx: *mut bpf_sock_addr) {
    // SAFETY: guaranteed by the caller.
    unsafe { used(bpf_get_socket_cookie(ctx.cast()), None, || Some((*ctx).family as u16)) }
}

/// The tracepoint `sock_send_length` (Linux 6.3): the only hook that observes TCP senders and
/// messages that were not sent.
#[inline(always)]
pub fn sent(ctx: &RawTracePointContext) {
    let (sock, result) = (ctx.arg(0), ctx.arg::<u64>(1) as i32);
    let Some(cookie) = cookie_of(sock) else { return };
    if result >= 0 {
        return used(cookie, None, || family_of(sock));
    }
    let Some(family) = family_of(sock) else { return };
    let Some(state) = SOCKETS.get_ptr_mut(cookie) else { return };
    // SAFETY: a live map value, plain data; two concurrent failures may be counted as one.
    let (address, port, protocol, failures) = unsafe {
        let state = &mut *state;
        if state.port == 0 || state.protocol == TCP || is_temporary(result) {
            return;
        }
        state.failures = state.failures.saturating_add(1);
        (state.address, state.port, state.protocol, state.failures)
    };
    if failures > MAX_REPORTS_PER_SOCKET {
        return count_loss(lost::FAILURES);
    }
    let (head, errno) = (task::head(kind::SEND_FAILED), -result as u16);
    report(SocketRecord { head, cookie, netns: 0, address, port, family, protocol, errno });
}

/// EAGAIN, EINTR, and the kernel's internal codes for calls that are restarted after a signal
/// (include/linux/errno.h): the message may still be sent, and non-blocking senders get EAGAIN very
/// often.
#[inline(always)]
fn is_temporary(result: i32) -> bool {
    matches!(-result, 4 | 11 | 512..=516)
}

/// The tracepoint `sock_recv_length` (Linux 6.3): observes processes that only read from an
/// inherited socket. A message may be empty.
#[inline(always)]
pub fn received_length(ctx: &RawTracePointContext) {
    let (sock, result) = (ctx.arg(0), ctx.arg::<u64>(1) as i32);
    if result >= 0
        && let Some(cookie) = cookie_of(sock)
    {
        used(cookie, None, || family_of(sock));
    }
}

/// The cookie of a `struct sock`, if it has one.
#[inline(always)]
fn cookie_of(sock: u64) -> Option<u64> {
    let cookie: u64 = task::read_kernel(sock, maps::sock_cookie());
    (cookie != 0).then_some(cookie)
}

/// The family of a `struct sock`, if it is IPv4 or IPv6.
#[inline(always)]
fn family_of(sock: u64) -> Option<u16> {
    let family: u16 = task::read_kernel(sock, maps::sock_family());
    (family == AF_INET || family == AF_INET6).then_some(family)
}

/// The state of a socket that this process uses, running this program.
#[inline(always)]
fn new_state(protocol: u16, program: u32, executed: u32) -> SocketState {
    SocketState {
        address: Address::default(),
        port: 0,
        protocol,
        pid: task::pid(),
        user_changes: 0,
        failures: 0,
        program,
        executed,
        uid: 0,
        is_unreported: 0,
        start_ns: 0,
        netns: 0,
    }
}

#[inline(always)]
fn insert(cookie: u64, state: SocketState) {
    if SOCKETS.insert(cookie, state, 0).is_err() {
        count_loss(lost::SOCKETS);
    }
}

/// Reports the creation of a socket by the process in its state, without the name and number of the
/// thread.
#[inline(always)]
fn report_created(state: &mut SocketState, cookie: u64, family: u16) {
    state.is_unreported = 0;
    let mut head = task::head(kind::CREATED);
    (head.pid, head.tid, head.program) = (state.pid, state.pid, state.program);
    (head.start_ns, head.uid, head.comm) = (state.start_ns, state.uid, [0; 16]);
    let (netns, protocol, address) = (state.netns, state.protocol, Address::default());
    report(SocketRecord { head, cookie, netns, address, port: 0, family, protocol, errno: 0 });
}

/// Whether the creation is to be reported with the next record, because the same program in the
/// same process created the socket. If another did, it is reported now.
#[inline(always)]
fn take_created(state: &mut SocketState, cookie: u64, family: u16, program: u32) -> u32 {
    if state.is_unreported == 0 {
        return 0;
    }
    if state.pid == task::pid() && state.program == program {
        state.is_unreported = 0;
        return flag::CREATED_SOCKET;
    }
    report_created(state, cookie, family);
    0
}

/// An operation on a socket that is always reported.
#[inline(always)]
fn operation(kind: u32, cookie: u64, netns: u64, address: SocketAddress) {
    let SocketAddress { address, port, family, protocol } = address;
    let (program, executed) = (task::current_program(), exec::count());
    let mut flags = 0;
    match SOCKETS.get_ptr_mut(cookie) {
        Some(state) => {
            // SAFETY: a live map value, plain data.
            let state = unsafe { &mut *state };
            flags = take_created(state, cookie, family, program);
            (state.pid, state.program, state.executed) = (task::pid(), program, executed);
            if kind == kind::CONNECT {
                (state.address, state.port, state.protocol) = (address, port, protocol);
            }
        }
        None if kind == kind::CONNECT => {
            insert(cookie, SocketState { address, port, ..new_state(protocol, program, executed) });
        }
        None => insert(cookie, new_state(protocol, program, executed)),
    }
    let mut head = task::head(kind);
    head.flags = flags;
    report(SocketRecord { head, cookie, netns, address, port, family, protocol, errno: 0 });
}

/// A use of a socket: reported if another process, or another program of the same process, used it
/// last. `family` and the program are only read if that is possible, because reading kernel memory
/// is the most expensive part.
#[inline(always)]
fn used(cookie: u64, to: Option<SocketAddress>, family: impl FnOnce() -> Option<u16>) {
    let (pid, executed) = (task::pid(), exec::count());
    let state = SOCKETS.get_ptr_mut(cookie);
    if let Some(state) = state {
        // SAFETY: a live map value; a concurrent use by another process can only cause an
        // additional record.
        unsafe {
            if let Some(to) = &to {
                ((*state).address, (*state).port) = (to.address, to.port);
            }
            // 0 if executions are not observed; then the program has to be compared.
            let is_same = (*state).pid == pid && executed != 0 && (*state).executed == executed;
            if is_same && (*state).is_unreported == 0 {
                return;
            }
        }
    }
    let Some(family) = family() else { return };
    let program = task::current_program();
    let (protocol, address, port) = to.map_or((0, Address::default(), 0), |to| (to.protocol, to.address, to.port));
    let (mut flags, mut netns) = (0, 0);
    let protocol = match state {
        // SAFETY: as above.
        Some(state) => unsafe {
            flags = take_created(&mut *state, cookie, family, program);
            if flags != 0 {
                netns = (*state).netns;
                (*state).protocol
            } else {
                match change_user(state, pid, program, executed) {
                    Some(protocol) => protocol,
                    None => return,
                }
            }
        },
        None => {
            insert(cookie, SocketState { address, port, ..new_state(protocol, program, executed) });
            protocol
        }
    };
    let mut head = task::head(kind::USED);
    head.flags = flags;
    report(SocketRecord { head, cookie, netns, address, port, family, protocol, errno: 0 });
}

/// Stores the socket's user. Returns the protocol if the user has changed and the change is to be
/// reported.
///
/// # Safety
/// `state` points to a live value of SOCKETS.
#[inline(always)]
unsafe fn change_user(state: *mut SocketState, pid: u32, program: u32, executed: u32) -> Option<u16> {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let is_same = (*state).pid == pid && (*state).program == program;
        ((*state).pid, (*state).program, (*state).executed) = (pid, program, executed);
        if is_same || (*state).user_changes >= MAX_REPORTS_PER_SOCKET {
            return None;
        }
        (*state).user_changes += 1;
        Some((*state).protocol)
    }
}

/// # Safety
/// As for [`created`].
#[inline(always)]
unsafe fn destination4(ctx: *mut bpf_sock_addr) -> SocketAddress {
    // SAFETY: guaranteed by the caller.
    let (address, port, protocol) = unsafe { ((*ctx).user_ip4, (*ctx).user_port, (*ctx).protocol) };
    SocketAddress {
        address: Address::v4(&address.to_ne_bytes()),
        port: u16::from_be(port as u16),
        family: AF_INET,
        protocol: protocol as u16,
    }
}

/// # Safety
/// As for [`created`].
#[inline(always)]
unsafe fn destination6(ctx: *mut bpf_sock_addr) -> SocketAddress {
    // SAFETY: guaranteed by the caller; four words of the context.
    let (address, port, protocol) =
        unsafe { (v6((&raw const (*ctx).user_ip6).cast()), (*ctx).user_port, (*ctx).protocol) };
    SocketAddress { address, port: u16::from_be(port as u16), family: AF_INET6, protocol: protocol as u16 }
}

/// # Safety
/// `words` points to four words in network order. Each is read on its own: the verifier allows no
/// other reads of a context.
#[inline(always)]
unsafe fn v6(words: *const u32) -> Address {
    // SAFETY: guaranteed by the caller.
    let [a, b, c, d] = [0, 1, 2, 3].map(|at| unsafe { words.add(at).read_volatile() });
    let word = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Address::from_words([word(a, b), word(c, d)])
}
