//! Who uses which socket: programs of a run's cgroup and tracepoints that tell user space which process makes, binds, connects and uses
//! sockets, and how processes come to be. Apart from the classifier: no packet passes through here. Entry points only.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(missing_docs, reason = "entry points are named after their hooks")]
#![expect(internal_features, reason = "the BPF target has no other way to a plain atomic add than the intrinsic")]

mod call;
mod exec;
mod maps;
mod socket;
mod task;
mod unix;

use core::ffi::c_void;

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::programs::RawTracePointContext;

/// What a program of a cgroup returns to let things go on. These never forbid anything.
const GO_ON: i32 = 1;

/// Programs of a cgroup: user space knows by their names where they belong.
macro_rules! of_cgroup {
    ($($name:ident($context:ty) $body:expr;)*) => {
        $(
            #[unsafe(no_mangle)]
            #[unsafe(link_section = "cgroup/sock")]
            pub extern "C" fn $name(context: *mut $context) -> i32 {
                // SAFETY: the context lives as long as the program runs.
                unsafe { $body(context) };
                GO_ON
            }
        )*
    };
}

/// Raw tracepoints: attached by the names of the kernel's tracepoints, which are these.
macro_rules! tracepoints {
    ($($name:ident $body:expr;)*) => {
        $(
            #[unsafe(no_mangle)]
            #[unsafe(link_section = "raw_tp")]
            pub extern "C" fn $name(context: *mut c_void) -> i32 {
                if task::is_ours() {
                    $body(&RawTracePointContext::new(context));
                }
                0
            }
        )*
    };
}

of_cgroup! {
    sock_create(bpf_sock) socket::made;
    sock_release(bpf_sock) socket::closed;
    post_bind4(bpf_sock) socket::bound4;
    post_bind6(bpf_sock) socket::bound6;
    connect4(bpf_sock_addr) socket::connect4;
    connect6(bpf_sock_addr) socket::connect6;
    sendmsg4(bpf_sock_addr) socket::sendmsg4;
    sendmsg6(bpf_sock_addr) socket::sendmsg6;
    recvmsg4(bpf_sock_addr) socket::received;
    recvmsg6(bpf_sock_addr) socket::received;
    connect_unix(bpf_sock_addr) unix::gone_to;
    sendmsg_unix(bpf_sock_addr) unix::gone_to;
}

tracepoints! {
    sock_send_length socket::sent;
    sock_recv_length socket::received_length;
    sched_process_fork task::forked;
    sched_process_exec exec::executed;
    sched_process_exit task::ended;
}

/// Every system call of the machine comes by here, so what the most of them are is looked at first.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp")]
pub extern "C" fn sys_exit(context: *mut c_void) -> i32 {
    call::ended(&RawTracePointContext::new(context));
    0
}

/// Nothing here can panic; if something could, the verifier would refuse the endless loop instead of letting it run wild.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel gives GPL-only helpers to no other licence; dual licences count.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
