//! Every map: its key, its value, who writes and who reads it. Sizes are defaults; user space sets them before the load.

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf};
use netwatch_common::config::Config;
use netwatch_common::flow::{FlowKey, FlowValue};
use netwatch_common::fragment::{FirstFragment, FragmentKey};
use netwatch_common::remainder::{self, Remainder};
use netwatch_common::stage;
use netwatch_common::stat;

use crate::account::Scratch;

/// Settings. Written by user space before the load, then frozen.
#[unsafe(no_mangle)]
pub static CONFIG: Global<Config> = Global::new(Config::DEFAULT);

/// Flows. Written by `account` with atomics, read by the drain, which never deletes a live entry: the program may still
/// hold its value.
#[map]
pub static FLOWS: HashMap<FlowKey, FlowValue> = HashMap::with_max_entries(131_072, BPF_F_NO_PREALLOC);

/// What has no entry of its own, by `remainder::slot`. Written by `account` with atomics, read by the drain.
#[map]
pub static REMAINDERS: Array<Remainder> = Array::with_max_entries(remainder::COUNT, 0);

/// Working memory, one per CPU. Written and read by `account` within one packet.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Programs that others continue in. Filled by user space before anything is attached.
#[map]
pub static STAGES: ProgramArray = ProgramArray::with_max_entries(stage::COUNT, 0);

/// Ports of first fragments. Written and read by `fragment`; forgets the oldest.
#[map]
pub static FRAGMENTS: LruHashMap<FragmentKey, FirstFragment> = LruHashMap::with_max_entries(4096, 0);

/// Heads of packets. Written by `sample`, read by user space on a timer.
#[map]
pub static SAMPLES: RingBuf = RingBuf::with_byte_size(2 << 20, 0);

/// Rare events, apart from the samples so that those cannot starve them. Written by `account`, read by user space.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(256 << 10, 0);

/// Lost observations by reason. Written by `stat`, read by user space.
#[map]
pub static STATS: Array<u64> = Array::with_max_entries(stat::COUNT, 0);
