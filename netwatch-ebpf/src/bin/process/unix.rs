//! Unix sockets that are connected to or sent to (Linux 6.7): ways in which work leaves the namespace.

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use netwatch_common::process::{PATH_BYTES, Unix, kind, lost};

use crate::maps::{self, NO_WAKEUP, PROCESSES, count};
use crate::task;

/// The context that the kernel gives has no field for the path. What it points to at run time is a `bpf_sock_addr_kern`, which can be read
/// like any other memory of the kernel.
///
/// # Safety
/// The context is the program's own.
#[inline(always)]
pub unsafe fn gone_to(ctx: *mut bpf_sock_addr) {
    /// `sun_path` is behind the family.
    const FAMILY_BYTES: u32 = 2;
    let context = ctx as u64;
    let address: u64 = task::kernel(context, maps::addr_uaddr());
    let len: u32 = task::kernel(context, maps::addr_uaddrlen());
    let Some(mut place) = PROCESSES.reserve::<Unix>(0) else { return count(lost::EVENTS) };
    let record = place.as_mut_ptr();
    let less_one = core::hint::black_box(len.wrapping_sub(FAMILY_BYTES + 1));
    // SAFETY: within the record; the helper writes no more than it is told.
    unsafe {
        (&raw mut (*record).head).write(task::head(kind::UNIX));
        (*record).len = 0;
        if less_one < PATH_BYTES as u32 {
            let path = (&raw mut (*record).path).cast();
            let from = (address + u64::from(FAMILY_BYTES)) as *const _;
            if bpf_probe_read_kernel(path, less_one + 1, from) == 0 {
                (*record).len = less_one + 1;
            }
        }
    }
    place.submit(NO_WAKEUP);
}
