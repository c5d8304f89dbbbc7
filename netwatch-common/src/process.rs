//! Records of the ring PROCESSES: what processes of a run do with sockets, and how they come to be. Apart from the classifier's
//! ABI: both have programs and maps of their own, and either may fail without the other.

use crate::address::Address;

/// What a record says. Values of [`Head::kind`].
pub mod kind {
    /// A socket was made. A [`super::Socket`].
    pub const MADE: u32 = 1;
    /// A socket was bound to a local address. A [`super::Socket`].
    pub const BOUND: u32 = 2;
    /// `connect` was called. A [`super::Socket`].
    pub const CONNECT: u32 = 3;
    /// A process uses a socket for the first time since another one did. A [`super::Socket`].
    pub const USED: u32 = 4;
    /// A message could not be sent. A [`super::Socket`] with its `errno`.
    pub const NOT_SENT: u32 = 5;
    /// A unix socket was connected to, or a message sent to it. A [`super::Unix`].
    pub const UNIX: u32 = 6;
    /// A process was made by another. A [`super::Fork`].
    pub const FORK: u32 = 7;
    /// A process runs another program. A [`super::Exec`], and its arguments behind it.
    pub const EXEC: u32 = 8;
    /// A system call failed. A [`super::Call`].
    pub const CALL: u32 = 9;
    /// A socket was closed by the last that had it. A [`super::Closed`].
    pub const CLOSED: u32 = 10;
    /// The last thread of a process ends. A [`super::Head`] alone.
    pub const EXIT: u32 = 11;
}

/// The beginning of every record: who, and when.
#[repr(C, align(8))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// ns of the kernel's monotonic clock.
    pub time_ns: u64,
    /// When the process began, by the same clock; 0 if that cannot be read. With `pid` it is the only one.
    pub start_ns: u64,
    /// One of [`kind`].
    pub kind: u32,
    /// The process (the kernel's `tgid`), in the initial PID namespace.
    pub pid: u32,
    /// Its thread.
    pub tid: u32,
    /// Its real user id.
    pub uid: u32,
    /// Which of its programs the process runs: the kernel counts them (`task_struct.self_exec_id`), and a child begins where its maker is.
    pub program: u32,
    /// Always zero.
    pub zero: u32,
    /// The thread's name, ended by a zero.
    pub comm: [u8; 16],
}

/// Something was done with a socket of IPv4 or IPv6.
#[repr(C, align(8))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// Who, when, and what.
    pub head: Head,
    /// The socket: the kernel gives no number twice.
    pub cookie: u64,
    /// The cookie of its network namespace (`MADE`, `BOUND`, `CONNECT`); else 0.
    pub netns: u64,
    /// Where it is bound to (`BOUND`), or where it was to go (`CONNECT`, `USED` by a message, `NOT_SENT`); else 0.
    pub address: Address,
    /// Port of that address.
    pub port: u16,
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// IANA protocol number; 0 if unknown.
    pub protocol: u16,
    /// Positive, of `NOT_SENT`.
    pub errno: u16,
}

/// A socket of IPv4 or IPv6 was closed: nobody uses it any more, and what it was bound to and connected with is still there.
#[repr(C, align(8))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// Who and when.
    pub head: Head,
    /// As [`Socket::cookie`].
    pub cookie: u64,
    /// As [`Socket::netns`].
    pub netns: u64,
    /// Its own address.
    pub local: Address,
    /// What it was connected with.
    pub remote: Address,
    /// Its own port; 0 if it has none any more.
    pub local_port: u16,
    /// Port of `remote`; 0 if it was not connected.
    pub remote_port: u16,
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// IANA protocol number; 0 if unknown.
    pub protocol: u16,
}

/// Bytes of a unix socket's address (`sun_path`).
pub const PATH_BYTES: usize = 108;

/// A unix socket was gone to.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unix {
    /// Who and when.
    pub head: Head,
    /// Bytes of the address, as the caller gave it.
    pub len: u32,
    /// As `sun_path`: a path, or a zero and an abstract name.
    pub path: [u8; PATH_BYTES],
}

/// A process was made. The head is the child's, but for its name and user, which are the maker's too.
#[repr(C, align(8))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Fork {
    /// The child.
    pub head: Head,
    /// Its parent.
    pub ppid: u32,
    /// The process it is a copy of; the parent but for `CLONE_PARENT`.
    pub maker: u32,
}

/// Bytes that are kept of the path of an executable.
pub const EXE_BYTES: usize = 256;
/// Bytes that are kept of the arguments, with the zeros that end them, in the two sizes of record. The verifier wants sizes known at
/// compile time.
pub const ARGUMENT_BYTES: [usize; 2] = [192, 1024];

/// A process runs another program. Its arguments follow, each ended by a zero.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exec {
    /// Who and when, with its new name.
    pub head: Head,
    /// Its parent.
    pub ppid: u32,
    /// Bytes of the path in `exe`, without a zero; 0 if it is not known.
    pub exe_len: u32,
    /// Bytes of the arguments that follow.
    pub arguments_len: u32,
    /// Bytes that there were of them.
    pub arguments_total: u32,
    /// Path of the executable as it was called; of a script, its interpreter.
    pub exe: [u8; EXE_BYTES],
}

/// Which system call failed. Values of [`Call::call`].
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

/// Bytes of the longest address (`sockaddr_un`).
pub const ADDRESS_BYTES: usize = 112;

/// A system call failed.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Who and when.
    pub head: Head,
    /// One of [`call`].
    pub call: u32,
    /// Positive.
    pub errno: u32,
    /// Its first three arguments: of `socket` family, type and protocol.
    pub arguments: [u64; 3],
    /// Bytes of the address that it was given.
    pub len: u32,
    /// Always zero.
    pub zero: u32,
    /// The address, as the caller gave it.
    pub address: [u8; ADDRESS_BYTES],
}

/// What is kept of a socket in the kernel.
#[repr(C, align(8))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Where its last message was to go. What may be zero stands so that the compiler makes no unaligned store of it, which the stack does
    /// not take.
    pub address: Address,
    /// Port of `address`.
    pub port: u16,
    /// IANA protocol number.
    pub protocol: u16,
    /// The process that used it last.
    pub pid: u32,
    /// How often another process than before was told to use it.
    pub turns: u32,
    /// How many of its messages failed.
    pub failures: u32,
    /// Which of its programs the process ran when it used it last, as [`Head::program`].
    pub program: u32,
    /// How many programs the run's processes had executed by then: while there are no more, it is still that one.
    pub executed: u32,
}

/// So many changes of its user are told of one socket, and so many messages that failed: processes that take turns with one at every message,
/// or send without end what no route takes, would fill the ring.
pub const TURNS: u32 = 256;

/// Where the kernel keeps things, in bytes from the beginning of its structures: read from its BTF before the load. 0 for what is not there.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    /// `task_struct.tgid`.
    pub task_tgid: u32,
    /// `task_struct.pid`.
    pub task_pid: u32,
    /// `task_struct.start_time`.
    pub task_start_time: u32,
    /// `task_struct.real_parent`.
    pub task_real_parent: u32,
    /// `task_struct.group_leader`.
    pub task_group_leader: u32,
    /// `task_struct.self_exec_id`.
    pub task_self_exec_id: u32,
    /// `task_struct.signal`.
    pub task_signal: u32,
    /// `signal_struct.live`, how many threads have not ended yet.
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
    /// `sock_common.skc_num`, the local port.
    pub sock_num: u32,
    /// `sock_common.skc_rcv_saddr`, the local address.
    pub sock_rcv_saddr: u32,
    /// `sock_common.skc_v6_rcv_saddr`.
    pub sock_v6_rcv_saddr: u32,
    /// `bpf_sock_addr_kern.uaddr`.
    pub addr_uaddr: u32,
    /// `bpf_sock_addr_kern.uaddrlen` (Linux 6.7).
    pub addr_uaddrlen: u32,
}

/// What user space decides before the load. Read-only data of the programs.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Of this kernel.
    pub offsets: Offsets,
    /// 1: arguments of programs are read.
    pub arguments: u32,
    /// Numbers of the system calls `socket`, `connect`, `sendto`, `sendmsg` of this architecture.
    pub calls: [u32; 4],
    /// Where `pt_regs` has the number of the system call and its first, second, third, fifth and sixth argument.
    pub registers: [u32; 6],
}

/// Slots of the map LOST: what could not be told, by reason.
pub mod lost {
    /// A record found no room in the ring.
    pub const EVENTS: u32 = 0;
    /// A socket found no room in the table.
    pub const SOCKETS: u32 = 1;
    /// A message failed on a socket of which [`super::TURNS`] were told already.
    pub const FAILURES: u32 = 2;
    /// How many slots there are.
    pub const COUNT: u32 = 3;
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Head>() == 56);
    assert!(size_of::<Socket>() == 96);
    assert!(offset_of!(Socket, port) == 88);
    assert!(size_of::<Closed>() == 112);
    assert!(offset_of!(Closed, local_port) == 104);
    assert!(size_of::<Unix>() == 168);
    assert!(size_of::<Fork>() == 64);
    assert!(offset_of!(Exec, exe) == 72);
    assert!(size_of::<Exec>() == 328);
    assert!(size_of::<Call>() == 208);
    assert!(size_of::<Known>() == 40);
    assert!(size_of::<Offsets>() == 76);
    assert!(size_of::<Settings>() == 120);
};
