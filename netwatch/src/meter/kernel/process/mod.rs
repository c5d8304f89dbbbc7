//! The process tracer: cgroup programs and tracepoints that report processes and their sockets, in
//! an object of their own. Programs that the kernel does not support are omitted and reported. No
//! packet is counted here, so no count depends on it.

mod btf;
mod records;
#[cfg(test)]
pub(super) mod tests;

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use aya_obj::generated::bpf_attach_type as at;
use aya_obj::generated::bpf_prog_type::{
    BPF_PROG_TYPE_CGROUP_SOCK, BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_PROG_TYPE_RAW_TRACEPOINT,
};
use netwatch_common::config::defaults;
use netwatch_common::process::{KernelOffsets, ProcessFilter, TracerSettings, lost};

use super::object::Loaded;
use super::ring::SharedRing;
use super::rings;
use super::sys::{self, ProgramKind};
use crate::error::{Error, Result};
use crate::meter::clock::Clock;
use crate::process::{ProcessEvent, ProcessLosses};
use btf::Btf;

/// The object, built by `cargo xtask build` and committed.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../bpf/process.o");

const fn cgroup_sock(attach: at) -> ProgramKind {
    ProgramKind { program: BPF_PROG_TYPE_CGROUP_SOCK, attach: attach as u32 }
}

const fn cgroup_sock_addr(attach: at) -> ProgramKind {
    ProgramKind { program: BPF_PROG_TYPE_CGROUP_SOCK_ADDR, attach: attach as u32 }
}

const TRACEPOINT: ProgramKind = ProgramKind { program: BPF_PROG_TYPE_RAW_TRACEPOINT, attach: 0 };

/// Programs and their types. The cgroup programs first: tracepoints use the state that these store
/// for a socket.
const PROGRAMS: [(&str, ProgramKind); 17] = [
    ("sock_create", cgroup_sock(at::BPF_CGROUP_INET_SOCK_CREATE)),
    ("sock_release", cgroup_sock(at::BPF_CGROUP_INET_SOCK_RELEASE)),
    ("post_bind4", cgroup_sock(at::BPF_CGROUP_INET4_POST_BIND)),
    ("post_bind6", cgroup_sock(at::BPF_CGROUP_INET6_POST_BIND)),
    ("connect4", cgroup_sock_addr(at::BPF_CGROUP_INET4_CONNECT)),
    ("connect6", cgroup_sock_addr(at::BPF_CGROUP_INET6_CONNECT)),
    ("sendmsg4", cgroup_sock_addr(at::BPF_CGROUP_UDP4_SENDMSG)),
    ("sendmsg6", cgroup_sock_addr(at::BPF_CGROUP_UDP6_SENDMSG)),
    ("connect_unix", cgroup_sock_addr(at::BPF_CGROUP_UNIX_CONNECT)),
    ("sendmsg_unix", cgroup_sock_addr(at::BPF_CGROUP_UNIX_SENDMSG)),
    ("sched_process_fork", TRACEPOINT),
    ("sched_process_exec", TRACEPOINT),
    ("sched_process_exit", TRACEPOINT),
    ("sock_send_length", TRACEPOINT),
    (RECEIVED, TRACEPOINT),
    ("recvmsg4", cgroup_sock_addr(at::BPF_CGROUP_UDP4_RECVMSG)),
    ("recvmsg6", cgroup_sock_addr(at::BPF_CGROUP_UDP6_RECVMSG)),
];

/// Report local sockets.
const LOCAL_SOCKETS: [&str; 2] = ["connect_unix", "sendmsg_unix"];
/// Observes every received message.
const RECEIVED: &str = "sock_recv_length";
/// Used instead of [`RECEIVED`] before Linux 6.3. While they are attached, they cost every process
/// on the machine that receives datagrams and requests the sender's address.
const RECEIVED_FALLBACK: [&str; 2] = ["recvmsg4", "recvmsg6"];

/// Runs for every system call on the machine.
const FAILED_CALLS: (&str, ProgramKind) = ("sys_exit", TRACEPOINT);

/// Settings of the process tracer, decided before it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessTracerConfig {
    /// Whether command lines are recorded: they can contain secrets.
    pub cmdline: bool,
    /// Whether failed system calls are recorded, at a cost of about 0.09 µs for each system call on
    /// the machine.
    pub failed_calls: bool,
}

/// The programs in the kernel. Dropping it detaches and unloads them.
pub struct ProcessTracer {
    // Declared first, so dropped first.
    links: Vec<OwnedFd>,
    rejected: Vec<(&'static str, Error)>,
    ring: SharedRing,
    loaded: Loaded,
    clock: Clock,
    pace: rings::Pace,
    /// Records of an unknown kind or shape.
    unknown: u64,
}

impl std::fmt::Debug for ProcessTracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessTracer").field("rejected", &self.rejected).finish_non_exhaustive()
    }
}

impl ProcessTracer {
    /// Loads the programs that the kernel supports, without attaching them. May run on any thread.
    pub fn load(config: ProcessTracerConfig) -> Result<Self> {
        let settings = TracerSettings {
            offsets: offsets(&Btf::of_kernel(&STRUCTURES)?),
            arguments: config.cmdline.into(),
            calls: CALLS,
            registers: REGISTERS,
        };
        let mut wanted = PROGRAMS.to_vec();
        wanted.retain(|(name, _)| has_required_offsets(name, &settings.offsets));
        if config.failed_calls {
            wanted.push(FAILED_CALLS);
        }
        let globals = HashMap::from([("SETTINGS", (bytes_of(&settings), true))]);
        let (loaded, rejected) = Loaded::new_partial(OBJECT, globals, &[], &wanted, None, &[])?;
        let ring = SharedRing::open(loaded.map("PROCESSES"), "PROCESSES")?;
        let pace = rings::Pace::new(rings::RingBytes { samples: 0, events: defaults::PROCESS_RING_BYTES as usize });
        Ok(Self { links: Vec::new(), rejected, ring, loaded, clock: Clock::of_process(), pace, unknown: 0 })
    }

    /// Attaches to a cgroup (v2). From then on, its processes and those of its descendants are
    /// reported.
    pub fn attach(&mut self, cgroup: BorrowedFd<'_>) -> Result<()> {
        self.attach_without(cgroup, &[])
    }

    /// As [`Self::attach`], but reports no local sockets: they belong to no network namespace,
    /// which would distinguish those of the target from others.
    pub fn attach_without_local_sockets(&mut self, cgroup: BorrowedFd<'_>) -> Result<()> {
        self.attach_without(cgroup, &LOCAL_SOCKETS)
    }

    fn attach_without(&mut self, cgroup: BorrowedFd<'_>, left_out: &[&str]) -> Result<()> {
        let cgroups = self.loaded.map("CGROUP").as_fd();
        let failed = |cause| Error::os("attach programs to", "the cgroup of the target", cause);
        sys::map_update(cgroups, &0_u32.to_ne_bytes(), &cgroup.as_raw_fd().to_ne_bytes()).map_err(failed)?;
        let mut observes_received = false;
        for (name, kind) in PROGRAMS.into_iter().chain([FAILED_CALLS]) {
            let Some(program) = self.loaded.loaded(name) else { continue };
            if observes_received && RECEIVED_FALLBACK.contains(&name) || left_out.contains(&name) {
                continue;
            }
            let attached = match kind.program {
                BPF_PROG_TYPE_RAW_TRACEPOINT => {
                    let tracepoint = CString::new(name).expect("a name without NUL bytes");
                    sys::tracepoint_attach(program, &tracepoint)
                }
                _ => sys::cgroup_attach(program, cgroup, kind.attach),
            };
            match attached {
                Ok(link) => {
                    self.links.push(link);
                    observes_received |= name == RECEIVED;
                }
                Err(cause) => self.rejected.push((name, Error::os("attach program", name, cause))),
            }
        }
        Ok(())
    }

    /// Programs that were not loaded because the kernel's BTF lacks members they read.
    pub fn untried(&self) -> impl Iterator<Item = &'static str> {
        let was_tried =
            |name: &str| self.loaded.loaded(name).is_some() || self.rejected.iter().any(|(one, _)| *one == name);
        PROGRAMS.iter().map(|(name, _)| *name).filter(move |name| !was_tried(name))
    }

    /// Programs that the kernel has rejected, with the errors.
    pub fn rejected(&self) -> impl Iterator<Item = (&'static str, &Error)> {
        self.rejected.iter().map(|(name, error)| (*name, error))
    }

    /// All loaded programs by name, for benchmarks and tests.
    pub fn named_programs(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.loaded.named_programs()
    }

    /// Hands over the records up to now, in order.
    pub fn poll(&mut self, sink: &mut impl FnMut(ProcessEvent)) {
        let records = self.ring.take();
        for record in records.iter() {
            match records::event(record, self.clock) {
                Some(event) => {
                    records::creation(record, &event).into_iter().for_each(&mut *sink);
                    sink(event);
                }
                None => self.unknown += 1,
            }
        }
        self.pace.record_poll(rings::RingBytes { samples: 0, events: records.len() });
        self.ring.give_back(records);
    }

    /// The ring, to move its records out on another thread.
    pub(super) fn ring(&self) -> SharedRing {
        self.ring.clone()
    }

    /// How long the caller may wait before the next [`Self::poll`].
    pub fn next_poll(&self) -> Duration {
        self.pace.interval()
    }

    /// Losses since the load: events that found no room in the ring or were missed by the kernel,
    /// sockets that found no room in the map, send failures beyond the reported ones, and records
    /// of an unknown kind or shape.
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

    /// Events that occurred while the same program was preempted on that CPU: the kernel then does
    /// not run the program, and counts that. Only with PREEMPT_RT, where tracepoints can be
    /// preempted.
    fn missed(&self) -> Result<u64> {
        let failed = |cause| Error::os("query", "the programs of the process tracer", cause);
        self.loaded.programs().map(|one| Ok(sys::program_info(one.as_fd()).map_err(failed)?.recursion_misses)).sum()
    }
}

/// Parses a record as [`ProcessTracer::poll`] does, without converting times: for records that were
/// not written by a kernel. `None` if the kind or shape is unknown.
pub fn event_of(record: &[u8]) -> Option<ProcessEvent> {
    records::event(record, Clock::UNIX)
}

/// Structures with members that the programs read.
const STRUCTURES: [&str; 6] =
    ["task_struct", "signal_struct", "mm_struct", "linux_binprm", "sock_common", "bpf_sock_addr_kern"];

fn offsets(btf: &Btf<btf::BtfBytes>) -> KernelOffsets {
    let of = |structure, member| btf.offset(structure, member).unwrap_or(0);
    KernelOffsets {
        task_tgid: of("task_struct", "tgid"),
        task_pid: of("task_struct", "pid"),
        task_start_time: of("task_struct", "start_boottime"),
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

/// Whether the kernel's BTF has the members that a program reads. None of them has offset 0.
fn has_required_offsets(program: &str, offsets: &KernelOffsets) -> bool {
    match program {
        "connect_unix" | "sendmsg_unix" => offsets.addr_uaddr != 0 && offsets.addr_uaddrlen != 0,
        "sock_send_length" | "sock_recv_length" => offsets.sock_cookie != 0 && offsets.sock_family != 0,
        "sock_release" => offsets.sock_num != 0 && offsets.sock_rcv_saddr != 0,
        "sched_process_exit" => offsets.task_signal != 0 && offsets.signal_live != 0,
        "sched_process_fork" => ![offsets.task_tgid, offsets.task_pid, offsets.task_real_parent].contains(&0),
        "sched_process_exec" => {
            let KernelOffsets { task_tgid, task_real_parent, task_mm, mm_arg_start, mm_arg_end, binprm_interp, .. } =
                *offsets;
            ![task_tgid, task_real_parent, task_mm, mm_arg_start, mm_arg_end, binprm_interp].contains(&0)
        }
        _ => true,
    }
}

/// What the classifier for cgroups needs to distinguish processes.
pub(super) fn filter() -> Result<ProcessFilter> {
    let offsets = offsets(&Btf::of_kernel(&STRUCTURES)?);
    let is_complete =
        ["sched_process_fork", "sched_process_exit"].iter().all(|name| has_required_offsets(name, &offsets));
    if !is_complete {
        return Err(Error::other("distinguish", "processes", "the BTF of this kernel lacks members of task_struct"));
    }
    let KernelOffsets { task_tgid, task_pid, task_signal, signal_live, .. } = offsets;
    Ok(ProcessFilter { is_on: 1, task_tgid, task_pid, task_signal, signal_live })
}

fn bytes_of(settings: &TracerSettings) -> &[u8] {
    // SAFETY: `#[repr(C)]`, u32 only, no padding.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(settings).cast(), size_of::<TracerSettings>()) }
}

const CALLS: [u32; 4] =
    [libc::SYS_socket as u32, libc::SYS_connect as u32, libc::SYS_sendto as u32, libc::SYS_sendmsg as u32];

/// `pt_regs` of x86-64 (arch/x86/include/asm/ptrace.h): orig_ax, di, si, dx, r8, r9.
#[cfg(target_arch = "x86_64")]
const REGISTERS: [u32; 6] = [120, 112, 104, 96, 72, 64];
/// `pt_regs` of arm64 (arch/arm64/include/asm/ptrace.h): regs[8], orig_x0, regs[1], regs[2],
/// regs[4], regs[5].
#[cfg(target_arch = "aarch64")]
const REGISTERS: [u32; 6] = [64, 272, 8, 16, 32, 40];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const REGISTERS: [u32; 6] = [0; 6];
