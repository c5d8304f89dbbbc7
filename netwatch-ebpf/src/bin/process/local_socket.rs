//! Local sockets (Linux 6.7): reports connections and messages to them. The traffic of the peer
//! process is not captured.

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use netwatch_common::process::{LocalSocketRecord, PATH_BYTES, kind, lost};

use crate::maps::{self, PROCESSES, WAKE_IF_EMPTY, count_loss};
use crate::task;

/// `cgroup/connect_unix` and `cgroup/sendmsg_unix`. The context has no field for the path; at run
/// time it is a `bpf_sock_addr_kern`, which can be read as kernel memory.
///
/// # Safety
/// The context belongs to the program.
#[inline(always)]
pub unsafe fn used(ctx: *mut bpf_sock_addr) {
    /// `sun_path` follows the family.
    const FAMILY_BYTES: u32 = 2;
    let context = ctx as u64;
    let address: u64 = task::read_kernel(context, maps::addr_uaddr());
    let len: u32 = task::read_kernel(context, maps::addr_uaddrlen());
    let Some(mut reserved) = PROCESSES.reserve::<LocalSocketRecord>(0) else { return count_loss(lost::EVENTS) };
    let record = reserved.as_mut_ptr();
    let len_minus_1 = core::hint::black_box(len.wrapping_sub(FAMILY_BYTES + 1));
    // SAFETY: within the record; the helper writes at most the given size.
    unsafe {
        (&raw mut (*record).head).write(task::head(kind::LOCAL_SOCKET));
        (*record).len = 0;
        if len_minus_1 < PATH_BYTES as u32 {
            let path = (&raw mut (*record).path).cast();
            let from = (address + u64::from(FAMILY_BYTES)) as *const _;
            if bpf_probe_read_kernel(path, len_minus_1 + 1, from) == 0 {
                (*record).len = len_minus_1 + 1;
            }
        }
    }
    reserved.submit(WAKE_IF_EMPTY);
}
