//! The rules of the run's table, as one batch. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{ForwardGuard, NatSpec};
use crate::host::NETWATCH_GROUP;
use crate::host::nft::{BaseChain, Batch, ChainKind, NftFamily, NftHook, NftTable, Rule, Verdict};
use crate::host::publish::{Publish, PublishProtocol};
use crate::wire::port;

/// The chain with the guards.
pub const GUARD: &str = "guard";
/// Priority before connection tracking and every translation, where packets are as they were on the
/// wire.
const RAW: i32 = -300;
const DSTNAT: i32 = -100;
const FILTER: i32 = 0;
const SRCNAT: i32 = 100;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const ICMP_REDIRECT: u8 = 5;
/// ICMP type and code.
const ICMP_FRAGMENTATION_NEEDED: [u8; 2] = [3, 4];
const ICMPV6_PACKET_TOO_BIG: u8 = 2;
const ICMPV6_ROUTER_ADVERTISEMENT: u8 = 134;
const ICMPV6_REDIRECT: u8 = 137;
/// Prefix of the comments of rules that drop packets of the target.
const DROPPED: &str = "dropped: ";
const TRANSPORTS: [PublishProtocol; 2] = [PublishProtocol::Tcp, PublishProtocol::Udp];

/// The run's table.
pub fn table(name: &str) -> NftTable<'_> {
    NftTable { family: NftFamily::Inet, name }
}

/// The table, its chains and rules.
pub fn batch(table: NftTable<'_>, spec: &NatSpec<'_>) -> Batch {
    let mut batch = Batch::new();
    batch.create_owned_table(table);
    batch.create_chain(table, GUARD, None);
    let mut chain = |name: &str, kind, hook, priority, rules: Vec<Rule>| {
        if rules.is_empty() {
            return;
        }
        batch.create_chain(table, name, Some(BaseChain { kind, hook, priority }));
        rules.iter().for_each(|rule| batch.append_rule(table, name, rule));
    };
    chain("raw", ChainKind::Filter, NftHook::Prerouting, RAW, raw(spec));
    chain("prerouting", ChainKind::Nat, NftHook::Prerouting, DSTNAT, prerouting(spec));
    chain("output", ChainKind::Nat, NftHook::Output, DSTNAT, output(spec));
    chain("input", ChainKind::Filter, NftHook::Input, FILTER, input(spec.link));
    chain("forward", ChainKind::Filter, NftHook::Forward, FILTER, forward(spec));
    chain("postrouting", ChainKind::Nat, NftHook::Postrouting, SRCNAT, postrouting(spec));
    batch
}

/// Drops what would be forwarded because of netwatch, unless one of the interfaces is netwatch's.
pub fn guard(guard: &ForwardGuard) -> Rule {
    let rule = match guard {
        ForwardGuard::Ipv4(interface) => Rule::new().iifname(interface).ipv4(),
        ForwardGuard::Ipv6(interface) => Rule::new().iifname(interface).ipv6(),
        ForwardGuard::Ipv6All => Rule::new().ipv6().iifgroup_not(NETWATCH_GROUP),
    };
    rule.oifgroup_not(NETWATCH_GROUP).counter().drop()
}

/// The published port in the comment of a rule of [`batch`].
pub fn published(comment: &str) -> Option<Publish> {
    comment.strip_prefix("publish ")?.parse().ok()
}

/// Restricts the addresses in packets of the target. `route_localnet` permits loopback addresses on
/// the run's interface, but only the translations below may use them. Behind NAT, a source address
/// that is not the target's would be translated like its own, or reach services of the host.
fn raw(spec: &NatSpec<'_>) -> Vec<Rule> {
    let mut rules = Vec::new();
    if spec.needs_route_localnet() {
        rules.extend([Rule::new().to_loopback_v4().drop(), Rule::new().from_loopback_v4().drop()]);
    }
    if spec.masquerade {
        let v4 = spec.ipv4.map_or(Ipv4Addr::UNSPECIFIED, |ends| ends.target);
        let v6 = spec.ipv6.map_or(Ipv6Addr::UNSPECIFIED, |ends| ends.target);
        let foreign = [
            Rule::new().source_not(v4.into()),
            Rule::new().source_not(v6.into()).then(Rule::new().source_not_link_local()),
        ];
        rules.extend(foreign.map(|rule| counted_drop(rule, "foreign source address")));
    }
    if !rules.is_empty() {
        rules.insert(0, from_elsewhere(spec.link));
    }
    rules
}

/// Drops what the target claims about routes and path MTUs. It is the only neighbor on a link whose
/// MTU the host has set, so no such claim is needed.
fn input(link: u32) -> Vec<Rule> {
    let claims: [(u8, &[u8]); 5] = [
        (ICMP, &[ICMP_REDIRECT]),
        (ICMP, &ICMP_FRAGMENTATION_NEEDED),
        (ICMPV6, &[ICMPV6_PACKET_TOO_BIG]),
        (ICMPV6, &[ICMPV6_ROUTER_ADVERTISEMENT]),
        (ICMPV6, &[ICMPV6_REDIRECT]),
    ];
    let family = |protocol| if protocol == ICMP { Rule::new().ipv4() } else { Rule::new().ipv6() };
    let claim = |(protocol, message)| {
        let rule = family(protocol).protocol(protocol).icmp(message);
        counted_drop(rule, "claim about the host's routes")
    };
    std::iter::once(from_elsewhere(link)).chain(claims.map(claim)).collect()
}

/// The first rule of a chain that is only about the target: everything else leaves with it.
fn from_elsewhere(link: u32) -> Rule {
    Rule::new().iif_not(link).accept()
}

/// Drops packets of the target, which the meter has counted as sent; [`dropped`] finds the rule
/// again.
fn counted_drop(rule: Rule, reason: &str) -> Rule {
    rule.counter().drop().comment(format!("{DROPPED}{reason}"))
}

/// The reason in the comment of a rule that drops packets of the target.
pub fn dropped(comment: &str) -> Option<&str> {
    comment.strip_prefix(DROPPED)
}

fn prerouting(spec: &NatSpec<'_>) -> Vec<Rule> {
    let mut rules = dns(spec);
    for publish in spec.publish {
        // The target's own packets to the host's addresses are not sent back to it: source and
        // destination would be the same.
        let from_outside = || Rule::new().iif_not(spec.link);
        rules.extend(translations(spec, publish, from_outside, Rule::new));
    }
    rules
}

fn output(spec: &NatSpec<'_>) -> Vec<Rule> {
    // A packet from ::1 cannot leave `lo`, so a connection to ::1 is refused, as if the port were
    // not published.
    let not_loopback = || Rule::new().destination_not(Ipv6Addr::LOCALHOST.into());
    spec.publish.iter().flat_map(|publish| translations(spec, publish, Rule::new, not_loopback)).collect()
}

fn dns(spec: &NatSpec<'_>) -> Vec<Rule> {
    let gateways = [spec.ipv4.map(|ends| IpAddr::V4(ends.gateway)), spec.ipv6.map(|ends| IpAddr::V6(ends.gateway))];
    let Some(port) = spec.dns_port else { return Vec::new() };
    let redirect = |gateway, transport: PublishProtocol| {
        let rule = Rule::new().iif(spec.link).protocol(transport.number()).destination_port(port::DNS);
        rule.destination(gateway).redirect(port)
    };
    gateways
        .into_iter()
        .flatten()
        .flat_map(|gateway| TRANSPORTS.map(|transport| redirect(gateway, transport)))
        .collect()
}

/// One rule for each family that the target has and in which the port is published. The rules begin
/// with the matches of `start` and `start_v6`.
fn translations(
    spec: &NatSpec<'_>,
    publish: &Publish,
    start: impl Fn() -> Rule,
    start_v6: impl Fn() -> Rule,
) -> Vec<Rule> {
    let mut rules = Vec::new();
    if let Some(ends) = spec.ipv4.filter(|_| publish.serves(false)) {
        rules.push(translation(start().ipv4(), publish, ends.target.into()));
    }
    if let Some(ends) = spec.ipv6.filter(|_| publish.serves(true)) {
        rules.push(translation(start().then(start_v6()).ipv6(), publish, ends.target.into()));
    }
    rules
}

fn translation(rule: Rule, publish: &Publish, target: IpAddr) -> Rule {
    let rule = rule.protocol(publish.protocol.number()).destination_port(publish.host_port);
    let rule = match publish.only() {
        Some(address) => rule.destination(address),
        None => rule.to_local(),
    };
    rule.destination_nat(target, publish.target_port).comment(format!("publish {publish}"))
}

fn forward(spec: &NatSpec<'_>) -> Vec<Rule> {
    let inbound = || Rule::new().oif(spec.link);
    let from_target = || Rule::new().iif(spec.link);
    let mut rules = Vec::new();
    if spec.masquerade {
        // NAT would pass these packets with the target's own address.
        rules.push(counted_drop(from_target().untracked(), "no connection, so NAT cannot translate them"));
    }
    rules.push(from_target().accept());
    if spec.masquerade {
        // Behind NAT, only replies and connections to published ports may come in. Otherwise a
        // neighbor with a route to the subnet could reach every port of the target, published or
        // not.
        rules.extend([
            inbound().established().accept(),
            inbound().destination_translated().accept(),
            inbound().counter().drop(),
        ]);
    } else {
        rules.push(inbound().accept());
    }
    rules.push(Rule::new().verdict(Verdict::Jump(GUARD.into())));
    rules
}

fn postrouting(spec: &NatSpec<'_>) -> Vec<Rule> {
    let mut rules = Vec::new();
    if spec.masquerade {
        rules.push(Rule::new().iif(spec.link).oif_not(spec.link).masquerade());
    }
    if spec.needs_route_localnet() {
        // From the host's 127.0.0.1 to a published port: the target answers to the gateway. Other
        // clients keep their address.
        rules.push(Rule::new().oif(spec.link).from_loopback_v4().masquerade());
    }
    rules
}
