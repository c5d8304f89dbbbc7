//! Deletes the entries of a run in the kernel's connection tracking when the run ends. The rules
//! that use them are in [`super::nat`].
//!
//! Entries outlive a run: by ten minutes for protocols without ports, by days for a TCP connection
//! whose end was not observed. Behind NAT, GRE or another protocol without ports has one entry for
//! each remote. Another run has another address, so the kernel would drop its packets to the same
//! remote until the entry expires. And late packets of remotes would reach the next run that has
//! the address.

use std::net::IpAddr;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::netlink::{Netlink, attribute};
use super::nft::Attributes;
use super::sysctl;
use crate::error::{Error, Result};
use crate::undo::UndoRecord;

/// `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_*` of `linux/netfilter/nfnetlink_conntrack.h`.
const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const GET_CPU_STATISTICS: u16 = SUBSYSTEM | 4;
/// `CTA_STATS_DROP` and `CTA_STATS_EARLY_DROP`: counters of one CPU, big-endian.
const DROPPED: u16 = 10;
const EVICTED: u16 = 11;
/// `struct nfgenmsg`: family, version, resource.
const NFGEN_HEADER: usize = 4;

/// `CTA_*`: the two directions of an entry, and the other attributes that identify it.
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const TUPLES: [u16; 2] = [TUPLE_ORIGINAL, TUPLE_REPLY];
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
const TUPLE_IP: u16 = 1;
const IP_V4_SOURCE: u16 = 1;
const IP_V6_SOURCE: u16 = 3;
/// `CTA_FILTER_F_CTA_IP_SRC` (Linux 5.8).
const BY_SOURCE: u32 = 1;

/// Entries up to which all are listed at once. The kernel walks through its whole table for each
/// list (5 ms for 262,144 buckets), and takes about a microsecond for each entry.
const MAX_LISTED: u64 = 4096;

/// Size at which collected deletions are sent, bytes: enough for several hundred of them.
const MAX_BATCH: usize = 32 * 1024;

/// The kernel tracks connections of the target. Undoing deletes their entries.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackedConnections {
    /// The addresses of the target.
    pub targets: Vec<IpAddr>,
}

impl UndoRecord for TrackedConnections {
    const KIND: &'static str = "tracked-connections";
}

/// What a full table has cost connections of the host, since it was started. Of all programs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RefusedConnections {
    /// Packets for which there was no room.
    pub dropped: u64,
    /// Entries that were removed to make room.
    pub evicted: u64,
}

impl RefusedConnections {
    /// Reads the counters of the caller's network namespace.
    pub fn read() -> Result<Self> {
        let mut all = Self::default();
        Netlink::netfilter()?.dump(GET_CPU_STATISTICS, &nfgen_header(libc::AF_UNSPEC as u8), |cpu| all.add(cpu))?;
        Ok(all)
    }

    fn add(&mut self, cpu: &[u8]) {
        let attributes = cpu.get(NFGEN_HEADER..).unwrap_or_default();
        let number = |kind| Some(u32::from_be_bytes(attribute(attributes, kind)?.try_into().ok()?));
        self.dropped += number(DROPPED).map_or(0, u64::from);
        self.evicted += number(EVICTED).map_or(0, u64::from);
    }

    /// What was added since.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            dropped: self.dropped.saturating_sub(before.dropped),
            evicted: self.evicted.saturating_sub(before.evicted),
        }
    }
}

/// How many connections the host tracks at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackedNow {
    /// Entries of the table.
    pub count: u64,
    /// Its size.
    pub limit: u64,
}

/// Of the caller's network namespace; `None` if it cannot be read.
pub fn usage() -> Option<TrackedNow> {
    Some(TrackedNow { count: number("netfilter/nf_conntrack_count")?, limit: number("netfilter/nf_conntrack_max")? })
}

fn number(key: &str) -> Option<u64> {
    sysctl::read(key).ok()??.parse().ok()
}

/// Deletes all entries of connections that the target opened or accepted. Call this when the target
/// sends no more packets. A kernel without ctnetlink keeps them until they expire.
pub fn forget(connections: &TrackedConnections) -> Result<()> {
    // Of the caller's network namespace.
    let tracked = sysctl::read("netfilter/nf_conntrack_count")?.and_then(|text| text.parse().ok()).unwrap_or(0);
    let tuples = || connections.targets.iter().flat_map(|target| TUPLES.map(|tuple| (*target, tuple)));
    let selections = match tracked {
        0 => Vec::new(),
        1..=MAX_LISTED => vec![nfgen_header(libc::AF_UNSPEC as u8).to_vec()],
        _ => tuples().map(|(target, tuple)| from(target, tuple)).collect(),
    };
    let mut listing = Netlink::netfilter()?;
    let mut deleting = Deletions::new()?;
    let is_ours = |entry: &[u8]| tuples().any(|(target, tuple)| is_from(entry, target, tuple));
    for selection in selections {
        let each = |entry: &[u8]| {
            if is_ours(entry) {
                deleting.add(entry)
            }
        };
        match listing.dump(GET, &selection, each).map_err(|error| (error.errno(), error)) {
            Ok(()) => {}
            Err((Some(Errno::EINVAL | Errno::EOPNOTSUPP), _)) => return Ok(()),
            Err((_, error)) => return Err(error),
        }
    }
    deleting.send()
}

/// Whether packets of a listed entry have this source address in the direction of `tuple`.
fn is_from(entry: &[u8], target: IpAddr, tuple: u16) -> bool {
    let addresses = entry.get(NFGEN_HEADER..).and_then(|listed| attribute(attribute(listed, tuple)?, TUPLE_IP));
    let source = |kind| addresses.and_then(|addresses| attribute(addresses, kind));
    match target {
        IpAddr::V4(address) => source(IP_V4_SOURCE) == Some(&address.octets()),
        IpAddr::V6(address) => source(IP_V6_SOURCE) == Some(&address.octets()),
    }
}

/// The entries whose packets have this source address in the direction of `tuple`.
fn from(target: IpAddr, tuple: u16) -> Vec<u8> {
    let mut attributes = Attributes::default();
    attributes.nest(tuple, |attributes| {
        attributes.nest(TUPLE_IP, |attributes| match target {
            IpAddr::V4(address) => attributes.put(IP_V4_SOURCE, &address.octets()),
            IpAddr::V6(address) => attributes.put(IP_V6_SOURCE, &address.octets()),
        });
    });
    // Its attributes have the numbers of the tuples. Numbers are in host order here.
    attributes.nest(FILTER, |attributes| attributes.put(tuple, &BY_SOURCE.to_ne_bytes()));
    let family = if target.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    [&nfgen_header(family as u8)[..], attributes.bytes()].concat()
}

fn nfgen_header(family: u8) -> [u8; NFGEN_HEADER] {
    [family, libc::NFNETLINK_V0 as u8, 0, 0]
}

/// Deletions that are sent together, while entries are still being listed, so that a run with many
/// connections needs no memory for all of them.
struct Deletions {
    netlink: Netlink,
    requests: Vec<Vec<u8>>,
    bytes: usize,
    error: Option<Error>,
}

impl Deletions {
    fn new() -> Result<Self> {
        Ok(Self { netlink: Netlink::netfilter()?, requests: Vec::new(), bytes: 0, error: None })
    }

    /// Adds the deletion of a listed entry.
    fn add(&mut self, entry: &[u8]) {
        let Some(request) = deletion(entry) else { return };
        self.bytes += request.len();
        self.requests.push(request);
        if self.bytes >= MAX_BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.bytes = 0;
        // No acknowledgment is requested, because an entry that has expired meanwhile is not a
        // failure.
        if let Err(error) = self.netlink.send_unacknowledged(DELETE, self.requests.drain(..)) {
            self.error.get_or_insert(error);
        }
    }

    fn send(mut self) -> Result<()> {
        self.flush();
        self.error.map_or(Ok(()), Err)
    }
}

/// The request to delete a listed entry: the same attributes identify it.
fn deletion(entry: &[u8]) -> Option<Vec<u8>> {
    let (header, listed) = entry.split_at_checked(NFGEN_HEADER)?;
    let mut attributes = Attributes::default();
    attributes.put_nested(TUPLE_ORIGINAL, attribute(listed, TUPLE_ORIGINAL)?);
    for kind in [ZONE, ID] {
        if let Some(value) = attribute(listed, kind) {
            attributes.put(kind, value);
        }
    }
    Some([&nfgen_header(header[0])[..], attributes.bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::nft::testbed::TestNamespace;

    #[test]
    fn reads_what_a_full_table_has_cost() {
        let mut all = RefusedConnections::default();
        let message = |dropped: u32, evicted: u32| {
            let mut message = nfgen_header(libc::AF_UNSPEC as u8).to_vec();
            for (kind, value) in [(9_u16, 77), (DROPPED, dropped), (EVICTED, evicted)] {
                message.extend(8_u16.to_ne_bytes().into_iter().chain(kind.to_ne_bytes()));
                message.extend(u32::to_be_bytes(value));
            }
            message
        };
        all.add(&message(3, 1));
        all.add(&message(4, 0));
        all.add(&[]);
        assert_eq!(all, RefusedConnections { dropped: 7, evicted: 1 });
        let before = RefusedConnections { dropped: 5, evicted: 1 };
        assert_eq!(all.since(before), RefusedConnections { dropped: 2, evicted: 0 });
        let Some(namespace) = TestNamespace::new() else { return };
        namespace.sh("nft add table ip t; nft add chain ip t c '{ type filter hook output priority 0; }'
            nft add rule ip t c ct state new counter");
        let (refused, usage) = namespace.run(|| (RefusedConnections::read().unwrap(), usage().unwrap()));
        assert_eq!(refused, RefusedConnections::default());
        assert!(usage.count < usage.limit, "{usage:?}");
    }

    /// More entries than are listed at once, of two addresses: one is forgotten.
    #[test]
    fn a_large_table_keeps_what_others_opened() {
        let Some(namespace) = TestNamespace::new() else { return };
        namespace.sh("ip link add left type veth peer name right; ip link set left up; ip link set right up
            ip addr add 192.0.2.1/24 dev left; ip addr add 192.0.2.2/24 dev left
            ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:01 dev left
            nft add table ip t; nft add chain ip t c '{ type filter hook output priority 0; }'
            nft add rule ip t c ct state new counter");
        let count = |source: &'static str| {
            namespace.run(move || {
                let mut found = 0;
                let target = source.parse().unwrap();
                let each = |entry: &[u8]| found += usize::from(is_from(entry, target, TUPLE_ORIGINAL));
                Netlink::netfilter().unwrap().dump(GET, &nfgen_header(libc::AF_INET as u8), each).unwrap();
                found
            })
        };
        namespace.run(|| {
            for source in ["192.0.2.1:0", "192.0.2.2:0"] {
                let socket = std::net::UdpSocket::bind(source).unwrap();
                (1..=3000).for_each(|port| drop(socket.send_to(b"x", ("192.0.2.9", port))));
            }
        });
        assert_eq!((count("192.0.2.1"), count("192.0.2.2")), (3000, 3000));
        let forget = || forget(&TrackedConnections { targets: vec!["192.0.2.2".parse().unwrap()] }).unwrap();
        namespace.run(forget);
        assert_eq!((count("192.0.2.1"), count("192.0.2.2")), (3000, 0));
    }
}
