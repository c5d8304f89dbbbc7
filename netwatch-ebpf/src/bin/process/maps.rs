//! Every map: its key, its value, who writes and who reads it.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::Global;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, CgroupArray, LruHashMap, RingBuf};
use netwatch_common::config::defaults;
use netwatch_common::process::{SocketState, TracerSettings, lost};

/// The kernel wakes user space for the first record in an empty ring. User space then moves records
/// at intervals: waking it for each would cost four times as much as the record itself.
pub const WAKE_IF_EMPTY: u64 = 0;

/// Settings. Written by user space before the load, then frozen.
#[unsafe(no_mangle)]
pub static SETTINGS: Global<TracerSettings> = Global::new(DEFAULT_SETTINGS);

const DEFAULT_SETTINGS: TracerSettings = TracerSettings {
    offsets: netwatch_common::process::KernelOffsets {
        task_tgid: 0,
        task_pid: 0,
        task_start_time: 0,
        task_real_parent: 0,
        task_group_leader: 0,
        task_self_exec_id: 0,
        task_signal: 0,
        signal_live: 0,
        task_mm: 0,
        mm_arg_start: 0,
        mm_arg_end: 0,
        binprm_interp: 0,
        sock_cookie: 0,
        sock_family: 0,
        sock_num: 0,
        sock_rcv_saddr: 0,
        sock_v6_rcv_saddr: 0,
        addr_uaddr: 0,
        addr_uaddrlen: 0,
    },
    arguments: 0,
    calls: [0; 4],
    registers: [0; 6],
};

/// Element 0: the cgroup of the run. Written by user space before anything is attached.
#[map]
pub static CGROUP: CgroupArray = CgroupArray::with_max_entries(1, 0);

/// Open sockets by cookie. Written and read by `socket`; evicts the least recently used, which is
/// then reported again at its next use. If more sockets than this are in use, every message causes
/// a report.
#[map]
pub static SOCKETS: LruHashMap<u64, SocketState> = LruHashMap::with_max_entries(65_536, 0);

/// Element 0: number of programs that the run's processes have executed. Written by `exec`, read by
/// `socket`.
#[map]
pub static EXECUTED: Array<u32> = Array::with_max_entries(1, 0);

/// Records of `netwatch_common::process`. Written by all modules, read by user space.
#[map]
pub static PROCESSES: RingBuf = RingBuf::with_byte_size(defaults::PROCESS_RING_BYTES, 0);

/// Losses by reason. Written by all modules, read by user space.
#[map]
pub static LOST: Array<u64> = Array::with_max_entries(lost::COUNT, 0);

/// Writes a record to the ring, or counts it as lost if there is no room.
#[inline(always)]
pub fn report<T: 'static>(record: T) {
    match PROCESSES.reserve::<T>(0) {
        Some(mut reserved) => {
            reserved.write(record);
            reserved.submit(WAKE_IF_EMPTY);
        }
        None => count_loss(lost::EVENTS),
    }
}

/// Counts one more loss in a slot of `netwatch_common::process::lost`.
#[inline(always)]
pub fn count_loss(slot: u32) {
    if let Some(counter) = LOST.get_ptr_mut(slot) {
        // SAFETY: the map's value is an aligned u64 that lives as long as the program.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, 1) };
    }
}

macro_rules! setting {
    ($($name:ident: $($field:ident).+;)*) => {
        $(
            /// As in `TracerSettings`. Volatile: user space has replaced the default, which the
            /// compiler would substitute.
            #[inline(always)]
            pub fn $name() -> u32 {
                let settings: *const TracerSettings = (&raw const SETTINGS).cast();
                // SAFETY: read-only data that lives as long as the program.
                unsafe { (&raw const (*settings).$($field).+).read_volatile() }
            }
        )*
    };
}

setting! {
    task_tgid: offsets.task_tgid;
    task_pid: offsets.task_pid;
    task_start_time: offsets.task_start_time;
    task_real_parent: offsets.task_real_parent;
    task_group_leader: offsets.task_group_leader;
    task_self_exec_id: offsets.task_self_exec_id;
    task_signal: offsets.task_signal;
    signal_live: offsets.signal_live;
    task_mm: offsets.task_mm;
    mm_arg_start: offsets.mm_arg_start;
    mm_arg_end: offsets.mm_arg_end;
    binprm_interp: offsets.binprm_interp;
    sock_cookie: offsets.sock_cookie;
    sock_family: offsets.sock_family;
    sock_num: offsets.sock_num;
    sock_rcv_saddr: offsets.sock_rcv_saddr;
    sock_v6_rcv_saddr: offsets.sock_v6_rcv_saddr;
    addr_uaddr: offsets.addr_uaddr;
    addr_uaddrlen: offsets.addr_uaddrlen;
    arguments: arguments;
}

/// The number of a system call: element `call` of `TracerSettings::calls`.
#[inline(always)]
pub fn call_number(call: usize) -> u32 {
    let settings: *const TracerSettings = (&raw const SETTINGS).cast();
    // SAFETY: as above; there are four elements.
    unsafe { (&raw const (*settings).calls).cast::<u32>().add(call).read_volatile() }
}

/// The offset of a register in `pt_regs`: element `which` of `TracerSettings::registers`.
#[inline(always)]
pub fn register_offset(which: usize) -> u32 {
    let settings: *const TracerSettings = (&raw const SETTINGS).cast();
    // SAFETY: as above; there are six elements.
    unsafe { (&raw const (*settings).registers).cast::<u32>().add(which).read_volatile() }
}
