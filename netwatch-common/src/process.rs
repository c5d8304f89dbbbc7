//! The ABI of the process tracer: records of the PROCESSES ring about processes of a run and their
//! sockets. Independent of the classifier's ABI: both have programs and maps of their own, and
//! either may fail without the other.

use crate::address::Address;

/// The kind of a record. Values of [`EventHead::kind`].
pub mod kind {
    /// A socket was created. A [`super::SocketRecord`]. See also [`super::flag::CREATED_SOCKET`].
    pub const CREATED: u32 = 1;
    /// A socket was bound to a local address. A [`super::SocketRecord`].
    pub const BOUND: u32 = 2;
    /// `connect` was called. A [`super::SocketRecord`].
    pub const CONNECT: u32 = 3;
    /// A process uses a socket that another process, or no process, used last. A
    /// [`super::SocketRecord`].
    pub const USED: u32 = 4;
    /// A message could not be sent. A [`super::SocketRecord`] with its `errno`.
    pub const SEND_FAILED: u32 = 5;
    /// A connection or message to a local socket. A [`super::LocalSocketRecord`].
    pub const LOCAL_SOCKET: u32 = 6;
    /// A process was created. A [`super::ForkRecord`].
    pub const FORK: u32 = 7;
    /// A process executes a program. A [`super::ExecRecord`], then its arguments.
    pub const EXEC: u32 = 8;
    /// A system call failed. A [`super::FailedCallRecord`].
    pub const FAILED_CALL: u32 = 9;
    /// A socket was closed by the last process that had it. A [`super::ClosedRecord`].
    pub const CLOSED: u32 = 10;
    /// The last thread of a process exits. Only a [`super::EventHead`].
    pub const EXIT: u32 = 11;
}

/// Bits of [`EventHead::flags`].
pub mod flag {
    /// The process, running this program, created the socket, and no record has reported that.
    pub const CREATED_SOCKET: u32 = 1;
}

/// Settings of the classifier for cgroups that distinguish processes. Offsets are those of members
/// of `task_struct` and `signal_struct`, in bytes.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ProcessFilter {
    /// 1: only sockets of given processes are counted; 0: all.
    pub is_on: u32,
    /// `tgid`.
    pub task_tgid: u32,
    /// `pid`.
    pub task_pid: u32,
    /// `signal`.
    pub task_signal: u32,
    /// `live`.
    pub signal_live: u32,
}

impl ProcessFilter {
    /// All sockets are counted.
    pub const OFF: Self = Self { is_on: 0, task_tgid: 0, task_pid: 0, task_signal: 0, signal_live: 0 };
}

/// The beginning of every record: process and time.
#[repr(C, align(8))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct EventHead {
    /// Time of the record, ns of the kernel's boot-time clock.
    pub time_ns: u64,
    /// Start time of the process, by the same clock; 0 if it cannot be read. Together with `pid` it
    /// identifies the process.
    pub start_ns: u64,
    /// One of [`kind`].
    pub kind: u32,
    /// Process id (the kernel's `tgid`) in the initial PID namespace.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Real user id.
    pub uid: u32,
    /// Number of the program that the process runs: the kernel counts executed programs
    /// (`task_struct.self_exec_id`), and a child starts with the number of the process that created
    /// it.
    pub program: u32,
    /// Bits of [`flag`].
    pub flags: u32,
    /// Name of the thread, terminated by a zero.
    pub comm: [u8; 16],
}

/// An operation on an IPv4 or IPv6 socket.
#[repr(C, align(8))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SocketRecord {
    /// Process, time and kind.
    pub head: EventHead,
    /// Cookie of the socket; the kernel never reuses one.
    pub cookie: u64,
    /// Cookie of its network namespace (`CREATED`, `BOUND`, `CONNECT`); else 0.
    pub netns: u64,
    /// Local address (`BOUND`), or destination (`CONNECT`, `USED` by a message, `SEND_FAILED`);
    /// else 0.
    pub address: Address,
    /// Port of that address.
    pub port: u16,
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// IANA protocol number; 0 if unknown.
    pub protocol: u16,
    /// Positive errno of `SEND_FAILED`; else 0.
    pub errno: u16,
}

/// An IPv4 or IPv6 socket was closed. Its local and remote addresses are still set at that time.
#[repr(C, align(8))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ClosedRecord {
    /// Process and time.
    pub head: EventHead,
    /// As [`SocketRecord::cookie`].
    pub cookie: u64,
    /// As [`SocketRecord::netns`].
    pub netns: u64,
    /// Local address.
    pub local: Address,
    /// Remote address.
    pub remote: Address,
    /// Local port; 0 if it has none any more.
    pub local_port: u16,
    /// Port of `remote`; 0 if it was not connected.
    pub remote_port: u16,
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// IANA protocol number; 0 if unknown.
    pub protocol: u16,
}

/// Maximum length of a local socket's address (`sun_path`) in bytes.
pub const PATH_BYTES: usize = 108;

/// A connection or message to a local socket.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalSocketRecord {
    /// Process and time.
    pub head: EventHead,
    /// Length of the address in bytes, as passed by the caller.
    pub len: u32,
    /// `sun_path`: a path, or a zero and an abstract name.
    pub path: [u8; PATH_BYTES],
}

/// A process was created. The head has the child's ids; name and user are those of the process that
/// created it.
#[repr(C, align(8))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ForkRecord {
    /// The child.
    pub head: EventHead,
    /// Process id of the parent.
    pub ppid: u32,
    /// Process id of the process that created it: the parent, except with `CLONE_PARENT`.
    pub creator: u32,
}

/// Maximum number of bytes stored of an executable's path.
pub const EXE_BYTES: usize = 256;
/// Maximum number of bytes stored of the arguments, with terminating zeros, in the two sizes of
/// records. The verifier requires sizes that are known at compile time.
pub const ARGUMENT_BYTES: [usize; 2] = [192, 1024];

/// A process executes a program. The arguments follow, each terminated by a zero.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecRecord {
    /// Process and time, with the new name.
    pub head: EventHead,
    /// Process id of the parent.
    pub ppid: u32,
    /// Length of the path in `exe`, without the zero; 0 if it is unknown.
    pub exe_len: u32,
    /// Length of the arguments that follow, in bytes.
    pub arguments_len: u32,
    /// Length of all arguments, in bytes.
    pub arguments_total: u32,
    /// Path of the executable as it was called; for a script, path of the interpreter.
    pub exe: [u8; EXE_BYTES],
}

/// Which system call failed. Values of [`FailedCallRecord::call`].
pub mod call {
    /// `socket`.
    pub const SOCKET: u32 = 1;
    /// `connect`.
    pub const CONNECT: u32 = 2;
    /// `sendto`.
    pub const SENDTO: u32 = 3;
    /// `sendmsg`.
    pub const SENDMSG: u32 = 4;
}

/// Length of the longest address (`sockaddr_un`) in bytes.
pub const ADDRESS_BYTES: usize = 112;

/// A system call failed.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedCallRecord {
    /// Process and time.
    pub head: EventHead,
    /// One of [`call`].
    pub call: u32,
    /// Positive errno.
    pub errno: u32,
    /// The first three arguments; for `socket`: family, type and protocol.
    pub arguments: [u64; 3],
    /// Length of `address` in bytes.
    pub len: u32,
    /// Always zero.
    pub zero: u32,
    /// The address passed by the caller.
    pub address: [u8; ADDRESS_BYTES],
}

/// State of a socket in the SOCKETS map.
#[repr(C, align(8))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SocketState {
    /// Destination of its last message. The fields are ordered so that the compiler does not merge
    /// zeros into an unaligned store, which the verifier rejects on the stack.
    pub address: Address,
    /// Port of `address`.
    pub port: u16,
    /// IANA protocol number.
    pub protocol: u16,
    /// Process id of its last user.
    pub pid: u32,
    /// Number of reported changes of its user.
    pub user_changes: u32,
    /// Number of its messages that failed.
    pub failures: u32,
    /// Program of its last user at that time, as [`EventHead::program`].
    pub program: u32,
    /// Number of programs that the run's processes had executed at that time: while it does not
    /// change, neither does `program`.
    pub executed: u32,
    /// User id of the process that created it.
    pub uid: u32,
    /// 1: its creation has not been reported. It is reported with its first use, so that most
    /// sockets need one record less; what is not used needs none.
    pub is_unreported: u32,
    /// Start time of the process that created it, as [`EventHead::start_ns`].
    pub start_ns: u64,
    /// Cookie of its network namespace; 0 if its creation was not observed.
    pub netns: u64,
}

/// Maximum number of reported user changes, and of reported send failures, of one socket. Processes
/// that alternate with every message, or that keep sending to an unreachable destination, would
/// fill the ring.
pub const MAX_REPORTS_PER_SOCKET: u32 = 256;

/// Offsets of members in structures of the running kernel, in bytes, from its BTF. 0 if there
/// is no such member.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct KernelOffsets {
    /// `task_struct.tgid`.
    pub task_tgid: u32,
    /// `task_struct.pid`.
    pub task_pid: u32,
    /// `task_struct.start_boottime`.
    pub task_start_time: u32,
    /// `task_struct.real_parent`.
    pub task_real_parent: u32,
    /// `task_struct.group_leader`.
    pub task_group_leader: u32,
    /// `task_struct.self_exec_id`.
    pub task_self_exec_id: u32,
    /// `task_struct.signal`.
    pub task_signal: u32,
    /// `signal_struct.live`: number of threads that have not exited.
    pub signal_live: u32,
    /// `task_struct.mm`.
    pub task_mm: u32,
    /// `mm_struct.arg_start`.
    pub mm_arg_start: u32,
    /// `mm_struct.arg_end`.
    pub mm_arg_end: u32,
    /// `linux_binprm.interp`.
    pub binprm_interp: u32,
    /// `sock_common.skc_cookie`.
    pub sock_cookie: u32,
    /// `sock_common.skc_family`.
    pub sock_family: u32,
    /// `sock_common.skc_num`: the local port.
    pub sock_num: u32,
    /// `sock_common.skc_rcv_saddr`: the local address.
    pub sock_rcv_saddr: u32,
    /// `sock_common.skc_v6_rcv_saddr`.
    pub sock_v6_rcv_saddr: u32,
    /// `bpf_sock_addr_kern.uaddr`.
    pub addr_uaddr: u32,
    /// `bpf_sock_addr_kern.uaddrlen` (Linux 6.7).
    pub addr_uaddrlen: u32,
}

/// Settings that user space writes before the load. Read-only data of the programs.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TracerSettings {
    /// Offsets in the running kernel.
    pub offsets: KernelOffsets,
    /// 1: arguments of programs are recorded.
    pub arguments: u32,
    /// Numbers of the system calls `socket`, `connect`, `sendto` and `sendmsg` on this
    /// architecture.
    pub calls: [u32; 4],
    /// Offsets in `pt_regs` of the system call's number and of its first, second, third,
    /// fifth and sixth argument.
    pub registers: [u32; 6],
}

/// Slots of the LOST map: what could not be reported, by reason.
pub mod lost {
    /// A record found no room in the ring.
    pub const EVENTS: u32 = 0;
    /// A socket found no room in the SOCKETS map.
    pub const SOCKETS: u32 = 1;
    /// A message failed on a socket with [`super::MAX_REPORTS_PER_SOCKET`] reported failures.
    pub const FAILURES: u32 = 2;
    /// Number of slots.
    pub const COUNT: u32 = 3;
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<EventHead>() == 56);
    assert!(size_of::<SocketRecord>() == 96);
    assert!(offset_of!(SocketRecord, port) == 88);
    assert!(size_of::<ClosedRecord>() == 112);
    assert!(offset_of!(ClosedRecord, local_port) == 104);
    assert!(size_of::<LocalSocketRecord>() == 168);
    assert!(size_of::<ForkRecord>() == 64);
    assert!(offset_of!(ExecRecord, exe) == 72);
    assert!(size_of::<ExecRecord>() == 328);
    assert!(size_of::<FailedCallRecord>() == 208);
    assert!(size_of::<SocketState>() == 64);
    assert!(size_of::<KernelOffsets>() == 76);
    assert!(size_of::<TracerSettings>() == 120);
};
