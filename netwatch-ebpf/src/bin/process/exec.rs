//! A process runs another program: its name, its executable and its arguments at that moment, so that nobody has to be quicker than a
//! process that lives a millisecond.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user};
use aya_ebpf::programs::RawTracePointContext;
use netwatch_common::process::{ARGUMENT_BYTES, EXE_BYTES, Exec, kind, lost};

use crate::maps::{self, EXECUTED, NO_WAKEUP, PROCESSES};
use crate::task;

#[repr(C)]
struct Record<const N: usize> {
    exec: Exec,
    arguments: [u8; N],
}

/// The tracepoint comes when the new program is in place and nothing of it has run.
#[inline(always)]
pub fn executed(ctx: &RawTracePointContext) {
    if let Some(count) = EXECUTED.get_ptr_mut(0) {
        // SAFETY: the map's value is an aligned u32 that lives as long as the program.
        unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(count, 1) };
    }
    let current: u64 = ctx.arg(0);
    let memory: u64 = task::kernel(current, maps::task_mm());
    let (start, end): (u64, u64) =
        (task::kernel(memory, maps::mm_arg_start()), task::kernel(memory, maps::mm_arg_end()));
    let total = if maps::arguments() != 0 && end > start { (end - start) as u32 } else { 0 };
    if total as usize <= ARGUMENT_BYTES[0] {
        record::<{ ARGUMENT_BYTES[0] }>(ctx, start, total);
    } else {
        record::<{ ARGUMENT_BYTES[1] }>(ctx, start, total);
    }
}

/// How many times that was.
#[inline(always)]
pub fn count() -> u32 {
    // SAFETY: the map's value; read in one piece.
    EXECUTED.get_ptr(0).map_or(0, |count| unsafe { count.read_volatile() })
}

/// One record with room for `N` bytes of arguments.
#[inline(always)]
fn record<const N: usize>(ctx: &RawTracePointContext, start: u64, total: u32) {
    let Some(mut place) = PROCESSES.reserve::<Record<N>>(0) else { return maps::count(lost::EVENTS) };
    let record = place.as_mut_ptr();
    let ppid = task::parent(ctx.arg(0));
    let path: u64 = task::kernel(ctx.arg(2), maps::binprm_interp());
    // SAFETY: within the record; the helpers write no more than they are told.
    unsafe {
        let exec = &raw mut (*record).exec;
        (&raw mut (*exec).head).write(task::head(kind::EXEC));
        (*exec).ppid = ppid;
        let exe = (&raw mut (*exec).exe).cast();
        let read = bpf_probe_read_kernel_str(exe, EXE_BYTES as u32, path as *const _);
        // With the zero that ends it.
        (*exec).exe_len = if read > 0 { read as u32 - 1 } else { 0 };
        (*exec).arguments_total = total;
        let read = arguments::<N>((&raw mut (*record).arguments).cast(), start, total);
        (*exec).arguments_len = read;
    }
    place.submit(NO_WAKEUP);
}

/// Copies arguments: how many bytes there are of them.
///
/// # Safety
/// `target` has room for `N` bytes.
#[inline(always)]
unsafe fn arguments<const N: usize>(target: *mut u8, start: u64, total: u32) -> u32 {
    // As in the classifier's `sample`: the verifier must see the bounds on the very register that the helper gets.
    let less_one = core::hint::black_box(total.min(N as u32).wrapping_sub(1));
    if less_one >= N as u32 {
        return 0;
    }
    // SAFETY: the caller's promise and the check above.
    let read = unsafe { bpf_probe_read_user(target.cast(), less_one + 1, start as *const _) };
    if read == 0 { less_one + 1 } else { 0 }
}
