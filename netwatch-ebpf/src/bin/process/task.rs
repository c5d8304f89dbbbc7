//! The current task, and tasks that are made.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_ktime_get_ns};
use aya_ebpf::programs::RawTracePointContext;
use netwatch_common::process::{Fork, Head, kind};

use crate::maps::{self, CGROUP, tell};

/// Whether the current task is in the run's cgroup or one below it.
#[inline(always)]
pub fn is_ours() -> bool {
    CGROUP.current_task_under_cgroup(0).is_ok_and(|is| is)
}

/// The current process.
#[inline(always)]
pub fn pid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// The head of a record about the current task.
#[inline(always)]
pub fn head(kind: u32) -> Head {
    let ids = bpf_get_current_pid_tgid();
    Head {
        // SAFETY: a helper without arguments.
        time_ns: unsafe { bpf_ktime_get_ns() },
        kind,
        pid: (ids >> 32) as u32,
        tid: ids as u32,
        uid: bpf_get_current_uid_gid() as u32,
        comm: bpf_get_current_comm().unwrap_or_default(),
    }
}

/// What lies `offset` bytes behind an address in the kernel; zero if nothing can be read there.
#[inline(always)]
pub fn kernel<T: Copy + Default>(address: u64, offset: u32) -> T {
    let mut value = T::default();
    // SAFETY: the helper writes no more than the value's size, and fails where there is nothing.
    unsafe {
        bpf_probe_read_kernel(
            (&raw mut value).cast(),
            size_of::<T>() as u32,
            (address + u64::from(offset)) as *const _,
        );
    }
    value
}

/// When a task began, and the number of its parent.
#[inline(always)]
pub fn origin(task: u64) -> (u64, u32) {
    let parent: u64 = kernel(task, maps::task_real_parent());
    (kernel(task, maps::task_start_time()), kernel(parent, maps::task_tgid()))
}

/// A process was made. A thread is none.
#[inline(always)]
pub fn forked(ctx: &RawTracePointContext) {
    let child: u64 = ctx.arg(1);
    let (tgid, pid): (u32, u32) = (kernel(child, maps::task_tgid()), kernel(child, maps::task_pid()));
    if tgid != pid || tgid == 0 {
        return;
    }
    let mut head = head(kind::FORK);
    let maker = head.pid;
    (head.pid, head.tid) = (tgid, tgid);
    let (start_ns, ppid) = origin(child);
    tell(Fork { head, start_ns, ppid, maker });
}
