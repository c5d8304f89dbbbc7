//! System calls that fail, where that is asked for: while this is attached, every system call of the machine takes the kernel's slow way out.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use aya_ebpf::programs::RawTracePointContext;
use netwatch_common::process::{ADDRESS_BYTES, Call, call, kind, lost};

use crate::maps::{NO_WAKEUP, PROCESSES, count, number_of, register};
use crate::task;

/// Nobody failed: try again, and the connection is being made.
const EAGAIN: i64 = -11;
const EINPROGRESS: i64 = -115;
/// Errors are numbers from here to -1.
const LOWEST: i64 = -4095;

/// The tracepoint `sys_exit`.
#[inline(always)]
pub fn ended(ctx: &RawTracePointContext) {
    let result = ctx.arg::<u64>(1) as i64;
    if !(LOWEST..0).contains(&result) || result == EAGAIN || result == EINPROGRESS {
        return;
    }
    let registers: u64 = ctx.arg(0);
    let number: u64 = task::kernel(registers, register(0));
    let Some(which) = which(number as u32) else { return };
    if task::is_ours() {
        tell(which, -result as u32, registers);
    }
}

#[inline(always)]
fn which(number: u32) -> Option<u32> {
    match number {
        n if n == number_of(0) => Some(call::SOCKET),
        n if n == number_of(1) => Some(call::CONNECT),
        n if n == number_of(2) => Some(call::SENDTO),
        n if n == number_of(3) => Some(call::SENDMSG),
        _ => None,
    }
}

#[inline(always)]
fn tell(which: u32, errno: u32, registers: u64) {
    let Some(mut place) = PROCESSES.reserve::<Call>(0) else { return count(lost::EVENTS) };
    let record = place.as_mut_ptr();
    let arguments: [u64; 3] = [1, 2, 3].map(|at| task::kernel(registers, register(at)));
    let (address, len) = address(which, &arguments, registers);
    // SAFETY: within the record; the helper writes no more than it is told.
    unsafe {
        (&raw mut (*record).head).write(task::head(kind::CALL));
        ((*record).call, (*record).errno, (*record).zero) = (which, errno, 0);
        (&raw mut (*record).arguments).write(arguments);
        (*record).len = 0;
        let less_one = core::hint::black_box(len.min(ADDRESS_BYTES as u32).wrapping_sub(1));
        if less_one < ADDRESS_BYTES as u32 {
            let target = (&raw mut (*record).address).cast();
            if bpf_probe_read_user(target, less_one + 1, address as *const _) == 0 {
                (*record).len = less_one + 1;
            }
        }
    }
    place.submit(NO_WAKEUP);
}

/// Where the address is that the call was given, and how long.
#[inline(always)]
fn address(which: u32, arguments: &[u64; 3], registers: u64) -> (u64, u32) {
    match which {
        call::CONNECT => (arguments[1], arguments[2] as u32),
        call::SENDTO => {
            let (address, len): (u64, u64) =
                (task::kernel(registers, register(4)), task::kernel(registers, register(5)));
            (address, len as u32)
        }
        call::SENDMSG => {
            // The beginning of a `msghdr`: a pointer and a length.
            let mut message = [0_u64; 2];
            // SAFETY: the helper writes no more than the two words.
            unsafe { bpf_probe_read_user((&raw mut message).cast(), 16, arguments[1] as *const _) };
            (message[0], message[1] as u32)
        }
        _ => (0, 0),
    }
}
