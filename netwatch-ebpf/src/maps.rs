//! Every map: its key, its value, who writes and who reads it. Sizes are defaults; user space sets
//! them before the load. Maps marked *mapped* are plain memory that user space maps: it reads and
//! writes them without system calls.

use aya_ebpf::Global;
use aya_ebpf::bindings::bpf_map_type::BPF_MAP_TYPE_ARRAY_OF_MAPS;
use aya_ebpf::bindings::{BPF_F_MMAPABLE, bpf_map_def};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, LruHashMap, PerCpuArray, ProgramArray, RingBuf};
use netwatch_common::config::{Config, defaults};
use netwatch_common::fragment::{FirstFragment, FragmentKey};
use netwatch_common::front::Front;
use netwatch_common::remainder::{self, Remainder};
use netwatch_common::round_trip::{MAX_RTT_PROBES, RttProbe};
use netwatch_common::table::{Bucket, Control};
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
pub static SEGMENTS: SegmentsMap = SegmentsMap(bpf_map_def {
    type_: BPF_MAP_TYPE_ARRAY_OF_MAPS,
    key_size: size_of::<u32>() as u32,
    value_size: size_of::<u32>() as u32,
    max_entries: 1,
    map_flags: 0,
    id: 0,
    pinning: 0,
});

/// The definition of [`SEGMENTS`]; only its address is used.
#[repr(transparent)]
pub struct SegmentsMap(bpf_map_def);

/// State of the free entries. Mapped, one element. Written by `table` and user space.
#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Numbers of entries that were freed. Mapped. Written by user space, read by `table`.
#[map]
pub static FREE: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The fronts, one per CPU. Mapped: the head of each. Each is written only on its own CPU, by
/// `front`, `middle_path`, `long_path` and `flush`.
#[map]
pub static FRONTS: Array<Front> = Array::with_max_entries(1, BPF_F_MMAPABLE);

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

/// Heads of packets. Written by `sample`, read by user space on a timer.
#[map]
pub static SAMPLES: RingBuf = RingBuf::with_byte_size(defaults::SAMPLE_RING_BYTES, 0);

/// Notifications, separate from the samples so that samples cannot displace them. Written by
/// `sample`, read by user space.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(defaults::EVENT_RING_BYTES, 0);

/// Lost observations by reason. Written by `stat`, read by user space.
#[map]
pub static STATS: Array<u64> = Array::with_max_entries(stat::COUNT, 0);
