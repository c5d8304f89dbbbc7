//! One table of iptables-legacy: reads it, and finds out whether it would drop the target's
//! packets.
//!
//! `linux/netfilter_ipv4/ip_tables.h`: a table is one block of entries, chains are offsets in it.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::error::{self, Error, Result};
use crate::host::netlink::u32_at;
use crate::host::nft::NftHook;

/// Offsets in an entry of one address family.
#[derive(Debug)]
pub(super) struct LegacyLayout {
    pub program: &'static str,
    names: &'static str,
    family: AddressFamily,
    pub level: i32,
    pub is_ipv6: bool,
    /// Incoming interface; the outgoing one and the two masks follow, 16 bytes each.
    pub interfaces: usize,
    /// The protocol, two bytes.
    pub protocol: usize,
    /// Flags of IPv6, of which one means that the protocol is compared.
    pub flags: usize,
    /// End of the part that is compared with the packet.
    conditions: usize,
    pub target_offset: usize,
    pub size: usize,
}

pub(super) const IPV4: LegacyLayout = LegacyLayout {
    program: "iptables-legacy",
    names: "/proc/thread-self/net/ip_tables_names",
    family: AddressFamily::Inet,
    level: libc::IPPROTO_IP,
    is_ipv6: false,
    interfaces: 16,
    protocol: 80,
    flags: 82,
    conditions: 84,
    target_offset: 88,
    size: 112,
};

pub(super) const IPV6: LegacyLayout = LegacyLayout {
    program: "ip6tables-legacy",
    names: "/proc/thread-self/net/ip6_tables_names",
    family: AddressFamily::Inet6,
    level: libc::IPPROTO_IPV6,
    is_ipv6: true,
    interfaces: 64,
    protocol: 128,
    flags: 131,
    conditions: 136,
    target_offset: 140,
    size: 168,
};

pub(super) const NAME_SIZE: usize = 32;
/// `struct ipt_getinfo`: name, valid hooks, five entry points, five policies, number of entries,
/// size.
const INFO_SIZE: usize = NAME_SIZE + 4 * 13;
/// `struct ipt_get_entries` up to the entries, which are aligned to eight bytes.
const ENTRIES_HEADER: usize = NAME_SIZE + 8;
const GET_INFO: i32 = 64;
const GET_ENTRIES: i32 = 65;

impl LegacyLayout {
    /// The tables that exist.
    pub(super) fn tables(&self) -> Vec<String> {
        // No file: this kernel has no such tables. Reading a table that is not in the list would
        // load its module.
        fs::read_to_string(self.names).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

/// A table as the kernel returned it.
#[derive(Debug)]
pub(super) struct LegacyTable<'a> {
    pub layout: &'a LegacyLayout,
    pub name: String,
    /// By which it was read.
    pub socket: OwnedFd,
    pub valid_hooks: u32,
    /// Offset of the first entry of each hook.
    pub starts: [u32; 5],
    /// Offset of the policy of each hook.
    pub policies: [u32; 5],
    /// Number of entries.
    pub count: u32,
    pub entries: Vec<u8>,
}

impl<'a> LegacyTable<'a> {
    pub(super) fn read(layout: &'a LegacyLayout, name: &str) -> Result<Self> {
        let fail = |error: io::Error| Error::os("read", format!("{} table {name}", layout.program), error);
        let socket = socket(layout.family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)
            .map_err(|errno| fail(errno.into()).hint(error::needs("CAP_NET_RAW, because iptables-legacy has rules")))?;
        let get = |option, bytes: &mut [u8]| get_option(&socket, layout.level, option, bytes).map_err(fail);
        let mut info = [0; INFO_SIZE];
        info[..name.len()].copy_from_slice(name.as_bytes());
        get(GET_INFO, &mut info)?;
        let word = |index: usize| u32_at(&info, NAME_SIZE + 4 * index).unwrap_or_default();
        let mut entries = vec![0; ENTRIES_HEADER + word(12) as usize];
        entries[..name.len()].copy_from_slice(name.as_bytes());
        entries[NAME_SIZE..NAME_SIZE + 4].copy_from_slice(&word(12).to_ne_bytes());
        get(GET_ENTRIES, &mut entries)?;
        entries.drain(..ENTRIES_HEADER);
        let five = |first: usize| std::array::from_fn(|index| word(first + index));
        let (starts, policies, count) = (five(1), five(6), word(11));
        let (name, valid_hooks) = (name.to_owned(), word(0));
        Ok(Self { layout, name, socket, valid_hooks, starts, policies, count, entries })
    }

    /// Whether packets at this hook can be dropped before a rule for the run's interface accepts
    /// them.
    pub(super) fn drops(&self, hook: NftHook, interface: &str) -> bool {
        let index = hook as usize;
        if self.valid_hooks & (1 << index) == 0 {
            return false;
        }
        let policy = self.policies[index] as usize;
        let (mut offset, mut open_in, mut open_out) = (self.starts[index] as usize, false, hook == NftHook::Input);
        while let Some(entry) = self.entry(offset) {
            match entry.verdict() {
                ACCEPT if entry.is_unconditional() => return false,
                ACCEPT => {
                    open_in |= entry.names_interface(0, interface);
                    open_out |= entry.names_interface(1, interface);
                }
                verdict if self.may_drop(&entry, verdict, &mut HashSet::new()) => return !(open_in && open_out),
                _ => {}
            }
            if offset == policy {
                return false;
            }
            offset += entry.length;
        }
        false
    }

    /// Whether there are rules at this hook, or a policy that drops.
    pub(super) fn has_rules(&self, hook: NftHook) -> bool {
        let index = hook as usize;
        let policy = self.entry(self.policies[index] as usize).map(|entry| entry.verdict());
        self.valid_hooks & (1 << index) != 0
            && (self.starts[index] != self.policies[index] || policy.is_some_and(|verdict| verdict != ACCEPT))
    }

    fn may_drop(&self, entry: &LegacyEntry<'_>, verdict: i32, seen: &mut HashSet<usize>) -> bool {
        match usize::try_from(verdict) {
            // A jump: the offset of another chain's first entry, or of the next entry, which means
            // "continue".
            Ok(to) if to != entry.offset + entry.length => self.chain_drops(to, seen),
            Ok(_) => false,
            Err(_) => verdict == DROP,
        }
    }

    /// A user-defined chain ends with an unconditional return.
    fn chain_drops(&self, mut offset: usize, seen: &mut HashSet<usize>) -> bool {
        if !seen.insert(offset) {
            return false;
        }
        while let Some(entry) = self.entry(offset) {
            match entry.verdict() {
                RETURN if entry.is_unconditional() => return false,
                verdict if self.may_drop(&entry, verdict, seen) => return true,
                _ => offset += entry.length,
            }
        }
        false
    }

    /// All entries, in order.
    pub(super) fn all(&self) -> impl Iterator<Item = LegacyEntry<'_>> {
        let mut offset = 0;
        std::iter::from_fn(move || {
            let entry = self.entry(offset)?;
            offset += entry.length;
            Some(entry)
        })
    }

    fn entry(&self, offset: usize) -> Option<LegacyEntry<'_>> {
        let bytes = self.entries.get(offset..)?;
        let half = |at: usize| Some(usize::from(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?)));
        let (target, length) = (half(self.layout.target_offset)?, half(self.layout.target_offset + 2)?);
        let whole = length >= self.layout.size && target >= self.layout.size && bytes.len() >= length;
        whole.then(|| LegacyEntry { layout: self.layout, offset, length, target, bytes: &bytes[..length] })
    }
}

/// Verdicts as encoded in the table: `-NF_DROP - 1`, `-NF_ACCEPT - 1`, `XT_RETURN`; after other
/// targets the next entry is evaluated.
const DROP: i32 = -1;
pub(super) const ACCEPT: i32 = -2;
const RETURN: i32 = -5;
const CONTINUE: i32 = i32::MIN;

/// One rule, policy or end of a chain.
#[derive(Debug)]
pub(super) struct LegacyEntry<'a> {
    layout: &'a LegacyLayout,
    pub offset: usize,
    pub length: usize,
    /// Offset of its target in it.
    pub target: usize,
    pub bytes: &'a [u8],
}

impl LegacyEntry<'_> {
    /// `struct xt_entry_target`: size, name of 29 bytes, revision; then the verdict of a standard
    /// target, whose name is empty.
    pub(super) fn verdict(&self) -> i32 {
        let target = &self.bytes[self.target.min(self.bytes.len())..];
        let name = target.get(2..31).unwrap_or_default();
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        match &name[..end] {
            b"" => u32_at(target, 32).map_or(CONTINUE, |verdict| verdict as i32),
            b"REJECT" | b"DROP" | b"TARPIT" => DROP,
            _ => CONTINUE,
        }
    }

    fn is_unconditional(&self) -> bool {
        self.target == self.layout.size && self.bytes[..self.layout.conditions].iter().all(|byte| *byte == 0)
    }

    /// Offset of the verdict in the entry, if its target is a jump to another entry.
    pub(super) fn jump(&self) -> Option<usize> {
        let is_standard = self.bytes.get(self.target + 2) == Some(&0);
        (is_standard && self.verdict() >= 0).then_some(self.target + 32)
    }

    /// Whether it names this interface and no other, as the rules of a run do.
    pub(super) fn is_of(&self, interface: &str) -> bool {
        let all = &self.bytes[self.layout.interfaces..][..64];
        let name = padded(interface);
        let names = |which: usize| all[16 * which..][..16] == name && all[16 * (which + 2)..][..16] == mask(interface);
        self.verdict() == ACCEPT && (names(0) || names(1))
    }

    /// `which` is 0 for `-i` and 1 for `-o`.
    fn names_interface(&self, which: usize, interface: &str) -> bool {
        let at = |index: usize| &self.bytes[self.layout.interfaces + 16 * index..][..16];
        let (name, mask) = (at(which), at(which + 2));
        let ours = interface.bytes().chain(std::iter::repeat(0));
        mask[0] != 0 && name.iter().zip(mask).zip(ours).all(|((name, mask), ours)| (name ^ ours) & mask == 0)
    }
}

/// The name of an interface in an entry.
pub(super) fn padded(interface: &str) -> [u8; 16] {
    let mut name = [0; 16];
    name[..interface.len()].copy_from_slice(interface.as_bytes());
    name
}

/// The mask for a whole name, its end included.
pub(super) fn mask(interface: &str) -> [u8; 16] {
    let mut mask = [0; 16];
    mask[..=interface.len()].fill(0xff);
    mask
}

fn get_option(socket: &impl AsRawFd, level: i32, option: i32, bytes: &mut [u8]) -> io::Result<()> {
    let mut length = bytes.len() as libc::socklen_t;
    // SAFETY: bytes is valid for writes of the length that is passed.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, bytes.as_mut_ptr().cast(), &raw mut length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
