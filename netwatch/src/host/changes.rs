//! Reports to the event loop that the host's interfaces, their switches or the routing rules have
//! changed. It does not report what has changed, because everything is read again.
//!
//! Notifications are received by rtnetlink: its connection is a task of the runtime that reads the
//! socket as messages arrive, and turns an overflow of the socket (ENOBUFS) into a message.
//! Requests with immediate answers use [`super::netlink`].

use std::convert::Infallible;
use std::io;

use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use rtnetlink::MulticastGroup;
use rtnetlink::proto::new_connection;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, Socket, SocketAddr};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::error::{Error, Result};

/// Added, removed and configured interfaces; writes to `forwarding` and similar switches; and
/// changes of routing rules, by any process.
const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Netconf,
    MulticastGroup::Ipv6Netconf,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// Follows the network namespace of the thread that created it.
#[derive(Debug)]
pub struct HostChanges {
    /// `None` when the connection has ended.
    changed: Option<watch::Receiver<()>>,
    task: AbortHandle,
}

impl HostChanges {
    /// Starts following; no later change is missed. Must be called within a runtime.
    pub fn follow() -> Result<Self> {
        let failed = |error| Error::os("follow changes of", "interfaces", error);
        let (mut connection, _, mut notifications) =
            new_connection::<RawNotification>(NETLINK_ROUTE).map_err(failed)?;
        join(connection.socket_mut().socket_mut()).map_err(failed)?;
        // Notifications are merged, because any number of them causes one reading of everything.
        let (notify, changed) = watch::channel(());
        let task = tokio::spawn(async move {
            let relay = async { while notifications.recv().await.is_ok_and(|_| notify.send(()).is_ok()) {} };
            tokio::select! { () = connection => {}, () = relay => {} }
        });
        Ok(Self { changed: Some(changed), task: task.abort_handle() })
    }

    /// Waits until something has changed since the last call. Returns an error once if the
    /// connection ends, and never returns after that.
    pub async fn next(&mut self) -> Result<()> {
        let Some(changed) = &mut self.changed else { return std::future::pending().await };
        if changed.changed().await.is_ok() {
            return Ok(());
        }
        self.changed = None;
        Err(Error::other("follow changes of", "interfaces", "the netlink connection has ended")
            .hint("answers that arrive by new interfaces will not be forwarded"))
    }
}

impl Drop for HostChanges {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// `rtnetlink::new_multicast_connection` does the same for messages that netlink-packet-route can
/// parse.
fn join(socket: &mut Socket) -> io::Result<()> {
    socket.bind(&SocketAddr::new(0, 0))?;
    GROUPS.into_iter().try_for_each(|group| socket.add_membership(group as u32))
}

/// A notification that is not parsed: netlink-packet-route has no type for RTM_NEWNETCONF, and a
/// message that it cannot parse would be lost.
#[derive(Debug)]
struct RawNotification;

impl NetlinkDeserializable for RawNotification {
    type Error = Infallible;

    fn deserialize(_: &NetlinkHeader, _: &[u8]) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

/// Required by the connection; none is ever sent.
impl NetlinkSerializable for RawNotification {
    fn message_type(&self) -> u16 {
        libc::NLMSG_NOOP as u16
    }

    fn buffer_len(&self) -> usize {
        0
    }

    fn serialize(&self, _: &mut [u8]) {}
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::host::testing::{in_fresh_namespace, ip};

    const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

    fn in_runtime(test: impl AsyncFnOnce(HostChanges) + Send) {
        in_fresh_namespace(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { test(HostChanges::follow().unwrap()).await });
        });
    }

    async fn next(changes: &mut HostChanges) {
        timeout(WAIT_TIMEOUT, changes.next()).await.expect("a change is reported").unwrap();
    }

    fn set(key: &str, value: &str) {
        std::fs::write(format!("/proc/sys/net/{key}"), value).unwrap();
    }

    /// Reads every notification that the socket contains.
    fn received(socket: &Socket) -> usize {
        (0..).take_while(|_| socket.recv(&mut Vec::with_capacity(1 << 16), 0).is_ok()).count()
    }

    /// The kernel sends a notification before the request that causes it returns, so nothing has to
    /// be waited for.
    #[test]
    fn the_groups_are_of_interfaces_switches_and_rules_and_of_nothing_else() {
        in_fresh_namespace(|| {
            let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
            join(&mut socket).unwrap();
            socket.set_non_blocking(true).unwrap();
            assert_eq!(received(&socket), 0, "nothing has happened yet");
            ip("link add eth0 type veth peer name eth1");
            assert!(received(&socket) >= 2, "new interfaces");
            for key in ["ipv4/conf/eth0/forwarding", "ipv6/conf/eth0/forwarding", "ipv4/conf/all/forwarding"] {
                set(key, "1");
                assert!(received(&socket) >= 1, "{key}");
            }
            for family in ["-4", "-6"] {
                ip(&format!("{family} rule add pref 100 table 100"));
                assert!(received(&socket) >= 1, "a rule, {family}");
            }
            ip("link del eth0");
            assert!(received(&socket) >= 2, "removed interfaces");
            ip("neigh add 198.51.100.1 lladdr 02:00:00:00:00:01 dev lo");
            assert_eq!(received(&socket), 0, "a neighbor entry is no change");
        });
    }

    #[test]
    fn reports_each_change() {
        in_runtime(async |mut changes| {
            ip("link add eth0 type veth peer name eth1");
            next(&mut changes).await;
            set("ipv4/conf/eth0/forwarding", "1");
            next(&mut changes).await;
        });
    }

    #[test]
    fn reports_changes_after_the_socket_overflowed() {
        const CHANGES: usize = 3000;
        let forward = |change: usize| {
            for family in ["ipv4", "ipv6"] {
                set(&format!("{family}/conf/eth0/forwarding"), if change.is_multiple_of(2) { "1" } else { "0" });
            }
        };
        in_runtime(async |mut changes| {
            ip("link add eth0 type veth peer name eth1");
            // The runtime does not read meanwhile, so the socket's buffer (about 200 kB) overflows
            // and later messages are lost.
            (0..CHANGES).for_each(forward);
            // At most half of these messages are still in the buffer, so the reports of as many
            // changes cannot all be of messages from before.
            for change in 0..CHANGES {
                forward(change);
                next(&mut changes).await;
            }
        });
    }
}
