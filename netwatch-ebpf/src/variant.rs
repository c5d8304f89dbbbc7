//! What differs between this object and that of the programs at cgroups, whose module of the same
//! name is `bin/cgroup/variant.rs`. Everything here is compiled into the callers, so that the
//! classifier has no instruction for the other object.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::TcContext;
use netwatch_common::flow::FlowValue;
use netwatch_common::observation::Observation;
use netwatch_common::parse::LinkType;

/// The link layer that packets start with.
pub const LINK: LinkType = LinkType::Ethernet;

/// Copies bytes into linear memory. Returns whether they are there.
#[inline(always)]
pub fn pull(ctx: &TcContext, len: u32) -> bool {
    ctx.pull_data(len).is_ok()
}

/// Whether the packet has a VLAN tag that is stored outside the frame.
///
/// # Safety
/// `skb` is the context of the program.
#[inline(always)]
pub unsafe fn is_tagged(skb: *const __sk_buff) -> bool {
    // SAFETY: guaranteed by the caller.
    unsafe { (*skb).vlan_present != 0 }
}

/// Whether the packet was counted in this entry at another hook. Here each packet passes one.
///
/// # Safety
/// `value` is a live entry.
#[inline(always)]
pub unsafe fn was_counted(_hook: u32, _value: *mut FlowValue, _seen: &Observation) -> bool {
    false
}

/// Whether the socket of the packet is the one that sent it, if the target did.
#[inline(always)]
pub fn has_sender(_hook: u32) -> bool {
    true
}
