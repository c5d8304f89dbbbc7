//! Offsets of members in kernel structures, from the kernel's BTF (Documentation/bpf/btf.rst). It
//! only looks up offsets by name: a loader that converts all types takes 18 ms at the start of
//! every run.

use std::fs::{self, File};
use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::error::{Error, Result};

const PATH: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
/// Maximum nesting depth of unnamed structures.
const MAX_DEPTH: usize = 8;

/// The types of the kernel.
pub(super) struct Btf<B> {
    bytes: B,
    strings: usize,
    /// Offset of each type. The first type has number 1.
    types: Vec<u32>,
    /// Offsets of the requested structures.
    structures: Vec<u32>,
}

impl Btf<BtfBytes> {
    /// The BTF of the running kernel, for lookups in the structures with these names.
    pub(super) fn of_kernel(names: &[&str]) -> Result<Self> {
        let bytes = BtfBytes::open(PATH)
            .map_err(|cause| Error::os("read", PATH, cause).hint("the kernel has no BTF (CONFIG_DEBUG_INFO_BTF)"))?;
        Self::parse(bytes, names).ok_or_else(|| Error::other("read", PATH, "unsupported BTF format"))
    }
}

impl<B: Deref<Target = [u8]>> Btf<B> {
    /// Indexes all types in one pass, because types refer to others by number.
    fn parse(bytes: B, names: &[&str]) -> Option<Self> {
        let half = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let header = |at: usize| Some(word(&bytes, at)? as usize);
        if half(0)? != MAGIC {
            return None;
        }
        let (len, start, size, strings) = (header(4)?, header(8)?, header(12)?, strings_offset(&bytes)?);
        let (mut at, end) = (len + start, len + start + size);
        let mut types = Vec::with_capacity(size / 24);
        let mut structures = Vec::new();
        while at < end {
            types.push(u32::try_from(at).ok()?);
            let info = word(&bytes, at + 4)?;
            if kind_of(info) == STRUCT {
                let name = strings + word(&bytes, at)? as usize;
                if names.iter().any(|wanted| is_string(&bytes, name, wanted)) {
                    structures.push(u32::try_from(at).ok()?);
                }
            }
            at += 12 + trailing_len(info)?;
        }
        (end <= bytes.len()).then_some(Self { strings, types, structures, bytes })
    }

    /// Offset in bytes of a member of a requested structure. The member may be in an unnamed nested
    /// structure.
    pub(super) fn offset(&self, structure: &str, member: &str) -> Option<u32> {
        // Several types may have this name, and not all of them need have the member.
        let named = self
            .structures
            .iter()
            .map(|at| *at as usize)
            .filter(|at| word(&self.bytes, *at).is_some_and(|name| self.is_named(name, structure)));
        named.into_iter().find_map(|at| self.member_offset(at, member, MAX_DEPTH)).map(|bits| bits / 8)
    }

    /// Offset in bits of a member of the structure at `at`.
    fn member_offset(&self, at: usize, member: &str, depth: usize) -> Option<u32> {
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
            let is_unnamed = name == 0 && matches!(self.kind(inner), Some(STRUCT | UNION)) && depth > 0;
            if is_unnamed { self.member_offset(inner, member, depth - 1).map(|more| offset + more) } else { None }
        })
    }

    fn kind(&self, at: usize) -> Option<u32> {
        word(&self.bytes, at + 4).map(kind_of)
    }

    fn is_named(&self, offset: u32, name: &str) -> bool {
        is_string(&self.bytes, self.strings + offset as usize, name)
    }
}

/// Offset of the strings.
fn strings_offset(bytes: &[u8]) -> Option<usize> {
    Some((word(bytes, 4)? + word(bytes, 16)?) as usize)
}

fn kind_of(info: u32) -> u32 {
    info >> 24 & 0x1f
}

/// Whether there is this zero-terminated string at `start`.
fn is_string(bytes: &[u8], start: usize, text: &str) -> bool {
    let Some(found) = bytes.get(start..start + text.len() + 1) else { return false };
    &found[..text.len()] == text.as_bytes() && found[text.len()] == 0
}

/// The contents of the BTF file, 5 MB: mapped if possible (Linux 6.16), else read.
pub(super) enum BtfBytes {
    Mapped(NonNull<u8>, usize),
    Read(Vec<u8>),
}

impl BtfBytes {
    fn open(path: &str) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = usize::try_from(file.metadata()?.len()).unwrap_or(0);
        if let Some(size) = NonZeroUsize::new(len) {
            // SAFETY: a new mapping at an address that the kernel chooses; the bytes never change.
            let mapped = unsafe { mmap(None, size, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE, &file, 0) };
            if let Ok(start) = mapped {
                return Ok(Self::Mapped(start.cast(), len));
            }
        }
        fs::read(path).map(Self::Read)
    }
}

impl Deref for BtfBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            // SAFETY: mapped by `open` with this length, and never written to.
            Self::Mapped(start, len) => unsafe { std::slice::from_raw_parts(start.as_ptr(), *len) },
            Self::Read(bytes) => bytes,
        }
    }
}

impl Drop for BtfBytes {
    fn drop(&mut self) {
        if let Self::Mapped(start, len) = self {
            // SAFETY: mapped by `open` with this length; there are no references left.
            let _gone = unsafe { munmap(start.cast(), *len) };
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Length of a type's data after its first twelve bytes; `None` for an unknown kind.
fn trailing_len(info: u32) -> Option<usize> {
    let count = (info & 0xffff) as usize;
    Some(match kind_of(info) {
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
    fn members_of_unnamed_structures_are_found() {
        let Ok(btf) = Btf::of_kernel(&["mm_struct", "task_struct"]) else {
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
    fn mapped_and_read_contents_are_equal() {
        let Ok(mapped) = BtfBytes::open(PATH) else {
            println!("skipped: the kernel has no BTF");
            return;
        };
        assert!(*mapped == *fs::read(PATH).expect("readable"));
    }

    #[test]
    fn invalid_btf_is_rejected() {
        for bytes in [&[][..], &[0x9f, 0xeb], &[0; 64]] {
            assert!(Btf::parse(bytes, &[]).is_none());
        }
    }
}
