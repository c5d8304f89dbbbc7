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
use crate::error::{Error, Result};
use crate::undo::UndoRecord;

/// `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_*` of `linux/netfilter/nfnetlink_conntrack.h`.
const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
/// `struct nfgenmsg`: family, version, resource.
const NFGEN_HEADER: usize = 4;

/// `CTA_*`: the two directions of an entry, and the other attributes that identify it.
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
const TUPLE_IP: u16 = 1;
const IP_V4_SOURCE: u16 = 1;
const IP_V6_SOURCE: u16 = 3;
/// `CTA_FILTER_F_CTA_IP_SRC` (Linux 5.8).
const BY_SOURCE: u32 = 1;

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

/// Deletes all entries of connections that the target opened or accepted. Call this when the target
/// sends no more packets. A kernel without ctnetlink keeps them until they expire.
pub fn forget(connections: &TrackedConnections) -> Result<()> {
    let mut listing = Netlink::netfilter()?;
    let mut deleting = Deletions::new()?;
    for target in &connections.targets {
        for tuple in [TUPLE_ORIGINAL, TUPLE_REPLY] {
            let listed = listing.dump(GET, &from(*target, tuple), |entry| deleting.add(entry));
            match listed.map_err(|error| (error.errno(), error)) {
                Ok(()) => {}
                Err((Some(Errno::EINVAL | Errno::EOPNOTSUPP), _)) => return Ok(()),
                Err((_, error)) => return Err(error),
            }
        }
    }
    deleting.send()
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
