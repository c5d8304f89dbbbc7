//! Reports program executions with name, executable and arguments at that moment: a process that
//! lives for a millisecond could not be inspected later.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user};
use aya_ebpf::programs::RawTracePointContext;
use netwatch_common::process::{ARGUMENT_BYTES, EXE_BYTES, ExecRecord, kind, lost};

use crate::maps::{self, EXECUTED, PROCESSES, WAKE_IF_EMPTY};
use crate::task;

#[repr(C)]
struct ExecWithArguments<const N: usize> {
    exec: ExecRecord,
    arguments: [u8; N],
}

/// The tracepoint `sched_process_exec`. It fires when the new program is set up and has not run
/// yet.
#[inline(always)]
pub fn executed(ctx: &RawTracePointContext) {
    if let Some(count) = EXECUTED.get_ptr_mut(0) {
        // SAFETY: the map's value is an aligned u32 that lives as long as the program.
        unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(count, 1) };
    }
    let current: u64 = ctx.arg(0);
    let memory: u64 = task::read_kernel(current, maps::task_mm());
    let (start, end): (u64, u64) =
        (task::read_kernel(memory, maps::mm_arg_start()), task::read_kernel(memory, maps::mm_arg_end()));
    let total = if maps::arguments() != 0 && end > start { (end - start) as u32 } else { 0 };
    if total as usize <= ARGUMENT_BYTES[0] {
        report::<{ ARGUMENT_BYTES[0] }>(ctx, start, total);
    } else {
        report::<{ ARGUMENT_BYTES[1] }>(ctx, start, total);
    }
}

/// Number of executions so far.
#[inline(always)]
pub fn count() -> u32 {
    // SAFETY: a live map value; a word is read atomically.
    EXECUTED.get_ptr(0).map_or(0, |count| unsafe { count.read_volatile() })
}

/// Reports the execution in a record with room for `N` bytes of arguments.
#[inline(always)]
fn report<const N: usize>(ctx: &RawTracePointContext, start: u64, total: u32) {
    let Some(mut reserved) = PROCESSES.reserve::<ExecWithArguments<N>>(0) else {
        return maps::count_loss(lost::EVENTS);
    };
    let record = reserved.as_mut_ptr();
    let ppid = task::parent(ctx.arg(0));
    let path: u64 = task::read_kernel(ctx.arg(2), maps::binprm_interp());
    // SAFETY: within the record; the helpers write at most the given sizes.
    unsafe {
        let exec = &raw mut (*record).exec;
        (&raw mut (*exec).head).write(task::head(kind::EXEC));
        (*exec).ppid = ppid;
        let exe = (&raw mut (*exec).exe).cast();
        let read = bpf_probe_read_kernel_str(exe, EXE_BYTES as u32, path as *const _);
        // The helper counts the terminating zero.
        (*exec).exe_len = if read > 0 { read as u32 - 1 } else { 0 };
        (*exec).arguments_total = total;
        let read = copy_arguments::<N>((&raw mut (*record).arguments).cast(), start, total);
        (*exec).arguments_len = read;
    }
    reserved.submit(WAKE_IF_EMPTY);
}

/// Copies the arguments. Returns the number of bytes copied.
///
/// # Safety
/// `target` has room for `N` bytes.
#[inline(always)]
unsafe fn copy_arguments<const N: usize>(target: *mut u8, start: u64, total: u32) -> u32 {
    // As in the classifier's `sample`: the verifier must see the bounds on the register that is
    // passed to the helper.
    let len_minus_1 = core::hint::black_box(total.min(N as u32).wrapping_sub(1));
    if len_minus_1 >= N as u32 {
        return 0;
    }
    // SAFETY: guaranteed by the caller and the check above.
    let read = unsafe { bpf_probe_read_user(target.cast(), len_minus_1 + 1, start as *const _) };
    if read == 0 { len_minus_1 + 1 } else { 0 }
}
