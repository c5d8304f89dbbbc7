//! What the worker gives up. It is the process that parses what packets contain, so it must not be
//! able to start programs, to reach into other processes, or to change the machine beyond what a
//! run needs. The guardian is forked before and keeps its rights. docs/security.md has the table of
//! both.

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::seccomp::{
    ALLOW, ARCHITECTURE, FIRST_ARGUMENT, FilteredThreads, Instruction, NUMBER, REFUSE, install, jump, load,
    unless_at_least, unless_equal, verdict,
};

/// `AUDIT_ARCH_*` of this build. Calls of other architectures, which the kernel runs too, have
/// other numbers and are all refused.
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;
/// Numbers from here on are calls of the x32 ABI. arm64 has none.
const FOREIGN_NUMBERS: u32 = 0x4000_0000;

/// Calls that no part of a run makes after the guardian was started.
const NEVER: [libc::c_long; 31] = [
    // Programs and other processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // The kernel and the machine.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    // Keys, files by handle, and faults that are handled by a process.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
];

/// Calls that only the set-up makes: mounts, devices, performance events. io_uring is among them
/// because its requests pass by a filter of system calls. mount(2) is not: it mounts the command's
/// resolv.conf again when the host replaces its own.
const AFTER_SET_UP: [libc::c_long; 13] = [
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_mknodat,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_personality,
];

/// Commands of bpf(2) that create something or attach it: `BPF_MAP_CREATE`, `BPF_PROG_LOAD`,
/// `BPF_OBJ_PIN`, `BPF_PROG_ATTACH`, `BPF_RAW_TRACEPOINT_OPEN`, `BPF_BTF_LOAD`, `BPF_LINK_CREATE`,
/// `BPF_ITER_CREATE`.
const BPF_CREATION: [u32; 8] = [0, 5, 6, 8, 17, 18, 28, 33];

/// Capabilities of the worker, if netwatch has them: bits of linux/capability.h.
const KEPT: [u32; 18] = [
    0,  // CHOWN: files of the user
    1,  // DAC_OVERRIDE: the directory of the run
    2,  // DAC_READ_SEARCH: /proc of the command
    3,  // FOWNER: files of the user
    5,  // KILL: a run without its guardian
    6,  // SETGID: the rights of the user for a thread
    7,  // SETUID: the same
    10, // NET_BIND_SERVICE: DNS on port 53
    12, // NET_ADMIN: link, NAT, forwarding
    13, // NET_RAW: sockets of the host
    14, // IPC_LOCK: memory of rings
    18, // SYS_CHROOT: to enter a mount namespace
    19, // SYS_PTRACE: /proc of the command
    21, // SYS_ADMIN: namespaces and mounts
    23, // SYS_NICE: threads
    24, // SYS_RESOURCE: limits of memory and files
    38, // PERFMON: the programs of a run
    39, // BPF: the same
];

/// Confines the worker. To be called when the guardian has been forked, and while this process has
/// one thread. A run works without it, so a failure (of a kernel without seccomp filters) is only
/// reported.
pub fn worker() -> Result<()> {
    let failed = |what: &str, errno| Error::os("confine", what, errno);
    // SAFETY: prctl with plain integers.
    let done = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    Errno::result(done).map_err(|errno| failed("new programs of netwatch", errno))?;
    keep_capabilities().map_err(|errno| failed("the capabilities of netwatch", errno))?;
    install(never(), FilteredThreads::Caller).map_err(|errno| failed("the system calls of netwatch", errno))
}

/// Takes from all threads what only the set-up needs: new BPF programs and maps, detached mounts,
/// devices.
/// To be called when it is complete: what a run needs later, the guardian creates.
pub fn after_set_up() -> Result<()> {
    install(not_after_set_up(), FilteredThreads::All)
        .map_err(|errno| Error::os("confine", "the BPF programs and mounts of netwatch", errno))
}

/// Calls of another architecture are refused, so that numbers mean one thing below.
fn native_only(rest: impl IntoIterator<Item = Instruction>) -> Vec<Instruction> {
    let mut filter = vec![
        load(ARCHITECTURE),
        jump(NATIVE, 1, 0),
        verdict(REFUSE),
        load(NUMBER),
        unless_at_least(FOREIGN_NUMBERS, 1),
        verdict(REFUSE),
    ];
    filter.extend(rest);
    filter.push(verdict(ALLOW));
    filter
}

fn never() -> Vec<Instruction> {
    native_only(refused(&NEVER))
}

fn refused(calls: &[libc::c_long]) -> impl Iterator<Item = Instruction> {
    calls.iter().flat_map(|number| [unless_equal(*number as u32, 1), verdict(REFUSE)])
}

fn not_after_set_up() -> Vec<Instruction> {
    let commands = BPF_CREATION.into_iter().flat_map(|command| [unless_equal(command, 1), verdict(REFUSE)]);
    let other_call = [unless_equal(libc::SYS_bpf as u32, 2 * BPF_CREATION.len() as u8 + 1), load(FIRST_ARGUMENT)];
    native_only(refused(&AFTER_SET_UP).chain(other_call).chain(commands))
}

/// Removes every capability that is not in [`KEPT`] from the sets of this thread, and from the
/// bounding set.
fn keep_capabilities() -> nix::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    const HIGHEST: u32 = 63;
    let kept = KEPT.iter().fold(0_u64, |kept, number| kept | 1 << number);
    for number in (0..=HIGHEST).filter(|number| kept & (1 << number) == 0) {
        // EINVAL: there is no such capability. EPERM: netwatch lacks CAP_SETPCAP, in a container;
        // no_new_privs has the same effect. SAFETY: prctl with plain integers.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) };
    }
    let header: [u32; 2] = [VERSION_3, 0];
    // Effective, permitted and inheritable, the lower half of each first.
    let mut sets = [[0_u32; 3]; 2];
    // SAFETY: the kernel writes two sets in the layout of this version (linux/capability.h).
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) })?;
    for (half, set) in sets.iter_mut().enumerate() {
        set.iter_mut().for_each(|bits| *bits &= (kept >> (32 * half)) as u32);
    }
    // SAFETY: as above, and the kernel reads them.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) }).map(drop)
}
