//! The current task, and creation and exit of processes.

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel};
use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_ktime_get_boot_ns,
};
use aya_ebpf::programs::RawTracePointContext;
use netwatch_common::process::{EventHead, ForkRecord, kind};

use crate::maps::{self, CGROUP, report};

/// Whether the current task is in the run's cgroup or a descendant.
#[inline(always)]
pub fn is_in_cgroup() -> bool {
    CGROUP.current_task_under_cgroup(0).is_ok_and(|is| is)
}

/// The id of the current process.
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

/// The number of the program that the current process runs.
#[inline(always)]
pub fn current_program() -> u32 {
    program(current())
}

/// The number of the program that a task runs; 0 if the kernel's BTF does not have the member.
#[inline(always)]
fn program(task: u64) -> u32 {
    if maps::task_self_exec_id() == 0 { 0 } else { read_kernel(task, maps::task_self_exec_id()) }
}

/// Start time of the current process, as in a record.
#[inline(always)]
pub fn current_start_time() -> u64 {
    start_time(current())
}

/// The id of the current user.
#[inline(always)]
pub fn uid() -> u32 {
    bpf_get_current_uid_gid() as u32
}

/// Start time of the process of a task; 0 if the kernel's BTF does not have the members.
#[inline(always)]
fn start_time(task: u64) -> u64 {
    if maps::task_group_leader() == 0 || maps::task_start_time() == 0 {
        return 0;
    }
    read_kernel(read_kernel(task, maps::task_group_leader()), maps::task_start_time())
}

/// The head of a record about the current task.
#[inline(always)]
pub fn head(kind: u32) -> EventHead {
    let ids = bpf_get_current_pid_tgid();
    let current = current();
    EventHead {
        // SAFETY: a helper without arguments.
        time_ns: unsafe { bpf_ktime_get_boot_ns() },
        start_ns: start_time(current),
        kind,
        pid: (ids >> 32) as u32,
        tid: ids as u32,
        uid: uid(),
        program: program(current),
        flags: 0,
        comm: bpf_get_current_comm().unwrap_or_default(),
    }
}

/// Reads kernel memory `offset` bytes after an address; zero if that fails.
#[inline(always)]
pub fn read_kernel<T: Copy + Default>(address: u64, offset: u32) -> T {
    let mut value = T::default();
    // SAFETY: the helper writes at most the size of the value, and fails for invalid addresses.
    unsafe {
        bpf_probe_read_kernel(
            (&raw mut value).cast(),
            size_of::<T>() as u32,
            (address + u64::from(offset)) as *const _,
        );
    }
    value
}

/// The process id of a task's parent.
#[inline(always)]
pub fn parent(task: u64) -> u32 {
    let parent: u64 = read_kernel(task, maps::task_real_parent());
    read_kernel(parent, maps::task_tgid())
}

/// A task was created. Reports processes, not threads.
#[inline(always)]
pub fn forked(ctx: &RawTracePointContext) {
    let child: u64 = ctx.arg(1);
    let (tgid, pid): (u32, u32) = (read_kernel(child, maps::task_tgid()), read_kernel(child, maps::task_pid()));
    if tgid != pid || tgid == 0 {
        return;
    }
    let mut head = head(kind::FORK);
    let creator = head.pid;
    (head.pid, head.tid) = (tgid, tgid);
    (head.start_ns, head.program) = (start_time(child), program(child));
    report(ForkRecord { head, ppid: parent(child), creator });
}

/// A thread exits. Reports the last thread of a process; several threads that exit at the same
/// moment may each be reported. After that, the process only closes its sockets.
#[inline(always)]
pub fn exited(ctx: &RawTracePointContext) {
    let signal: u64 = read_kernel(ctx.arg(0), maps::task_signal());
    let live: u32 = read_kernel(signal, maps::signal_live());
    if live == 0 {
        report(head(kind::EXIT));
    }
}
