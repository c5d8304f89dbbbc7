//! Where the kernel keeps members of its structures, read from its BTF (Documentation/bpf/btf.rst). Only offsets by name: a loader that
//! reads all types into structures of its own takes 18 ms for it, at the start of every run.

use std::fs;

use crate::error::{Error, Result};

const PATH: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
/// Structures in structures are not nested deeper.
const DEPTH: usize = 8;

/// The kernel's types.
pub(super) struct Btf {
    bytes: Vec<u8>,
    strings: usize,
    /// Where each type begins; the first has the number 1.
    types: Vec<u32>,
}

impl Btf {
    /// Those of the running kernel.
    pub(super) fn of_kernel() -> Result<Self> {
        let bytes = fs::read(PATH)
            .map_err(|cause| Error::os("read", PATH, cause).hint("the kernel has no BTF (CONFIG_DEBUG_INFO_BTF)"))?;
        Self::parse(bytes).ok_or_else(|| Error::said("read", PATH, "not the BTF that was expected"))
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let half = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let header = |at: usize| Some(word(&bytes, at)? as usize);
        if half(0)? != MAGIC {
            return None;
        }
        let (len, start, size, strings) = (header(4)?, header(8)?, header(12)?, header(16)?);
        let (mut at, end) = (len + start, len + start + size);
        let mut types = Vec::with_capacity(size / 24);
        while at < end {
            types.push(u32::try_from(at).ok()?);
            at += 12 + behind(word(&bytes, at + 4)?)?;
        }
        (end <= bytes.len()).then_some(Self { strings: len + strings, types, bytes })
    }

    /// Bytes from the beginning of a structure to a member, which may be in a nameless one within.
    pub(super) fn offset(&self, structure: &str, member: &str) -> Option<u32> {
        let is_it = |&&at: &&u32| {
            let at = at as usize;
            self.kind(at) == Some(STRUCT) && word(&self.bytes, at).is_some_and(|name| self.is_named(name, structure))
        };
        // A name can stand for several types, of which a module's may be without the member.
        self.types.iter().filter(is_it).find_map(|&at| self.within(at as usize, member, DEPTH)).map(|bits| bits / 8)
    }

    fn within(&self, at: usize, member: &str, depth: usize) -> Option<u32> {
        let info = word(&self.bytes, at + 4)?;
        let (count, has_sizes) = (info & 0xffff, info >> 31 == 1);
        (0..count as usize).find_map(|number| {
            let at = at + 12 + number * 12;
            let [name, kind, offset] = [0, 4, 8].map(|field| word(&self.bytes, at + field).unwrap_or(0));
            let offset = if has_sizes { offset & 0xff_ffff } else { offset };
            if self.is_named(name, member) {
                return Some(offset);
            }
            let inner = *self.types.get((kind as usize).checked_sub(1)?)? as usize;
            let is_nameless = name == 0 && matches!(self.kind(inner), Some(STRUCT | UNION)) && depth > 0;
            if is_nameless { self.within(inner, member, depth - 1).map(|more| offset + more) } else { None }
        })
    }

    fn kind(&self, at: usize) -> Option<u32> {
        Some(word(&self.bytes, at + 4)? >> 24 & 0x1f)
    }

    fn is_named(&self, offset: u32, name: &str) -> bool {
        let start = self.strings + offset as usize;
        let Some(bytes) = self.bytes.get(start..start + name.len() + 1) else { return false };
        &bytes[..name.len()] == name.as_bytes() && bytes[name.len()] == 0
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Bytes behind the twelve that every type has; `None` for a kind that is not known.
fn behind(info: u32) -> Option<usize> {
    let count = (info & 0xffff) as usize;
    Some(match info >> 24 & 0x1f {
        // Pointers, forward declarations, typedefs, qualifiers, functions, floats, type tags.
        2 | 7..=12 | 16 | 18 => 0,
        // Integers, variables, tags of declarations.
        1 | 14 | 17 => 4,
        3 => 12,
        STRUCT | UNION | 15 | 19 => count * 12,
        // Enumerations, prototypes.
        6 | 13 => count * 8,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_in_nameless_structures_too() {
        let Ok(btf) = Btf::of_kernel() else {
            println!("skipped: the kernel has no BTF");
            return;
        };
        let [start, end] = ["arg_start", "arg_end"].map(|name| btf.offset("mm_struct", name).expect(name));
        assert_eq!(end, start + 8);
        let [pid, tgid] = ["pid", "tgid"].map(|name| btf.offset("task_struct", name).expect(name));
        assert_eq!(tgid, pid + 4);
        assert_eq!(btf.offset("task_struct", "no_such_member"), None);
        assert_eq!(btf.offset("no_such_struct", "pid"), None);
    }

    #[test]
    fn what_is_no_btf_is_refused() {
        for bytes in [&[][..], &[0x9f, 0xeb], &[0; 64]] {
            assert!(Btf::parse(bytes.to_vec()).is_none());
        }
    }
}
