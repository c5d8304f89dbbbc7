//! nftables: a separate table for `nft -f` that allows what is required and drops the rest.

use std::fmt::Write;

use ipnet::IpNet;

use super::header::{self, FAILED_ATTEMPTS, NAMES_LIMIT, commented, failed, purpose};
use super::need::{Need, Service, shown};
use super::text::comment;
use super::{Requirements, RuleOptions};
use crate::flow::{Direction, Protocol};

/// Maximum length of a comment, bytes. nft allows 128.
const MAX_COMMENT_BYTES: usize = 100;

/// ICMPv6 that IPv6 requires (RFC 4861, RFC 4890), sent and received; switches depend on multicast
/// listener reports.
const NDP_OUT: &str = "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-report, mld-listener-done, mld2-listener-report } accept comment \"neighbor discovery\"";
const NDP_IN: &str = "icmpv6 type { nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, nd-redirect, mld-listener-query } accept comment \"neighbor discovery\"";
/// ICMP errors, which path MTU discovery and others need even if connection tracking has no entry
/// for them (RFC 1191, RFC 8201).
const ERRORS: [&str; 2] = [
    "icmp type { destination-unreachable, time-exceeded, parameter-problem } accept comment \"errors\"",
    "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept comment \"errors\"",
];

pub(super) fn text(requirements: &Requirements, options: &RuleOptions) -> String {
    let usage = usage(options);
    let lines =
        header::lines(requirements, options, &usage.iter().map(String::as_str).collect::<Vec<_>>(), &[NAMES_LIMIT]);
    let mut text = "#!/usr/sbin/nft -f\n".to_owned() + &commented(&lines, "#");
    // Loading the file again replaces the table: the first line creates it, so that the second
    // never fails.
    text += "\ntable inet netwatch\ndelete table inet netwatch\n\ntable inet netwatch {\n";
    chain(&mut text, "allow_out", &out(requirements, options));
    if options.user.is_none() {
        chain(&mut text, "allow_in", &incoming(requirements, options));
    }
    chain(&mut text, "output", &output(options));
    if options.user.is_none() {
        chain(&mut text, "input", &input());
    }
    text.truncate(text.trim_end().len());
    text + "\n}\n"
}

fn usage(options: &RuleOptions) -> Vec<String> {
    let mut lines =
        vec!["Load or replace with `nft -f FILE`; remove with `nft delete table inet netwatch`.".to_owned()];
    lines.push(match &options.user {
        Some(user) => format!(
            "Drops traffic that user {} sends and that is not listed. Other users and incoming traffic are not filtered.",
            comment(user, 40)
        ),
        None => "Drops all traffic that is not listed, for the whole machine (or container, or network namespace) that loads it: other programs \
            need additional rules. An accept in one table does not override a drop in another."
            .to_owned(),
    });
    lines.push("To extend an existing ruleset, copy only the rules of allow_out and allow_in.".into());
    lines
}

fn chain(text: &mut String, name: &str, rules: &[String]) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\tchain {name} {{");
    for rule in rules {
        let _ = writeln!(text, "\t\t{rule}");
    }
    text.push_str("\t}\n\n");
}

fn output(options: &RuleOptions) -> Vec<String> {
    let mut rules = vec!["type filter hook output priority filter; policy accept;".to_owned()];
    let rest = match &options.user {
        // Packets without a socket, which the kernel generates, have no user and pass.
        Some(user) => {
            rules.push("oifname \"lo\" accept".into());
            rules.push("ct state established,related accept".into());
            rules.push(format!("meta skuid {user} jump allow_out"));
            rules.push(format!("meta skuid {user} counter drop"));
            return rules;
        }
        None => {
            ["oifname \"lo\" accept", "ct state established,related accept", NDP_OUT, "jump allow_out", "counter drop"]
        }
    };
    rules[0] = rules[0].replace("policy accept", "policy drop");
    rules.extend(rest.map(str::to_owned));
    rules
}

fn input() -> Vec<String> {
    let first = "type filter hook input priority filter; policy drop;";
    let begin = [first, "iifname \"lo\" accept", "ct state established,related accept", NDP_IN];
    begin.into_iter().chain(ERRORS).chain(["jump allow_in", "counter drop"]).map(str::to_owned).collect()
}

fn out(requirements: &Requirements, options: &RuleOptions) -> Vec<String> {
    let mut rules = Vec::new();
    if requirements.dns {
        rules.extend(dns(options));
    }
    rules.extend(requirements.of_direction(Direction::Egress).flat_map(|need| rules_of(need, options)));
    rules.extend(requirements.groups.iter().flat_map(|need| rules_of(need, options)));
    if !requirements.groups.is_empty() {
        rules.push("ip protocol igmp accept comment \"multicast group membership\"".into());
    }
    rules.extend(failed_rules(requirements, options, Direction::Egress));
    rules
}

fn incoming(requirements: &Requirements, options: &RuleOptions) -> Vec<String> {
    let mut rules: Vec<String> =
        requirements.of_direction(Direction::Ingress).flat_map(|need| rules_of(need, options)).collect();
    rules.extend(failed_rules(requirements, options, Direction::Ingress));
    rules
}

/// The rules of failed attempts, as comments.
fn failed_rules(requirements: &Requirements, options: &RuleOptions, direction: Direction) -> Vec<String> {
    let mut rules = Vec::new();
    for need in requirements.not_opened().filter(|need| need.direction == direction) {
        if rules.is_empty() {
            rules.push(format!("# {FAILED_ATTEMPTS}"));
        }
        rules.push(format!("# {}", failed(need)));
        rules.extend(rules_of(need, options).iter().map(|rule| format!("#   {rule}")));
    }
    rules
}

fn dns(options: &RuleOptions) -> Vec<String> {
    let resolvers: Vec<IpNet> = options.resolvers.iter().copied().map(IpNet::from).collect();
    let to: Vec<String> = match resolvers.is_empty() {
        true => vec![String::new()],
        false => [true, false].into_iter().filter_map(|is_v4| address("daddr", &resolvers, is_v4)).collect(),
    };
    let purpose =
        if resolvers.is_empty() { "DNS to any resolver - add ip daddr ADDRESS" } else { "DNS to your resolvers" };
    to.iter()
        .map(|to| format!("{to}meta l4proto {{ tcp, udp }} th dport 53 counter accept comment \"{purpose}\""))
        .collect()
}

/// One rule for each address family of the peers.
fn rules_of(need: &Need, options: &RuleOptions) -> Vec<String> {
    let what = purpose(need, MAX_COMMENT_BYTES);
    let end = if what.is_empty() { "counter accept".to_owned() } else { format!("counter accept comment \"{what}\"") };
    let rule = |peer: String, is_v4| format!("{peer}{} {end}", service(need.service, is_v4));
    let is_open = need.direction == Direction::Ingress && !options.by_remote;
    if is_open {
        return vec![rule(String::new(), true)];
    }
    let side = if need.direction == Direction::Egress { "daddr" } else { "saddr" };
    let peers: Vec<IpNet> = need.peers.iter().copied().collect();
    [true, false].into_iter().filter_map(|is_v4| Some(rule(address(side, &peers, is_v4)?, is_v4))).collect()
}

/// `ip daddr 203.0.113.9 `, `ip6 saddr { … } `; `None` without an address of this family.
fn address(side: &str, peers: &[IpNet], is_v4: bool) -> Option<String> {
    let family = if is_v4 { "ip" } else { "ip6" };
    let of_family: Vec<String> = peers.iter().filter(|peer| peer.addr().is_ipv4() == is_v4).map(shown).collect();
    match of_family.as_slice() {
        [] => None,
        [one] => Some(format!("{family} {side} {one} ")),
        several => Some(format!("{family} {side} {{ {} }} ", several.join(", "))),
    }
}

fn service(service: Service, is_v4: bool) -> String {
    match service {
        Service::Ports(protocol, first, last) if first == last => format!("{protocol} dport {first}"),
        Service::Ports(protocol, first, last) => format!("{protocol} dport {first}-{last}"),
        Service::Echo if is_v4 => "icmp type echo-request".to_owned(),
        Service::Echo => "icmpv6 type echo-request".to_owned(),
        Service::Protocol(Protocol(number)) => format!("meta l4proto {number}"),
    }
}
