//! Lists the interfaces that the target creates in its namespace: tunnels, and links to its own
//! namespaces. Their packets are counted only if they leave by the link of the run.

use std::collections::BTreeSet;

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use crate::error::{Error, Result};
use crate::host::netlink::{attribute, messages, u32_at};

/// `RTNLGRP_LINK`.
const LINK_GROUP: u32 = 1;
/// `struct ifinfomsg`: the index and the flags are at 4 and 8, attributes follow.
const HEADER: usize = 16;
/// Maximum number of interfaces that are listed.
const MAX_NAMES: usize = 16;
/// Size of the receive buffer, bytes.
const BUFFER: usize = 64 * 1024;

/// Follows the network namespace of the thread that created it.
#[derive(Debug)]
pub struct MadeLinks {
    socket: Socket,
}

impl MadeLinks {
    /// Starts following. Notifications wait in the socket, which is read at the end: if there were
    /// too many for it, the first are kept.
    pub fn follow() -> Result<Self> {
        let failed = |error| Error::os("follow changes of", "the command's interfaces", error);
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed)?;
        socket.bind_auto().map_err(failed)?;
        socket.add_membership(LINK_GROUP).map_err(failed)?;
        socket.set_non_blocking(true).map_err(failed)?;
        Ok(Self { socket })
    }

    /// The names of interfaces that were up, except the loopback and the interface with the index
    /// `own`, which is the link of the run.
    pub fn names(&self, own: u32) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            buffer.reserve(BUFFER);
            match self.socket.recv(&mut buffer, 0) {
                Ok(_) => {
                    let made = messages(&buffer).filter_map(|(header, body)| made(header.kind, body, own));
                    names.extend(made.take(MAX_NAMES.saturating_sub(names.len())));
                }
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ENOBUFS)) => {}
                Err(_) => return names,
            }
        }
    }
}

fn made(kind: u16, body: &[u8], own: u32) -> Option<String> {
    const LOOPBACK: u32 = 1;
    let (index, flags) = (u32_at(body, 4)?, u32_at(body, 8)?);
    let is_up = flags & libc::IFF_UP.cast_unsigned() != 0;
    if kind != libc::RTM_NEWLINK || !is_up || [LOOPBACK, own].contains(&index) {
        return None;
    }
    let name = attribute(body.get(HEADER..)?, libc::IFLA_IFNAME)?;
    Some(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned())
}
