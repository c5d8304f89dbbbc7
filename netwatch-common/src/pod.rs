//! Implements aya's `Pod` for the types that user space passes as map keys, map values and
//! read-only data. Only with the feature `user`.

use crate::config::Config;
use crate::flow::{EntryKey, FlowValue};
use crate::fragment::{FirstFragment, FragmentKey};
use crate::table::FlowEntry;

// SAFETY: `#[repr(C)]`, integers only, without implicit padding (asserted where the types are
// defined).
unsafe impl aya::Pod for EntryKey {}
// SAFETY: as above.
unsafe impl aya::Pod for FlowValue {}
// SAFETY: as above.
unsafe impl aya::Pod for FragmentKey {}
// SAFETY: as above.
unsafe impl aya::Pod for FirstFragment {}
// SAFETY: as above.
unsafe impl aya::Pod for Config {}
// SAFETY: as above.
unsafe impl aya::Pod for FlowEntry {}
