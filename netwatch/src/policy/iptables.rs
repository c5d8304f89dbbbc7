//! iptables and ip6tables: separate chains as input of iptables-restore, and a script that loads
//! both address families.

use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;

use super::header::{self, FAILED_ATTEMPTS, NAMES_LIMIT, commented, failed, purpose};
use super::need::{Need, Service};
use super::text::comment;
use super::{AddressFamily, Requirements, RuleOptions};
use crate::flow::Direction;

const OUT: &str = "netwatch-out";
const IN: &str = "netwatch-in";
/// Every chain that these rules can create.
const CHAINS: [&str; 2] = [OUT, IN];
/// Maximum length of a comment, bytes. iptables allows 255.
const MAX_COMMENT_BYTES: usize = 100;

pub(super) fn text(requirements: &Requirements, options: &RuleOptions) -> String {
    match options.family {
        Some(family) => {
            let restore = if family == AddressFamily::V4 { "iptables-restore" } else { "ip6tables-restore" };
            let load = format!(
                "Load with `{restore} FILE`, which replaces the filter table, or once with `{restore} --noflush FILE`."
            );
            let lines = header::lines(requirements, options, &[&load, &scope(options)], &[NAMES_LIMIT]);
            commented(&lines, "#") + &table(requirements, options, family, true)
        }
        None => script(requirements, options),
    }
}

fn scope(options: &RuleOptions) -> String {
    let what = match &options.user {
        Some(user) => format!(
            "Drops traffic that user {} sends and that is not listed. Other users and incoming traffic are not filtered.",
            comment(user, 40)
        ),
        None => {
            "Drops all traffic that is not listed, for the whole machine (or container, or network namespace) that loads it, \
            unless an earlier rule accepts it."
                .to_owned()
        }
    };
    what + " To extend an existing ruleset, copy only the rules with a destination or a port."
}

fn script(requirements: &Requirements, options: &RuleOptions) -> String {
    let load = "Load or replace with `sh FILE`; `sh FILE --test` loads nothing. Remove with `sh FILE --remove`. For the input of \
        iptables-restore of one address family, use --family 4 or --family 6.";
    let lines = header::lines(requirements, options, &[load, &scope(options)], &[NAMES_LIMIT]);
    let mut text = "#!/bin/sh\n".to_owned() + &commented(&lines, "#");
    text += "set -eu\n";
    text += &functions(options);
    for (family, restore, mark) in
        [(AddressFamily::V4, "iptables-restore", "IPV4"), (AddressFamily::V6, "ip6tables-restore", "IPV6")]
    {
        let _ = write!(text, "\n{restore} $how <<'{mark}'\n{}{mark}\n", table(requirements, options, family, false));
    }
    text + "\n[ \"$how\" != --noflush ] || { hook iptables; hook ip6tables; }\n"
}

/// Any argument other than these two loads nothing, so that a request for help never cuts off the
/// user.
fn functions(options: &RuleOptions) -> String {
    let jumps: String = CHAINS.map(|chain| format!(" -e 's/^-A \\(.* -j {chain}\\)$/-D \\1/p'")).concat();
    let hooks: String = hooks(options).iter().map(|hook| format!(" '-A {hook}'")).collect();
    let idle: Vec<&str> = CHAINS.into_iter().filter(|chain| !chains(options).contains(chain)).collect();
    let idle: String = idle.iter().map(|chain| format!("    drop \"$1\" {chain}\n")).collect();
    format!(
        "usage() {{\n    echo \"usage: sh $0 [--test | --remove]\" >&2\n    exit 2\n}}\n\
        # Every jump to the chains: earlier rules by netwatch may have added different ones.\n\
        jumps() {{\n    saved=$(\"$1-save\" -t filter)\n    printf '%s\\n' \"$saved\" | sed -n{jumps}\n}}\n\
        # Replaces all jumps in one step.\n\
        rehook() {{\n    jumps=$(jumps \"$1\")\n    restore=$1-restore\n    shift\n    \
        printf '%s\\n' '*filter' \"$jumps\" \"$@\" COMMIT | \"$restore\" --noflush\n}}\n\
        drop() {{\n    \"$1\" -F \"$2\" 2>/dev/null && \"$1\" -X \"$2\" || :\n}}\n\
        hook() {{\n    rehook \"$1\"{hooks}\n{idle}}}\n\
        remove() {{\n    rehook \"$1\"\n    drop \"$1\" {OUT}\n    drop \"$1\" {IN}\n}}\n\
        how=--noflush\ncase $#${{1:-}} in\n    0) ;;\n    1--test) how='--noflush --test' ;;\n    \
        1--remove) remove iptables; remove ip6tables; exit ;;\n    *) usage ;;\nesac\n"
    )
}

fn chains(options: &RuleOptions) -> Vec<&'static str> {
    if options.user.is_some() { vec![OUT] } else { vec![OUT, IN] }
}

/// The rules that jump to the chains.
fn hooks(options: &RuleOptions) -> Vec<String> {
    match &options.user {
        Some(user) => vec![format!("OUTPUT -m owner --uid-owner {user} -j {OUT}")],
        None => vec![format!("OUTPUT -j {OUT}"), format!("INPUT -j {IN}")],
    }
}

/// The part of the filter table for one address family.
fn table(requirements: &Requirements, options: &RuleOptions, family: AddressFamily, with_hooks: bool) -> String {
    let mut text = "*filter\n".to_owned();
    for chain in chains(options) {
        let _ = writeln!(text, ":{chain} - [0:0]");
    }
    if with_hooks {
        hooks(options).iter().for_each(|hook| text += &format!("-A {hook}\n"));
    }
    for rule in out(requirements, options, family) {
        let _ = writeln!(text, "{rule}");
    }
    if options.user.is_none() {
        for rule in incoming(requirements, options, family) {
            let _ = writeln!(text, "{rule}");
        }
    }
    text + "COMMIT\n"
}

fn out(requirements: &Requirements, options: &RuleOptions, family: AddressFamily) -> Vec<String> {
    let mut rules = vec![format!("-A {OUT} -o lo -j ACCEPT"), established(OUT)];
    if family == AddressFamily::V6 && options.user.is_none() {
        // Neighbor discovery (RFC 4861) and multicast listener messages (RFC 2710, RFC 3810).
        rules.extend(icmpv6(OUT, &["133", "135", "136", "131", "132", "143"]));
    }
    if requirements.dns {
        rules.extend(dns(options, family));
    }
    rules.extend(requirements.of_direction(Direction::Egress).flat_map(|need| rules_of(need, options, family)));
    rules.extend(requirements.groups.iter().flat_map(|need| rules_of(need, options, family)));
    if family == AddressFamily::V4 && !requirements.groups.is_empty() {
        rules.push(format!("-A {OUT} -p 2 -m comment --comment \"multicast group membership\" -j ACCEPT"));
    }
    rules.extend(failed_rules(requirements, options, family, Direction::Egress));
    rules.push(format!("-A {OUT} -j DROP"));
    rules
}

fn incoming(requirements: &Requirements, options: &RuleOptions, family: AddressFamily) -> Vec<String> {
    let mut rules = vec![format!("-A {IN} -i lo -j ACCEPT"), established(IN)];
    match family {
        AddressFamily::V4 => {
            rules.extend(["3", "11", "12"].map(|kind| format!("-A {IN} -p icmp -m icmp --icmp-type {kind} -j ACCEPT")))
        }
        AddressFamily::V6 => rules.extend(icmpv6(IN, &["134", "135", "136", "137", "130", "1", "2", "3", "4"])),
    }
    rules.extend(requirements.of_direction(Direction::Ingress).flat_map(|need| rules_of(need, options, family)));
    rules.extend(failed_rules(requirements, options, family, Direction::Ingress));
    rules.push(format!("-A {IN} -j DROP"));
    rules
}

fn established(chain: &str) -> String {
    format!("-A {chain} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT")
}

fn icmpv6(chain: &str, kinds: &[&str]) -> Vec<String> {
    kinds.iter().map(|kind| format!("-A {chain} -p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j ACCEPT")).collect()
}

/// The rules of failed attempts, as comments.
fn failed_rules(
    requirements: &Requirements,
    options: &RuleOptions,
    family: AddressFamily,
    direction: Direction,
) -> Vec<String> {
    let mut rules = Vec::new();
    for need in requirements.not_opened().filter(|need| need.direction == direction) {
        let own = rules_of(need, options, family);
        if own.is_empty() {
            continue;
        }
        if rules.is_empty() {
            rules.push(format!("# {FAILED_ATTEMPTS}"));
        }
        rules.push(format!("# {}", failed(need)));
        rules.extend(own.iter().map(|rule| format!("#   {rule}")));
    }
    rules
}

fn dns(options: &RuleOptions, family: AddressFamily) -> Vec<String> {
    let is_ours = |resolver: &&IpAddr| resolver.is_ipv4() == (family == AddressFamily::V4);
    let to: Vec<String> = match options.resolvers.is_empty() {
        true => vec![String::new()],
        false => {
            options.resolvers.iter().filter(is_ours).map(|resolver| format!("-d {} ", IpNet::from(*resolver))).collect()
        }
    };
    let purpose =
        if options.resolvers.is_empty() { "DNS to any resolver - add -d ADDRESS" } else { "DNS to your resolvers" };
    let rule = |to: &String, protocol| {
        format!("-A {OUT} {to}-p {protocol} -m {protocol} --dport 53 -m comment --comment \"{purpose}\" -j ACCEPT")
    };
    to.iter().flat_map(|to| ["udp", "tcp"].map(|protocol| rule(to, protocol))).collect()
}

/// One rule for each peer of the address family.
fn rules_of(need: &Need, options: &RuleOptions, family: AddressFamily) -> Vec<String> {
    let is_v4 = family == AddressFamily::V4;
    let (chain, side) = if need.direction == Direction::Egress { (OUT, "-d") } else { (IN, "-s") };
    let what = purpose(need, MAX_COMMENT_BYTES);
    let comment = if what.is_empty() { String::new() } else { format!(" -m comment --comment \"{what}\"") };
    let rule = |peer: String| format!("-A {chain} {peer}{}{comment} -j ACCEPT", service(need.service, is_v4));
    if need.direction == Direction::Ingress && !options.by_remote {
        return vec![rule(String::new())];
    }
    need.family(is_v4).iter().map(|peer| rule(format!("{side} {peer} "))).collect()
}

fn service(service: Service, is_v4: bool) -> String {
    match service {
        Service::Ports(protocol, first, last) if first == last => {
            format!("-p {protocol} -m {protocol} --dport {first}")
        }
        Service::Ports(protocol, first, last) => format!("-p {protocol} -m {protocol} --dport {first}:{last}"),
        Service::Echo if is_v4 => "-p icmp -m icmp --icmp-type 8".to_owned(),
        Service::Echo => "-p ipv6-icmp -m icmp6 --icmpv6-type 128".to_owned(),
        Service::Protocol(protocol) => format!("-p {}", protocol.0),
    }
}
