//! Who uses which socket: programs of a run's cgroup and a few tracepoints, in an object of their own. Whatever of it the kernel does not
//! have is left out and said; no packet is counted here, so nothing that is counted depends on it.

mod btf;
mod records;
#[cfg(test)]
pub(super) mod tests;

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use aya_obj::generated::bpf_attach_type as at;
use aya_obj::generated::bpf_prog_type::{
    BPF_PROG_TYPE_CGROUP_SOCK, BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_PROG_TYPE_RAW_TRACEPOINT,
};
use netwatch_common::config::defaults;
use netwatch_common::process::{Offsets, Settings, lost};

use super::object::Loaded;
use super::rings;
use super::sys::{self, ProgramKind};
use crate::error::{Error, Result};
use crate::meter::clock::Clock;
use crate::process::{ProcessEvent, ProcessLosses};
use btf::Btf;

/// The object, built by `cargo xtask build` and checked in.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../bpf/process.o");

const fn of_socket(attach: at) -> ProgramKind {
    ProgramKind { program: BPF_PROG_TYPE_CGROUP_SOCK, attach: attach as u32 }
}

const fn of_address(attach: at) -> ProgramKind {
    ProgramKind { program: BPF_PROG_TYPE_CGROUP_SOCK_ADDR, attach: attach as u32 }
}

const TRACEPOINT: ProgramKind = ProgramKind { program: BPF_PROG_TYPE_RAW_TRACEPOINT, attach: 0 };

/// Programs, and where the kernel has a place for them. Those of a cgroup first: tracepoints find their sockets by what these noted.
const PROGRAMS: [(&str, ProgramKind); 17] = [
    ("sock_create", of_socket(at::BPF_CGROUP_INET_SOCK_CREATE)),
    ("sock_release", of_socket(at::BPF_CGROUP_INET_SOCK_RELEASE)),
    ("post_bind4", of_socket(at::BPF_CGROUP_INET4_POST_BIND)),
    ("post_bind6", of_socket(at::BPF_CGROUP_INET6_POST_BIND)),
    ("connect4", of_address(at::BPF_CGROUP_INET4_CONNECT)),
    ("connect6", of_address(at::BPF_CGROUP_INET6_CONNECT)),
    ("sendmsg4", of_address(at::BPF_CGROUP_UDP4_SENDMSG)),
    ("sendmsg6", of_address(at::BPF_CGROUP_UDP6_SENDMSG)),
    ("connect_unix", of_address(at::BPF_CGROUP_UNIX_CONNECT)),
    ("sendmsg_unix", of_address(at::BPF_CGROUP_UNIX_SENDMSG)),
    ("sched_process_fork", TRACEPOINT),
    ("sched_process_exec", TRACEPOINT),
    ("sched_process_exit", TRACEPOINT),
    ("sock_send_length", TRACEPOINT),
    (RECEIVED, TRACEPOINT),
    ("recvmsg4", of_address(at::BPF_CGROUP_UDP4_RECVMSG)),
    ("recvmsg6", of_address(at::BPF_CGROUP_UDP6_RECVMSG)),
];

/// Sees every message that is received.
const RECEIVED: &str = "sock_recv_length";
/// Of no use beside it (before Linux 6.3 it is not there). While they are attached, every process of the machine pays for them that receives
/// datagrams and asks who sent them.
const INSTEAD_OF_RECEIVED: [&str; 2] = ["recvmsg4", "recvmsg6"];

/// The one that every system call of the machine pays for.
const FAILED_CALLS: (&str, ProgramKind) = ("sys_exit", TRACEPOINT);

/// What is decided before the programs are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessTracerConfig {
    /// Whether arguments of programs are read: they can hold secrets.
    pub cmdline: bool,
    /// Whether system calls that fail are told, at about 0.09 µs for each system call of the machine.
    pub failed_calls: bool,
}

/// The programs in the kernel. Dropping it detaches and unloads them.
pub struct ProcessTracer {
    // Declared first, so dropped first.
    links: Vec<OwnedFd>,
    refused: Vec<(&'static str, Error)>,
    ring: RingBuf<MapData>,
    loaded: Loaded,
    clock: Clock,
    pace: rings::Pace,
    /// Records that were not understood.
    unknown: u64,
}

impl std::fmt::Debug for ProcessTracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessTracer").field("refused", &self.refused).finish_non_exhaustive()
    }
}

impl ProcessTracer {
    /// Loads what the kernel takes; nothing is attached yet. May run on any thread.
    pub fn load(config: ProcessTracerConfig) -> Result<Self> {
        let settings = Settings {
            offsets: offsets(&Btf::of_kernel(&STRUCTURES)?),
            arguments: config.cmdline.into(),
            calls: CALLS,
            registers: REGISTERS,
        };
        let mut wanted = PROGRAMS.to_vec();
        wanted.retain(|(name, _)| has_what_it_reads(name, &settings.offsets));
        if config.failed_calls {
            wanted.push(FAILED_CALLS);
        }
        let globals = HashMap::from([("SETTINGS", (bytes_of(&settings), true))]);
        let (loaded, refused) = Loaded::new_partial(OBJECT, globals, &wanted)?;
        let ring = rings::open(loaded.map("PROCESSES"), "PROCESSES")?;
        let pace = rings::Pace::new(rings::RingBytes { samples: 0, events: defaults::PROCESS_RING_BYTES as usize });
        Ok(Self { links: Vec::new(), refused, ring, loaded, clock: Clock::now(), pace, unknown: 0 })
    }

    /// Attaches to a cgroup (v2), whose processes and those of cgroups below are told of from now on.
    pub fn attach(&mut self, cgroup: BorrowedFd<'_>) -> Result<()> {
        let cgroups = self.loaded.map("CGROUP").as_fd();
        let failed = |cause| Error::os("attach programs to", "the run's cgroup", cause);
        sys::map_update(cgroups, &0_u32.to_ne_bytes(), &cgroup.as_raw_fd().to_ne_bytes()).map_err(failed)?;
        let mut sees_received = false;
        for (name, kind) in PROGRAMS.into_iter().chain([FAILED_CALLS]) {
            let Some(program) = self.loaded.loaded(name) else { continue };
            if sees_received && INSTEAD_OF_RECEIVED.contains(&name) {
                continue;
            }
            let attached = match kind.program {
                BPF_PROG_TYPE_RAW_TRACEPOINT => {
                    let tracepoint = CString::new(name).expect("a name without zeros");
                    sys::tracepoint_attach(program, &tracepoint)
                }
                _ => sys::cgroup_attach(program, cgroup, kind.attach),
            };
            match attached {
                Ok(link) => {
                    self.links.push(link);
                    sees_received |= name == RECEIVED;
                }
                Err(cause) => self.refused.push((name, Error::os("attach program", name, cause))),
            }
        }
        Ok(())
    }

    /// What was not even tried, because the kernel's BTF does not know what it reads.
    pub fn untried(&self) -> impl Iterator<Item = &'static str> {
        let was_tried =
            |name: &str| self.loaded.loaded(name).is_some() || self.refused.iter().any(|(one, _)| *one == name);
        PROGRAMS.iter().map(|(name, _)| *name).filter(move |name| !was_tried(name))
    }

    /// What the kernel did not take, by the name of the hook, and why.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, &Error)> {
        self.refused.iter().map(|(name, error)| (*name, error))
    }

    /// Every program that was loaded, by name, for a bench or test to look at.
    pub fn named_programs(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.loaded.named_programs()
    }

    /// Hands over what happened, in its order. Bounded: what comes meanwhile may wait for the next call.
    pub fn poll(&mut self, sink: &mut impl FnMut(ProcessEvent)) {
        const AT_MOST: usize = 65_536;
        let mut bytes = 0;
        for _ in 0..AT_MOST {
            let Some(record) = self.ring.next() else { break };
            bytes += record.len();
            match records::event(&record, self.clock) {
                Some(event) => sink(event),
                None => self.unknown += 1,
            }
        }
        self.pace.record_poll(rings::RingBytes { samples: 0, events: bytes });
    }

    /// How long the next [`Self::poll`] may wait.
    pub fn next_poll(&self) -> Duration {
        self.pace.interval()
    }

    /// Events that found no room in the ring or were not even looked at, sockets that found none in the table, messages that failed beyond those
    /// that are told, and records that were not understood.
    pub fn lost(&self) -> Result<ProcessLosses> {
        let read = |slot: u32| {
            let mut value = [0; 8];
            sys::map_lookup(self.loaded.map("LOST").as_fd(), &slot.to_ne_bytes(), &mut value)
                .map_err(|cause| Error::os("read BPF map", "LOST", cause))?;
            Ok(u64::from_ne_bytes(value))
        };
        Ok(ProcessLosses {
            events: read(lost::EVENTS)? + self.missed()?,
            sockets: read(lost::SOCKETS)?,
            beyond: read(lost::FAILURES)?,
            unknown: self.unknown,
            ..ProcessLosses::default()
        })
    }

    /// Events that came while the same program was preempted amid another on that CPU: the kernel does not run a tracepoint's program then, and
    /// counts that. With PREEMPT_RT, since tracepoints can be preempted there.
    fn missed(&self) -> Result<u64> {
        let failed = |cause| Error::os("ask the kernel about", "programs of processes", cause);
        self.loaded.programs().map(|one| Ok(sys::program_info(one.as_fd()).map_err(failed)?.recursion_misses)).sum()
    }
}

/// Reads a record as [`ProcessTracer::poll`] does, with times as they are: for records that no kernel wrote. `None` where it is not understood.
pub fn event_of(record: &[u8]) -> Option<ProcessEvent> {
    records::event(record, Clock::UNIX)
}

/// Of these, members are read by their offsets.
const STRUCTURES: [&str; 6] =
    ["task_struct", "signal_struct", "mm_struct", "linux_binprm", "sock_common", "bpf_sock_addr_kern"];

fn offsets(btf: &Btf<btf::Bytes>) -> Offsets {
    let of = |structure, member| btf.offset(structure, member).unwrap_or(0);
    Offsets {
        task_tgid: of("task_struct", "tgid"),
        task_pid: of("task_struct", "pid"),
        task_start_time: of("task_struct", "start_time"),
        task_real_parent: of("task_struct", "real_parent"),
        task_group_leader: of("task_struct", "group_leader"),
        task_self_exec_id: of("task_struct", "self_exec_id"),
        task_signal: of("task_struct", "signal"),
        signal_live: of("signal_struct", "live"),
        task_mm: of("task_struct", "mm"),
        mm_arg_start: of("mm_struct", "arg_start"),
        mm_arg_end: of("mm_struct", "arg_end"),
        binprm_interp: of("linux_binprm", "interp"),
        sock_cookie: of("sock_common", "skc_cookie"),
        sock_family: of("sock_common", "skc_family"),
        sock_num: of("sock_common", "skc_num"),
        sock_rcv_saddr: of("sock_common", "skc_rcv_saddr"),
        sock_v6_rcv_saddr: of("sock_common", "skc_v6_rcv_saddr"),
        addr_uaddr: of("bpf_sock_addr_kern", "uaddr"),
        addr_uaddrlen: of("bpf_sock_addr_kern", "uaddrlen"),
    }
}

/// Whether the kernel's BTF knows what a program reads by offset. None of them is at the beginning of its structure.
fn has_what_it_reads(program: &str, offsets: &Offsets) -> bool {
    match program {
        "connect_unix" | "sendmsg_unix" => offsets.addr_uaddr != 0 && offsets.addr_uaddrlen != 0,
        "sock_send_length" | "sock_recv_length" => offsets.sock_cookie != 0 && offsets.sock_family != 0,
        "sock_release" => offsets.sock_num != 0 && offsets.sock_rcv_saddr != 0,
        "sched_process_exit" => offsets.task_signal != 0 && offsets.signal_live != 0,
        "sched_process_fork" => ![offsets.task_tgid, offsets.task_pid, offsets.task_real_parent].contains(&0),
        "sched_process_exec" => {
            let Offsets { task_tgid, task_real_parent, task_mm, mm_arg_start, mm_arg_end, binprm_interp, .. } =
                *offsets;
            ![task_tgid, task_real_parent, task_mm, mm_arg_start, mm_arg_end, binprm_interp].contains(&0)
        }
        _ => true,
    }
}

fn bytes_of(settings: &Settings) -> &[u8] {
    // SAFETY: `#[repr(C)]`, u32 only, no padding.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(settings).cast(), size_of::<Settings>()) }
}

const CALLS: [u32; 4] =
    [libc::SYS_socket as u32, libc::SYS_connect as u32, libc::SYS_sendto as u32, libc::SYS_sendmsg as u32];

/// `pt_regs` of x86-64 (arch/x86/include/asm/ptrace.h): orig_ax, di, si, dx, r8, r9.
#[cfg(target_arch = "x86_64")]
const REGISTERS: [u32; 6] = [120, 112, 104, 96, 72, 64];
/// `pt_regs` of arm64 (arch/arm64/include/asm/ptrace.h): regs[8], orig_x0, regs[1], regs[2], regs[4], regs[5].
#[cfg(target_arch = "aarch64")]
const REGISTERS: [u32; 6] = [64, 272, 8, 16, 32, 40];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const REGISTERS: [u32; 6] = [0; 6];
