//! The current task, and tasks that are made.

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel};
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

/// The `task_struct` of the current thread.
#[inline(always)]
fn current() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_current_task() }
}

/// Which of its programs the current process runs.
#[inline(always)]
pub fn current_program() -> u32 {
    program(current())
}

/// Which of its programs a task runs; always 0 where the kernel's BTF does not know.
#[inline(always)]
fn program(task: u64) -> u32 {
    if maps::task_self_exec_id() == 0 { 0 } else { kernel(task, maps::task_self_exec_id()) }
}

/// When the process of a task began; 0 where the kernel's BTF does not know.
#[inline(always)]
fn began(task: u64) -> u64 {
    if maps::task_group_leader() == 0 || maps::task_start_time() == 0 {
        return 0;
    }
    kernel(kernel(task, maps::task_group_leader()), maps::task_start_time())
}

/// The head of a record about the current task.
#[inline(always)]
pub fn head(kind: u32) -> Head {
    let ids = bpf_get_current_pid_tgid();
    let current = current();
    Head {
        // SAFETY: a helper without arguments.
        time_ns: unsafe { bpf_ktime_get_ns() },
        start_ns: began(current),
        kind,
        pid: (ids >> 32) as u32,
        tid: ids as u32,
        uid: bpf_get_current_uid_gid() as u32,
        program: program(current),
        zero: 0,
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

/// The number of a task's parent.
#[inline(always)]
pub fn parent(task: u64) -> u32 {
    let parent: u64 = kernel(task, maps::task_real_parent());
    kernel(parent, maps::task_tgid())
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
    (head.start_ns, head.program) = (began(child), program(child));
    tell(Fork { head, ppid: parent(child), maker });
}

/// A thread ends; of a process only the last is told, or all that get here at that moment, after which nothing of it comes but the closing of its
/// sockets.
#[inline(always)]
pub fn ended(ctx: &RawTracePointContext) {
    let signal: u64 = kernel(ctx.arg(0), maps::task_signal());
    let live: u32 = kernel(signal, maps::signal_live());
    if live == 0 {
        tell(head(kind::EXIT));
    }
}
