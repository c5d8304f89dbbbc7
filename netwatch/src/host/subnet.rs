//! Chooses the addresses of a run so that they clash with nothing of the host. Pure, but for [`Occupied::read`], which asks the kernel
//! what is taken. Not who sets the addresses (`link`).
//!
//! Two runs that choose at the same time would not see each other: the caller holds `undo::Exclusive` from the reading until the
//! addresses are on the link. The start is random all the same, so that a run rarely reuses what another has just let go (and what
//! the remotes' and the host's connection tracking still know).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::netlink::{self, Netlink, u32_at};
use crate::error::{Error, Result};
use crate::host::cidr::Cidr;

/// Where IPv4 subnets come from, in this order. All private or never routed (RFC 1918, 6598, 2544), each a corner that few products use by default
/// (not Docker's 172.17–31, not 10.0–10.100, not 192.168.0–191). The last is the benchmarking range: no LAN has it.
const POOLS_V4: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::new(10, 224, 0, 0), 12),
    (Ipv4Addr::new(172, 16, 0, 0), 16),
    (Ipv4Addr::new(192, 168, 192, 0), 18),
    (Ipv4Addr::new(100, 96, 0, 0), 11),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
];

/// Where IPv6 subnets come from, in this order.
///
/// Not unique local addresses: RFC 6724 (and glibc and musl, which have its table built in) gives fc00::/7 a label of its own, so a host whose
/// only IPv6 source is one prefers IPv4 for every name, and netwatch would have changed what it watches. Wanted is a prefix that falls
/// under `::/0` (label 1, precedence 40) in that table, and in the kernel's, as a global address does, yet is nobody's: not a range
/// that could be a real remote of the program, not 2001:db8::/32, which people use to try things out, as our tests do.
///
/// - 64:ff9b:1::/48 (RFC 8215) is for local use by translators between address families. That is what our source NAT makes of it, it is
///   never on the internet, and whoever uses it for NAT64 uses a /96 near its beginning; we take one of its 65 536 /64s at random but the first 256.
///   (64:ff9b::/96, the well-known prefix of NAT64, is another one: that one names real remotes.)
/// - 3fff::/20 (RFC 9637), documentation, for hosts that route the whole of the first to a translator.
const POOLS_V6: &[(Ipv6Addr, u8)] =
    &[(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48), (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20)];

/// How long the prefixes are that we take: room for gateway and target, and IPv6's usual 64.
const LENGTH_V4: u8 = 30;
const LENGTH_V6: u8 = 64;

/// The first part of the translators' range, where its users live.
const TRANSLATORS: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 56);

/// Routes shorter than this stand for "everything": a VPN that covers the default route with 0.0.0.0/1 and 128.0.0.0/1, or all but
/// the private networks with a dozen of prefixes. No private network is larger than a /8.
const DEFAULT_LIKE: u8 = 8;

/// A subnet of a run: the host's end has the first address, the target the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subnet {
    cidr: Cidr,
}

impl Subnet {
    /// Of this prefix, whose first two host addresses it takes.
    fn of(cidr: Cidr) -> Self {
        Self { cidr }
    }

    /// The prefix.
    pub fn cidr(&self) -> Cidr {
        self.cidr
    }

    /// Address of the host's end, the target's default gateway.
    pub fn gateway(&self) -> IpAddr {
        self.cidr.nth(1)
    }

    /// Address of the target's end.
    pub fn target(&self) -> IpAddr {
        self.cidr.nth(2)
    }
}

/// What `--subnet` asked for: at most one of each family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// An IPv4 subnet.
    pub v4: Option<Cidr>,
    /// An IPv6 subnet.
    pub v6: Option<Cidr>,
}

impl Wanted {
    /// From the arguments of `--subnet`, validated but for clashes.
    pub fn parse<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut wanted = Self::default();
        for text in arguments {
            let refuse = |cause: &str| Error::other("use subnet", text, cause);
            let cidr = Cidr::parse_network(text).map_err(|cause| refuse(&cause))?;
            if let Some(cause) = unusable(cidr) {
                return Err(refuse(cause));
            }
            let slot = if cidr.is_ipv4() { &mut wanted.v4 } else { &mut wanted.v6 };
            if slot.replace(cidr).is_some() {
                return Err(refuse("there is one of this family already"));
            }
        }
        Ok(wanted)
    }
}

/// Why hosts cannot live in this prefix; `None` if they can.
fn unusable(cidr: Cidr) -> Option<&'static str> {
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
    let smallest = if cidr.is_ipv4() { LENGTH_V4 } else { 126 };
    if cidr.length() > smallest {
        return Some("too small: it needs room for two hosts (at most /30 for IPv4, /126 for IPv6)");
    }
    if cidr.length() < DEFAULT_LIKE {
        return Some("too large: at least /8");
    }
    let range = |text: &str| Cidr::parse_network(text).expect("the table holds networks");
    ranges.into_iter().find(|(text, _)| range(text).overlaps(&cidr)).map(|(_, cause)| cause)
}

/// The host's routes, addresses and policy rules, as far as something could clash with them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Occupied {
    taken: Vec<Cidr>,
}

impl Occupied {
    /// From a list of prefixes; those that stand for "everything" are left out.
    pub fn new(prefixes: impl IntoIterator<Item = Cidr>) -> Self {
        Self { taken: prefixes.into_iter().filter(|cidr| cidr.length() >= DEFAULT_LIKE).collect() }
    }

    /// Everything that the namespace of this socket routes anywhere (all tables), has as an address, or has a policy rule about, where it
    /// touches our pools or what the user wants: a router with a million routes costs time here, but no memory.
    pub fn read(netlink: &mut Netlink, wanted: &Wanted) -> Result<Self> {
        let mut near = [pools(POOLS_V4), pools(POOLS_V6)].concat();
        near.extend(wanted.v4.into_iter().chain(wanted.v6));
        let mut taken = Vec::new();
        let mut take =
            |found: Option<Cidr>| taken.extend(found.filter(|cidr| near.iter().any(|near| near.overlaps(cidr))));
        // `struct rtmsg` and `struct fib_rule_hdr` begin alike; AF_UNSPEC (zero) asks for every family and the zero table for all tables.
        netlink.dump(libc::RTM_GETROUTE, &[0; 12], |body| take(prefix(body, 12, body.get(1), RTA_DST)))?;
        netlink.dump(libc::RTM_GETRULE, &[0; 12], |body| {
            take(prefix(body, 12, body.get(1), FRA_DST));
            take(prefix(body, 12, body.get(2), FRA_SRC));
        })?;
        netlink.dump(libc::RTM_GETADDR, &[0; 8], |body| {
            take(prefix(body, 8, body.get(1), IFA_ADDRESS));
            take(prefix(body, 8, body.get(1), IFA_LOCAL));
        })?;
        Ok(Self::new(taken))
    }

    /// The first that overlaps `cidr`, the most specific first.
    fn clash(&self, cidr: Cidr) -> Option<Cidr> {
        self.taken.iter().filter(|taken| taken.overlaps(&cidr)).max_by_key(|taken| taken.length()).copied()
    }
}

const RTA_DST: u16 = libc::RTA_DST;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const IFA_ADDRESS: u16 = libc::IFA_ADDRESS;
const IFA_LOCAL: u16 = libc::IFA_LOCAL;

/// The prefix in a message: its family is the first byte, its address an attribute after `header` bytes. `None` for default routes
/// and for families other than IP.
fn prefix(body: &[u8], header: usize, length: Option<&u8>, attribute: u16) -> Option<Cidr> {
    let value = netlink::attribute(body.get(header..)?, attribute)?;
    let address: IpAddr = match i32::from(*body.first()?) {
        libc::AF_INET => Ipv4Addr::from(u32_at(value, 0)?.to_ne_bytes()).into(),
        libc::AF_INET6 => Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into(),
        _ => return None,
    };
    Some(Cidr::containing(address, *length?))
}

/// The subnets of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnets {
    /// IPv4, always there.
    pub v4: Subnet,
    /// IPv6, where the host has it or the user asked for it.
    pub v6: Option<Subnet>,
}

impl Subnets {
    /// Chooses: what the user wanted if it clashes with nothing, else something free. `seed` is any random number.
    pub fn choose(wanted: &Wanted, ipv6: bool, occupied: &Occupied, seed: u64) -> Result<Self> {
        let v4 = match wanted.v4 {
            Some(cidr) => checked(cidr, occupied)?,
            None => free(&pools(POOLS_V4), LENGTH_V4, &occupied.taken, seed).ok_or_else(|| none_free("IPv4"))?,
        };
        let v6 = match wanted.v6 {
            Some(cidr) => Some(checked(cidr, occupied)?),
            None if ipv6 => {
                let mut taken = occupied.taken.clone();
                taken.push(Cidr::containing(TRANSLATORS.0.into(), TRANSLATORS.1));
                Some(free(&pools(POOLS_V6), LENGTH_V6, &taken, seed).ok_or_else(|| none_free("IPv6"))?)
            }
            None => None,
        };
        Ok(Self { v4: Subnet::of(v4), v6: v6.map(Subnet::of) })
    }
}

fn pools<A: Into<IpAddr> + Copy>(pools: &[(A, u8)]) -> Vec<Cidr> {
    pools.iter().map(|(address, length)| Cidr::containing((*address).into(), *length)).collect()
}

fn checked(cidr: Cidr, occupied: &Occupied) -> Result<Cidr> {
    match occupied.clash(cidr) {
        None => Ok(cidr),
        Some(taken) => {
            let cause = format!("it clashes with {taken}, which this host has a route, an address or a rule for");
            Err(Error::other("use subnet", cidr.to_string(), cause)
                .hint("choose one that `ip route show table all` does not list"))
        }
    }
}

fn none_free(family: &str) -> Error {
    Error::other("choose subnet", family, "the host routes every private range").hint("name a free one with --subnet")
}

/// A prefix of this length from the first pool with room, at a place that `seed` decides, that overlaps nothing taken.
fn free(pools: &[Cidr], length: u8, taken: &[Cidr], seed: u64) -> Option<Cidr> {
    pools.iter().find_map(|pool| free_in(*pool, length, taken, seed))
}

fn free_in(pool: Cidr, length: u8, taken: &[Cidr], seed: u64) -> Option<Cidr> {
    let count = pool.parts(length);
    let start = u128::from(seed) % count;
    let (before, after) = (0..start, start..count);
    first_free(pool, length, taken, after).or_else(|| first_free(pool, length, taken, before))
}

/// Walks the numbers of a range, jumping over whatever is taken: as many steps as there are prefixes taken, however large the range.
fn first_free(pool: Cidr, length: u8, taken: &[Cidr], numbers: std::ops::Range<u128>) -> Option<Cidr> {
    let mut number = numbers.start;
    while number < numbers.end {
        let candidate = pool.part(length, number);
        let Some(obstacle) = taken.iter().find(|taken| taken.overlaps(&candidate)) else { return Some(candidate) };
        number = pool.part_after(length, obstacle)?.max(number + 1);
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::testing::{in_fresh_namespace, ip};

    fn cidr(text: &str) -> Cidr {
        Cidr::parse_network(text).unwrap()
    }

    fn occupied(texts: &[&str]) -> Occupied {
        Occupied::new(texts.iter().map(|text| cidr(text)))
    }

    fn refusal(texts: &[&str]) -> String {
        Wanted::parse(texts.iter().copied()).unwrap_err().to_string()
    }

    #[test]
    fn gateway_is_the_first_and_target_the_second_address() {
        let wanted = Wanted::parse(["10.9.8.0/24", "fd12::/64"]).unwrap();
        let subnets = Subnets::choose(&wanted, false, &Occupied::default(), 1).unwrap();
        assert_eq!(subnets.v4.gateway().to_string(), "10.9.8.1");
        assert_eq!(subnets.v4.target().to_string(), "10.9.8.2");
        assert_eq!(subnets.v6.unwrap().target().to_string(), "fd12::2");
    }

    #[test]
    fn refuses_bad_subnets_with_the_reason() {
        assert!(refusal(&["10.9.8.1/24"]).contains("did you mean 10.9.8.0/24"));
        assert!(refusal(&["10.9.8.0/31"]).contains("too small"));
        assert!(refusal(&["fd12::/127"]).contains("too small"));
        assert!(refusal(&["0.0.0.0/0"]).contains("too large"));
        assert!(refusal(&["224.1.0.0/16"]).contains("multicast"));
        assert!(refusal(&["127.8.0.0/16"]).contains("loopback"));
        assert!(refusal(&["fe80::/64"]).contains("link-local"));
        assert!(refusal(&["10.0.0.0/24", "10.0.1.0/24"]).contains("already"));
        assert!(refusal(&["10.0.0.0"]).contains("no prefix length"));
        assert!(refusal(&["ten/24"]).contains("not an address"));
        assert!(refusal(&["10.0.0.0/33"]).contains("at most /32"));
    }

    #[test]
    fn refuses_a_wanted_subnet_that_clashes_and_names_the_most_specific() {
        let wanted = Wanted::parse(["10.9.8.0/24"]).unwrap();
        let error = Subnets::choose(&wanted, false, &occupied(&["10.0.0.0/8", "10.9.8.128/25", "10.9.8.130/32"]), 0)
            .unwrap_err();
        assert!(error.to_string().contains("clashes with 10.9.8.130/32"), "{error}");
    }

    #[test]
    fn default_routes_in_halves_are_no_clash() {
        let halves = occupied(&["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1", "2000::/3"]);
        assert!(Subnets::choose(&Wanted::default(), true, &halves, 7).is_ok());
    }

    #[test]
    fn says_so_when_everything_is_taken() {
        let all: Vec<_> = pools(POOLS_V4).iter().map(ToString::to_string).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let error = Subnets::choose(&Wanted::default(), false, &occupied(&all), 0).unwrap_err();
        assert!(error.to_string().contains("--subnet"), "{error}");
    }

    #[test]
    fn falls_back_when_the_whole_translators_range_is_routed() {
        let subnets = Subnets::choose(&Wanted::default(), true, &occupied(&["64:ff9b:1::/48"]), 5).unwrap();
        assert!(cidr("3fff::/20").overlaps(&subnets.v6.unwrap().cidr()));
    }

    fn any_prefix() -> impl Strategy<Value = Cidr> {
        let v4 =
            (any::<u32>(), 8u8..=32).prop_map(|(bits, length)| Cidr::containing(Ipv4Addr::from(bits).into(), length));
        let private = (0u32..1 << 20, 12u8..=32)
            .prop_map(|(bits, length)| Cidr::containing(Ipv4Addr::from(0x0ae0_0000 | bits).into(), length));
        let v6 = (any::<u16>(), 48u8..=128).prop_map(|(bits, length)| {
            Cidr::containing(Ipv6Addr::new(0x64, 0xff9b, 1, bits, 0, 0, 0, 2).into(), length)
        });
        prop_oneof![v4, private, v6]
    }

    proptest! {
        #[test]
        fn what_is_chosen_overlaps_nothing_and_is_private(taken in prop::collection::vec(any_prefix(), 0..200), seed: u64) {
            let occupied = Occupied::new(taken.iter().copied());
            let subnets = Subnets::choose(&Wanted::default(), true, &occupied, seed).unwrap();
            for chosen in [subnets.v4.cidr(), subnets.v6.unwrap().cidr()] {
                prop_assert!(taken.iter().all(|taken| !taken.overlaps(&chosen)));
                prop_assert!(pools(POOLS_V4).into_iter().chain(pools(POOLS_V6)).any(|pool| pool.overlaps(&chosen)));
            }
        }

        #[test]
        fn finds_the_only_free_place(hole in 0u128..1 << 6, seed: u64) {
            let pool = cidr("192.168.0.0/24");
            let taken: Vec<_> = (0..1 << 6).filter(|n| *n != hole).map(|n| pool.part(30, n)).collect();
            prop_assert_eq!(free(&[pool], 30, &taken, seed), Some(pool.part(30, hole)));
        }

        #[test]
        fn parsing_never_panics(text in "[0-9a-f:./]{0,24}") {
            let _ = Wanted::parse([text.as_str()]);
        }
    }

    #[test]
    fn sees_routes_of_all_tables_addresses_and_rules() {
        in_fresh_namespace(|| {
            ip("link add d0 type veth peer name d1");
            ip("link set d0 up");
            ip("link set d1 up");
            ip("addr add 203.0.113.1/24 dev d0");
            ip("addr add 10.225.0.1 peer 10.226.0.1 dev d0");
            ip("route add default via 203.0.113.2");
            ip("route add 10.227.0.0/16 via 203.0.113.2 table 5182");
            ip("route add blackhole 10.228.0.0/16 table 77");
            ip("rule add from 10.229.0.0/16 lookup 77");
            ip("-6 route add 64:ff9b:1:100::/56 dev d0 table 5182");
            let wanted = Wanted::parse(["203.0.113.64/26"]).unwrap();
            let occupied = Occupied::read(&mut Netlink::route().unwrap(), &wanted).unwrap();
            for expected in
                ["203.0.113.0/24", "10.225.0.1/32", "10.226.0.1/32", "10.227.0.0/16", "10.228.0.0/16", "10.229.0.0/16"]
            {
                assert!(occupied.taken.contains(&cidr(expected)), "{expected} is not in {:?}", occupied.taken);
            }
            assert!(occupied.taken.contains(&cidr("64:ff9b:1:100::/56")), "{:?}", occupied.taken);
            assert!(occupied.taken.iter().all(|cidr| cidr.length() >= 8));
        });
    }
}
