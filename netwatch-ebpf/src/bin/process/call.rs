//! Failed system calls, if requested: while this is attached, every system call on the machine
//! returns by the kernel's slow exit path.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use aya_ebpf::programs::RawTracePointContext;
use netwatch_common::process::{ADDRESS_BYTES, FailedCallRecord, call, kind, lost};

use crate::maps::{PROCESSES, WAKE_IF_EMPTY, call_number, count_loss, register_offset};
use crate::task;

/// Not failures: try again, and connection in progress.
const EAGAIN: i64 = -11;
const EINPROGRESS: i64 = -115;
/// Errors are results from here to -1.
const MIN_ERROR: i64 = -4095;

/// The tracepoint `sys_exit`.
#[inline(always)]
pub fn exited(ctx: &RawTracePointContext) {
    let result = ctx.arg::<u64>(1) as i64;
    if !(MIN_ERROR..0).contains(&result) || result == EAGAIN || result == EINPROGRESS {
        return;
    }
    let registers: u64 = ctx.arg(0);
    let number: u64 = task::read_kernel(registers, register_offset(0));
    let Some(which) = known_call(number as u32) else { return };
    if task::is_in_cgroup() {
        report(which, -result as u32, registers);
    }
}

#[inline(always)]
fn known_call(number: u32) -> Option<u32> {
    match number {
        n if n == call_number(0) => Some(call::SOCKET),
        n if n == call_number(1) => Some(call::CONNECT),
        n if n == call_number(2) => Some(call::SENDTO),
        n if n == call_number(3) => Some(call::SENDMSG),
        _ => None,
    }
}

#[inline(always)]
fn report(which: u32, errno: u32, registers: u64) {
    let Some(mut reserved) = PROCESSES.reserve::<FailedCallRecord>(0) else { return count_loss(lost::EVENTS) };
    let record = reserved.as_mut_ptr();
    let arguments: [u64; 3] = [1, 2, 3].map(|at| task::read_kernel(registers, register_offset(at)));
    let (address, len) = address(which, &arguments, registers);
    // SAFETY: within the record; the helper writes at most the given size.
    unsafe {
        (&raw mut (*record).head).write(task::head(kind::FAILED_CALL));
        ((*record).call, (*record).errno, (*record).zero) = (which, errno, 0);
        (&raw mut (*record).arguments).write(arguments);
        (*record).len = 0;
        let len_minus_1 = core::hint::black_box(len.min(ADDRESS_BYTES as u32).wrapping_sub(1));
        if len_minus_1 < ADDRESS_BYTES as u32 {
            let target = (&raw mut (*record).address).cast();
            if bpf_probe_read_user(target, len_minus_1 + 1, address as *const _) == 0 {
                (*record).len = len_minus_1 + 1;
            }
        }
    }
    reserved.submit(WAKE_IF_EMPTY);
}

/// Pointer to the address that was passed to the call, and its length.
#[inline(always)]
fn address(which: u32, arguments: &[u64; 3], registers: u64) -> (u64, u32) {
    match which {
        call::CONNECT => (arguments[1], arguments[2] as u32),
        call::SENDTO => {
            let (address, len): (u64, u64) =
                (task::read_kernel(registers, register_offset(4)), task::read_kernel(registers, register_offset(5)));
            (address, len as u32)
        }
        call::SENDMSG => {
            // The beginning of a `msghdr`: a pointer and a length.
            let mut message = [0_u64; 2];
            // SAFETY: the helper writes at most the two words.
            unsafe { bpf_probe_read_user((&raw mut message).cast(), 16, arguments[1] as *const _) };
            (message[0], message[1] as u32)
        }
        _ => (0, 0),
    }
}
