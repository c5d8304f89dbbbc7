//! The process tracer: cgroup programs and tracepoints that report which process creates, binds,
//! connects and uses sockets, and which processes are created, execute programs and exit. No packet
//! passes through here. This file only has the entry points.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(missing_docs, reason = "entry points are named after their hooks")]
#![expect(internal_features, reason = "on the BPF target only the intrinsic compiles to a plain atomic add")]

mod call;
mod exec;
mod local_socket;
mod maps;
mod socket;
mod task;

use core::ffi::c_void;

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::programs::RawTracePointContext;

/// The return value of cgroup programs that allows the operation. These programs never deny one.
const ALLOW: i32 = 1;

/// Defines cgroup programs. User space attaches them by their names.
macro_rules! cgroup_programs {
    ($($name:ident($context:ty) $body:expr;)*) => {
        $(
            #[unsafe(no_mangle)]
            #[unsafe(link_section = "cgroup/sock")]
            pub extern "C" fn $name(context: *mut $context) -> i32 {
                // SAFETY: the context lives as long as the program runs.
                unsafe { $body(context) };
                ALLOW
            }
        )*
    };
}

/// Defines raw tracepoint programs, which have the names of the kernel's tracepoints.
macro_rules! tracepoints {
    ($($name:ident $body:expr;)*) => {
        $(
            #[unsafe(no_mangle)]
            #[unsafe(link_section = "raw_tp")]
            pub extern "C" fn $name(context: *mut c_void) -> i32 {
                if task::is_in_cgroup() {
                    $body(&RawTracePointContext::new(context));
                }
                0
            }
        )*
    };
}

cgroup_programs! {
    sock_create(bpf_sock) socket::created;
    sock_release(bpf_sock) socket::closed;
    post_bind4(bpf_sock) socket::bound4;
    post_bind6(bpf_sock) socket::bound6;
    connect4(bpf_sock_addr) socket::connect4;
    connect6(bpf_sock_addr) socket::connect6;
    sendmsg4(bpf_sock_addr) socket::sendmsg4;
    sendmsg6(bpf_sock_addr) socket::sendmsg6;
    recvmsg4(bpf_sock_addr) socket::received;
    recvmsg6(bpf_sock_addr) socket::received;
    connect_unix(bpf_sock_addr) local_socket::used;
    sendmsg_unix(bpf_sock_addr) local_socket::used;
}

tracepoints! {
    sock_send_length socket::sent;
    sock_recv_length socket::received_length;
    sched_process_fork task::forked;
    sched_process_exec exec::executed;
    sched_process_exit task::exited;
}

/// Runs for every system call on the machine, so the most frequent case, success, is checked first.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp")]
pub extern "C" fn sys_exit(context: *mut c_void) -> i32 {
    call::exited(&RawTracePointContext::new(context));
    0
}

/// Nothing here can panic. If something could, the verifier would reject the endless loop.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Some helpers are only available under the GPL; a dual license is enough.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
