//! Replaces a table of iptables-legacy by one with or without the rules of a run. The rules of
//! other programs and their counters are kept. netwatch holds the lock of iptables meanwhile, and
//! the kernel refuses to replace a table whose number of entries has changed since it was read.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::super::OpenSpec;
use super::super::accept::{conntrack_info, port_info};
use super::table::{ACCEPT, LegacyLayout, LegacyTable, NAME_SIZE, mask, padded};
use crate::error::{Error, Result};
use crate::host::nft::NftHook;

const SET_REPLACE: i32 = 64;
const SET_ADD_COUNTERS: i32 = 65;
/// `struct ipt_replace` up to the entries, and in it the pointer to the old counters.
const REPLACE_HEADER: usize = 96;
const COUNTERS_POINTER: usize = 88;
/// `struct xt_counters`: packets and bytes.
const COUNTER_SIZE: usize = 16;
/// `struct xt_counters_info` up to the counters.
const COUNTERS_HEADER: usize = 40;
/// `struct xt_entry_target` and `struct xt_entry_match` up to their data: size, name of 29 bytes,
/// revision.
const EXTENSION_HEADER: usize = 32;
/// `IP6T_F_PROTO`: the protocol is compared.
const COMPARE_PROTOCOL: u8 = 1;

/// The lock file of iptables (`-w`). It exists if iptables has run since the machine started.
const LOCK: &str = "/run/xtables.lock";
/// iptables holds its lock for milliseconds.
const LOCK_TIMEOUT: Duration = Duration::from_millis(300);
const LOCK_INTERVAL: Duration = Duration::from_millis(2);
/// Attempts to replace a table that other programs change meanwhile.
const MAX_ATTEMPTS: usize = 5;

/// Held while a table is changed.
#[derive(Debug)]
pub(super) struct TableLock<'a> {
    layout: &'a LegacyLayout,
    _lock: Option<Flock<File>>,
}

impl<'a> TableLock<'a> {
    pub(super) fn take(layout: &'a LegacyLayout) -> Result<Self> {
        // Not created if it does not exist: a new file would outlive the run.
        let Ok(mut file) = File::options().read(true).write(true).open(LOCK) else {
            return Ok(Self { layout, _lock: None });
        };
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Self { layout, _lock: Some(lock) }),
                Err((same, Errno::EWOULDBLOCK)) if Instant::now() < deadline => file = same,
                Err((_, errno)) => return Err(Error::os("lock", LOCK, errno)),
            }
            thread::sleep(LOCK_INTERVAL);
        }
    }
}

/// The entries of a table after a change.
#[derive(Debug)]
pub(super) struct ChangedTable {
    entries: Vec<u8>,
    starts: [u32; 5],
    policies: [u32; 5],
    /// For each new entry, the number of the old one whose counters it keeps.
    origins: Vec<Option<usize>>,
}

/// Replaces the table by what `change` makes of it.
pub(super) fn replace(
    lock: &TableLock<'_>,
    name: &str,
    mut change: impl FnMut(&LegacyTable<'_>) -> ChangedTable,
) -> Result<()> {
    let mut attempts = 1..=MAX_ATTEMPTS;
    loop {
        let is_last = attempts.next().is_none_or(|number| number == MAX_ATTEMPTS);
        let table = LegacyTable::read(lock.layout, name)?;
        let changed = change(&table);
        match commit(&table, &changed) {
            Err(error) if !is_last && error.raw_os_error() == Some(libc::EAGAIN) => {}
            done => {
                let failed = |error| Error::os("change", format!("{} table {name}", lock.layout.program), error);
                return done.map_err(failed);
            }
        }
    }
}

fn commit(table: &LegacyTable<'_>, changed: &ChangedTable) -> io::Result<()> {
    let mut old_counters = vec![0_u8; table.count as usize * COUNTER_SIZE];
    let mut request = header(&table.name, NAME_SIZE);
    let words = [table.valid_hooks, changed.origins.len() as u32, changed.entries.len() as u32];
    let words = words.into_iter().chain(changed.starts).chain(changed.policies).chain([table.count]);
    request.extend(words.flat_map(u32::to_ne_bytes));
    request.resize(COUNTERS_POINTER, 0);
    request.extend((old_counters.as_mut_ptr() as usize).to_ne_bytes());
    debug_assert_eq!(request.len(), REPLACE_HEADER);
    request.extend(&changed.entries);
    set_option(table, SET_REPLACE, &request)?;
    // The rules are in force, so a failure loses only counts.
    let _ = set_option(table, SET_ADD_COUNTERS, &counters(&table.name, changed, &old_counters));
    Ok(())
}

/// The counts of the old entries, for the new ones.
fn counters(name: &str, changed: &ChangedTable, old: &[u8]) -> Vec<u8> {
    let mut request = header(name, NAME_SIZE);
    request.extend((changed.origins.len() as u32).to_ne_bytes());
    request.resize(COUNTERS_HEADER, 0);
    for origin in &changed.origins {
        let of_old = origin.and_then(|number| old.get(number * COUNTER_SIZE..(number + 1) * COUNTER_SIZE));
        request.extend(of_old.unwrap_or(&[0; COUNTER_SIZE]));
    }
    request
}

fn header(name: &str, size: usize) -> Vec<u8> {
    let mut header = name.as_bytes().to_vec();
    header.resize(size, 0);
    header
}

fn set_option(table: &LegacyTable<'_>, option: i32, request: &[u8]) -> io::Result<()> {
    let length = request.len() as libc::socklen_t;
    // SAFETY: the request is valid for its length, and the pointer in it (of SET_REPLACE) is valid
    // for the counters of the number of entries in the request.
    let result = unsafe {
        libc::setsockopt(table.socket.as_raw_fd(), table.layout.level, option, request.as_ptr().cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The table with the rules of the run at the top of its chains at these hooks.
pub(super) fn with_rules(table: &LegacyTable<'_>, spec: &OpenSpec<'_>, hooks: &[NftHook]) -> ChangedTable {
    let new_at = |offset: usize| -> Vec<Vec<u8>> {
        let hooks = hooks.iter().filter(|hook| table.starts[**hook as usize] as usize == offset);
        hooks.flat_map(|hook| rules(table.layout, spec, *hook)).collect()
    };
    rebuild(table, |_| true, new_at)
}

/// The table without the rules of the run.
pub(super) fn without_rules(table: &LegacyTable<'_>, interface: &str) -> ChangedTable {
    let of_run: Vec<usize> = table.all().filter(|entry| entry.is_of(interface)).map(|entry| entry.offset).collect();
    rebuild(table, |offset| !of_run.contains(&offset), |_| Vec::new())
}

/// Copies the entries that are kept, and inserts `new_at` this offset before the entry there.
fn rebuild(
    table: &LegacyTable<'_>,
    is_kept: impl Fn(usize) -> bool,
    new_at: impl Fn(usize) -> Vec<Vec<u8>>,
) -> ChangedTable {
    let (mut entries, mut origins) = (Vec::new(), Vec::new());
    // For each entry: its old offset, the new offset of what is inserted before it, and its new
    // offset (that of the next entry, if this one is removed).
    let mut moved: Vec<(usize, usize, usize)> = Vec::new();
    for (number, entry) in table.all().enumerate() {
        let start = entries.len();
        for rule in new_at(entry.offset) {
            entries.extend(rule);
            origins.push(None);
        }
        moved.push((entry.offset, start, entries.len()));
        if is_kept(entry.offset) {
            entries.extend(entry.bytes);
            origins.push(Some(number));
        }
    }
    let find = |old: usize| moved.binary_search_by_key(&old, |(offset, ..)| *offset).map(|found| moved[found]);
    for entry in table.all().filter(|entry| is_kept(entry.offset)) {
        let Some(at) = entry.jump() else { continue };
        if let (Ok((_, _, own)), Ok((_, _, to))) = (find(entry.offset), find(entry.verdict() as usize)) {
            entries[own + at..own + at + 4].copy_from_slice(&(to as u32).to_ne_bytes());
        }
    }
    let map = |offsets: [u32; 5], to: fn((usize, usize, usize)) -> usize| {
        offsets.map(|offset| find(offset as usize).map_or(offset, |found| to(found) as u32))
    };
    let starts = map(table.starts, |(_, inserted, _)| inserted);
    ChangedTable { entries, starts, policies: map(table.policies, |(_, _, entry)| entry), origins }
}

/// The rules of [`super::super::accept`] in the style of iptables.
fn rules(layout: &LegacyLayout, spec: &OpenSpec<'_>, hook: NftHook) -> Vec<Vec<u8>> {
    let [udp, tcp] = [("udp", libc::IPPROTO_UDP), ("tcp", libc::IPPROTO_TCP)];
    let from = || LegacyRule::new(layout, 0, spec.interface);
    let mut rules = Vec::new();
    if hook == NftHook::Forward {
        rules.push(LegacyRule::new(layout, 1, spec.interface).tracked(spec.publish));
        rules.push(from());
    } else {
        let port = |(name, number)| from().protocol(number).matching(name, 0, &port_info(name, spec.dns_port));
        rules.extend([udp, tcp].map(port));
        if layout.is_ipv6 {
            rules.push(from().protocol(libc::IPPROTO_ICMPV6));
        }
        if spec.publish {
            rules.push(from().tracked(false));
        }
    }
    rules.into_iter().map(LegacyRule::accept).collect()
}

/// An entry that is built.
struct LegacyRule<'a> {
    layout: &'a LegacyLayout,
    bytes: Vec<u8>,
}

impl<'a> LegacyRule<'a> {
    /// `which` is 0 for `-i` and 1 for `-o`.
    fn new(layout: &'a LegacyLayout, which: usize, interface: &str) -> Self {
        let mut bytes = vec![0; layout.size];
        let name = layout.interfaces + 16 * which;
        bytes[name..name + 16].copy_from_slice(&padded(interface));
        bytes[name + 32..name + 48].copy_from_slice(&mask(interface));
        Self { layout, bytes }
    }

    fn protocol(mut self, number: i32) -> Self {
        let at = self.layout.protocol;
        self.bytes[at..at + 2].copy_from_slice(&(number as u16).to_ne_bytes());
        if self.layout.is_ipv6 {
            self.bytes[self.layout.flags] = COMPARE_PROTOCOL;
        }
        self
    }

    fn tracked(self, translated: bool) -> Self {
        self.matching("conntrack", 3, &conntrack_info(translated))
    }

    fn matching(mut self, name: &str, revision: u8, info: &[u8]) -> Self {
        self.extension(name, revision, info);
        self
    }

    /// The target, and the lengths.
    fn accept(mut self) -> Vec<u8> {
        let target = self.bytes.len() as u16;
        self.extension("", 0, &ACCEPT.to_ne_bytes());
        let length = self.bytes.len() as u16;
        let at = self.layout.target_offset;
        self.bytes[at..at + 2].copy_from_slice(&target.to_ne_bytes());
        self.bytes[at + 2..at + 4].copy_from_slice(&length.to_ne_bytes());
        self.bytes
    }

    fn extension(&mut self, name: &str, revision: u8, info: &[u8]) {
        let size = EXTENSION_HEADER + info.len().next_multiple_of(8);
        let end = self.bytes.len() + size;
        self.bytes.extend((size as u16).to_ne_bytes());
        self.bytes.extend(header(name, EXTENSION_HEADER - 3));
        self.bytes.push(revision);
        self.bytes.extend(info);
        self.bytes.resize(end, 0);
    }
}
