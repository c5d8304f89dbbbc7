//! Cilium: a CiliumNetworkPolicy (cilium.io/v2), by name for names that were looked up over DNS.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::header::{self, commented};
use super::need::{Need, Pattern, Service, is_host_name};
use super::yaml::{failed_attempts, inexpressible, name, ports, quoted, title};
use super::{Requirements, RuleOptions};
use crate::flow::{Direction, Protocol};
use crate::wire::port;

const USAGE: &str = "Apply with `kubectl apply -f FILE`. It selects pods by the label `app` below: replace it with yours. Responses to allowed \
    traffic need no rule. Port ranges need Cilium 1.16, ICMP 1.13.";
const NAMES: &str = "Cilium follows the addresses of names, because DNS passes through its proxy. Peers without a DNS query are listed by address.";
const LIMITS: &str = "multicast and broadcast, and protocols other than TCP, UDP, SCTP and ICMP";
/// The DNS proxy, without which Cilium does not follow names. It allows every query, because with
/// search domains a resolver queries more names than those in the rules.
const DNS_PROXY: &str = "          rules:
            dns:
              - matchPattern: \"*\"
";
const DNS: &str = "    # DNS of the cluster, through Cilium's proxy, which follows the addresses of names
    - toEndpoints:
        - matchLabels:
            \"k8s:io.kubernetes.pod.namespace\": \"kube-system\"
            \"k8s:k8s-app\": \"kube-dns\"
      toPorts:
        - ports:
            - {port: \"53\", protocol: ANY}
";

pub(super) fn text(requirements: &Requirements, options: &RuleOptions) -> String {
    let lines = header::lines(requirements, options, &[USAGE, NAMES], &[LIMITS]);
    let name = quoted(name(requirements, options));
    let mut text = commented(&lines, "#") + &failed_attempts(requirements);
    text += &format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata:\n  name: {name}\nspec:\n  endpointSelector:\n    matchLabels:\n      app: {name}\n"
    );
    let has_names = requirements.of_direction(Direction::Egress).any(|need| !names(need).is_empty());
    let mut egress =
        if requirements.dns || has_names { DNS.to_owned() + DNS_PROXY + &resolvers(options) } else { String::new() };
    requirements.of_direction(Direction::Egress).for_each(|need| egress += &out(need));
    section(&mut text, "egress", &egress);
    let mut ingress = String::new();
    requirements.of_direction(Direction::Ingress).for_each(|need| ingress += &incoming(need, options));
    section(&mut text, "ingress", &ingress);
    for need in requirements.groups.iter().chain(requirements.needs.iter().filter(|need| to(need.service).is_none())) {
        text += &inexpressible(need, "  ");
    }
    text
}

/// An empty rule denies everything else.
fn section(text: &mut String, name: &str, rules: &str) {
    *text += &format!("  {name}:\n{}", if rules.is_empty() { "    - {}\n" } else { rules });
}

fn resolvers(options: &RuleOptions) -> String {
    let nets: Vec<IpNet> = options.resolvers.iter().copied().map(IpNet::from).collect();
    if nets.is_empty() {
        return String::new();
    }
    format!(
        "    - toCIDR: [{}]\n      toPorts:\n        - ports:\n            - {{port: \"53\", protocol: ANY}}\n{DNS_PROXY}",
        list(&nets)
    )
}

fn list<'a>(nets: impl IntoIterator<Item = &'a IpNet>) -> String {
    nets.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

/// Names that Cilium can follow.
fn names(need: &Need) -> BTreeSet<&Pattern> {
    let can = |pattern: &&Pattern| match pattern {
        Pattern::Exact(name) | Pattern::Below(name) => is_host_name(name.as_str()),
    };
    need.queried.iter().filter(can).collect()
}

fn out(need: &Need) -> String {
    let mut text = String::new();
    let names = names(need);
    if !names.is_empty()
        && let Some(to) = to_named(need.service)
    {
        text += "    - toFQDNs:\n";
        for pattern in &names {
            let key = if matches!(pattern, Pattern::Exact(_)) { "matchName" } else { "matchPattern" };
            text += &format!("        - {key}: {}\n", quoted(pattern));
        }
        text += &to;
        text += proxy(need.service);
    }
    // If Cilium cannot follow a name, all its addresses are listed.
    let bare = if names.len() < need.queried.len() || to_named(need.service).is_none() {
        &need.peers
    } else {
        &need.unqueried
    };
    if !bare.is_empty()
        && let Some(to) = to(need.service)
    {
        text += &title(need, "    ");
        text += &format!("    - toCIDR: [{}]\n{to}{}", list(bare), proxy(need.service));
    }
    text
}

/// The DNS proxy, for DNS servers that the program chose itself.
fn proxy(service: Service) -> &'static str {
    match service {
        Service::Ports(Protocol::TCP | Protocol::UDP, port::DNS, port::DNS) => DNS_PROXY,
        _ => "",
    }
}

fn incoming(need: &Need, options: &RuleOptions) -> String {
    let Some(to) = to(need.service) else { return String::new() };
    match options.by_remote {
        true => format!("    - fromCIDR: [{}]\n{to}", list(&need.peers)),
        false => format!("    - fromEntities: [all]\n{to}"),
    }
}

/// Ports, for rules by name and by address.
fn to_named(service: Service) -> Option<String> {
    let (protocol, first, last) = ports(service)?;
    let end = if first == last { String::new() } else { format!(", endPort: {last}") };
    Some(format!("      toPorts:\n        - ports:\n            - {{port: \"{first}\"{end}, protocol: {protocol}}}\n"))
}

/// Ports or ICMP types.
fn to(service: Service) -> Option<String> {
    match service {
        Service::Echo => Some("      icmps:\n        - fields:\n            - {family: IPv4, type: 8}\n            - {family: IPv6, type: 128}\n".into()),
        service => to_named(service),
    }
}
