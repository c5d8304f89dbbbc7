//! Waits until both ends of a new link can send and can be resolved. The kernel performs the last
//! steps in work queues, which may run late on a busy machine.

use std::net::{IpAddr, Ipv6Addr};
use std::thread;
use std::time::{Duration, Instant};

use super::{no_answer, read_request};
use crate::error::{Error, Result};
use crate::host::netlink::{Netlink, attribute, u32_at};

/// `IF_OPER_UP` of RFC 2863.
const OPER_UP: u8 = 6;
const IFA_MULTICAST: u16 = libc::IFA_MULTICAST;
/// Maximum time until an end has a carrier.
const CARRIER_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum time until an end has joined its groups. A neighbor solicitation without an answer is
/// repeated after a second, so a longer wait would be useless.
const GROUPS_TIMEOUT: Duration = Duration::from_secs(1);

const POLL_INTERVAL: Duration = Duration::from_micros(100);

/// One end of the link.
pub(super) struct LinkEnd<'a> {
    /// A socket in its namespace.
    pub netlink: &'a mut Netlink,
    pub index: u32,
    pub name: &'a str,
    /// The addresses of this end.
    pub addresses: Vec<IpAddr>,
}

/// Waits for both ends, which usually takes a fraction of a millisecond.
pub(super) fn wait(mut ends: [LinkEnd<'_>; 2]) -> Result<()> {
    let started = Instant::now();
    for end in &mut ends {
        while !end.is_running()? {
            if started.elapsed() > CARRIER_TIMEOUT {
                return Err(Error::other("bring up interface", end.name, "it has no carrier after 2 seconds"));
            }
            thread::sleep(POLL_INTERVAL);
        }
        while !end.has_joined_groups()? && started.elapsed() < GROUPS_TIMEOUT {
            thread::sleep(POLL_INTERVAL);
        }
    }
    Ok(())
}

impl LinkEnd<'_> {
    /// When the second end is brought up, both have a carrier, but the first one sends only after
    /// the kernel's link-watch work has run; packets sent before are lost. Since Linux 6.9, reading
    /// the link runs that work.
    fn is_running(&mut self) -> Result<bool> {
        const IFLA_OPERSTATE: u16 = libc::IFLA_OPERSTATE;
        let answers = self.netlink.batch(&[read_request(self.index, self.name)])?;
        let link = answers.into_iter().flatten().next().ok_or_else(|| no_answer(self.name))?;
        let state = attribute(link.payload.get(16..).unwrap_or_default(), IFLA_OPERSTATE);
        Ok(state.and_then(<[u8]>::first) == Some(&OPER_UP))
    }

    /// Whether it has joined the multicast groups by which the other end resolves its IPv6
    /// addresses (RFC 4861, 7.2.3). The kernel sets an address at once and joins later; a
    /// solicitation that arrives in between is repeated after a second.
    fn has_joined_groups(&mut self) -> Result<bool> {
        let mut wanted: Vec<_> = self.addresses.iter().filter_map(solicited_node).collect();
        if wanted.is_empty() {
            return Ok(true);
        }
        // `struct ifaddrmsg`: the family first, the index last.
        let mut request = [0; 8];
        request[0] = libc::AF_INET6 as u8;
        self.netlink.dump(libc::RTM_GETMULTICAST, &request, |group| {
            if u32_at(group, 4) == Some(self.index) {
                let joined = group.get(8..).and_then(|all| attribute(all, IFA_MULTICAST));
                wanted.retain(|address| joined != Some(&address.octets()[..]));
            }
        })?;
        Ok(wanted.is_empty())
    }
}

/// The solicited-node group of an IPv6 address (RFC 4291, 2.7.1).
fn solicited_node(address: &IpAddr) -> Option<Ipv6Addr> {
    let IpAddr::V6(address) = address else { return None };
    let [.., high, low] = address.segments();
    Some(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | high & 0xff, low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_has_the_last_three_bytes_of_the_address() {
        let group = |text: &str| solicited_node(&text.parse().unwrap()).map(|group| group.to_string());
        assert_eq!(group("2001:db8::1234:5678").as_deref(), Some("ff02::1:ff34:5678"));
        assert_eq!(group("fe80::1").as_deref(), Some("ff02::1:ff00:1"));
        assert_eq!(group("198.51.100.1"), None);
    }
}
