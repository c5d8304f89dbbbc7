//! Chooses the subnets of a run so that they overlap no network of the host. Pure, except
//! [`Occupied::read`], which reads from the kernel what is in use. `link` sets the addresses.
//!
//! Two runs that choose at the same time would choose the same subnet, so the caller holds
//! `undo::Exclusive` from the reading until the addresses are on the link. The first candidate is
//! random, so that a run rarely reuses the subnet of a run that has just ended, which the
//! connection tracking of the host and of remotes may still contain.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::forwarding::Families;
use super::netlink::{self, Netlink, u32_at};
use crate::error::{Error, Result};

/// The ranges for IPv4 subnets, in this order. All are private or never routed (RFC 1918, 6598,
/// 2544), each a part that few products use by default (not Docker's 172.17–31, not
/// 10.0–10.100, not 192.168.0–191). The last is the benchmarking range, which no LAN uses.
const POOLS_V4: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::new(10, 224, 0, 0), 12),
    (Ipv4Addr::new(172, 16, 0, 0), 16),
    (Ipv4Addr::new(192, 168, 192, 0), 18),
    (Ipv4Addr::new(100, 96, 0, 0), 11),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
];

/// The ranges for IPv6 subnets, in this order.
///
/// Not unique local addresses: RFC 6724 (and glibc and musl, which have its table built in) gives
/// fc00::/7 a label of its own, so a host whose only IPv6 source is one prefers IPv4 for every
/// name, and netwatch would change the traffic that it meters. The prefix has to match `::/0`
/// (label 1, precedence 40) in that table, and in the kernel's, as a global address does, and it
/// must be assigned to no one: not a range that could be a real remote of the target, not
/// 2001:db8::/32, which is common in experiments and in the tests of netwatch.
///
/// - 64:ff9b:1::/48 (RFC 8215) is for local use by translators between address families, which
///   netwatch's source NAT resembles. It is never on the internet. Installations of NAT64 use a /96
///   near its beginning; netwatch takes one of its 65,536 /64s at random, except the first 256.
///   (64:ff9b::/96, the well-known prefix of NAT64, is another range: its addresses stand for real
///   remotes.)
/// - 3fff::/20 (RFC 9637), documentation, for hosts that route the whole of the first range to a
///   translator.
const POOLS_V6: &[(Ipv6Addr, u8)] =
    &[(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48), (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20)];

/// Prefix length of a chosen subnet: room for gateway and target, and the usual length of IPv6.
const LENGTH_V4: u8 = 30;
const LENGTH_V6: u8 = 64;

/// The part of 64:ff9b:1::/48 that installations of NAT64 use.
const TRANSLATORS: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 56);

/// Routes with a shorter prefix stand for "everywhere": a VPN may cover the default route with
/// 0.0.0.0/1 and 128.0.0.0/1, or everything but the private networks with a dozen prefixes. No
/// private network is larger than a /8.
const MIN_NETWORK_LENGTH: u8 = 8;

/// A subnet of a run: the host's end has the first address, the target the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subnet {
    net: IpNet,
}

impl Subnet {
    /// Its prefix.
    pub fn net(&self) -> IpNet {
        self.net
    }

    /// Whether it is IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.net.addr().is_ipv6()
    }

    /// Address of the host's end, the target's default gateway.
    pub fn gateway(&self) -> IpAddr {
        add(self.net.addr(), 1)
    }

    /// Address of the target's end.
    pub fn target(&self) -> IpAddr {
        add(self.net.addr(), 2)
    }

    /// The last address, by which IPv4 means all hosts of the subnet.
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        match self.net {
            IpNet::V4(net) => Some(net.broadcast()),
            IpNet::V6(_) => None,
        }
    }
}

/// The subnets of `--subnet`: at most one of each family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WantedSubnets {
    /// An IPv4 subnet.
    pub v4: Option<IpNet>,
    /// An IPv6 subnet.
    pub v6: Option<IpNet>,
}

impl WantedSubnets {
    /// Parses the arguments of `--subnet`. Validates everything but overlaps with the host's
    /// networks.
    pub fn parse<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut wanted = Self::default();
        for text in arguments {
            let refuse = |cause: &str| Error::other("use subnet", text, cause);
            let net = parse_network(text).map_err(|cause| refuse(&cause))?;
            if let Some(cause) = unusable(net) {
                return Err(refuse(cause));
            }
            let slot = if net.addr().is_ipv4() { &mut wanted.v4 } else { &mut wanted.v6 };
            if slot.replace(net).is_some() {
                return Err(refuse("another subnet of this family was given already"));
            }
        }
        Ok(wanted)
    }
}

/// `10.1.2.0/24`. An address with bits after the prefix is refused with the network that may have
/// been meant.
fn parse_network(text: &str) -> Result<IpNet, String> {
    let (address, length) = text.split_once('/').ok_or("it has no prefix length (write it as 10.1.2.0/24)")?;
    let address: IpAddr = address.parse().map_err(|_| "there is no address before the slash".to_owned())?;
    let max_length = if address.is_ipv4() { 32 } else { 128 };
    let net = length.parse().ok().and_then(|length| IpNet::new(address, length).ok());
    let net = net.ok_or_else(|| format!("the prefix length must be a number, at most /{max_length}"))?;
    if net.trunc() == net {
        Ok(net)
    } else {
        Err(format!("not the address of a network: did you mean {}?", net.trunc()))
    }
}

/// Why hosts cannot have addresses in this prefix; `None` if they can.
fn unusable(net: IpNet) -> Option<&'static str> {
    let ranges: [(&str, &'static str); 11] = [
        ("127.0.0.0/8", "loopback addresses do not leave the machine"),
        ("224.0.0.0/4", "multicast addresses cannot be a host's own"),
        ("240.0.0.0/4", "reserved addresses"),
        ("0.0.0.0/8", "addresses of \"this network\" cannot be a host's own"),
        ("169.254.0.0/16", "link-local addresses are not routed"),
        ("ff00::/8", "multicast addresses cannot be a host's own"),
        ("fe80::/10", "link-local addresses are not routed"),
        ("::ffff:0:0/96", "IPv4-mapped addresses"),
        ("::/96", "loopback, unspecified or IPv4-compatible addresses"),
        ("fec0::/10", "site-local addresses were abolished (RFC 3879)"),
        ("64:ff9b::/96", "these addresses name IPv4 hosts behind NAT64"),
    ];
    let max_length = if net.addr().is_ipv4() { LENGTH_V4 } else { 126 };
    if net.prefix_len() > max_length {
        return Some(
            "too small: it needs room for two hosts (a prefix of /30 or shorter for IPv4, /126 or shorter for IPv6)",
        );
    }
    if net.prefix_len() < MIN_NETWORK_LENGTH {
        return Some("too large: at least /8");
    }
    let range = |text: &str| parse_network(text).expect("the table holds networks");
    ranges.into_iter().find(|(text, _)| overlap(&range(text), &net)).map(|(_, cause)| cause)
}

/// The prefixes of the host's routes, addresses and policy rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Occupied {
    taken: Vec<IpNet>,
    has_ipv4: bool,
    has_ipv6: bool,
}

impl Occupied {
    /// From a list of prefixes; those that stand for "everywhere" are left out.
    pub fn new(prefixes: impl IntoIterator<Item = IpNet>) -> Self {
        let taken = prefixes.into_iter().filter(|net| net.prefix_len() >= MIN_NETWORK_LENGTH).collect();
        Self { taken, has_ipv4: false, has_ipv6: false }
    }

    /// Reads the routes (of all tables), addresses and policy rules in the namespace of this
    /// socket, as far as they overlap the pools or the wanted subnets: a router with a million
    /// routes costs time here, but no memory.
    pub fn read(netlink: &mut Netlink, wanted: &WantedSubnets) -> Result<Self> {
        let mut near = [pools(POOLS_V4), pools(POOLS_V6)].concat();
        near.extend(wanted.v4.into_iter().chain(wanted.v6));
        let mut taken = Vec::new();
        let (mut has_ipv4, mut has_ipv6) = (false, false);
        let mut take =
            |found: Option<IpNet>| taken.extend(found.filter(|net| near.iter().any(|near| overlap(near, net))));
        // `struct rtmsg` and `struct fib_rule_hdr` begin alike; AF_UNSPEC (zero) selects every
        // family, table zero selects all tables.
        netlink.dump(libc::RTM_GETROUTE, &[0; 12], |body| take(prefix(body, 12, body.get(1), RTA_DST)))?;
        // A rule about a whole private range ("10.0.0.0/8 lookup main") does not mean that its
        // addresses are in use.
        let pools = [pools(POOLS_V4), pools(POOLS_V6)].concat();
        let is_narrow = |net: &IpNet| !pools.iter().any(|pool| net.contains(pool));
        netlink.dump(libc::RTM_GETRULE, &[0; 12], |body| {
            take(prefix(body, 12, body.get(1), FRA_DST).filter(is_narrow));
            take(prefix(body, 12, body.get(2), FRA_SRC).filter(is_narrow));
        })?;
        netlink.dump(libc::RTM_GETADDR, &[0; 8], |body| {
            let local = prefix(body, 8, body.get(1), IFA_LOCAL);
            has_ipv4 |= local.is_some_and(is_usable_ipv4);
            let address = prefix(body, 8, body.get(1), IFA_ADDRESS);
            has_ipv6 |= address.is_some_and(|net| net.addr().is_ipv6() && !net.addr().is_loopback());
            take(address);
            take(local);
        })?;
        Ok(Self { has_ipv4, has_ipv6, ..Self::new(taken) })
    }

    /// Whether the host has an IPv4 address by which a program could send packets.
    pub fn has_ipv4(&self) -> bool {
        self.has_ipv4
    }

    /// Whether the host has an IPv6 address other than that of the loopback.
    pub fn has_ipv6(&self) -> bool {
        self.has_ipv6
    }

    /// The most specific prefix that overlaps `net`.
    fn most_specific_overlap(&self, net: IpNet) -> Option<IpNet> {
        self.taken.iter().filter(|taken| overlap(taken, &net)).max_by_key(|taken| taken.prefix_len()).copied()
    }
}

/// Neither loopback nor link-local: the prefix of an address.
fn is_usable_ipv4(net: IpNet) -> bool {
    matches!(net.addr(), IpAddr::V4(address) if !address.is_loopback() && !address.is_link_local())
}

const RTA_DST: u16 = libc::RTA_DST;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const IFA_ADDRESS: u16 = libc::IFA_ADDRESS;
const IFA_LOCAL: u16 = libc::IFA_LOCAL;

/// The prefix in a message: its family is the first byte, its address an attribute after `header`
/// bytes. `None` for default routes and for families other than IP.
fn prefix(body: &[u8], header: usize, length: Option<&u8>, attribute: u16) -> Option<IpNet> {
    let value = netlink::attribute(body.get(header..)?, attribute)?;
    let address: IpAddr = match i32::from(*body.first()?) {
        libc::AF_INET => Ipv4Addr::from(u32_at(value, 0)?.to_ne_bytes()).into(),
        libc::AF_INET6 => Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into(),
        _ => return None,
    };
    IpNet::new(address, *length?).ok().map(|net| net.trunc())
}

/// The subnets of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnets {
    /// IPv4, if the host has it or the user requested it.
    pub v4: Option<Subnet>,
    /// IPv6, likewise.
    pub v6: Option<Subnet>,
}

impl Subnets {
    /// Chooses the wanted subnets if they overlap nothing, otherwise free ones of these families.
    /// `seed` is any random number.
    pub fn choose(wanted: &WantedSubnets, families: Families, occupied: &Occupied, seed: u64) -> Result<Self> {
        let v4 = match wanted.v4 {
            Some(net) => Some(check_overlap(net, occupied)?),
            None if families.ipv4 => {
                Some(free(&pools(POOLS_V4), LENGTH_V4, &occupied.taken, seed).ok_or_else(|| none_free("IPv4"))?)
            }
            None => None,
        };
        let v6 = match wanted.v6 {
            Some(net) => Some(check_overlap(net, occupied)?),
            None if families.ipv6 => {
                let mut taken = occupied.taken.clone();
                taken.push(IpNet::new_assert(TRANSLATORS.0.into(), TRANSLATORS.1));
                Some(free(&pools(POOLS_V6), LENGTH_V6, &taken, seed).ok_or_else(|| none_free("IPv6"))?)
            }
            None => None,
        };
        Ok(Self { v4: v4.map(|net| Subnet { net }), v6: v6.map(|net| Subnet { net }) })
    }

    /// All of them, IPv4 first.
    pub fn all(&self) -> impl Iterator<Item = Subnet> + use<> {
        self.v4.into_iter().chain(self.v6)
    }
}

fn pools<A: Into<IpAddr> + Copy>(pools: &[(A, u8)]) -> Vec<IpNet> {
    pools.iter().map(|(address, length)| IpNet::new_assert((*address).into(), *length)).collect()
}

fn check_overlap(net: IpNet, occupied: &Occupied) -> Result<IpNet> {
    match occupied.most_specific_overlap(net) {
        None => Ok(net),
        Some(taken) => {
            let cause = format!("it overlaps {taken}, for which this host has a route, an address or a rule");
            Err(Error::other("use subnet", net.to_string(), cause)
                .hint("choose one that `ip route show table all` does not list"))
        }
    }
}

fn none_free(family: &str) -> Error {
    Error::other("choose subnet", family, "the host has routes for every private range")
        .hint("specify a free one with --subnet")
}

/// A prefix of this length, from the first pool that has a free one, that overlaps nothing taken.
/// `seed` selects the first candidate.
fn free(pools: &[IpNet], length: u8, taken: &[IpNet], seed: u64) -> Option<IpNet> {
    pools.iter().find_map(|pool| free_in(*pool, length, taken, seed))
}

fn free_in(pool: IpNet, length: u8, taken: &[IpNet], seed: u64) -> Option<IpNet> {
    let count = part_count(&pool, length);
    let start = u128::from(seed) % count;
    let (before, after) = (0..start, start..count);
    first_free(pool, length, taken, after).or_else(|| first_free(pool, length, taken, before))
}

/// Tries the parts of a range of numbers and skips what is taken. Needs as many steps as there are
/// taken prefixes, regardless of the size of the range.
fn first_free(pool: IpNet, length: u8, taken: &[IpNet], numbers: std::ops::Range<u128>) -> Option<IpNet> {
    let mut number = numbers.start;
    while number < numbers.end {
        let candidate = part(&pool, length, number);
        let Some(obstacle) = taken.iter().find(|taken| overlap(taken, &candidate)) else { return Some(candidate) };
        number = part_after(&pool, length, obstacle)?.max(number + 1);
    }
    None
}

/// Whether two prefixes share an address.
fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// The number of prefixes of `length` in a pool.
fn part_count(pool: &IpNet, length: u8) -> u128 {
    1 << (length - pool.prefix_len())
}

/// The prefix number `number` of `length` in a pool.
fn part(pool: &IpNet, length: u8, number: u128) -> IpNet {
    IpNet::new_assert(add(pool.addr(), number << (pool.max_prefix_len() - length)), length)
}

/// The number of the first prefix of `length` in a pool that begins after `obstacle`; `None` if
/// there is none.
fn part_after(pool: &IpNet, length: u8, obstacle: &IpNet) -> Option<u128> {
    let offset = bits(obstacle.broadcast()).checked_sub(bits(pool.addr()))?;
    Some((offset >> (pool.max_prefix_len() - length)) + 1).filter(|number| *number < part_count(pool, length))
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The address `n` after this one. The caller stays within a prefix, so no address overflows.
fn add(address: IpAddr, n: u128) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::from((bits(address) + n) as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from(bits(address) + n).into(),
    }
}
