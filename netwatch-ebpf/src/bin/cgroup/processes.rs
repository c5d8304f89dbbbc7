//! Distinguishes the sockets of some processes from others of the same cgroup, on request
//! (`--pid-only`): those that these processes and their descendants create, those that user space
//! found when it attached, and the connections that these accept.

use core::ffi::c_void;
use core::ptr::null_mut;

use aya_ebpf::Global;
use aya_ebpf::bindings::bpf_map_type::BPF_MAP_TYPE_SK_STORAGE;
use aya_ebpf::bindings::{BPF_F_CLONE, BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_map_def, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_sk_fullsock, bpf_sk_storage_get};
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_socket_cookie};
use aya_ebpf::macros::map;
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::{RawTracePointContext, TcContext};
use netwatch_common::process::ProcessFilter;
use netwatch_common::stat as slots;

use crate::stat;

/// Settings. Written by user space before the load, then frozen.
#[unsafe(no_mangle)]
pub static PROCESS_FILTER: Global<ProcessFilter> = Global::new(ProcessFilter::OFF);

/// The processes whose sockets are counted. Written by user space, which adds those that exist, and
/// by the tracepoints below.
#[map]
pub static METERED_PROCESSES: HashMap<u32, u32> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// The cookies of sockets that existed before. Written by user space.
#[map]
pub static FOUND_SOCKETS: HashMap<u64, u32> = HashMap::with_max_entries(262_144, BPF_F_NO_PREALLOC);

/// Marks the sockets that are counted. The kernel copies the mark of a listening socket to the
/// connections that it accepts.
#[unsafe(link_section = "maps")]
#[unsafe(export_name = "METERED_SOCKETS")]
pub static METERED_SOCKETS: SocketMarks = SocketMarks(bpf_map_def {
    type_: BPF_MAP_TYPE_SK_STORAGE,
    key_size: size_of::<u32>() as u32,
    value_size: size_of::<u32>() as u32,
    max_entries: 0,
    map_flags: BPF_F_NO_PREALLOC | BPF_F_CLONE,
    id: 0,
    pinning: 0,
});

#[repr(transparent)]
pub struct SocketMarks(bpf_map_def);

// SAFETY: only the address of the definition is used.
unsafe impl Sync for SocketMarks {}

impl SocketMarks {
    /// # Safety
    /// `socket` is a full socket that the verifier trusts.
    #[inline(always)]
    unsafe fn has(&self, socket: *mut bpf_sock, flags: u32) -> bool {
        let map = (&raw const *self).cast_mut().cast();
        // SAFETY: guaranteed by the caller.
        unsafe { !bpf_sk_storage_get(map, socket.cast(), null_mut(), flags.into()).is_null() }
    }

    /// Marks a socket. Returns whether it has the mark.
    ///
    /// # Safety
    /// As for [`Self::has`].
    #[inline(always)]
    unsafe fn add(&self, socket: *mut bpf_sock) -> bool {
        // SAFETY: guaranteed by the caller.
        // The first also fails if another CPU marks the socket at the same time.
        unsafe { self.has(socket, BPF_SK_STORAGE_GET_F_CREATE) || self.has(socket, 0) }
    }
}

macro_rules! settings {
    ($($name:ident)*) => {
        $(
            /// As in [`ProcessFilter`]. Volatile: user space has replaced the default, which the
            /// compiler would substitute.
            #[inline(always)]
            fn $name() -> u32 {
                let settings: *const ProcessFilter = (&raw const PROCESS_FILTER).cast();
                // SAFETY: read-only data that lives as long as the program.
                unsafe { (&raw const (*settings).$name).read_volatile() }
            }
        )*
    };
}

settings! { is_on task_tgid task_pid task_signal signal_live }

/// Whether the socket of a packet is counted.
#[inline(always)]
pub fn is_metered(ctx: &TcContext) -> bool {
    if is_on() == 0 {
        return true;
    }
    // SAFETY: the context lives as long as the program runs; the verifier checks what is null.
    unsafe {
        let common = (*ctx.skb.skb).__bindgen_anon_2.sk;
        if common.is_null() {
            return false;
        }
        let socket = bpf_sk_fullsock(common);
        if socket.is_null() {
            return false;
        }
        if METERED_SOCKETS.has(socket, 0) {
            return true;
        }
        if FOUND_SOCKETS.get_ptr(&bpf_get_socket_cookie(ctx.skb.skb.cast())).is_none() {
            return false;
        }
        // From now on, the connections that it accepts have the mark, too. If that fails, no packet
        // of this socket is lost, and the next one tries again.
        let _ = METERED_SOCKETS.add(socket);
        true
    }
}

/// `cgroup/sock_create`.
///
/// # Safety
/// The context belongs to the program.
#[inline(always)]
pub unsafe fn created(ctx: *mut bpf_sock) {
    // SAFETY: guaranteed by the caller.
    if is_on() != 0 && is_current_metered() && !unsafe { METERED_SOCKETS.add(ctx) } {
        stat::count(slots::UNSELECTED);
    }
}

#[inline(always)]
fn current_process() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

#[inline(always)]
fn is_current_metered() -> bool {
    METERED_PROCESSES.get_ptr(&current_process()).is_some()
}

/// A task was created: adds processes, not threads.
#[inline(always)]
pub fn forked(ctx: &RawTracePointContext) {
    if is_on() == 0 || !is_current_metered() {
        return;
    }
    let child: u64 = ctx.arg(1);
    let (process, thread): (u32, u32) = (read_kernel(child, task_tgid()), read_kernel(child, task_pid()));
    if process == thread && METERED_PROCESSES.insert(process, 1, 0).is_err() {
        stat::count(slots::UNSELECTED);
    }
}

/// A thread exits: removes the process of the last one, because its number may be used again.
#[inline(always)]
pub fn exited(ctx: &RawTracePointContext) {
    if is_on() == 0 || !is_current_metered() {
        return;
    }
    let signal: u64 = read_kernel(ctx.arg(0), task_signal());
    let live: u32 = read_kernel(signal, signal_live());
    if live == 0 {
        // Fails if another thread that exits at the same time has removed it.
        let _ = METERED_PROCESSES.remove(current_process());
    }
}

/// Reads kernel memory `offset` bytes after an address; zero if that fails.
#[inline(always)]
fn read_kernel<T: Copy + Default>(address: u64, offset: u32) -> T {
    let mut value = T::default();
    let from = (address + u64::from(offset)) as *const c_void;
    // SAFETY: the helper writes at most the size of the value, and fails for invalid addresses.
    unsafe { bpf_probe_read_kernel((&raw mut value).cast(), size_of::<T>() as u32, from) };
    value
}
