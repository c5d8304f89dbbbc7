//! Every map: its key, its value, who writes and who reads it. Sizes are defaults; user space sets
//! them before the load. Maps marked *mapped* are plain memory that user space maps: it reads and
//! writes them without system calls.

use core::marker::PhantomData;

use aya_ebpf::Global;
use aya_ebpf::bindings::bpf_map_type::BPF_MAP_TYPE_ARRAY_OF_MAPS;
use aya_ebpf::bindings::{BPF_F_MMAPABLE, bpf_map_def};
use aya_ebpf::helpers::bpf_map_lookup_elem;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, LruHashMap, PerCpuArray, ProgramArray, RingBuf};
use netwatch_common::config::{Config, defaults};
use netwatch_common::fragment::{FirstFragment, FragmentKey};
use netwatch_common::front::{Front, FrontHead, InstalledSlots};
use netwatch_common::remainder::{self, Remainder};
use netwatch_common::round_trip::{MAX_RTT_PROBES, RttProbe};
use netwatch_common::table::{Bucket, Control, FlowEntry};
use netwatch_common::{stage, stat};

use crate::scratch::{SCRATCH_PER_CPU, Scratch};

/// Settings. Written by user space before the load, then frozen.
#[unsafe(no_mangle)]
pub static CONFIG: Global<Config> = Global::new(Config::DEFAULT);

/// Tags of the flow table, see `netwatch_common::table`. Mapped. Set by `table`, cleared by user
/// space.
#[map]
pub static BUCKETS: Array<Bucket> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Entries of the flow table: an array of arrays of `netwatch_common::table::SEGMENT` entries. The
/// inner arrays have the same size, so that the kernel inlines both lookups; they are mapped. User
/// space adds segments, reads and clears entries; `long_path` and `middle_path` write entries with
/// atomics.
#[unsafe(link_section = "maps")]
#[unsafe(export_name = "SEGMENTS")]
pub static SEGMENTS: ArrayOfArrays<FlowEntry> = ArrayOfArrays::new();

/// An array of arrays of `T`. The inner arrays are not part of the object: user space creates them.
#[repr(transparent)]
pub struct ArrayOfArrays<T>(bpf_map_def, PhantomData<T>);

// SAFETY: only the address of the definition is used.
unsafe impl<T> Sync for ArrayOfArrays<T> {}

impl<T> ArrayOfArrays<T> {
    const fn new() -> Self {
        let definition = bpf_map_def {
            type_: BPF_MAP_TYPE_ARRAY_OF_MAPS,
            key_size: size_of::<u32>() as u32,
            value_size: size_of::<u32>() as u32,
            max_entries: 1,
            map_flags: 0,
            id: 0,
            pinning: 0,
        };
        Self(definition, PhantomData)
    }

    /// Element `within` of array `array`, if there is such an array. The kernel inlines both
    /// lookups.
    #[inline(always)]
    pub fn get_ptr_mut(&self, array: u32, within: u32) -> Option<*mut T> {
        // SAFETY: user space adds only arrays of `T`.
        unsafe {
            let inner = bpf_map_lookup_elem((&raw const *self).cast_mut().cast(), (&raw const array).cast());
            if inner.is_null() {
                return None;
            }
            let element = bpf_map_lookup_elem(inner, (&raw const within).cast());
            if element.is_null() { None } else { Some(element.cast()) }
        }
    }
}

/// State of the free entries. Mapped, one element. Written by `table` and user space.
#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Numbers of entries that were freed, as `netwatch_common::table::freed`. Mapped. Written by user
/// space, read by `table`.
#[map]
pub static FREE: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The state of each possible CPU. Mapped. Each is written only on its own CPU, by `front`,
/// `middle_path`, `long_path`, `table` and `flush`, and by user space.
#[map]
pub static HEADS: Array<FrontHead> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The fronts of the CPUs in use. Each is written only on its own CPU, by `front`, `middle_path`,
/// `long_path` and `flush`; `epoch` disables slots on every CPU.
#[map]
pub static FRONTS: Array<Front> = Array::with_max_entries(1, 0);

/// The slots of each front that may be taken. Mapped. As FRONTS, and read by user space.
#[map]
pub static INSTALLED: Array<InstalledSlots> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Round-trip measurements in progress. Written by `long_path`, read by `front` and `middle_path`.
#[map]
pub static RTT_PROBES: Array<RttProbe> = Array::with_max_entries(MAX_RTT_PROBES, BPF_F_MMAPABLE);

/// Remainders, indexed by `remainder::slot`. Mapped. Written by `long_path` with atomics, read by
/// user space.
#[map]
pub static REMAINDERS: Array<Remainder> = Array::with_max_entries(remainder::COUNT, BPF_F_MMAPABLE);

/// Scratch memory of each CPU, see `scratch`. Written and read by `long_path` and `middle_path`
/// while they process one packet.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(SCRATCH_PER_CPU, 0);

/// Programs that other programs continue in. Filled by user space before anything is attached.
#[map]
pub static STAGES: ProgramArray = ProgramArray::with_max_entries(stage::COUNT, 0);

/// Ports of first fragments. Written and read by `fragment`; evicts the least recently used.
#[map]
pub static FRAGMENTS: LruHashMap<FragmentKey, FirstFragment> = LruHashMap::with_max_entries(4096, 0);

/// Heads of packets. Written by `sample`, read by user space.
#[map]
pub static SAMPLES: RingBuf = RingBuf::with_byte_size(defaults::SAMPLE_RING_BYTES, 0);

/// Notifications, separate from the samples so that samples cannot displace them. Written by
/// `sample`, read by user space.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(defaults::EVENT_RING_BYTES, 0);

/// Lost observations by reason. Written by `stat`, read by user space.
#[map]
pub static STATS: Array<u64> = Array::with_max_entries(stat::COUNT, 0);
