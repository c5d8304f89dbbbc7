//! Lets user space hand these types to aya as map keys and values, and as read-only data.

use crate::config::Config;
use crate::flow::{FlowKey, FlowValue};
use crate::fragment::{FirstFragment, FragmentKey};
use crate::table::Entry;

// SAFETY: `#[repr(C)]`, made of integers only, without implicit padding (asserted where they are defined).
unsafe impl aya::Pod for FlowKey {}
// SAFETY: as above.
unsafe impl aya::Pod for FlowValue {}
// SAFETY: as above.
unsafe impl aya::Pod for FragmentKey {}
// SAFETY: as above.
unsafe impl aya::Pod for FirstFragment {}
// SAFETY: as above.
unsafe impl aya::Pod for Config {}
// SAFETY: as above.
unsafe impl aya::Pod for Entry {}
