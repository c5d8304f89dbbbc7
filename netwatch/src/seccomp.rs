//! Filters of system calls (seccomp(2)): the instructions they consist of, and how a process
//! installs one. Not what is forbidden.

use nix::errno::Errno;

/// Offsets in `struct seccomp_data`.
pub const NUMBER: u32 = 0;
/// The architecture, `AUDIT_ARCH_*`.
pub const ARCHITECTURE: u32 = 4;
/// The lower half of the first argument; each further one is 8 bytes later.
pub const FIRST_ARGUMENT: u32 = 16;

/// The verdict that lets a call pass.
pub const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
/// The verdict that lets a call fail with EPERM.
pub const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

/// One instruction.
pub type Instruction = libc::sock_filter;

/// Loads a word of `struct seccomp_data`.
pub fn load(offset: u32) -> Instruction {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

/// Skips so many instructions if the loaded value is this one, and so many otherwise.
pub fn jump(value: u32, if_equal: u8, otherwise: u8) -> Instruction {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, if_equal, otherwise)
}

/// Skips so many instructions unless the loaded value is this one.
pub fn unless_equal(value: u32, skip: u8) -> Instruction {
    jump(value, 0, skip)
}

/// Skips so many instructions unless the loaded value is this one or higher.
pub fn unless_at_least(value: u32, skip: u8) -> Instruction {
    instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, value, 0, skip)
}

/// Ends the filter.
pub fn verdict(value: u32) -> Instruction {
    instruction(libc::BPF_RET | libc::BPF_K, value, 0, 0)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> Instruction {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// The threads that a filter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilteredThreads {
    /// The calling one, and those that it creates later.
    Caller,
    /// All of the process.
    All,
}

/// Installs a filter, in addition to those there are. It cannot be removed. Needs CAP_SYS_ADMIN or
/// no_new_privs.
pub fn install(mut filter: Vec<Instruction>, threads: FilteredThreads) -> nix::Result<()> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    let flags = if threads == FilteredThreads::All { libc::SECCOMP_FILTER_FLAG_TSYNC } else { 0 };
    // SAFETY: the kernel copies `len` instructions, which live until the call returns.
    let set = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER as libc::c_ulong, flags, &raw const program)
    };
    match Errno::result(set)? {
        0 => Ok(()),
        // A thread that has other filters.
        _ => Err(Errno::ESRCH),
    }
}
