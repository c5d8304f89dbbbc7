//! Reports that another program changed the host's firewall. It does not report what has changed,
//! because the rules are read again ([`super::repair`]).
//!
//! nf_tables reports each change of tables, chains and rules. iptables-legacy reports nothing, so
//! where its tables exist they have to be read at intervals.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};

use crate::error::{Error, Result};
use crate::host::netlink::{attribute, messages};

/// The kernel's multicast group of nf_tables changes.
const NFNLGRP_NFTABLES: u32 = 7;
/// `struct nfgenmsg`, before the attributes.
const GENERIC_HEADER: usize = 4;
/// The name of the table: the same number in messages about tables, chains and rules.
const NFTA_TABLE: u16 = 1;

/// Follows the network namespace of the thread that created it.
#[derive(Debug)]
pub struct FirewallWatch {
    socket: Socket,
}

impl FirewallWatch {
    /// Starts following; no later change is missed.
    pub fn follow() -> Result<Self> {
        let failed = |error| Error::os("follow changes of", "the host's firewall", error);
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(failed)?;
        socket.bind_auto().map_err(failed)?;
        socket.add_membership(NFNLGRP_NFTABLES).map_err(failed)?;
        socket.set_non_blocking(true).map_err(failed)?;
        Ok(Self { socket })
    }

    /// Whether other programs have changed tables, chains or rules since the last call.
    pub fn has_changed(&self) -> bool {
        let mut has_changed = false;
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            buffer.reserve(64 * 1024);
            match self.socket.recv(&mut buffer, 0) {
                Ok(_) => has_changed |= messages(&buffer).any(|(header, body)| is_foreign(header.kind, body)),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // Changes were lost, so there were some.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => has_changed = true,
                Err(_) => return has_changed,
            }
        }
    }
}

impl AsFd for FirewallWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket is open as long as it is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}

/// Whether a message reports a change of a table, chain or rule that is not in a run's own table.
fn is_foreign(kind: u16, body: &[u8]) -> bool {
    let [message, subsystem] = kind.to_le_bytes();
    let kinds = [
        libc::NFT_MSG_NEWTABLE,
        libc::NFT_MSG_DELTABLE,
        libc::NFT_MSG_NEWCHAIN,
        libc::NFT_MSG_DELCHAIN,
        libc::NFT_MSG_NEWRULE,
        libc::NFT_MSG_DELRULE,
    ];
    let table = body.get(GENERIC_HEADER..).and_then(|attributes| attribute(attributes, NFTA_TABLE));
    i32::from(subsystem) == libc::NFNL_SUBSYS_NFTABLES
        && kinds.contains(&i32::from(message))
        && !table.unwrap_or_default().starts_with(b"netwatch-")
}

/// Whether iptables-legacy has tables of either family.
pub fn has_legacy_tables() -> bool {
    ["/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names"]
        .iter()
        .any(|names| fs::read(names).is_ok_and(|names| !names.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::nft::testbed::TestNamespace;

    #[test]
    fn reports_foreign_changes_once_and_not_those_of_runs() {
        let Some(host) = TestNamespace::new() else { return };
        let watch = host.run(|| FirewallWatch::follow().unwrap());
        assert!(!watch.has_changed());
        host.sh("nft add table inet netwatch-0123abcd");
        assert!(!watch.has_changed());
        for change in [
            "nft add table inet other",
            "nft add chain inet other forward",
            "nft add rule inet other forward drop",
            "nft flush ruleset",
        ] {
            host.sh(change);
            assert!(watch.has_changed(), "{change}");
            assert!(!watch.has_changed());
        }
        host.sh("nft add table inet other; nft add set inet other s '{ type ipv4_addr; }'");
        assert!(watch.has_changed());
        host.sh("nft add element inet other s '{ 192.0.2.1 }'");
        assert!(!watch.has_changed(), "elements of sets change often, and open no chain");
    }

    #[test]
    fn more_changes_than_the_socket_holds_are_one() {
        let Some(host) = TestNamespace::new() else { return };
        let watch = host.run(|| FirewallWatch::follow().unwrap());
        host.sh("nft add table inet other; nft add chain inet other forward
            for n in $(seq 3000); do echo \"add rule inet other forward ip daddr 192.0.2.1 counter drop comment \\\"$n\\\"\"; done | nft -f -");
        assert!(watch.has_changed());
        assert!(!watch.has_changed());
    }
}
