//! Where the kernel keeps members of its structures, read from its BTF (Documentation/bpf/btf.rst). Only offsets by name: a loader that
//! reads all types into structures of its own takes 18 ms for it, at the start of every run.

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
/// Structures in structures are not nested deeper.
const DEPTH: usize = 8;

/// The kernel's types.
pub(super) struct Btf<B> {
    bytes: B,
    strings: usize,
    /// Where each type begins; the first has the number 1.
    types: Vec<u32>,
    /// The structures that were asked for.
    structures: Vec<u32>,
}

impl Btf<Bytes> {
    /// Those of the running kernel, to look into structures of these names.
    pub(super) fn of_kernel(names: &[&str]) -> Result<Self> {
        let bytes = Bytes::of(PATH)
            .map_err(|cause| Error::os("read", PATH, cause).hint("the kernel has no BTF (CONFIG_DEBUG_INFO_BTF)"))?;
        Self::parse(bytes, names).ok_or_else(|| Error::said("read", PATH, "not the BTF that was expected"))
    }
}

impl<B: Deref<Target = [u8]>> Btf<B> {
    /// One walk over all types: numbers of types are counted from the first.
    fn parse(bytes: B, names: &[&str]) -> Option<Self> {
        let half = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let header = |at: usize| Some(word(&bytes, at)? as usize);
        if half(0)? != MAGIC {
            return None;
        }
        let (len, start, size, strings) = (header(4)?, header(8)?, header(12)?, len_of_strings(&bytes)?);
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
            at += 12 + behind(info)?;
        }
        (end <= bytes.len()).then_some(Self { strings, types, structures, bytes })
    }

    /// Bytes from the beginning of a structure, one of those that were asked for, to a member, which may be in a nameless one within.
    pub(super) fn offset(&self, structure: &str, member: &str) -> Option<u32> {
        // A name can stand for several types, of which one may be without the member.
        let named = self
            .structures
            .iter()
            .map(|at| *at as usize)
            .filter(|at| word(&self.bytes, *at).is_some_and(|name| self.is_named(name, structure)));
        named.into_iter().find_map(|at| self.within(at, member, DEPTH)).map(|bits| bits / 8)
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
        word(&self.bytes, at + 4).map(kind_of)
    }

    fn is_named(&self, offset: u32, name: &str) -> bool {
        is_string(&self.bytes, self.strings + offset as usize, name)
    }
}

/// Where the strings begin.
fn len_of_strings(bytes: &[u8]) -> Option<usize> {
    Some((word(bytes, 4)? + word(bytes, 16)?) as usize)
}

fn kind_of(info: u32) -> u32 {
    info >> 24 & 0x1f
}

/// Whether there is this string, ended by a zero.
fn is_string(bytes: &[u8], start: usize, text: &str) -> bool {
    let Some(found) = bytes.get(start..start + text.len() + 1) else { return false };
    &found[..text.len()] == text.as_bytes() && found[text.len()] == 0
}

/// A file of the kernel's, mapped where that is possible (Linux 6.16 for this one), else read: 5 MB.
pub(super) enum Bytes {
    Mapped(NonNull<u8>, usize),
    Read(Vec<u8>),
}

impl Bytes {
    fn of(path: &str) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = usize::try_from(file.metadata()?.len()).unwrap_or(0);
        if let Some(size) = NonZeroUsize::new(len) {
            // SAFETY: a fresh mapping at an address of the kernel's choice, of bytes that nothing changes.
            let mapped = unsafe { mmap(None, size, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE, &file, 0) };
            if let Ok(start) = mapped {
                return Ok(Self::Mapped(start.cast(), len));
            }
        }
        fs::read(path).map(Self::Read)
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            // SAFETY: mapped by `of` with this length, and never written to.
            Self::Mapped(start, len) => unsafe { std::slice::from_raw_parts(start.as_ptr(), *len) },
            Self::Read(bytes) => bytes,
        }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        if let Self::Mapped(start, len) = self {
            // SAFETY: mapped by `of` with this length; nobody has a reference any more.
            let _gone = unsafe { munmap(start.cast(), *len) };
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Bytes behind the twelve that every type has; `None` for a kind that is not known.
fn behind(info: u32) -> Option<usize> {
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
    fn members_are_found_in_nameless_structures_too() {
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
    fn mapped_and_read_are_the_same() {
        let Ok(mapped) = Bytes::of(PATH) else {
            println!("skipped: the kernel has no BTF");
            return;
        };
        assert!(*mapped == *fs::read(PATH).expect("readable"));
    }

    #[test]
    fn what_is_no_btf_is_refused() {
        for bytes in [&[][..], &[0x9f, 0xeb], &[0; 64]] {
            assert!(Btf::parse(bytes, &[]).is_none());
        }
    }
}
