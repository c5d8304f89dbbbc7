//! Which subnets are chosen, and what counts as occupied.

use proptest::prelude::*;

use super::*;
use crate::host::testing::{in_fresh_namespace, ip};

const BOTH: Families = Families { ipv4: true, ipv6: true };
const V4: Families = Families { ipv4: true, ipv6: false };
const V6: Families = Families { ipv4: false, ipv6: true };

fn net(text: &str) -> IpNet {
    parse_network(text).unwrap()
}

fn occupied(texts: &[&str]) -> Occupied {
    Occupied::new(texts.iter().map(|text| net(text)))
}

fn refusal(texts: &[&str]) -> String {
    WantedSubnets::parse(texts.iter().copied()).unwrap_err().to_string()
}

#[test]
fn gateway_is_the_first_and_target_the_second_address() {
    let wanted = WantedSubnets::parse(["10.9.8.0/24", "fd12::/64"]).unwrap();
    let subnets = Subnets::choose(&wanted, V4, &Occupied::default(), 1).unwrap();
    assert_eq!(subnets.v4.unwrap().gateway().to_string(), "10.9.8.1");
    assert_eq!(subnets.v4.unwrap().target().to_string(), "10.9.8.2");
    assert_eq!(subnets.v6.unwrap().target().to_string(), "fd12::2");
}

#[test]
fn a_family_that_the_host_lacks_has_a_subnet_only_on_request() {
    let choose = |wanted: &[&str]| {
        let wanted = WantedSubnets::parse(wanted.iter().copied()).unwrap();
        Subnets::choose(&wanted, V6, &Occupied::default(), 1).unwrap()
    };
    assert_eq!(choose(&[]).v4, None);
    assert_eq!(choose(&["10.9.8.0/24"]).all().count(), 2);
}

#[test]
fn refuses_bad_subnets_with_the_reason() {
    assert!(refusal(&["10.9.8.1/24"]).contains("did you mean 10.9.8.0/24"));
    assert!(refusal(&["10.9.8.0/31"]).contains("a prefix of /30 or shorter"));
    assert!(refusal(&["fd12::/127"]).contains("too small"));
    assert!(refusal(&["0.0.0.0/0"]).contains("too large"));
    assert!(refusal(&["224.1.0.0/16"]).contains("multicast"));
    assert!(refusal(&["127.8.0.0/16"]).contains("loopback"));
    assert!(refusal(&["fe80::/64"]).contains("link-local"));
    assert!(refusal(&["10.0.0.0/24", "10.0.1.0/24"]).contains("given already"));
    assert!(refusal(&["10.0.0.0"]).contains("no prefix length"));
    assert!(refusal(&["ten/24"]).contains("no address before the slash"));
    assert!(refusal(&["10.0.0.0/33"]).contains("at most /32"));
}

#[test]
fn refuses_a_wanted_subnet_that_overlaps_and_names_the_most_specific() {
    let wanted = WantedSubnets::parse(["10.9.8.0/24"]).unwrap();
    let error =
        Subnets::choose(&wanted, V4, &occupied(&["10.0.0.0/8", "10.9.8.128/25", "10.9.8.130/32"]), 0).unwrap_err();
    assert!(error.to_string().contains("overlaps 10.9.8.130/32"), "{error}");
}

#[test]
fn ignores_default_routes_in_halves() {
    let halves = occupied(&["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1", "2000::/3"]);
    assert!(Subnets::choose(&WantedSubnets::default(), BOTH, &halves, 7).is_ok());
}

#[test]
fn reports_that_everything_is_taken() {
    let all: Vec<_> = pools(POOLS_V4).iter().map(ToString::to_string).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let error = Subnets::choose(&WantedSubnets::default(), V4, &occupied(&all), 0).unwrap_err();
    assert!(error.to_string().contains("--subnet"), "{error}");
}

#[test]
fn falls_back_when_the_translators_range_is_routed() {
    let subnets = Subnets::choose(&WantedSubnets::default(), BOTH, &occupied(&["64:ff9b:1::/48"]), 5).unwrap();
    assert!(overlap(&net("3fff::/20"), &subnets.v6.unwrap().net()));
}

fn prefix_of(address: impl Into<IpAddr>, length: u8) -> IpNet {
    IpNet::new_assert(address.into(), length).trunc()
}

fn any_prefix() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<u32>(), 8u8..=32).prop_map(|(bits, length)| prefix_of(Ipv4Addr::from(bits), length));
    let private =
        (0u32..1 << 20, 12u8..=32).prop_map(|(bits, length)| prefix_of(Ipv4Addr::from(0x0ae0_0000 | bits), length));
    let v6 = (any::<u16>(), 48u8..=128)
        .prop_map(|(bits, length)| prefix_of(Ipv6Addr::new(0x64, 0xff9b, 1, bits, 0, 0, 0, 2), length));
    prop_oneof![v4, private, v6]
}

proptest! {
    #[test]
    fn chosen_subnets_overlap_nothing_and_are_private(taken in prop::collection::vec(any_prefix(), 0..200), seed: u64) {
        let occupied = Occupied::new(taken.iter().copied());
        let subnets = Subnets::choose(&WantedSubnets::default(), BOTH, &occupied, seed).unwrap();
        for chosen in [subnets.v4.unwrap().net(), subnets.v6.unwrap().net()] {
            prop_assert!(taken.iter().all(|taken| !overlap(taken, &chosen)));
            prop_assert!(pools(POOLS_V4).into_iter().chain(pools(POOLS_V6)).any(|pool| overlap(&pool, &chosen)));
        }
    }

    #[test]
    fn finds_the_only_free_place(hole in 0u128..1 << 6, seed: u64) {
        let pool = net("192.168.0.0/24");
        let taken: Vec<_> = (0..1 << 6).filter(|n| *n != hole).map(|n| part(&pool, 30, n)).collect();
        prop_assert_eq!(free(&[pool], 30, &taken, seed), Some(part(&pool, 30, hole)));
    }

    #[test]
    fn the_part_after_an_obstacle_does_not_overlap_it(bits in any::<u32>(), length in 8u8..=32) {
        let pool = net("10.0.0.0/8");
        let obstacle = prefix_of(Ipv4Addr::from(bits), length);
        if let Some(number) = part_after(&pool, 30, &obstacle) {
            prop_assert!(!overlap(&part(&pool, 30, number), &obstacle));
        }
    }

    #[test]
    fn parsing_never_panics(text in "[0-9a-f:./]{0,24}") {
        let _ = WantedSubnets::parse([text.as_str()]);
    }
}

#[test]
fn reads_routes_of_all_tables_addresses_and_rules() {
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
        ip("rule add to 10.0.0.0/8 lookup main");
        ip("rule add from 172.16.0.0/12 lookup main");
        ip("-6 route add 64:ff9b:1:100::/56 dev d0 table 5182");
        let wanted = WantedSubnets::parse(["203.0.113.64/26"]).unwrap();
        let occupied = Occupied::read(&mut Netlink::route().unwrap(), &wanted).unwrap();
        for expected in
            ["203.0.113.0/24", "10.225.0.1/32", "10.226.0.1/32", "10.227.0.0/16", "10.228.0.0/16", "10.229.0.0/16"]
        {
            assert!(occupied.taken.contains(&net(expected)), "{expected} is not in {:?}", occupied.taken);
        }
        for ranges in ["10.0.0.0/8", "172.16.0.0/12"] {
            assert!(!occupied.taken.contains(&net(ranges)), "{ranges} is in {:?}", occupied.taken);
        }
        assert!(occupied.taken.contains(&net("64:ff9b:1:100::/56")), "{:?}", occupied.taken);
        assert!(occupied.taken.iter().all(|net| net.prefix_len() >= 8));
    });
}
